"""Streams: a real locked child answers message by message, and whatever it does, the desk goes on."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import polars as pl
import pytest
from pydantic import JsonValue
from tests.sandbox.local.processes import descendants, leaves, until

from neural_trader_governance.errors import HostError, InputError, StrategyError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.local.streams import LocalStream
from neural_trader_sandbox.port import Fault, Job, Limits, SandboxResult

pytestmark = pytest.mark.anyio

ECHO = "def handle(message): return message"
COUNT = """
    seen = []
    print("the file ran")
    def handle(message):
        seen.append(message)
        print("message", len(seen))
        return {"count": len(seen), "last": message}
"""
HEAD = """import os, struct
def frame(kind, body): os.write(3, struct.pack('<BI', kind, len(body)) + body)
"""


def script(source: str, **tables: bytes) -> Job:
    return Job("neural_trader_sandbox.script:stream_script", {"source": textwrap.dedent(source)}, tables)


def handling(body: str) -> Job:
    """A stream whose handler is `body`, with `frame(kind, body)` to write to the socket directly."""
    return script(HEAD + "def handle(message):\n" + textwrap.indent(textwrap.dedent(body), "    "))


def fault(result: SandboxResult) -> Fault:
    assert result.error is not None, result
    return result.error


async def has_ended(stream: LocalStream) -> bool:
    with pytest.raises(InputError, match="sandbox_stream_ended"):
        await stream.send(1)
    return True


async def something_has_come(stream: LocalStream) -> None:
    """Waits until the guest has written more than its answer."""
    if not stream._received:  # pyright: ignore[reportPrivateUsage]: no message of the port's tells
        await anyio.wait_readable(stream._child.data)  # pyright: ignore[reportPrivateUsage]: as above


@asynccontextmanager
async def cold_sandbox(cache: Path, warm: int = 0) -> AsyncGenerator[tuple[LocalSandbox, int]]:
    """A sandbox of a test's own and its launcher's process id: below it is the zygote, then children."""
    own = LocalSandbox([], warm=warm, cache_dir=cache)
    try:
        await own.host_uid()
        yield own, (await own._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only the zygote knows
    finally:
        await own.aclose()


async def test_a_stream_answers_each_message_and_remembers_the_ones_before(sandbox: LocalSandbox) -> None:
    stream = await sandbox.open_stream(script(COUNT))
    messages: list[JsonValue] = [1, "ü", None, {"close": [1.5, 2.0]}, []]
    for count, message in enumerate(messages, 1):
        result = await stream.send(message)
        assert (result.status, result.value) == ("ok", {"count": count, "last": message})
        assert result.stdout == ("the file ran\n" if count == 1 else "") + f"message {count}\n"
        assert result.backend == "local"
        assert "seccomp" in result.layers
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(InputError, match=r"sandbox_stream_ended: .* it was closed"):
        await stream.send(1)


async def test_tables_reach_the_entry_of_a_stream(sandbox: LocalSandbox) -> None:
    data = pl.DataFrame({"close": [1.0, 2.0, 4.0]}).write_ipc_stream(None).getvalue()
    source = "close = tables['bars']['close']\ndef handle(message): return close[message]"
    stream = await sandbox.open_stream(script(source, bars=data))
    assert [(await stream.send(i)).value for i in range(3)] == [1.0, 2.0, 4.0]
    await stream.aclose()


async def test_a_handler_that_raises_is_not_asked_again(sandbox: LocalSandbox) -> None:
    source = "def handle(message):\n    print('before')\n    return 1 / message"
    stream = await sandbox.open_stream(script(source))
    assert (await stream.send(2)).value == 0.5
    result = await stream.send(0)
    assert (result.status, fault(result).type, fault(result).line) == ("error", "ZeroDivisionError", 3)
    assert result.stdout == "before\n"
    with pytest.raises(InputError, match=r"sandbox_stream_ended: .*division by zero"):
        await stream.send(2)


@pytest.mark.parametrize(
    ("source", "status", "what"),
    [
        ("x = 1", "error", "TypeError: the file defines no function"),
        ("handle = 3", "error", "TypeError: the file defines no function"),
        ("x = 1\nraise KeyError('k')", "error", "KeyError: .* in line 2"),
        ("import os\nos._exit(7)", "error", "exit code 7"),
        ("while True: pass", "timeout", "wall_time_s 0.3"),
        (HEAD + 'frame(10, b\'{"number":1,"value":null}\')', "error", "answer 1 where answer 0 was due"),
        (HEAD + 'frame(7, b\'{"value":1,"columns":[]}\')', "error", "frame of unknown kind 7"),
    ],
)
async def test_an_entry_without_a_handler_opens_no_stream(
    source: str, status: str, what: str, sandbox: LocalSandbox
) -> None:
    with pytest.raises(StrategyError, match=f"sandbox_guest_failed: .*{what}") as raised:
        await sandbox.open_stream(script(source), Limits(wall_time_s=0.3))
    assert raised.value.facts["status"] == status


async def test_an_entry_that_returns_a_whole_runs_result_is_no_handler(sandbox: LocalSandbox) -> None:
    with pytest.raises(StrategyError, match="returned tuple, not a function of messages"):
        await sandbox.open_stream(Job("neural_trader_sandbox.script:run_script", {"source": ""}))


async def test_a_message_that_cannot_be_sent_leaves_the_stream_as_it_was(sandbox: LocalSandbox) -> None:
    stream = await sandbox.open_stream(script(COUNT), Limits(frame_bytes=4096, json_depth=4))
    with pytest.raises(InputError, match="sandbox_job_invalid"):
        await stream.send(float("nan"))
    with pytest.raises(InputError, match=r"sandbox_job_invalid: .*deeper than 4 levels"):
        await stream.send([[[[[]]]]])
    with pytest.raises(InputError, match="sandbox_job_too_large"):
        await stream.send("x" * 4096)
    assert (await stream.send([[1]])).value == {"count": 1, "last": [[1]]}
    await stream.aclose()


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return 'x' * (1 << 20)", "exceeds frame_bytes 1048576"),
        ("value = []\nfor _ in range(40): value = [value]\nreturn value", "nested deeper than"),
        ("frame(10, b'[' * 900 + b']' * 900)", "nested deeper than"),
        ("frame(10, b'{')", "not JSON"),
        ('frame(10, b\'{"number":1,"value":NaN}\')', "NaN is not JSON"),
        ('frame(10, b\'{"number":1,"value":1,"also":2}\')', "AnswerFrame: "),
        ('frame(10, b\'{"number":true,"value":1}\')', "AnswerFrame: "),
        ('frame(10, b\'{"number":2,"value":1}\')', "answer 2 where answer 1 was due"),
        ('frame(7, b\'{"value":1,"columns":[]}\')', "frame of unknown kind 7"),
        ("frame(8, bytes(8))", "frame of unknown kind 8"),
        ('frame(1, b\'{"layers":["all"]}\')', "frame of unknown kind 1"),
        ("frame(255, b'')", "frame of unknown kind 255"),
        ("frame(6, b'{}')", "FaultFrame: "),
        ("frame(6, bytes(20000))", "answer of 20000 bytes"),
        ("os.write(3, struct.pack('<BI', 10, 0xFFFFFFFF))", "answer of 4294967295 bytes"),
        ("frame(4, b'')", "output frame of 0 bytes"),
        ("for _ in range(3): frame(4, bytes(30000))", "where 5536 are left"),
    ],
)
async def test_a_forged_frame_ends_the_stream_with_its_reason(
    body: str, what: str, sandbox: LocalSandbox
) -> None:
    stream = await sandbox.open_stream(handling(body))
    result = await stream.send(1)
    assert (result.status, result.value) == ("error", None)
    assert (fault(result).type, what in fault(result).message) == ("FrameError", True), fault(result).message
    assert await has_ended(stream)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('frame(10, b\'{"number":1,"value":"forged"}\')\nreturn \'own\'', "an answer that nobody asked for"),
        (
            "frame(10, b'{\"number\":1,\"value\":1}' )\nframe(6, b'{}')\nreturn 1",
            "an answer that nobody asked for",
        ),
        (
            'frame(10, b\'{"number":1,"value":1}\')\nos.write(3, bytes([10, 9, 0, 0]))\nwhile True: pass',
            "the beginning of an answer that nobody asked for",
        ),
        (
            "frame(10, b'{\"number\":1,\"value\":1}')\nframe(9, b'1')\nwhile True: pass",
            "frame of unknown kind 9",
        ),
        (
            "frame(10, b'{\"number\":1,\"value\":1}')\nos.write(3, b'\\xff' * 5)\nwhile True: pass",
            "unknown kind 255",
        ),
    ],
)
async def test_a_second_answer_to_one_message_is_found_when_the_next_is_sent(
    body: str, what: str, sandbox: LocalSandbox
) -> None:
    stream = await sandbox.open_stream(handling(body))
    first = await stream.send(1)  # well-formed, and the guest's to say
    assert first.status == "ok"
    await something_has_come(stream)
    result = await stream.send(2)
    assert (result.status, fault(result).type) == ("error", "FrameError")
    assert what in fault(result).message
    assert await has_ended(stream)


async def test_a_guest_that_closes_its_socket_has_ended(sandbox: LocalSandbox) -> None:
    stream = await sandbox.open_stream(handling("os.close(3)\nwhile True: pass"), Limits(wall_time_s=0.5))
    result = await stream.send(1)
    assert result.status in ("timeout", "error")
    assert await has_ended(stream)


async def test_prints_are_capped_for_each_answer_and_lose_their_control_characters(
    sandbox: LocalSandbox,
) -> None:
    source = r"""
        import sys
        def handle(message):
            print("\x1b[31mred\x1b[0m\u202e" + "x" * message)
            print("careful", file=sys.stderr)
            return message
    """
    stream = await sandbox.open_stream(script(source), Limits(output_bytes=100))
    for _ in range(3):  # each answer has an allowance of its own
        result = await stream.send(1000)
        assert result.stdout == "red" + "x" * 85 + "\n[cut at 100 bytes]"
        assert (result.stderr, result.value) == ("careful\n", 1000)
    assert (await stream.send(1)).stdout == "redx\n"
    await stream.aclose()


async def test_what_a_thread_prints_between_two_answers_comes_with_the_next(sandbox: LocalSandbox) -> None:
    source = """
        import threading
        go = threading.Event()
        def later():
            go.wait()
            print("between")
        threading.Thread(target=later, daemon=True).start()
        def handle(message):
            go.set()
            return message
    """
    stream = await sandbox.open_stream(script(source))
    printed = (await stream.send(1)).stdout
    if not printed:
        await something_has_come(stream)
    assert printed + (await stream.send(2)).stdout == "between\n"
    await stream.aclose()


async def test_the_clock_runs_for_each_answer_and_not_between_them(sandbox: LocalSandbox) -> None:
    source = "import time\ndef handle(message):\n    time.sleep(message)\n    return message"
    stream = await sandbox.open_stream(script(source), Limits(wall_time_s=1.0))
    for _ in range(3):
        assert (await stream.send(0.5)).status == "ok"  # 1.5 s together
    await anyio.sleep(1.5)  # time itself is what is tested: an idle stream is not late
    assert (await stream.send(0)).status == "ok"
    began = time.monotonic()
    result = await stream.send(60)
    assert (result.status, time.monotonic() - began < 8) == ("timeout", True)
    assert "wall_time_s 1" in fault(result).message
    assert await has_ended(stream)


async def test_a_guest_that_spins_with_its_signals_blocked_is_stopped(tmp_path: Path) -> None:
    body = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    async with cold_sandbox(tmp_path) as (own, launcher):
        stream = await own.open_stream(handling(body), Limits(wall_time_s=0.3))
        assert (await stream.send(1)).status == "timeout"
        assert until(lambda: len(descendants(launcher)) == 1)


async def test_the_nanny_stops_a_late_guest_although_the_host_does_not_look(tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, launcher):
        stream = await own.open_stream(handling("while True: pass"), Limits(wall_time_s=0.3))
        results: list[SandboxResult] = []
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                results.append(await stream.send(1))

            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            assert until(lambda: len(descendants(launcher)) == 1)  # blocks the loop: only the nanny can act
        assert [result.status for result in results] == ["timeout"]


async def test_a_guest_that_was_killed_from_outside_is_reported_at_the_next_message(tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, launcher):
        stream = await own.open_stream(script(ECHO))
        (guest,) = leaves(launcher)
        os.kill(guest, signal.SIGKILL)
        result = await stream.send(1)
        assert (result.status, "SIGKILL" in fault(result).message) == ("killed", True)
        assert await has_ended(stream)


async def test_a_guest_that_uses_up_its_processor_time_over_many_answers_is_killed(
    sandbox: LocalSandbox,
) -> None:
    body = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    stream = await sandbox.open_stream(handling(body), Limits(cpu_time_s=1))
    results = [await stream.send(0)]
    while results[-1].status == "ok" and len(results) < 10:
        results.append(await stream.send(0))
    assert (results[-1].status, "cpu_time_s 1" in fault(results[-1]).message) == ("killed", True)
    assert len(results) > 2


async def test_memory_is_bounded_for_the_guests_whole_life(sandbox: LocalSandbox) -> None:
    body = "kept.append(bytearray(64 << 20))\nreturn len(kept)"
    source = "kept = []\ndef handle(message):\n" + textwrap.indent(body, "    ")
    stream = await sandbox.open_stream(script(source), Limits(memory_bytes=2 << 30))
    results = [await stream.send(0)]
    while results[-1].status == "ok" and len(results) < 40:
        results.append(await stream.send(0))
    assert (results[-1].status, fault(results[-1]).type) == ("error", "MemoryError")
    assert len(results) > 2


async def test_cancelling_a_send_kills_the_guest(tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, launcher):
        stream = await own.open_stream(handling("while True: pass"))
        with anyio.move_on_after(0.2) as scope:
            await stream.send(1)
        assert scope.cancelled_caught
        assert until(lambda: len(descendants(launcher)) == 1)
        with pytest.raises(InputError, match=r"sandbox_stream_ended: .*cancelled"):
            await stream.send(1)


async def test_cancelling_an_opening_kills_the_guest(tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, launcher):
        with anyio.move_on_after(0.2) as scope:
            await own.open_stream(script("while True: pass"))
        assert scope.cancelled_caught
        assert until(lambda: len(descendants(launcher)) == 1)


async def test_one_message_at_a_time(sandbox: LocalSandbox) -> None:
    stream = await sandbox.open_stream(script("import time\ndef handle(m):\n    time.sleep(m)\n    return m"))
    results: list[SandboxResult] = []
    async with anyio.create_task_group() as tasks:

        async def send() -> None:
            results.append(await stream.send(0.3))

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(InputError, match="sandbox_stream_busy"):
            await stream.send(0)
    assert [result.value for result in results] == [0.3]
    assert (await stream.send(0)).value == 0
    await stream.aclose()


@pytest.mark.parametrize("end", ["kill", "kill_all", "aclose_stream", "aclose"])
async def test_whoever_ends_a_stream_wakes_the_sender(end: str, tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, _):
        waiting = await own.open_stream(handling("while True: pass"))
        idle = await own.open_stream(script(ECHO))
        results: list[SandboxResult] = []
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                results.append(await waiting.send(1))

            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            if end == "kill":
                await own.kill(waiting.instance_id)
                assert (await idle.send(1)).value == 1
                await own.kill(idle.instance_id)
            elif end == "kill_all":
                await own.kill()
            elif end == "aclose":
                await own.aclose()
            else:
                await waiting.aclose()
                await idle.aclose()
        assert [result.status for result in results] == ["killed"]
        assert fault(results[0]).message == "killed by the caller"
        assert await has_ended(waiting)
        assert await has_ended(idle)


async def doors_of_one_group(sandbox: LocalSandbox) -> int:
    """Descriptors of the control group that is kept prepared for the next child."""
    groups = await sandbox.groups()
    return 0 if isinstance(groups, str) else len(set(groups.delegation.folders.values()))


async def test_a_stream_takes_no_warm_child_and_ends_with_its_zygote(tmp_path: Path) -> None:
    run = Job("neural_trader_sandbox.script:run_script", {"source": "result = 1"})
    async with cold_sandbox(tmp_path, warm=1) as (own, launcher):
        assert (await own.run(run)).value == 1
        await own._pool[0].ready(5)  # pyright: ignore[reportPrivateUsage]: locked, so two processes are its
        assert until(lambda: len(descendants(launcher)) == 1 + 2)
        warm = descendants(launcher)
        stream = await own.open_stream(script(ECHO))
        assert len(descendants(launcher) - warm) == 2
        assert warm <= descendants(launcher)
        (zygote,) = {pid for pid in warm if descendants(pid) >= warm - {pid}}
        ended = os.pidfd_open(zygote)
        os.kill(zygote, signal.SIGKILL)
        await anyio.wait_readable(ended)  # else its guest may answer before it is ended too
        os.close(ended)
        result = await stream.send(1)
        assert (result.status, "zygote" in fault(result).message) == ("killed", True)
        again = await own.open_stream(script(ECHO))
        assert (await again.send(2)).value == 2


async def test_streams_leave_no_process_and_no_descriptor_behind(tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, launcher):
        descriptors = len(os.listdir("/proc/self/fd"))
        for source in (ECHO, "x = 1", "def handle(m): raise ValueError", "import os\nos._exit(0)") * 8:
            try:
                stream = await own.open_stream(script(source))
            except StrategyError:
                continue
            if (await stream.send(1)).status == "ok":
                await stream.aclose()
        assert until(lambda: len(descendants(launcher)) == 1)
        prepared = await doors_of_one_group(own)
        assert until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + prepared)


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
async def test_many_streams_at_once_keep_to_themselves(count: int, tmp_path: Path) -> None:
    source = """
        import threading
        stop, kept = threading.Event(), []
        threading.stack_size(1 << 17)
        def handle(message):
            if message == "threads":
                for _ in range(14):
                    threading.Thread(target=stop.wait, daemon=True).start()
                return threading.active_count()
            if message == "memory":
                bytearray(1 << 40)
            kept.append(message)
            return kept
    """
    async with cold_sandbox(tmp_path) as (own, launcher):
        descriptors = len(os.listdir("/proc/self/fd"))
        streams: dict[int, LocalStream] = {}

        async def open_one(number: int) -> None:
            streams[number] = await own.open_stream(script(source), Limits(threads=16, cpu_time_s=60))

        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(open_one, number)
        assert len(descendants(launcher)) == 1 + 2 * count

        answers: dict[tuple[int, int], object] = {}

        async def converse(number: int, turn: int) -> None:
            answers[number, turn] = (await streams[number].send(number + turn)).value

        for turn in range(2):
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(converse, number, turn)
        assert answers == {
            **{(number, 0): [number] for number in range(count)},
            **{(number, 1): [number, number + 1] for number in range(count)},
        }
        # the limit of threads is each guest's own, although the host sees one user
        assert [(await stream.send("threads")).value for stream in streams.values()] == [15] * count
        broken = streams.pop(0)
        assert (await broken.send("memory")).status == "error"
        assert [(await stream.send(0)).status for stream in streams.values()] == ["ok"] * (count - 1)
        await own.kill()
        assert until(lambda: len(descendants(launcher)) == 1)
        prepared = await doors_of_one_group(own)
        assert until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + prepared)


async def test_without_descriptors_opening_is_refused_and_open_streams_go_on(tmp_path: Path) -> None:
    async with cold_sandbox(tmp_path) as (own, _):
        stream = await own.open_stream(script(ECHO))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            refusal = None
            while refusal is None:
                try:
                    await own.open_stream(script(ECHO))
                except HostError as error:
                    refusal = error
            assert "Too many open files" in refusal.what
            assert "ulimit -n" in refusal.next_step
            assert (await stream.send(1)).value == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (await (await own.open_stream(script(ECHO))).send(2)).value == 2


def test_a_server_that_is_killed_leaves_no_stream_behind(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    program = f"""
        import anyio, pathlib
        from neural_trader_sandbox.local.sandbox import LocalSandbox
        from neural_trader_sandbox.port import Job

        async def main():
            sandbox = LocalSandbox([], cache_dir=pathlib.Path({str(tmp_path)!r}))
            sources = ["def handle(m): return m", "def handle(m):\\n  while True: pass"]
            jobs = [Job("neural_trader_sandbox.script:stream_script", {{"source": s}}) for s in sources]
            idle, spinning = [await sandbox.open_stream(job) for job in jobs]
            print("open", flush=True)
            await spinning.send(1)
        anyio.run(main)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        assert "open\n" in lines
        below = descendants(server.pid)
        server.kill()
    assert len(below) == 2 + 2 * 2
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
