"""A sweep of 10,000 combinations of two moving averages over 10,000 bars, and what the engine's part takes.

The peer of the engine's part is the whole engine, one combination after the other, on a fiftieth of them.
"""

import asyncio
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from results import Case, time_ms, write_results

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.sweeps.answer import Decisions
from neural_trader_tools.backtest.sweeps.ground import Ground, commands, measure
from neural_trader_tools.backtest.sweeps.shards import Shards
from neural_trader_tools.backtest.sweeps.space import read_space
from neural_trader_tools.engine.arena import ARENA
from neural_trader_tools.engine.guest import load
from neural_trader_tools.engine.rule import find_rule
from neural_trader_tools.engine.sweep import parameter_columns, rule_changes
from neural_trader_tools.features.catalogue import evaluate

BARS, EACH, THREADS, TOGETHER = 10_000, 100, 2, 1_000
RULE = """
FEATURES = ("sma({fast})", "sma({slow})")
def rule(fast_sma, slow_sma, *, fast: int = 20, slow: int = 50):
    return 1.0 if fast_sma > slow_sma else 0.0
"""
FASTS, SLOWS = range(5, 5 + EACH), range(110, 110 + EACH)
PRELOAD = (
    "numpy",
    "polars",
    "neural_trader_tools.engine.guest",
    "neural_trader_tools.engine.sweep",
    "neural_trader_tools.features.catalogue",
)


def prices() -> Prices:
    """Returns seeded prices."""
    chance = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.01, BARS)))
    open_ = close * np.exp(chance.normal(0.0, 0.002, BARS))
    times = np.arange(BARS, dtype=np.int64) * 3_600_000_000
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    return Prices("X", times, open_, high, low, close, np.ones(BARS))


class Engine:
    """The sweep without the sandbox: features, the rule over all combinations, the kernel."""

    def __init__(self, bars: Prices) -> None:
        rule = find_rule(load(RULE))
        if rule is None:
            raise RuntimeError("the rule is none")
        self._loop = rule_changes(rule)
        self._frame = bars.frame()
        values = [(fast, slow) for fast in FASTS for slow in SLOWS]
        self._columns = parameter_columns(rule, values)
        self._places = np.array([(fast, EACH + slow) for fast in range(EACH) for slow in range(EACH)])
        self.ground = Ground(
            [bars], Settings(commission_bps=10.0), np.linspace(0, BARS, 17).astype(np.int64), THREADS
        )
        # buffers that are used again, as an arena
        self._buffers = [(np.empty(200_000), np.empty(200_000), np.full(2, np.nan)) for _ in range(THREADS)]
        self._matrix = np.empty((2 * EACH, BARS))

    def compute(self) -> None:
        """Computes each feature once."""
        for row, window in enumerate((*FASTS, *SLOWS)):
            self._matrix[row] = evaluate(f"sma({window})", self._frame)

    def decide(self, first: int, last: int) -> Decisions:
        """Returns the changes of some combinations."""
        counts = np.zeros(EACH * EACH, dtype=np.int64)
        parts = np.linspace(first, last, THREADS + 1).astype(np.int64)

        def run(part: int) -> None:
            bars, targets, outside = self._buffers[part]
            self._loop(
                parts[part], parts[part + 1], self._matrix, self._places, *self._columns, 1.0, counts, bars,
                targets, outside,
            )  # fmt: skip

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(run, range(THREADS)))
        offsets = np.concatenate([[0], np.cumsum(counts[first:last])])
        rows = ARENA.floats(2, int(offsets[-1])).T
        for part, (bars, targets, _) in enumerate(self._buffers):
            begin, end = (int(offsets[parts[part + side] - first]) for side in (0, 1))
            rows[begin:end, 0], rows[begin:end, 1] = bars[: end - begin], targets[: end - begin]
        return Decisions("signals", offsets, rows, [None] * (last - first))

    def sweep(self) -> None:
        """Runs everything, some combinations at a time."""
        self.compute()
        for first in range(0, EACH * EACH, TOGETHER):
            self.ground.play([self.decide(first, first + TOGETHER)])


async def through_the_sandbox(bars: Prices) -> tuple[float, float]:
    """Returns seconds for all combinations through one child, the first time and the second."""
    space = read_space({"fast": list(FASTS), "slow": list(SLOWS)}, "grid", None, 0)
    tried = space.combinations(0, space.count)
    sandbox = LocalSandbox(PRELOAD)
    request = BacktestRequest(source=RULE, symbols=("X",))
    ground = Ground([bars], Settings(commission_bps=10.0), np.linspace(0, BARS, 17).astype(np.int64), THREADS)
    shards = Shards(sandbox, request, ground, 0, PRELOAD[-1])
    seconds: list[float] = []
    for _ in range(2):
        start = time.perf_counter()
        done = 0
        while done < len(tried):
            done += len((await shards.run(tried[done:])).faults)
        seconds.append(time.perf_counter() - start)
    await sandbox.aclose()
    return seconds[0], seconds[1]


def main() -> None:
    """Measures and writes the results."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    bars = prices()
    engine = Engine(bars)
    ours = time_ms(engine.sweep, rounds=9)
    decisions = engine.decide(0, TOGETHER)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0

    def whole(number: int) -> Any:
        return measure(engine.ground.replay([("orders", commands(decisions, number))]), engine.ground.edges)

    parts = EACH * EACH // TOGETHER
    playing = parts * time_ms(lambda: engine.ground.play([decisions]), rounds=9)
    deciding = parts * time_ms(lambda: engine.decide(0, TOGETHER), rounds=9)
    one_by_one = 50.0 * time_ms(lambda: [whole(number) for number in range(0, TOGETHER, 10)], rounds=3)
    _, warm_s = asyncio.run(through_the_sandbox(bars))
    write_results(
        "sweeps",
        [
            Case(
                "10,000 combinations x 10,000 bars: engine",
                ours,
                one_by_one,
                "whole engine, replay only",
                "ms",
            ),
            Case("… of it deciding", deciding, one_by_one, "whole engine, replay only", "ms"),
            Case("… of it playing", playing, one_by_one, "whole engine, replay only", "ms"),
            Case("… through the sandbox, warm", warm_s * 1e3, one_by_one, "whole engine, replay only", "ms"),
            Case("… peak memory", peak_mb, 250.0, f"bound; {resident:.0f} MB after imports", "MB"),
        ],
    )


if __name__ == "__main__":
    main()
