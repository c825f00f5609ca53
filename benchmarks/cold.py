"""From a new process to the first result, with the caches that `neural-trader setup` leaves.

Each side starts a new Python a few times: imports, a first backtest of SMA 20/50 over ten years of days, its
metrics. The command line runs the strategy in the sandbox and writes its record to a folder of its own.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
from backtest import walk
from peers import RULE, once
from results import Case, write_results

OURS = """
from backtest import walk
from neural_trader_tools.backtest.metrics import compute_metrics
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.guest import load
from neural_trader_tools.engine.rule import find_rule
from neural_trader_tools.features.catalogue import evaluate
from peers import RULE
prices, rule = walk(2_520), find_rule(load(RULE))
features = [evaluate(name, prices.frame()) for name in rule.expressions({})]
replay = replay_symbol("signals", rule.targets(features, {}), prices, Settings(commission_bps=10), 1e5)
assert compute_metrics(Replay.combine([replay], 1e5), 252).trade_count
"""
VECTORBT = """
import warnings
warnings.simplefilter("ignore")
import pandas as pd
import vectorbt
from backtest import walk
prices = walk(2_520)
close = pd.Series(prices.close, pd.DatetimeIndex(prices.times.astype("datetime64[us]")))
fast, slow = (vectorbt.MA.run(close, window).ma for window in (20, 50))
made = vectorbt.Portfolio.from_signals(close, fast > slow, fast <= slow, fees=0.001, freq="1D")
assert made.stats()["Total Trades"]
"""


def new_process_ms(command: list[str], rounds: int = 3, **settings: str) -> float:
    """Returns the median milliseconds of a command, after one run that fills what caches are missing."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **settings}

    def run() -> None:
        subprocess.run(command, check=True, env=environment, capture_output=True)

    run()
    return median(once(run)[1] for _ in range(rounds))


def main() -> None:
    theirs = new_process_ms([sys.executable, "-c", VECTORBT], rounds=1)
    library = new_process_ms([sys.executable, "-c", OURS])
    with tempfile.TemporaryDirectory() as folder:
        prices, strategy = Path(folder, "prices.csv"), Path(folder, "cross.py")
        days = walk(2_520)
        replace(days, times=days.times * 1_440).frame().write_csv(prices)
        strategy.write_text(RULE)
        program = str(Path(sys.executable).with_name("neural-trader"))
        shell = new_process_ms(
            [program, "backtest", "run", str(strategy), "--data", str(prices)], NEURAL_TRADER_HOME=folder
        )
    cases = [
        Case("first result of a new process, library", library, theirs, "vectorbt", "ms"),
        Case("first result of a new process, command line", shell, theirs, "vectorbt", "ms"),
        Case("… the slower of both", max(library, shell), 2_000.0, "bound", "ms"),
    ]
    write_results("cold", cases)


if __name__ == "__main__":
    main()
