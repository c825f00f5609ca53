"""A strategy's way into the sandbox and back: beside a process, bubblewrap, and the same code unconfined.

Polars has one thread on both sides: a guest has no more, and what is compared is the isolation.
"""

import os

os.environ["POLARS_MAX_THREADS"] = "1"


import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import cast
from unittest.mock import patch

import anyio
import numpy as np
from results import Case, write_results

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits, Sandbox, SandboxResult
from neural_trader_tools.backtest import prices as prices_module
from neural_trader_tools.backtest.prices import SHARED_BARS_MIN, Prices
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.simulation import FEATURES, decide, simulate
from neural_trader_tools.engine.guest import run_strategy

ROUNDS = 60
BARS = 1_000_000
CASH = 100_000.0
PRELOAD = ["numpy", "polars", "neural_trader_tools.engine.guest", FEATURES]
IMPORTS = "import numpy, polars; print(1)"
VECTORISED = """
import polars as pl


def signals(bars, fast=20, slow=50):
    close = bars["close"]
    out = close.ewm_mean(span=fast) > close.ewm_mean(span=slow)
    for window in range(slow, slow + 100, 10):
        out = out & (close > close.rolling_mean(window) * 0.9)
    return out.cast(pl.Float64)
"""
EVENT_DRIVEN = """
class Cross(Strategy):
    def on_start(self):
        self.feature("sma(20)"), self.feature("sma(50)")

    def on_bar(self, bar):
        fast, slow = self.feature("sma(20)")[-1], self.feature("sma(50)")[-1]
        if fast > slow and not self.position.quantity:
            self.buy(fraction=0.9)
        elif fast < slow and self.position.quantity:
            self.close()
"""


def script(source: str) -> Job:
    return Job("neural_trader_sandbox.script:run_script", {"source": source})


