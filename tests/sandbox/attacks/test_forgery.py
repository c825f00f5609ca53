"""The guest owns its end of the wire: whatever it writes there, the host answers cleanly and goes on."""

import textwrap
from collections.abc import Awaitable, Callable

import pytest

from neural_trader_sandbox.port import Limits, SandboxResult

RunScript = Callable[..., Awaitable[SandboxResult]]
PRELUDE = """
import json, os, pickle, struct, time
def frame(kind, payload, size=None):
    os.write(3, struct.pack('<BI', kind, len(payload) if size is None else size) + payload)
STDOUT, STDERR, FAULT, RESULT, COLUMN = 4, 5, 6, 7, 8
def result(value, columns=()): frame(RESULT, json.dumps({'value': value, 'columns': list(columns)}).encode())
"""
FORGERIES = {
    "a length of 4 GiB": "frame(RESULT, b'', 0xffffffff)",
    "a result over the limit": "frame(RESULT, b'', 2 << 20)",
    "an unknown kind": "frame(99, b'x')",
    "a ready frame": "frame(1, b'{}')",
    "a refusal": "frame(2, json.dumps({'primitive': 'x', 'reason': 'y'}).encode())",
    "a pickle": "frame(RESULT, pickle.dumps({'value': 1, 'columns': []}))",
    "garbage": "os.write(3, os.urandom(4096))",
    "a nest of arrays": "frame(RESULT, b'[' * 100000)",
    "a nest within the value": "result(json.loads('[' * 200 + ']' * 200))",
    "not a number": "result(float('nan'))",
    "a number that overflows": 'frame(RESULT, b\'{"value": 1e999, "columns": []}\')',
    "a lone surrogate": "result('\\ud800')",
    "a column longer than announced": "result(1, [['x', 1]]); frame(COLUMN, bytes(16))",
    "a column nobody announced": "frame(COLUMN, bytes(8))",
    "columns of 8 TiB": "result(1, [['x', 1 << 40]])",
    "a negative column": "result(1, [['x', -1]])",
    "two columns of one name": "result(1, [['x', 0], ['x', 0]])",
    "output without end": "while True: frame(STDOUT, b'x' * 1000)",
    "empty frames without end": "while True: frame(STDOUT, b'')",
    "a second result": "result(1); result(2)",
    "bytes after the result": "result(1); os.write(3, b'x')",
    "a number that is not one": 'frame(RESULT, b\'{"value": NaN, "columns": []}\')',
    "an integer of 100,000 digits": 'frame(RESULT, b\'{"value": \' + b"9" * 100000 + b\', "columns": []}\')',
    "a field too many": "frame(RESULT, json.dumps({'value': 1, 'columns': [], 'status': 'ok'}).encode())",
    "a field too few": "frame(RESULT, b'{\"value\": 1}')",
    "a result that is a list": "frame(RESULT, b'[1, []]')",
    "bytes that are not UTF-8": 'frame(RESULT, b\'{"value": "\\xff", "columns": []}\')',
    "a length that is true": "result(1, [['x', True]])",
    "a length that is a float": "result(1, [['x', 1.0]])",
    "a column without a name": "result(1, [['', 1]])",
    "a column with a name that moves the cursor": "result(1, [['\\x1b[2J', 1]])",
    "a column's head of three": "result(1, [['x', 1, 1]])",
    "2,000 columns": "result(1, [[str(i), 0] for i in range(2000)])",
    "columns that add up beyond the limit": "result(1, [[str(i), 1 << 20] for i in range(64)])",
    "a fault over its limit": "frame(FAULT, json.dumps(['x' * 20000]).encode())",
    "a fault on line 0": "frame(FAULT, json.dumps({'type': 'E', 'message': 'x', 'line': 0}).encode())",
    "a fault after a result": "result(1); frame(FAULT, b'{}')",
    "a column twice": "result(1, [['x', 1]]); frame(COLUMN, bytes(8)); frame(COLUMN, bytes(8))",
    "columns in another order": "result(1, [['x', 1], ['y', 2]]); frame(COLUMN, bytes(16))",
    "output between columns": "result(1, [['x', 1]]); frame(STDOUT, b'x')",
    "a job of its own": "frame(3, b'{}')",
    "a header at every second byte": "while True: os.write(3, b'\\x07')",
}


