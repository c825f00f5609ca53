"""What `port` promises, of every backend alike.

The e2b backend runs against the test service here; it has never run against the real one, where nothing
keeps a guest from starting processes: its virtual machine holds them. What a backend
cannot hold stands in `CANNOT_HOLD` with the reason; such a promise must fail there, which keeps the table
true.
"""

import textwrap
import time
from collections.abc import AsyncGenerator
from typing import Final, Literal

import anyio
import numpy as np
import polars as pl
import pytest
from pydantic import JsonValue, SecretStr

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Fault, Job, Limits, Progress, Sandbox, SandboxInstance, SandboxResult
from neural_trader_sandbox.tables import Table

pytestmark = pytest.mark.anyio
Name = Literal["local", "e2b"]
SCRIPT = "neural_trader_sandbox.script:run_script"

CANNOT_HOLD: Final[dict[tuple[Name, str], str]] = {
    ("e2b", "test_the_private_tmp_has_the_size_that_was_asked_for"): (
        "a sandbox's disk is as large as its template makes it; it is gone with the sandbox"
    ),
    ("e2b", "test_every_layer_holds_when_it_is_probed"): (
        "the test service shares this host's kernel, and the probe says so (layer microvm)"
    ),
}

FAST_ON_E2B: Final = {
    "test_what_goes_wrong_in_the_guest_is_an_error_with_its_line": ("ValueError", "object"),
    "test_an_answer_beyond_its_limits_is_an_error": ("columns_bytes",),
    "test_a_handler_that_fails_ends_its_stream": ("late", "ended"),
    "test_an_entry_without_a_handler_opens_no_stream": ("x = 1", "while True"),
    "test_forged_progress_ends_the_run": ("flood", "nan", "huge"),
    "test_what_is_split_over_frames_is_cleaned_as_a_whole": ("C1",),
}
"""Cases that CI tries on e2b too: a word of their ids. Both backends read frames with the same code, which CI
tries with every case on the local one; `make faults` tries every case on both."""


@pytest.fixture(params=["local", "e2b"])
def name(request: pytest.FixtureRequest) -> Name:
    function = request.node.originalname
    reason = CANNOT_HOLD.get((request.param, function))
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))
    return request.param


@pytest.fixture
async def backend(
    name: Name, request: pytest.FixtureRequest, sandbox: LocalSandbox
) -> AsyncGenerator[Sandbox]:
    if name == "local":
        yield sandbox
        return
    from neural_trader_sandbox.e2b.sandbox import E2BSandbox  # only these tests import the SDK
    from neural_trader_sandbox.e2b.settings import E2BSettings

    service = request.getfixturevalue("e2b_service")
    key = SecretStr(service.api_key)
    settings = E2BSettings(api_key=key, api_url=service.url, sandbox_url=service.url, home_id="c0" * 8)
    backend = E2BSandbox(settings, (), lambda destination: None)
    yield backend
    await backend.aclose()
    assert service.running() == [], "every sandbox is killed"


def script(source: str, **tables: bytes) -> Job:
    return Job(SCRIPT, {"source": textwrap.dedent(source)}, tables)


def handler(source: str, **tables: bytes) -> Job:
    return Job("neural_trader_sandbox.script:stream_script", {"source": textwrap.dedent(source)}, tables)


def fault(result: SandboxResult) -> Fault:
    assert result.error is not None, result
    return result.error


def ipc(**columns: list[float]) -> bytes:
    return pl.DataFrame(columns).write_ipc_stream(None).getvalue()


async def test_every_layer_holds_when_it_is_probed(backend: Sandbox) -> None:
    report = await backend.probe()
    assert report.ok, [layer for layer in report.layers if not layer.holds]


async def test_a_probe_says_what_was_tried_and_what_to_do(backend: Sandbox, name: Name) -> None:
    report = await backend.probe()
    assert report.backend == name
    assert len({layer.name for layer in report.layers}) == len(report.layers)
    assert all(layer.detail for layer in report.layers)
    assert all(layer.next_step for layer in report.layers if not layer.holds)
    assert report.ok is all(layer.holds for layer in report.layers)


