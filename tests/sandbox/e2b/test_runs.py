"""Runs at the service: what comes back, what is cut, and how a guest that misbehaves ends."""

import io
import math

import polars as pl
import pytest
from tests.sandbox.e2b.backend import sandbox_at, script
from tests.sandbox.e2b.service.server import Service

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_sandbox.e2b import boxes
from neural_trader_sandbox.port import Job, Limits

pytestmark = pytest.mark.anyio


async def test_a_run_answers_with_its_value_its_columns_its_prints_and_what_isolated_it(
    e2b_service: Service,
) -> None:
    source = (
        "import numpy as np\nprint('\\x1b[31mhello\\x1b[0m')\n"
        "result = {'rows': tables['bars'].height}\ncolumns = {'x': np.array([1.5, np.nan])}"
    )
    stream = io.BytesIO()
    pl.DataFrame({"close": [1.0, 2.0, 3.0]}).write_ipc_stream(stream)
    result = await sandbox_at(e2b_service).run(script(source, {"bars": stream.getvalue()}))
    assert (result.status, result.value, result.stdout) == ("ok", {"rows": 3}, "hello\n"), result.error
    assert result.columns["x"][0] == 1.5
    assert math.isnan(result.columns["x"][1])
    assert (result.backend, result.layers[:3]) == ("e2b", (boxes.UNPROVEN, "internet_off", "wall_clock"))
    assert result.charged_ms > result.wall_ms > 0


async def test_large_tables_and_large_columns_cross_whole(e2b_service: Service) -> None:
    rows = 200_000
    stream = io.BytesIO()
    pl.DataFrame({"x": [float(row) for row in range(rows)]}).write_ipc_stream(stream)
    assert len(stream.getvalue()) > 1 << 20
    job = script("columns = {'x': tables['t']['x'].to_numpy() * 2}", {"t": stream.getvalue()})
    result = await sandbox_at(e2b_service).run(job)
    assert result.status == "ok", result.error
    assert result.columns["x"].sum() == rows * (rows - 1)


async def test_a_guest_that_raises_names_its_line(e2b_service: Service) -> None:
    result = await sandbox_at(e2b_service).run(script("print('before')\n\n1 / 0"))
    assert result.error is not None
    assert (result.status, result.error.type, result.error.line) == ("error", "ZeroDivisionError", 3)
    assert result.stdout == "before\n"


async def test_the_guest_sees_a_fixed_hash_seed_and_constants_only(e2b_service: Service) -> None:
    source = "import os\nresult = [sorted(os.environ), hash('a strategy'), os.environ['PYTHONHASHSEED']]"
    sandbox = sandbox_at(e2b_service)
    first, second = [await sandbox.run(script(source)) for _ in range(2)]
    assert first.status == "ok", first.error
    assert first.value == second.value
    assert isinstance(first.value, list)
    assert first.value[2] == "0"
    assert not [name for name in first.value[0] if "E2B" in name or "KEY" in name]  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable, reportUnknownVariableType, reportArgumentType, reportOperatorIssue]  # a guest's JSON


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("import os; os._exit(3)", "error", "without a result, exit code 3"),
        ("import ctypes; ctypes.string_at(1)", "killed", "ended by a signal"),
        ("while True: pass", "timeout", "stopped after wall_time_s 1"),
        ("while True: print('x' * 1000)", "timeout", "stopped after wall_time_s 1"),
        ("import os\nfor fd in range(3, 20):\n  try: os.write(fd, b'not ours\\n')\n  except OSError: pass\n"
         "import time; time.sleep(5)", "error", "broke the framing"),
        ("import os\nfor fd in range(3, 20):\n  try: os.write(fd, b'A' * (1 << 17))\n  except OSError: pass\n"
         "import time; time.sleep(5)", "error", "broke the framing"),
        ("result = float('nan')", "error", "not JSON"),
    ],
)  # fmt: skip
async def test_a_guest_that_misbehaves_is_a_result_and_its_sandbox_is_killed(
    e2b_service: Service, source: str, status: str, message: str
) -> None:
    result = await sandbox_at(e2b_service).run(script(source), Limits(wall_time_s=1))
    assert result.status == status, result.error
    assert result.error is not None
    assert message in result.error.message
    assert e2b_service.running() == []


async def test_a_flood_of_prints_is_cut(e2b_service: Service) -> None:
    result = await sandbox_at(e2b_service).run(
        script("for _ in range(10_000): print('x' * 100)"), Limits(output_bytes=1000)
    )
    assert result.status == "ok", result.error
    assert result.stdout.endswith("[cut at 1000 bytes]")
    assert len(result.stdout) < 1100


async def test_the_processor_time_and_the_file_size_are_fenced_inside(e2b_service: Service) -> None:
    spinning = await sandbox_at(e2b_service).run(
        script("while True: pass"), Limits(cpu_time_s=1, wall_time_s=20)
    )
    assert (spinning.status, "limits" in spinning.layers) == ("killed", True)
    writing = await sandbox_at(e2b_service).run(
        script("open('/tmp/large', 'wb').write(bytes(1 << 20))"), Limits(file_bytes=1 << 16)
    )
    assert writing.status in ("error", "killed")


async def test_a_job_that_is_malformed_contacts_nobody(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service)
    for job, code in (
        (Job("os:system", {}), "sandbox_entry_unknown"),
        (script("x" * (2 << 20)), "sandbox_job_too_large"),
    ):
        with pytest.raises(InputError) as refused:
            await sandbox.run(job)
        assert refused.value.code == code
    assert e2b_service.log == []


async def test_without_consent_not_one_request_is_made(e2b_service: Service) -> None:
    asked: list[str] = []

    def refuse(destination: str) -> None:
        asked.append(destination)
        raise ConfigurationError("sandbox_consent_missing", "nobody agreed", "agree")

    sandbox = sandbox_at(e2b_service, consent=refuse)
    with pytest.raises(ConfigurationError, match="sandbox_consent_missing"):
        await sandbox.run(script("1"))
    with pytest.raises(ConfigurationError, match="sandbox_consent_missing"):
        await sandbox.open_stream(script("1"))
    report = await sandbox.probe()
    assert (report.ok, "sandbox_consent_missing" in report.layers[0].detail) == (False, True)
    assert e2b_service.log == []
    assert set(asked) == {e2b_service.url.removeprefix("http://")}


async def test_the_internet_is_asked_to_be_off_and_the_service_is_to_kill_what_we_forget(
    e2b_service: Service,
) -> None:
    await sandbox_at(e2b_service, lifetime_s=77).run(script("1"))
    made = next(asked.body for asked in e2b_service.log if asked.path == "/v2/sandboxes" and asked.body)
    assert made["allow_internet_access"] is False
    assert made["timeout"] == 77
    assert made["templateID"] == "neural-trader"


async def test_the_probe_names_what_the_test_service_cannot_have(e2b_service: Service) -> None:
    report = await sandbox_at(e2b_service).probe()
    missing = [layer.name for layer in report.layers if not layer.holds]
    assert missing == ["microvm"], report.layers
    assert {"internet_off", "metadata", "packages", "clock", "wall_clock"} <= {
        layer.name for layer in report.layers
    }
    assert e2b_service.running() == []


async def test_a_clock_that_is_off_is_found(e2b_service: Service) -> None:
    e2b_service.clock_skew_s = 3600
    report = await sandbox_at(e2b_service).probe()
    clock = next(layer for layer in report.layers if layer.name == "clock")
    assert not clock.holds, clock
