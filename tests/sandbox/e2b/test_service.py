"""The unmodified SDK is satisfied by the E2B-compatible service, also when things go wrong on demand."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (the SDK types its uploads with a bare IO)

import re
import time
from typing import Any, cast

import anyio
import e2b
import httpx
import pytest
from e2b import exceptions as sdk
from e2b_code_interpreter import AsyncSandbox  # pyright: ignore[reportMissingTypeStubs]  # no py.typed
from tests.sandbox.e2b.service.faults import Fault
from tests.sandbox.e2b.service.server import Service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def box(connection: dict[str, Any]) -> AsyncSandbox:
    return await AsyncSandbox.create("neural-trader", timeout=60, **connection)


async def test_a_sandbox_is_created_found_prolonged_and_killed(
    e2b_service: Service, connection: dict[str, Any]
) -> None:
    box = await AsyncSandbox.create(
        "neural-trader", timeout=60, metadata={"desk": "a b"}, allow_internet_access=False, **connection
    )
    asked = e2b_service.log[-1]
    assert (asked.plane, asked.method, asked.path) == ("api", "POST", "/v2/sandboxes")
    assert asked.body["allow_internet_access"] is False
    assert await box.is_running()
    info = await box.get_info()
    assert (info.template_id, info.metadata, str(info.state)) == ("neural-trader", {"desk": "a b"}, "running")
    assert 55 < (info.end_at - info.started_at).total_seconds() < 65
    await box.set_timeout(600)
    assert (await box.get_info()).end_at > info.end_at
    again = await AsyncSandbox.connect(box.sandbox_id, **connection)
    assert await again.is_running()
    assert await box.kill() is True
    assert await box.kill() is False
    assert not await box.is_running()
    assert e2b_service.machines[box.sandbox_id].ended_by == "deleted"
    assert e2b_service.running() == []


async def test_sandboxes_are_listed_by_metadata_and_in_pages(
    e2b_service: Service, connection: dict[str, Any]
) -> None:
    del e2b_service
    made = [
        await AsyncSandbox.create("base", metadata={"desk": desk}, **connection)
        for desk in ("one", "one", "two")
    ]
    query = e2b.SandboxQuery(metadata={"desk": "one"})
    pages = AsyncSandbox.list(query=query, limit=1, **connection)
    found: list[str] = []
    while pages.has_next:
        found += [info.sandbox_id for info in await pages.next_items()]
    assert found == [box.sandbox_id for box in made[:2]]


async def test_a_paused_sandbox_answers_nothing_until_it_is_connected_to(
    box: AsyncSandbox, connection: dict[str, Any]
) -> None:
    await box.run_code("x = 41")
    assert await box.pause() is True
    assert await box.pause() is False
    with pytest.raises(sdk.TimeoutException):
        await box.run_code("x")
    again = cast("AsyncSandbox", await AsyncSandbox.connect(box.sandbox_id, **connection))
    assert (await again.run_code("x + 1")).text == "42"


async def test_code_keeps_its_state_and_its_output_comes_while_it_runs(box: AsyncSandbox) -> None:
    heard: list[tuple[str, float]] = []
    first = await box.run_code(
        "import time\nx = 41\nprint('now', flush=True)\ntime.sleep(0.5)\nprint('later')\nx",
        on_stdout=lambda message: heard.append((message.line, time.monotonic())),
    )
    assert first.text == "41"
    assert "".join(first.logs.stdout) == "now\nlater\n"
    assert heard[-1][1] - heard[0][1] > 0.3
    second = await box.run_code("import sys; print('e', file=sys.stderr); x + 1", envs={"MODE": "paper"})
    assert (second.text, "".join(second.logs.stderr), second.execution_count) == ("42", "e\n", 2)


async def test_an_error_in_code_has_its_name_value_and_traceback(box: AsyncSandbox) -> None:
    error = (await box.run_code("1 / 0")).error
    assert error is not None
    assert (error.name, error.value) == ("ZeroDivisionError", "division by zero")
    assert "line 1" in error.traceback
    assert (await box.run_code("'still there'")).text == "'still there'"


async def test_contexts_are_apart_can_be_restarted_and_removed(box: AsyncSandbox) -> None:
    one = await box.create_code_context(cwd="/home/user/work")
    two = await box.create_code_context()
    await box.run_code("x = 1", context=one)
    assert (await box.run_code("import os; os.getcwd()", context=one)).text == "'/home/user/work'"
    error = (await box.run_code("x", context=two)).error
    assert error is not None
    assert error.name == "NameError"
    assert {context.id for context in await box.list_code_contexts()} == {one.id, two.id}
    await box.restart_code_context(one)
    error = (await box.run_code("x", context=one)).error
    assert error is not None
    assert error.name == "NameError"
    await box.remove_code_context(two)
    with pytest.raises(sdk.NotFoundException):
        await box.run_code("1", context=two)


async def test_files_are_written_read_listed_moved_and_removed(box: AsyncSandbox) -> None:
    data = bytes(range(256)) * 1000
    written = await box.files.write("/home/user/a/b.bin", data)
    assert written.path == "/home/user/a/b.bin"
    assert bytes(await box.files.read("a/b.bin", format="bytes")) == data
    stream = await box.files.read("a/b.bin", format="stream")
    assert b"".join([chunk async for chunk in stream]) == data
    await box.files.write_files([{"path": "one.txt", "data": "1"}, {"path": "two.txt", "data": "2"}])
    await box.files.write("packed.txt", "packed", gzip=True)
    assert await box.files.read("packed.txt") == "packed"
    assert await box.files.make_dir("/home/user/empty") is True
    assert await box.files.make_dir("/home/user/empty") is False
    names = [entry.name for entry in await box.files.list("/home/user")]
    assert names == ["a", "empty", "one.txt", "packed.txt", "two.txt"]
    assert "b.bin" in [entry.name for entry in await box.files.list("/home/user", depth=2)]
    assert (await box.files.get_info("a/b.bin")).size == len(data)
    await box.files.rename("one.txt", "a/moved.txt")
    assert await box.files.read("a/moved.txt") == "1"
    await box.files.remove("a")
    assert not await box.files.exists("a/moved.txt")
    for missing in (box.files.read("a/b.bin"), box.files.list("/nope"), box.files.get_info("/nope")):
        with pytest.raises(sdk.FileNotFoundException):
            await missing


async def test_no_path_leaves_the_sandboxs_disk(box: AsyncSandbox, e2b_service: Service) -> None:
    with pytest.raises(sdk.NotFoundException):
        await box.files.read("/../../../../../../etc/passwd")
    home = e2b_service.machines[box.sandbox_id].disk.host_path("/home/user")
    (home / "link").symlink_to("/etc")
    with pytest.raises(sdk.InvalidArgumentException):
        await box.files.read("/home/user/link/passwd")


async def test_a_folder_can_be_watched(box: AsyncSandbox) -> None:
    seen: list[str] = []
    news = anyio.Event()

    def note(event: Any) -> None:
        seen.append(f"{event.type.value} {event.name}")
        news.set()

    watch = await box.files.watch_dir("/home/user", on_event=note)
    await box.files.write("seen.txt", "x")
    with anyio.fail_after(10):
        await news.wait()
    await watch.stop()
    assert seen[0] == "create seen.txt"


async def test_code_and_commands_see_the_files_and_leave_files(box: AsyncSandbox) -> None:
    await box.files.write("given.txt", "given")
    await box.run_code("open('/home/user/made.txt', 'w').write(open('given.txt').read() + ' by code')")
    assert await box.files.read("made.txt") == "given by code"
    await box.files.write("job.py", "import sys; print(open('made.txt').read(), *sys.argv[1:])")
    done = await box.commands.run("python job.py one 'two three'", cwd="/home/user")
    assert (done.stdout, done.exit_code) == ("given by code one two three\n", 0)
    assert (await box.run_code("import pathlib; pathlib.Path('job.py').exists()")).text == "True"


async def test_a_command_streams_takes_input_and_ends_with_its_code(box: AsyncSandbox) -> None:
    heard: list[str] = []
    source = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\nsys.exit(3)"
    await box.files.write("echo.py", source)
    handle = await box.commands.run(
        "exec python -u echo.py", background=True, stdin=True, on_stdout=heard.append, envs={"A": "1"}
    )
    assert [info.pid for info in await box.commands.list()] == [handle.pid]
    await handle.send_stdin("one\n")
    with anyio.fail_after(10):
        while "".join(heard) != "ONE\n":
            await anyio.lowlevel.checkpoint()
    await box.commands.send_stdin(handle.pid, "two\n")
    await box.commands.close_stdin(handle.pid)
    with pytest.raises(e2b.CommandExitException) as ended:
        await handle.wait()
    assert (ended.value.exit_code, ended.value.stdout) == (3, "ONE\nTWO\n")
    assert await box.commands.list() == []


async def test_a_command_can_be_left_found_again_and_killed(box: AsyncSandbox) -> None:
    handle = await box.commands.run("python -c 'import time; time.sleep(60)'", background=True)
    await handle.disconnect()
    again = await box.commands.connect(handle.pid)
    assert await box.commands.kill(handle.pid) is True
    with pytest.raises(e2b.CommandExitException) as ended:
        await again.wait()
    assert (ended.value.exit_code, ended.value.error) == (-1, "signal: killed")
    assert await box.commands.kill(handle.pid) is False
    with pytest.raises(e2b.CommandExitException) as missing:
        await box.commands.run("ls /")
    assert missing.value.exit_code == 127


async def test_a_command_has_no_network_and_no_files_of_the_host(box: AsyncSandbox) -> None:
    await box.files.write("secret.py", "import socket; socket.create_connection(('127.0.0.1', 1))")
    with pytest.raises(e2b.CommandExitException) as ended:
        await box.commands.run("python secret.py")
    assert "Operation not permitted" in ended.value.stderr
    other = await box.commands.run("""python -c "import os; print(sorted(os.listdir('/home/user')))" """)
    assert other.stdout == "['secret.py']\n"


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("import os; os.fork()", "Operation not permitted"),
        ("import os; os.execv('/bin/sh', ['sh'])", "signal: bad system call"),
        ("import os; os.kill(1 << 21, 0)", "Operation not permitted"),
        ("import ctypes; ctypes.CDLL(None).unshare(0)", "signal: bad system call"),
        ("import os; os.listdir('/')", "Permission denied"),
        ("open('/etc/passwd')", "No such file"),
        ("import os; os.listdir('/proc')", "No such file"),
        ("import sys; open(sys.prefix + '/x', 'w')", "OSError|PermissionError|FileNotFoundError"),
        (
            "import os; assert os.getpid() == 1 and os.getuid() == 1000, 'host'; os.setuid(0)",
            "PermissionError",
        ),
        ("import resource as r; r.setrlimit(r.RLIMIT_AS, (-1, -1))", "not allowed to raise"),
    ],
)
async def test_a_command_is_locked_in_as_the_local_backend_locks_a_guest(
    source: str, answer: str, box: AsyncSandbox
) -> None:
    with pytest.raises(e2b.CommandExitException) as ended:
        await box.commands.run(f'python -c "{source}"')
    told = f"{ended.value.stderr} {ended.value.error}"
    assert re.search(answer, told), told


async def test_another_program_than_python_is_refused_with_the_reason(box: AsyncSandbox) -> None:
    for command in ("ls /", "python", "python -c 1 | cat", "true; python -c 1", "python -c 1 && ls"):
        with pytest.raises(e2b.CommandExitException, match="127") as ended:
            await box.commands.run(command)
        assert "runs `python …` only" in ended.value.stderr


async def test_its_lifetime_really_ends_a_sandbox(e2b_service: Service, connection: dict[str, Any]) -> None:
    box = await AsyncSandbox.create("base", timeout=1, **connection)
    handle = await box.commands.run("python -c 'import time; time.sleep(60)'", background=True, timeout=0)
    with anyio.fail_after(15), pytest.raises((sdk.SandboxNotRunningException, e2b.CommandExitException)):
        await handle.wait()
    assert e2b_service.machines[box.sandbox_id].ended_by == "timeout"
    with pytest.raises(sdk.SandboxNotRunningException):
        await box.files.read("a")
    with pytest.raises(sdk.SandboxNotRunningException):
        await box.commands.run("python -V")
    with pytest.raises(sdk.TimeoutException):
        await box.run_code("1")
    with pytest.raises(sdk.SandboxNotFoundException):
        await AsyncSandbox.connect(box.sandbox_id, **connection)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, sdk.AuthenticationException),
        (429, sdk.RateLimitException),
        (503, sdk.ServiceBusyException),
        (500, sdk.SandboxException),
    ],
)
async def test_each_error_of_the_api_is_the_sdks_own(
    status: int, kind: type[Exception], e2b_service: Service, connection: dict[str, Any]
) -> None:
    e2b_service.faults.append(Fault("^api POST", status=status, headers={"Retry-After": "1"}, times=-1))
    with pytest.raises(kind, match="on demand"):
        await AsyncSandbox.create("base", **connection, retries=0)
    assert e2b_service.machines == {}


async def test_a_wrong_key_a_missing_template_and_an_old_envd_are_refused(
    e2b_service: Service, connection: dict[str, Any]
) -> None:
    another: dict[str, Any] = connection | {"api_key": "e2b_" + "f" * 40}
    with pytest.raises(sdk.AuthenticationException):
        await AsyncSandbox.create("base", **another)
    with pytest.raises(sdk.SandboxException, match="not found"):
        await AsyncSandbox.create("no-such", **connection)
    e2b_service.envd_version = "0.0.9"
    with pytest.raises(sdk.TemplateException):
        await AsyncSandbox.create("base", **connection)
    assert [machine.ended_by for machine in e2b_service.machines.values()] == ["deleted"]
    e2b_service.sandboxes_max = 0
    with pytest.raises(sdk.RateLimitException):
        await AsyncSandbox.create("base", **connection, retries=0)


async def test_a_wrong_access_token_is_refused_everywhere(box: AsyncSandbox, e2b_service: Service) -> None:
    e2b_service.machines[box.sandbox_id].access_token = "ea_another"
    with pytest.raises(sdk.AuthenticationException):
        await box.files.read("a")
    with pytest.raises(sdk.AuthenticationException):
        await box.commands.run("python -V")
    with pytest.raises(Exception, match="401"):
        await box.run_code("1")
    assert await box.is_running()


async def test_a_sandbox_that_is_killed_ends_what_waits_for_it(
    box: AsyncSandbox, e2b_service: Service
) -> None:
    async def kill(_: Any) -> None:
        await anyio.to_thread.run_sync(e2b_service.kill, box.sandbox_id)

    execution = await box.run_code("print('on', flush=True)\nwhile True: pass", on_stdout=kill, timeout=15)
    assert execution.error is None
    assert execution.results == []
    assert e2b_service.machines[box.sandbox_id].ended_by == "service"


async def test_a_wedged_kernel_never_ends_and_the_next_code_waits_too(
    box: AsyncSandbox, e2b_service: Service
) -> None:
    e2b_service.wedged.add(box.sandbox_id)
    for _ in range(2):
        with pytest.raises(sdk.TimeoutException):
            await box.run_code("1", timeout=0.2)


async def test_code_that_timed_out_holds_its_kernel(box: AsyncSandbox) -> None:
    with pytest.raises(sdk.TimeoutException):
        await box.run_code("import time; time.sleep(30)", timeout=0.2)
    with pytest.raises(sdk.TimeoutException):
        await box.run_code("1", timeout=0.2)


async def test_a_kernel_that_dies_is_replaced(box: AsyncSandbox) -> None:
    await box.run_code("x = 1")
    dead = await box.run_code("import ctypes; ctypes.string_at(1)")
    assert (dead.error, dead.results) == (None, [])
    error = (await box.run_code("x")).error
    assert error is not None
    assert error.name == "NameError"


async def test_a_connection_that_falls_is_noticed(box: AsyncSandbox, e2b_service: Service) -> None:
    await box.files.write("big.bin", bytes(1 << 20))
    e2b_service.faults.append(Fault("^envd GET /files", drop_after_bytes=1000))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await box.files.read("big.bin", format="bytes")
    e2b_service.faults.append(Fault("^code POST /execute", drop_after_bytes=30))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await box.run_code("print('x' * 1000)")
    e2b_service.faults.append(Fault("^envd POST /process.Process/Start", drop_after_bytes=60))
    with pytest.raises(Exception, match=r"(?i)connection|stream|body|incomplete|error"):
        await box.commands.run("python -c \"print('x' * 1000)\"")
    assert len(await box.files.read("big.bin", format="bytes")) == 1 << 20


async def test_slow_late_and_oversized_answers(box: AsyncSandbox, e2b_service: Service) -> None:
    e2b_service.faults.append(Fault("^code POST /execute", slow_s=0.0005))
    assert (await box.run_code("'byte by byte'")).text == "'byte by byte'"
    await box.files.write("a", "four")
    e2b_service.faults.append(Fault("^envd GET /files", pad_bytes=1 << 20))
    assert len(await box.files.read("a")) == (1 << 20) + 4
    e2b_service.faults.append(Fault("^envd GET /files", delay_s=3))
    with pytest.raises((sdk.TimeoutException, httpx.TimeoutException)):
        await box.files.read("a", request_timeout=0.5)
    assert [fault.times for fault in e2b_service.faults] == [0, 0, 0]


async def test_a_full_disk_and_a_skewed_clock(e2b_service: Service, connection: dict[str, Any]) -> None:
    e2b_service.disk_bytes, e2b_service.clock_skew_s = 1000, 3600.0
    box = await AsyncSandbox.create("base", **connection)
    with pytest.raises(sdk.NotEnoughSpaceException):
        await box.files.write("a", "x" * 2000)
    told = await box.run_code("import time; print(time.time())")
    assert 3500 < float(told.logs.stdout[0]) - time.time() < 3700


async def test_public_traffic_can_be_closed(connection: dict[str, Any]) -> None:
    box = await AsyncSandbox.create("base", network={"allow_public_traffic": False}, **connection)
    assert box.traffic_access_token
    assert (await box.run_code("1 + 1")).text == "2"
