"""Processes and descriptors come back whatever happens: to the guest, the zygote or the server."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import numpy as np
import polars as pl
import pytest
from tests.sandbox.local.processes import descendants, until

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_sandbox.backends import open_sandbox
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits, SandboxResult


def script(source: str, **tables: bytes) -> Job:
    return Job("neural_trader_sandbox.script:run_script", {"source": textwrap.dedent(source)}, tables)


@pytest.mark.anyio
async def test_values_columns_and_tables_cross_unchanged(sandbox: LocalSandbox) -> None:
    frame = pl.DataFrame({"close": [1.0, 2.5, float("nan")], "volume": [1, 2, 3]})
    data = frame.write_ipc_stream(None).getvalue()
    source = """
        import numpy as np
        close = tables["bars"]["close"].to_numpy()
        result = {"rows": len(close), "text": "ü", "nothing": None}
        columns = {"doubled": close * 2, "empty": np.array([]), "whole": [1, 2]}
    """
    result = await sandbox.run(script(source, bars=data))
    assert result.status == "ok", result
    assert result.value == {"rows": 3, "text": "ü", "nothing": None}
    np.testing.assert_array_equal(result.columns["doubled"], [2.0, 5.0, np.nan])
    np.testing.assert_array_equal(result.columns["whole"], [1.0, 2.0])
    assert {name: column.dtype for name, column in result.columns.items()}["empty"] == np.float64
    assert result.backend == "local"
    assert "seccomp" in result.layers


@pytest.mark.anyio
async def test_eight_million_bytes_go_in_and_out(sandbox: LocalSandbox) -> None:
    close = np.random.default_rng(7).normal(size=1_000_000)
    data = pl.DataFrame({"close": close}).write_ipc_stream(None).getvalue()
    result = await sandbox.run(script("columns = {'close': tables['bars']['close'].to_numpy()}", bars=data))
    assert result.status == "ok", result
    np.testing.assert_array_equal(result.columns["close"], close)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        ("x = 1\n\nraise ValueError('no')", "ValueError", 3),
        ("def f():\n    return 1 / 0\n\nf()", "ZeroDivisionError", 2),
        ("x = 1\nif x\n    pass", "SyntaxError", 2),
        ("import json\njson.loads('{')", "JSONDecodeError", 2),
        ("import sys\nsys.exit(3)", "SystemExit", 2),
        ("import not_there", "ModuleNotFoundError", 1),
    ],
)
async def test_a_fault_names_the_line_in_the_users_source(
    source: str, kind: str, line: int, sandbox: LocalSandbox
) -> None:
    result = await sandbox.run(script(source))
    assert result.status == "error"
    assert result.error is not None
    assert (result.error.type, result.error.line) == (kind, line)


@pytest.mark.anyio
@pytest.mark.parametrize("source", ["result = float('nan')", "result = {1}", "result = object()"])
async def test_what_is_not_json_is_the_guests_fault(source: str, sandbox: LocalSandbox) -> None:
    result = await sandbox.run(script(source))
    assert (result.status, result.value) == ("error", None)


@pytest.mark.anyio
async def test_a_malformed_job_is_refused_before_anything_starts() -> None:
    cold = LocalSandbox([])
    with pytest.raises(InputError, match="sandbox_entry_unknown"):
        await cold.run(Job("os:system", {}))
    with pytest.raises(InputError, match="sandbox_job_invalid"):
        await cold.run(Job("neural_trader_sandbox.script:run_script", {"source": float("nan")}))
    with pytest.raises(InputError, match="sandbox_job_too_large"):
        await cold.run(script("x" * (2 << 20)))
    with pytest.raises(InputError, match="sandbox_limit_invalid"):
        await cold.run(script("x = 1"), Limits(wall_time_s=float("nan")))
    with pytest.raises(InputError, match="sandbox_entry_unknown"):
        await cold.open_stream(Job("os:system", {}))
    with pytest.raises(InputError, match="sandbox_limit_invalid"):
        await cold.open_stream(script("x = 1"), Limits(wall_time_s=0))
    assert cold._zygote is None  # pyright: ignore[reportPrivateUsage]: the point is that none was started


def test_e2b_is_refused_clearly_and_an_unknown_backend_too() -> None:
    with pytest.raises(
        ConfigurationError, match="sandbox_backend_unavailable: the e2b backend was given no settings"
    ):
        open_sandbox("e2b", [])
    with pytest.raises(ConfigurationError, match="sandbox_backend_unknown"):
        open_sandbox("docker", [])
    assert isinstance(open_sandbox("local", []), LocalSandbox)


@pytest.mark.anyio
async def test_an_instance_runs_one_job_only(sandbox: LocalSandbox) -> None:
    instance = await sandbox.create(Limits(threads=8))
    assert (await instance.run(script("result = 1"))).value == 1
    with pytest.raises(InputError, match="sandbox_instance_spent"):
        await instance.run(script("result = 2"))


@pytest.mark.anyio
async def test_a_warm_instance_obeys_the_limits_it_is_created_with(sandbox: LocalSandbox) -> None:
    await sandbox.run(script("result = 1"))  # leaves warm children with the default limits
    instance = await sandbox.create(Limits(wall_time_s=0.3, output_bytes=10))
    result = await instance.run(script("print('x' * 100)\nwhile True: pass"))
    assert result.status == "timeout"
    assert result.stdout == "x" * 10 + "\n[cut at 10 bytes]"
    assert result.wall_ms < 5_000


@pytest.mark.anyio
async def test_an_idle_instance_can_be_killed_and_the_pool_recovers(sandbox: LocalSandbox) -> None:
    idle = await sandbox.create()
    await sandbox.kill()
    with pytest.raises(InputError, match="sandbox_instance_spent"):
        await idle.run(script("result = 1"))
    assert (await sandbox.run(script("result = 2"))).value == 2


@pytest.mark.anyio
async def test_a_run_that_is_killed_says_so(sandbox: LocalSandbox) -> None:
    instance = await sandbox.create()
    results: list[SandboxResult] = []
    async with anyio.create_task_group() as tasks:

        async def kill() -> None:
            await anyio.sleep(0.1)
            await sandbox.kill(instance.instance_id)

        tasks.start_soon(kill)
        results.append(await instance.run(script("while True: pass")))
    [result] = results
    assert result.status == "killed"
    assert result.error is not None
    assert "caller" in result.error.message


@pytest.mark.anyio
async def test_cancelling_a_run_ends_its_processes(tmp_path: Path) -> None:
    own = LocalSandbox([], warm=0, cache_dir=tmp_path)
    try:
        await own.run(script("result = 1"))
        zygote = (await own._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only the zygote knows
        assert until(lambda: len(descendants(zygote)) == 1)
        with anyio.move_on_after(0.3) as scope:
            await own.run(script("while True: pass"))
        assert scope.cancelled_caught
        assert until(lambda: len(descendants(zygote)) == 1)
    finally:
        await own.aclose()


@pytest.mark.anyio
async def test_many_runs_at_once_each_get_their_own_answer(sandbox: LocalSandbox) -> None:
    answers: dict[int, object] = {}

    async def one(number: int) -> None:
        answers[number] = (await sandbox.run(script(f"print({number}); result = {number} * 2"))).value

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(one, number)
    assert answers == {number: number * 2 for number in range(12)}


@pytest.mark.anyio
async def test_a_hundred_runs_leave_no_process_and_no_descriptor_behind(tmp_path: Path) -> None:
    own = LocalSandbox([], cache_dir=tmp_path)
    try:
        for _ in range(3):
            await own.run(script("result = 1"))
        zygote = (await own._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only the zygote knows
        settled = 1 + 2 * 2  # the zygote, and two warm children with their nannies
        assert until(lambda: len(descendants(zygote)) == settled)
        descriptors = len(os.listdir("/proc/self/fd"))
        for number in range(100):
            result = await own.run(script("raise SystemExit(1)" if number % 3 else "result = 1"))
            assert result.status in ("ok", "error")
        assert until(lambda: len(descendants(zygote)) == settled)
        assert len(os.listdir("/proc/self/fd")) == descriptors
    finally:
        await own.aclose()
    assert not os.path.lexists(f"/proc/{zygote}")  # noqa: ASYNC240 - /proc does not block


@pytest.mark.anyio
async def test_a_zygote_that_dies_is_replaced(tmp_path: Path) -> None:
    own = LocalSandbox([], cache_dir=tmp_path)
    try:
        assert (await own.run(script("result = 1"))).value == 1
        first = (await own._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only the zygote knows
        children = descendants(first)
        os.kill(max(children & set(_children(first))), signal.SIGKILL)
        assert until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
        assert (await own.run(script("result = 2"))).value == 2
        assert (await own._running_zygote()).pid != first  # pyright: ignore[reportPrivateUsage]: as above
    finally:
        await own.aclose()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.anyio
async def test_a_run_whose_zygote_dies_ends_and_does_not_hang(tmp_path: Path) -> None:
    own = LocalSandbox([], cache_dir=tmp_path)
    try:
        await own.run(script("result = 1"))
        launcher = (await own._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only the zygote knows
        results: list[SandboxResult] = []
        async with anyio.create_task_group() as tasks:

            async def kill() -> None:
                await anyio.sleep(0.1)
                os.kill(_children(launcher)[0], signal.SIGKILL)

            tasks.start_soon(kill)
            results.append(await own.run(script("while True: pass")))
        assert [result.status for result in results] == ["killed"]
    finally:
        await own.aclose()


def test_a_server_that_is_killed_leaves_nothing_behind(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    source = f"""
        import anyio, pathlib
        from neural_trader_sandbox.local.sandbox import LocalSandbox
        from neural_trader_sandbox.port import Job

        async def main():
            sandbox = LocalSandbox([], cache_dir=pathlib.Path({str(tmp_path)!r}))
            await sandbox.host_uid()
            async with anyio.create_task_group() as tasks:
                for source in ("while True: pass", "import time; time.sleep(99)"):
                    job = Job("neural_trader_sandbox.script:run_script", {{"source": source}})
                    tasks.start_soon(sandbox.run, job)
        anyio.run(main)
    """
    server = subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: len(descendants(server.pid)) == 2 + 2 * 2)
        below = descendants(server.pid)
    finally:
        server.kill()
        server.wait()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


@pytest.mark.anyio
async def test_what_was_started_ahead_serves_the_first_run(tmp_path: Path) -> None:
    own = LocalSandbox([], warm=0, cache_dir=tmp_path)
    try:
        before = descendants(os.getpid())
        await own.warm()
        started = descendants(os.getpid()) - before
        assert started
        assert (await own.run(script("result = 1"))).value == 1
        assert started <= descendants(os.getpid())
    finally:
        await own.aclose()