async def test_a_run_returns_its_value_its_columns_and_what_it_printed(backend: Sandbox, name: Name) -> None:
    source = """
        import sys
        close = tables["bars"]["close"].to_numpy()
        print("rows", len(close)); print("careful", file=sys.stderr)
        result = {"rows": len(close), "text": "ü", "none": None, "deep": [[1.5, True]]}
        columns = {"doubled": close * 2, "empty": [], "whole": [1, 2]}
    """
    result = await backend.run(script(source, bars=ipc(close=[1.0, 2.5, float("nan")])))
    assert result.status == "ok", result
    assert result.value == {"rows": 3, "text": "ü", "none": None, "deep": [[1.5, True]]}
    np.testing.assert_array_equal(result.columns["doubled"], [2.0, 5.0, np.nan])
    np.testing.assert_array_equal(result.columns["whole"], [1.0, 2.0])
    assert result.columns["empty"].shape == (0,)
    assert {column.dtype for column in result.columns.values()} == {np.dtype(np.float64)}
    assert (result.stdout, result.stderr, result.error) == ("rows 3\n", "careful\n", None)
    assert (result.backend, result.wall_ms > 0) == (name, True)
    assert result.layers


async def test_eight_megabytes_go_in_and_come_back_the_same(backend: Sandbox) -> None:
    close = np.random.default_rng(7).normal(size=1_000_000)
    data = pl.DataFrame({"close": close}).write_ipc_stream(None).getvalue()
    result = await backend.run(script("columns = {'close': tables['bars']['close'].to_numpy()}", bars=data))
    assert result.status == "ok", result
    np.testing.assert_array_equal(result.columns["close"], close)


async def test_plain_columns_arrive_as_the_same_frame_as_a_stream_of_them(backend: Sandbox) -> None:
    moments = np.array(["2026-01-02T09:30", "2026-01-02T09:31:00.000001"], "datetime64[us]")
    counts, close = np.array([-1, 2**62]), np.array([1.5, np.nan])
    table = Table.of_columns({"time": moments, "count": counts, "close": close})
    source = """
        bars = tables["bars"]
        doubled = bars.with_columns(close=bars["close"] * 2)
        result = [str(bars.schema), str(bars["time"].to_list()), bars["count"].to_list(), bars.n_chunks()]
        columns = {"close": bars["close"].to_numpy(), "doubled": doubled["close"].to_numpy()}
    """
    results = [
        await backend.run(Job(SCRIPT, {"source": textwrap.dedent(source)}, {"bars": data}))
        for data in (table, bytes(table))
    ]
    assert [result.status for result in results] == ["ok", "ok"], results
    assert results[0].value == results[1].value
    assert isinstance(results[0].value, list)
    assert results[0].value[2] == [-1, 2**62]
    assert "time_zone='UTC'" in str(results[0].value[0])
    for result in results:
        np.testing.assert_array_equal(result.columns["close"], close)
        np.testing.assert_array_equal(result.columns["doubled"], close * 2)


@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        ("x = 1\n\nraise ValueError('no\\x1b[31m')", "ValueError", 3),
        ("def f():\n    return 1 / 0\n\nf()", "ZeroDivisionError", 2),
        ("x = 1\nif x\n    pass", "SyntaxError", 2),
        ("import sys\nsys.exit(3)", "SystemExit", 2),
        ("result = float('nan')", "FrameError", None),
        ("result = object()", "FrameError", None),
        ("columns = {'x': [[1.0]]}", "TypeError", None),
    ],
)
async def test_what_goes_wrong_in_the_guest_is_an_error_with_its_line(
    source: str, kind: str, line: int | None, backend: Sandbox
) -> None:
    result = await backend.run(script(source))
    assert (result.status, result.value, dict(result.columns)) == ("error", None, {})
    assert (fault(result).type, fault(result).line) == (kind, line)
    assert "\x1b" not in fault(result).message


async def test_what_is_printed_is_cut_and_cleaned(backend: Sandbox) -> None:
    source = "import sys\nprint('\\x1b[31mred\\x1b[0m\\x07 \\u202eabc')\nprint('x' * 5000, file=sys.stderr)"
    result = await backend.run(script(source), Limits(output_bytes=100))
    assert result.status == "ok", result
    assert result.stdout == "red abc\n"
    assert result.stderr == "x" * 100 + "\n[cut at 100 bytes]"