def walk(count: int) -> Prices:
    """A seeded random walk, for speed only: its results mean nothing."""
    generator = np.random.default_rng(7)
    close = 100.0 * np.exp(np.cumsum(generator.normal(0.0, 0.001, count)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(open_, close) * 1.0005, np.minimum(open_, close) * 0.9995
    times = np.arange(count, dtype=np.int64) * 60_000_000
    return Prices("WALK", times, open_, high, low, close, np.ones(count))


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


def bubblewrap() -> list[str] | None:
    """The same isolation as far as bubblewrap offers it, or None where it is absent or forbidden here."""
    binary = shutil.which("bwrap")
    if binary is None:
        return None
    shown = [sys.prefix, sys.base_prefix, "/usr", *(p for p in ("/lib", "/lib64") if Path(p).exists())]
    binds = [word for path in shown for word in ("--ro-bind", path, path)]
    return [binary, "--unshare-all", "--die-with-parent", "--clearenv", *binds, "--dev", "/dev"]


def process(command: list[str]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        subprocess.run([*command, sys.executable, "-c", IMPORTS], check=True, capture_output=True)  # noqa: ASYNC221 - timed alone

    return run


def private_bytes(pid: int) -> int:
    """Memory that exists because this process does: its private pages."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def below(pid: int) -> list[int]:
    words = [
        word
        for task in os.listdir(f"/proc/{pid}/task")
        for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]
    return [int(word) for word in words] + [deeper for word in words for deeper in below(int(word))]


async def child_memory(sandbox: LocalSandbox) -> tuple[float, float]:
    """Private MiB of one locked, waiting child (guest and nanny), and of a plain process with the imports."""
    before = set(below(os.getpid()))
    waiting = [await sandbox.create() for _ in range(8)]
    grown = set(below(os.getpid())) - before
    per_child = sum(map(private_bytes, grown)) / len(waiting) / (1 << 20)
    for instance in waiting:
        await instance.kill()
    command = [sys.executable, "-c", f"{IMPORTS}; import sys; sys.stdout.flush(); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as plain:  # noqa: ASYNC220 - a peer to measure
        assert plain.stdout is not None
        plain.stdout.readline()
        peer = private_bytes(plain.pid) / (1 << 20)
        plain.kill()
    return per_child, peer


class Unconfined:
    """The same entry in this process, on the frame itself: what the sandbox's way is measured against."""

    def __init__(self, prices: Prices) -> None:
        self._frame = prices.frame()

    async def run(self, job: Job, limits: Limits, *, watch: object = None) -> SandboxResult:
        value, columns = run_strategy(job.arguments, {"bars": self._frame})
        return SandboxResult("ok", value=value, columns=columns)


async def overhead(
    sandbox: LocalSandbox, source: str, prices: Prices, rounds: int
) -> dict[str, tuple[float, float]]:
    """Median ms in the sandbox and here: up to checked decisions, for the whole backtest, and with loading.

    Bars are loaded anew for every sample. Here they are copied into plain memory, as code that isolates
    nothing would; for the sandbox they go straight to where a guest can read them, which takes longer.
    """
    request = BacktestRequest(source=source, symbols=("WALK",))
    frame = prices.frame()
    found: dict[str, tuple[list[float], list[float]]] = {
        "to checked decisions": ([], []),
        "whole backtest": ([], []),
        "bars loaded and whole backtest": ([], []),
    }
    here = cast(Sandbox, Unconfined(prices))
    for number in range(rounds + 1):  # in turn, so that both meet the same machine
        for samples, (place, shared_min) in enumerate(((sandbox, SHARED_BARS_MIN), (here, BARS + 1))):
            with patch.object(prices_module, "SHARED_BARS_MIN", shared_min):
                load = partial(Prices.from_frame, "WALK", frame, "time")
                loaded = load()
                decided = await samples_ms(partial(decide, place, request, loaded, cash=CASH), 1, 0.2)
                del loaded
                await anyio.sleep(0.2)
                start = time.perf_counter()
                loaded = load()
                after = time.perf_counter()
                played = await samples_ms(partial(simulate, place, request, [loaded]), 1)
                del loaded
            if number:  # the first of each compiles
                found["to checked decisions"][samples].extend(decided)
                found["whole backtest"][samples].extend(played)
                found["bars loaded and whole backtest"][samples].append((after - start) * 1e3 + played[0])
    for name, (ours, same) in found.items():
        ratios = [one / other for one, other in zip(ours, same, strict=True)]
        print(f"{name}: {median(ratios):.3f}x, median of {len(ratios)} paired ratios")
    return {name: (median(ours), median(same)) for name, (ours, same) in found.items()}


async def main() -> None:
    cache = tempfile.TemporaryDirectory()
    sandbox = LocalSandbox(PRELOAD, cache_dir=Path(cache.name))

    async def run() -> SandboxResult:
        result = await sandbox.run(script(IMPORTS))
        assert result.status == "ok", result
        return result

    await run()  # compiles and caches the kernels
    await sandbox.aclose()
    (first,) = await samples_ms(run, 1)
    warm = await samples_ms(run, ROUNDS, pause_s=0.1)
    steady = await samples_ms(run, ROUNDS)
    plain = await samples_ms(process([]), 7)
    peer = "python -c, a process each"
    p95 = quantiles(warm, n=20)[18]
    cases = [
        Case("first run, zygote started", first, median(plain), peer, "ms"),
        Case("warm run, median", median(warm), median(plain), peer, "ms"),
        Case("warm run, p95", p95, quantiles(plain, n=20)[18], peer, "ms"),
        Case("runs back to back, median", median(steady), median(plain), peer, "ms"),
    ]
    wrapped = bubblewrap()
    if wrapped is None:
        print("bubblewrap is not installed: left out (apt-get install bubblewrap)")
    else:
        wrapped_ms = await samples_ms(process(wrapped), 7)
        cases.append(
            Case("warm run, median", median(warm), median(wrapped_ms), "bubblewrap, a process each", "ms")
        )
        cases.append(
            Case("warm run, p95", p95, quantiles(wrapped_ms, n=20)[18], "bubblewrap, a process each", "ms")
        )
    prices = walk(BARS)
    for name, source, rounds in (("vectorised", VECTORISED, 11), ("event-driven", EVENT_DRIVEN, 3)):
        for what, (ours, same) in (await overhead(sandbox, source, prices, rounds)).items():
            cases.append(Case(f"1M bars {name}, {what}", ours, same, "the same code, no isolation", "ms"))
    ours, same = await child_memory(sandbox)
    cases.append(Case("private memory of a waiting child", ours, same, "python -c, the same imports", "MiB"))
    await sandbox.aclose()
    cache.cleanup()
    write_results("sandbox", cases)


if __name__ == "__main__":
    anyio.run(main)