@pytest.mark.anyio
@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_frame_ends_the_run_and_nothing_else(forgery: str, run_script: RunScript) -> None:
    result = await run_script(PRELUDE + forgery + "\ntime.sleep(60)", limits=Limits(wall_time_s=5))
    assert result.status == "error", result
    assert result.error is not None
    assert result.error.type == "FrameError"
    assert result.value is None
    assert not result.columns
    honest = await run_script("result = 7")
    assert (honest.status, honest.value) == ("ok", 7)


@pytest.mark.anyio
async def test_the_same_prelude_forges_well_formed_answers_too(run_script: RunScript) -> None:
    """The control: what is refused above is refused for what it says."""
    source = "frame(STDOUT, b'said'); result(7, [['x', 2]]); frame(COLUMN, struct.pack('<dd', 1, 2))"
    source += "\nos._exit(0)"
    result = await run_script(PRELUDE + source)
    assert (result.status, result.value, result.stdout) == ("ok", 7, "said")
    assert list(result.columns["x"]) == [1.0, 2.0]


@pytest.mark.anyio
async def test_one_key_twice_is_read_once(run_script: RunScript) -> None:
    source = """\nframe(RESULT, b'{"value": 1, "value": 2, "columns": []}'); os._exit(0)"""
    result = await run_script(PRELUDE + source)
    assert (result.status, result.value) == ("ok", 2)


@pytest.mark.anyio
@pytest.mark.slow
async def test_a_guest_that_lets_go_of_its_socket_and_goes_on_is_stopped(run_script: RunScript) -> None:
    result = await run_script("import os\nos.close(3)\nwhile True: pass", limits=Limits(wall_time_s=60))
    assert result.status == "error"
    assert result.error is not None
    assert "let go" in result.error.message
    assert result.wall_ms < 10_000


@pytest.mark.anyio
@pytest.mark.parametrize(
    "forgery", ["frame(RESULT, b'{', 100)", "result(1, [['x', 4]])", "os.write(3, b'\\x07')", "result(1)"]
)
async def test_a_guest_that_starts_an_answer_and_never_ends_it_is_stopped_by_the_clock(
    forgery: str, run_script: RunScript
) -> None:
    result = await run_script(PRELUDE + forgery + "\ntime.sleep(60)", limits=Limits(wall_time_s=0.4))
    assert (result.status, result.value) == ("timeout", None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "forgery", ["frame(RESULT, b'{', 100)", "result(1, [['x', 4]])", "os.write(3, b'\\x07')"]
)
async def test_an_answer_that_is_cut_off_is_an_error(forgery: str, run_script: RunScript) -> None:
    result = await run_script(PRELUDE + forgery + "\nos._exit(3)")
    assert result.status == "error"
    assert result.error is not None
    assert "exit code 3" in result.error.message


@pytest.mark.anyio
async def test_descriptors_sent_along_are_not_accepted(run_script: RunScript) -> None:
    source = "import array, socket\ns = socket.socket(fileno=3)\n"
    source += "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])"
    result = await run_script(source)
    assert result.error is not None
    assert result.error.type == "PermissionError"


@pytest.mark.anyio
async def test_an_output_flood_is_cut_and_the_result_still_arrives(run_script: RunScript) -> None:
    source = """
        import sys
        for _ in range(200_000): print("x" * 50)
        print("\\x1b[31m" * 10, file=sys.stderr)
        result = 1
    """
    result = await run_script(textwrap.dedent(source), limits=Limits(output_bytes=1000))
    assert (result.status, result.value) == ("ok", 1)
    assert result.stdout.endswith("[cut at 1000 bytes]")
    assert len(result.stdout) < 1100
    assert result.stderr == "\n"


@pytest.mark.anyio
async def test_native_output_never_reaches_the_servers_own_stdout(
    run_script: RunScript, capfd: pytest.CaptureFixture[str]
) -> None:
    result = await run_script(
        "import os\nos.write(1, b'native'); os.write(2, b'native'); os.write(0, b'native')"
    )
    assert result.status == "ok"
    assert capfd.readouterr() == ("", "")