@pytest.mark.parametrize(
    ("source", "limits"),
    [
        ("result = 'x' * 5000", Limits(frame_bytes=4096)),
        ("columns = {'x': [0.0] * 1001}", Limits(columns_bytes=8000)),
        ("result = [[[[[]]]]]", Limits(json_depth=4)),
    ],
    ids=["frame_bytes", "columns_bytes", "json_depth"],
)
async def test_an_answer_beyond_its_limits_is_an_error(source: str, limits: Limits, backend: Sandbox) -> None:
    result = await backend.run(script(source), limits)
    assert (result.status, fault(result).type, result.value) == ("error", "FrameError", None), result


async def test_an_answer_within_its_limits_is_taken(backend: Sandbox) -> None:
    limits = Limits(frame_bytes=4096, columns_bytes=8000, json_depth=4)
    result = await backend.run(script("result = [[[[]]]]; columns = {'x': [0.0] * 1000}"), limits)
    assert result.status == "ok", result


async def test_the_wall_clock_stops_a_run(backend: Sandbox) -> None:
    result = await backend.run(script("print('on')\nwhile True: pass"), Limits(wall_time_s=1))
    assert (result.status, result.stdout) == ("timeout", "on\n"), result
    assert 900 < result.wall_ms < 10_000


async def test_the_processor_clock_stops_a_run(backend: Sandbox) -> None:
    result = await backend.run(script("while True: pass"), Limits(wall_time_s=30, cpu_time_s=1))
    assert result.status == "killed", result
    assert fault(result).message


async def test_memory_is_bounded(backend: Sandbox) -> None:
    result = await backend.run(script("x = bytearray(3 << 30)"), Limits(memory_bytes=2 << 30))
    assert result.status in ("error", "killed"), result
    assert (await backend.run(script("result = 1"))).value == 1


async def test_a_file_is_bounded(backend: Sandbox) -> None:
    source = "open('/tmp/f', 'wb').write(bytes(2 << 20))"
    result = await backend.run(script(source), Limits(file_bytes=1 << 20))
    assert result.status in ("error", "killed"), result


async def test_the_private_tmp_has_the_size_that_was_asked_for(backend: Sandbox) -> None:
    source = "for i in range(8): open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))"
    result = await backend.run(script(source), Limits(tmp_bytes=4 << 20))
    assert (result.status, fault(result).type) == ("error", "OSError")


async def test_no_process_can_be_started(backend: Sandbox) -> None:
    source = "import os\nif os.fork() == 0: os._exit(0)\nresult = 'forked'"
    result = await backend.run(script(source))
    assert result.status in ("error", "killed"), result


async def test_nothing_is_reached_over_the_network(backend: Sandbox) -> None:
    source = "import socket\nsocket.create_connection(('127.0.0.1', 9), 2)"
    result = await backend.run(script(source))
    assert result.status in ("error", "killed"), result
    source = "import socket\nsocket.create_connection(('1.1.1.1', 53), 2)"
    result = await backend.run(script(source))
    assert result.status in ("error", "killed"), result


