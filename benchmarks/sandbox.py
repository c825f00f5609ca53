"""A strategy's way into the sandbox and back, beside a plain `python -c` in the same run."""

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median, quantiles

import anyio
import numpy as np
import polars as pl
from results import Case, write_results

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, SandboxResult

ROUNDS = 60
PRELOAD = ["numpy", "polars"]
IMPORTS = "import numpy, polars; print(1)"
WORK = """
import numpy as np
close = tables["bars"]["close"].to_numpy() if "tables" in globals() else CLOSE
kernel = np.ones(50) / 50
out = close
for _ in range(10): out = np.convolve(out, kernel, "same")
columns = {"signal": out}
"""


def script(source: str, **tables: bytes) -> Job:
    return Job("neural_trader_sandbox.script:run_script", {"source": source}, tables)


async def samples_ms(
    action: Callable[[], Awaitable[object]], rounds: int, pause_s: float = 0.0
) -> list[float]:
    found: list[float] = []
    for _ in range(rounds):
        await anyio.sleep(pause_s)  # lets the pool fill, as it has between two calls of an agent
        start = time.perf_counter()
        await action()
        found.append((time.perf_counter() - start) * 1e3)
    return found


async def main() -> None:
    sandbox = LocalSandbox(PRELOAD)

    async def run(job: Job) -> SandboxResult:
        result = await sandbox.run(job)
        assert result.status == "ok", result
        return result

    async def plain() -> None:
        subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True)  # noqa: ASYNC221 - timed alone

    start = time.perf_counter()
    await run(script(IMPORTS))
    first_ms = (time.perf_counter() - start) * 1e3
    warm = await samples_ms(lambda: run(script(IMPORTS)), ROUNDS, pause_s=0.1)
    steady = await samples_ms(lambda: run(script(IMPORTS)), ROUNDS)
    process = await samples_ms(plain, 5)

    close = np.random.default_rng(7).normal(size=1_000_000).cumsum()
    data = pl.DataFrame({"close": close}).write_ipc_stream(None).getvalue()

    async def outside() -> None:
        exec(WORK, {"CLOSE": close})

    inside: list[float] = []
    same: list[float] = []
    for _ in range(7):  # in turn, so that both meet the same machine
        inside += await samples_ms(lambda: run(script(WORK, bars=data)), 1, pause_s=0.2)
        same += await samples_ms(outside, 1, pause_s=0.2)
    await sandbox.aclose()
    peer = "python -c, a process each"
    write_results(
        "sandbox",
        [
            Case("first run, zygote started", first_ms, median(process), peer, "ms"),
            Case("warm run, median", median(warm), median(process), peer, "ms"),
            Case("warm run, p95", quantiles(warm, n=20)[18], quantiles(process, n=20)[18], peer, "ms"),
            Case("runs back to back, median", median(steady), median(process), peer, "ms"),
            Case("1M bars vectorised", median(inside), median(same), "in process, no isolation", "ms"),
        ],
    )


if __name__ == "__main__":
    anyio.run(main)
