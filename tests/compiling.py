"""Compiles what nearly every test of engine and features needs, before the workers of a whole run start.

On a fresh clone each worker would compile the same kernels at the same time, up to 50 s of processor time.
Done beforehand it happens once, on two cores, and the sandbox's zygotes find what the host compiled. Where
the caches are full it takes three seconds.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neural_trader_sandbox.local.handover import give_machine_code

ROOT = Path(__file__).parents[1]


def engine() -> None:
    """What guests and sweeps call, then what the trusted engine calls, which is built on it."""
    from neural_trader_tools.engine import floor, guest, sweep

    for module in (guest, floor, sweep):
        module.warm_up()
    for _ in sweep.warm_later():
        pass
    replays()


def features() -> None:
    """Every kernel."""
    from neural_trader_tools.features import catalogue
    from neural_trader_tools.features.definitions import DEFINITIONS

    catalogue.warm_up(DEFINITIONS)


def replays() -> None:
    """The trusted engine: one symbol by targets and by orders, weights, metrics."""
    from neural_trader_tools.backtest import portfolio_orders
    from neural_trader_tools.backtest.metrics import compute_metrics
    from neural_trader_tools.backtest.prices import Prices
    from neural_trader_tools.backtest.replay import Replay, replay_symbol
    from neural_trader_tools.backtest.settings import Settings
    from neural_trader_tools.engine import orders as o

    close = 100.0 + np.arange(60.0) % 7
    times = np.arange(60, dtype=np.int64) * 86_400_000_000
    prices = Prices("A", times, close, close, close, close, close)
    order = np.full((1, len(o.COLUMNS)), np.nan)
    order[0, [o.BAR, o.ACTION, o.SIDE, o.SIZE, o.SIZED_BY, o.TIME_IN_FORCE, o.TRAIL_BY]] = 0, 0, 1, 2, 0, 0, 0
    replay_symbol("orders", order, prices, Settings(), 1e5)
    done = replay_symbol("signals", np.arange(60.0) % 2, prices, Settings(), 1e5)
    compute_metrics(Replay.combine([done], 1e5), 252.0, ())
    portfolio_orders.warm_up()


PARTS: dict[str, Callable[[], None]] = {"engine": engine, "features": features}


def compile_all() -> None:
    """Runs the parts side by side, then gives the zygotes' cache what is new; a part that fails says why."""
    words = [sys.executable, "-m", "tests.compiling"]
    running = [subprocess.Popen([*words, part], cwd=ROOT, stdin=subprocess.DEVNULL) for part in PARTS]
    for process in running:
        process.wait()
    give_machine_code([ROOT / "tools"])


if __name__ == "__main__":
    PARTS[sys.argv[1]]()