async def test_a_malformed_job_is_refused_before_anything_starts(backend: Sandbox) -> None:
    for job, limits, code in (
        (Job("os:system", {}), Limits(), "sandbox_entry_unknown"),
        (Job("neural_trader_sandbox.script", {}), Limits(), "sandbox_entry_unknown"),
        (script("", bars=b"x" * 2000), Limits(tables_bytes=1000), "sandbox_job_too_large"),
        (script("x" * 2000), Limits(frame_bytes=1024), "sandbox_job_too_large"),
        (script("x = 1"), Limits(wall_time_s=float("nan")), "sandbox_limit_invalid"),
        (Job(SCRIPT, {"source": float("inf")}), Limits(), "sandbox_job_invalid"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=code):
            await backend.run(job, limits)


async def test_an_instance_runs_one_job_and_is_spent(backend: Sandbox) -> None:
    instance = await backend.create(Limits(wall_time_s=20))
    assert instance.instance_id
    assert (await instance.run(script("result = 1"))).value == 1
    with pytest.raises(InputError, match="sandbox_instance_spent"):
        await instance.run(script("result = 2"))
    await instance.kill()
    await instance.kill()


async def test_a_run_that_is_killed_by_its_id_says_so_and_others_go_on(backend: Sandbox) -> None:
    doomed, other = await backend.create(), await backend.create()
    assert doomed.instance_id != other.instance_id
    results: list[SandboxResult] = []

    async def run() -> None:
        results.append(await doomed.run(script("while True: pass")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        await backend.kill("no such instance")
        await backend.kill(doomed.instance_id)
    assert results[0].status == "killed"
    assert "caller" in fault(results[0]).message
    assert (await other.run(script("result = 2"))).value == 2


async def test_killing_all_ends_every_run_and_the_backend_goes_on(backend: Sandbox) -> None:
    idle, *instances = [await backend.create() for _ in range(3)]
    statuses: list[str] = []

    async def run(instance: SandboxInstance) -> None:
        statuses.append((await instance.run(script("while True: pass"))).status)

    async with anyio.create_task_group() as tasks:
        for instance in instances:
            tasks.start_soon(run, instance)
        await anyio.wait_all_tasks_blocked()
        await backend.kill()
    assert statuses == ["killed", "killed"]
    with pytest.raises(InputError, match="sandbox_instance_spent"):
        await idle.run(script("result = 1"))
    assert (await backend.run(script("result = 2"))).value == 2


async def test_a_cancelled_run_is_over(backend: Sandbox) -> None:
    instance = await backend.create()
    with anyio.move_on_after(0.5) as scope:
        await instance.run(script("while True: pass"))
    assert scope.cancelled_caught
    with pytest.raises(InputError, match="sandbox_instance_spent"):
        await instance.run(script("result = 1"))


async def test_it_can_be_used_again_after_it_was_closed(backend: Sandbox) -> None:
    await backend.aclose()
    await backend.aclose()
    assert (await backend.run(script("result = 1"))).value == 1


async def test_nothing_persists_from_one_run_to_the_next(backend: Sandbox) -> None:
    leave = "import builtins, numpy\nbuiltins.left = numpy.left = 1\nopen('/tmp/left', 'w').write('x')"
    assert (await backend.run(script(leave))).status == "ok"
    look = "import builtins, numpy, os\n"
    look += "result = [hasattr(builtins, 'left'), hasattr(numpy, 'left'), os.path.exists('/tmp/left')]"
    assert (await backend.run(script(look))).value == [False, False, False]


async def test_the_same_job_computes_the_same_twice(backend: Sandbox) -> None:
    source = "import os\nresult = [hash('AAPL'), list({'a', 'b', 'c', 'd'}), sorted(os.environ)]"
    first, second = await backend.run(script(source)), await backend.run(script(source))
    assert first.status == "ok", first
    assert first.value == second.value


async def test_a_stream_answers_remembers_and_is_closed(backend: Sandbox, name: Name) -> None:
    source = """
        closes = tables["bars"]["close"].to_list()
        seen = []
        print("began")
        def handle(message):
            seen.append(message)
            print("message", len(seen))
            return [len(seen), message, closes]
    """
    stream = await backend.open_stream(handler(source, bars=ipc(close=[1.5])))
    messages: list[JsonValue] = [1, "ü", None, {"close": [1.5]}]
    for count, message in enumerate(messages, 1):
        result = await stream.send(message)
        assert (result.status, result.value, result.backend) == ("ok", [count, message, [1.5]], name)
        assert result.stdout == ("began\n" if count == 1 else "") + f"message {count}\n"
    await stream.aclose()
    await stream.aclose()
    with pytest.raises(InputError, match="sandbox_stream_ended"):
        await stream.send(1)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("def handle(message): return 1 / message", "error"),
        ("def handle(message):\n    while message == 0: pass\n    return 1", "timeout"),
        ("def handle(message): return 1 if message else 'x' * (2 << 20)", "error"),
        ("def handle(message): return 1 if message else float('nan')", "error"),
        ("import os\ndef handle(message): return 1 if message else os._exit(3)", "error"),
    ],
    ids=["raises", "late", "too large", "not JSON", "ended"],
)
async def test_a_handler_that_fails_ends_its_stream(source: str, status: str, backend: Sandbox) -> None:
    stream = await backend.open_stream(handler(source), Limits(wall_time_s=1))
    assert (await stream.send(1)).status == "ok"
    result = await stream.send(0)
    assert (result.status, result.value) == (status, None), result
    with pytest.raises(InputError, match="sandbox_stream_ended"):
        await stream.send(1)


async def test_a_stream_waits_longer_than_its_wall_clock_for_a_message(backend: Sandbox) -> None:
    stream = await backend.open_stream(handler("def handle(message): return message"), Limits(wall_time_s=1))
    await anyio.sleep(1.1)  # the clock is of answers, not of the stream
    assert (await stream.send("late")).value == "late"
    with pytest.raises(InputError, match="sandbox_job_invalid"):
        await stream.send(float("nan"))
    with pytest.raises(InputError, match="sandbox_job_too_large"):
        await stream.send("x" * (2 << 20))
    assert (await stream.send("still")).value == "still"
    await backend.kill(stream.instance_id)
    with pytest.raises(InputError, match="sandbox_stream_ended"):
        await stream.send(1)


@pytest.mark.parametrize("source", ["x = 1", "handle = 3", "1 / 0", "while True: pass"])
async def test_an_entry_without_a_handler_opens_no_stream(source: str, backend: Sandbox) -> None:
    before = time.monotonic()
    with pytest.raises(StrategyError, match="sandbox_guest_failed"):
        await backend.open_stream(handler(source), Limits(wall_time_s=1))
    assert time.monotonic() - before < 20


class Seen:
    """A watch that keeps what it is told, and says when it was told of something."""

    def __init__(self, awaited: str | float) -> None:
        self.told: list[Progress] = []
        self.came = anyio.Event()
        self._awaited = awaited

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress)
        if self._awaited in (progress.text, progress.fraction):
            self.came.set()

    @property
    def fractions(self) -> list[float]:
        return [progress.fraction for progress in self.told if progress.fraction is not None]

    def text(self, stream: str = "stdout") -> str:
        return "".join(progress.text for progress in self.told if progress.stream == stream)


