"""Cost of a bar from 10,000 to 100 million bars, and memory of sweeps of up to 10,000: a plot.

Each size runs in a process of its own. The peer of both is the smallest size: the bound is 3 times its cost
of a bar, and memory that does not grow with what is swept.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from peers import once
from results import RESULTS, Case, write_results

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
SWEPT = (100, 1_000, 10_000)


def bar_ns(bars: int) -> float:
    """Returns nanoseconds a bar of the engine: targets that change every 45 bars, fills and equity."""
    from neural_trader_tools.engine import kernel
    from neural_trader_tools.engine import orders as o

    block = min(bars, 1_000_000)  # prices that come again, so that making them takes no time
    chance = np.random.default_rng(7)
    close = np.tile(100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.0005, block))), bars // block)
    targets = np.tile(np.repeat([1.0, 0.0], 45), bars // 90 + 1)[:bars]
    times = np.arange(bars, dtype=np.int64) * 1_000_000
    rules = kernel.make_rules(commission=1e-6)
    equity, nobody = np.zeros(bars), np.empty(0)  # as in `replay_symbol`: positions are read off the fills
    account, room = np.zeros(kernel.ACCOUNT_SIZE), bars // 45 + 2
    fills, states = np.zeros((2 * room + 1, len(o.FILL_COLUMNS))), np.zeros(room, dtype=np.int64)
    rows = np.zeros((room, len(o.COLUMNS)))

    def run() -> None:
        commands = rows[: kernel.changed_bars(targets, equity)]
        kernel.write_changes(targets, equity, commands)
        kernel.play(
            close, close, close, close, close, times, nobody, commands, 1e5, rules, account, fills, equity,
            nobody, states,
        )  # fmt: skip

    run()
    rounds = int(np.clip(3e7 / bars, 1, 200))
    return median(once(run)[1] for _ in range(rounds)) * 1e6 / bars


def swept_mb(combinations: int) -> float:
    """Returns the peak memory of a process that sweeps some combinations over 10,000 bars, in MB."""
    import sweeps

    engine = sweeps.Engine(sweeps.prices())
    engine.compute()
    for first in range(0, combinations, 100):
        engine.ground.play([engine.decide(first, first + 100)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def measured(part: str, size: int) -> float:
    """Measures in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, part, str(size)], stdout=subprocess.PIPE, check=True, text=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def plot(costs: list[float], memory: list[float]) -> Path:
    """Writes the two curves beside the results."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.semilogx(SIZES, costs, "o-", color="#1f6feb")
    left.axhline(3 * min(costs), ls="--", color="grey", lw=1, label="3 x the least")
    left.set(xlabel="bars", ylabel="ns a bar", title="engine: targets, fills, equity", ylim=(0, None))
    left.legend(frameon=False)
    right.semilogx(SWEPT, memory, "o-", color="#1f6feb")
    right.axhline(250, ls="--", color="grey", lw=1, label="bound")
    right.set(xlabel="combinations of 10,000 bars", ylabel="peak MB", title="sweep", ylim=(0, 300))
    right.legend(frameon=False)
    path = RESULTS / "scale.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def main() -> None:
    costs = [measured("bars", size) for size in SIZES]
    memory = [measured("sweep", size) for size in SWEPT]
    cases = [
        Case(f"{size:,} bars", cost, 3 * min(costs), "3 x the least", "ns a bar")
        for size, cost in zip(SIZES, costs, strict=True)
    ]
    cases += [
        Case(f"sweep of {count:,}", took, 250.0, "bound", "MB")
        for count, took in zip(SWEPT, memory, strict=True)
    ]
    write_results("scale", cases)
    print(plot(costs, memory))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps({"bars": bar_ns, "sweep": swept_mb}[sys.argv[1]](int(sys.argv[2]))))
    else:
        main()