@pytest.mark.parametrize(
    ("source", "awaited"), [("print('on')", "on\n"), ("report(0.25)", 0.25)], ids=["print", "fraction"]
)
async def test_a_watch_is_told_while_the_guest_still_runs(
    source: str, awaited: str | float, backend: Sandbox
) -> None:
    """The guest would spin for ever: only because the news came is it killed."""
    instance, seen = await backend.create(Limits(wall_time_s=60, cpu_time_s=60)), Seen(awaited)
    results: list[SandboxResult] = []

    async def run() -> None:
        results.append(await instance.run(script(f"{source}\nwhile True: pass"), watch=seen))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await seen.came.wait()
            assert results == []
            await instance.kill()
    assert results[0].status == "killed"


async def test_a_watch_hears_all_that_the_result_says(backend: Sandbox) -> None:
    source = """
        import sys
        for number in range(300):
            print("line", number); print("careful", number, file=sys.stderr)
        print("no end", end="")
        report(0.5)
    """
    seen = Seen(0.5)
    result = await backend.run(script(source), watch=seen)
    assert result.status == "ok", result
    assert (seen.text(), seen.text("stderr")) == (result.stdout, result.stderr)
    assert seen.fractions == [0.5]


async def test_a_watch_that_raises_is_let_go_and_the_run_goes_on(backend: Sandbox) -> None:
    calls: list[Progress] = []

    def watch(progress: Progress) -> None:
        calls.append(progress)
        raise RuntimeError("a broken screen")

    result = await backend.run(script("print(1)\nreport(0.5)\nprint(2)\nresult = 3"), watch=watch)
    assert (result.status, result.value, result.stdout) == ("ok", 3, "1\n2\n"), result
    assert len(calls) == 1


async def test_a_report_goes_nowhere_where_nobody_watches(backend: Sandbox) -> None:
    result = await backend.run(script("for n in range(5000): report(n / 5000)\nresult = 1"))
    assert (result.status, result.value) == ("ok", 1), result


async def test_an_honest_guest_may_report_as_often_as_it_likes(backend: Sandbox) -> None:
    source = "for n in range(200_000): report(n / 200_000)\nreport(float('nan')); report(-1); report(1e300)"
    seen = Seen("")
    result = await backend.run(script(source), watch=seen)
    assert result.status == "ok", result
    assert 1 <= len(seen.fractions) <= result.wall_ms / 100 + 1
    assert seen.fractions == sorted(set(seen.fractions))


FORGE = """
    from neural_trader_sandbox import frames
    wire = report._wire
    def forge(payload, kind=frames.PROGRESS):
        wire.sendall(frames.pack(kind, payload))
"""


@pytest.mark.parametrize(
    "attack",
    [
        "for n in range(100_000): forge(b'{\"fraction\":%f}' % (n / 100_000))",
        "for n in range(100_000): forge(b'{\"fraction\":0}')",
        "forge(b'{\"fraction\":NaN}')",
        "forge(b'{\"fraction\":-Infinity}')",
        "forge(b'{\"fraction\":1e999}')",
        "forge(b'{\"fraction\":' + b'9' * 40 + b'}' + b' ' * 64)",
        "forge(b'{\"fraction\":null}')",
        "forge(b'{\"fraction\":true}')",
        'forge(b\'{"fraction":0.5,"text":""}\')',
        "forge(b'\\xff\\xfe')",
        "forge(b'')",
        "wire.sendall(frames.HEADER.pack(frames.PROGRESS, 2**32 - 1))",
    ],
    ids=[
        "flood",
        "flood of one",
        "nan",
        "-inf",
        "overflow",
        "long",
        "null",
        "true",
        "more",
        "bytes",
        "empty",
        "huge",
    ],
)
async def test_forged_progress_ends_the_run(attack: str, backend: Sandbox) -> None:
    seen = Seen("")
    result = await backend.run(script(textwrap.dedent(FORGE) + attack + "\nwhile True: pass"), watch=seen)
    assert (result.status, fault(result).type) == ("error", "FrameError"), result
    assert len(seen.fractions) <= 1100
    assert (await backend.run(script("result = 1"))).value == 1


async def test_progress_that_nobody_asked_for_ends_the_run(backend: Sandbox) -> None:
    source = """
        import sys
        from neural_trader_sandbox import frames
        sys.stdout._wire.sendall(frames.pack(frames.PROGRESS, b'{"fraction":0.5}'))
    """
    result = await backend.run(script(source))
    assert (result.status, fault(result).type) == ("error", "FrameError"), result


async def test_a_forged_fraction_is_bounded_and_never_goes_back(backend: Sandbox) -> None:
    claims = "for claim in (b'-1e300', b'0.5', b'0.2', b'-7', b'0.5', b'1e300', b'0.9', b'1'):\n"
    claims += "    forge(b'{\"fraction\":%s}' % claim)"
    seen = Seen("")
    result = await backend.run(script(textwrap.dedent(FORGE) + claims), watch=seen)
    assert (result.status, seen.fractions) == ("ok", [0.0, 0.5, 1.0]), result


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"\x1b[3", b"1mred\x1b", b"[0m\n"], "red\n"),
        ([b"\x1b", b"]0;title", b"\x07safe\n"], "safe\n"),
        ([b"a\xe2\x80", b"\xaeb\n"], "ab\n"),
        ([b"\xc2", b"\x9b31mx\n"], "31mx\n"),
        ([b"\xff\xfe\x00ok\n"], "\ufffd\ufffdok\n"),
    ],
    ids=["colour", "title", "direction", "C1", "not UTF-8"],
)
async def test_what_is_split_over_frames_is_cleaned_as_a_whole(
    pieces: list[bytes], expected: str, backend: Sandbox
) -> None:
    seen = Seen("")
    source = textwrap.dedent(FORGE) + f"for piece in {pieces!r}: forge(piece, frames.STDOUT)"
    result = await backend.run(script(source), watch=seen)
    assert (result.status, seen.text(), result.stdout) == ("ok", expected, expected), result
    assert len(seen.told) == 1


async def test_a_huge_line_comes_in_parts_and_ends_where_its_allowance_does(backend: Sandbox) -> None:
    seen = Seen("")
    source = "import sys\nfor _ in range(1000): sys.stdout.write('\\x1b[31m' + 'x' * 995); sys.stdout.flush()"
    result = await backend.run(script(source), Limits(output_bytes=100_000), watch=seen)
    assert result.status == "ok", result
    assert len(seen.told) > 10
    assert max(len(progress.text) for progress in seen.told) < 6000
    assert "\x1b" not in seen.text()
    assert seen.text().endswith("x\n[cut at 100000 bytes]\n")
    assert len(seen.text()) <= 100_050


def test_the_tables_name_tests_that_are_there() -> None:
    assert {function for _, function in CANNOT_HOLD} <= globals().keys()
    assert FAST_ON_E2B.keys() <= globals().keys()
