"""Strategies of each form over the same bars, against a plain Python loop that only calls `on_bar`.

Run: `.venv/bin/python benchmarks/strategies.py [bars]`. Every figure is the median of several runs in one
process, outside the sandbox, machine code warm; features are computed before the clock starts.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from results import Case, time_ms, write_results

from neural_trader_tools.engine import guest
from neural_trader_tools.engine.event import Event
from neural_trader_tools.engine.rule import Rule
from neural_trader_tools.engine.session import Session
from neural_trader_tools.engine.strategy import Strategy, configure
from neural_trader_tools.features import catalogue

SETTINGS = {"cash": 1e7, "commission_bps": 10}
EMPTY = "class Empty(Strategy):\n  def on_bar(self, bar):\n    pass\n"
BRACKET = """
class Bracket(Strategy):
    def on_start(self):
        self.count = 0
        self.entry = None

    def on_bar(self, bar):
        self.count += 1
        if self.count % 5 == 0 and self.position.quantity == 0:
            if self.orders:
                self.cancel(self.entry)
            limit = bar.close * 0.9995
            gain, loss = limit * 1.002, limit * 0.998
            self.entry = self.buy(quantity=100, limit=limit, take_profit=gain, stop_loss=loss)
"""
COMPILED = """
from neural_trader_tools.engine.desk import buy, cancel, waits
STATE = {"entry": -1}

def on_bar(bars, features, state, desk):
    if (desk.number + 1) % 5 == 0 and desk.position == 0.0:
        if waits(desk, state.entry):
            cancel(desk, state.entry)
        limit = bars.close[-1] * 0.9995
        gain, loss = limit * 1.002, limit * 0.998
        state.entry = buy(desk, quantity=100.0, limit=limit, take_profit=gain, stop_loss=loss)
"""
RULE = "FEATURES = ('sma(20)', 'sma(50)')\ndef rule(fast, slow):\n    return 1.0 if fast > slow else 0.0\n"


def frame(bars: int) -> pl.DataFrame:
    """Minutes of a random walk, 0.05 % each."""
    draw = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.0005, bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(draw.normal(0, 0.0003, bars)))
    low = np.minimum(open_, close) / np.exp(np.abs(draw.normal(0, 0.0003, bars)))
    times = pl.Series(np.arange(bars) * 60_000_000).cast(pl.Datetime("us", "UTC"))
    columns = {"time": times, "open": open_, "high": high, "low": low, "close": close}
    return pl.DataFrame({**columns, "volume": np.full(bars, 1e6)})


def plain(bars: pl.DataFrame) -> Callable[[], object]:
    """Returns a loop that calls an empty `on_bar` with the numbers of each bar."""

    class Empty:
        def on_bar(self, number: int, open_: float, high: float, low: float, close: float) -> None:
            pass

    columns = [bars[name].to_list() for name in ("open", "high", "low", "close")]

    def run() -> None:
        on_bar = Empty().on_bar
        for number, open_, high, low, close in zip(range(bars.height), *columns, strict=True):
            on_bar(number, open_, high, low, close)

    return run


def running(source: str, bars: pl.DataFrame) -> Callable[[], object]:
    """Returns a run of a strategy over the bars, up to its decisions."""
    entry, rules = guest.find_entry(guest.load(source)), guest.rules(SETTINGS)
    if isinstance(entry, Rule):
        features = [catalogue.evaluate(text, bars) for text in entry.expressions({})]
        return lambda: entry.targets(features, {})
    if isinstance(entry, Event):
        return lambda: entry.commands(bars, {}, SETTINGS["cash"], rules, catalogue.evaluate)
    assert isinstance(entry, type)
    assert issubclass(entry, Strategy)

    def run() -> None:
        session = Session(bars, SETTINGS["cash"], rules, catalogue.evaluate)
        session.run(configure(entry, {}, session))

    return run


def main() -> None:
    """Runs all and writes `benchmarks/results/strategies.json`."""
    bars = frame(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
    began = time.perf_counter()
    guest.warm_up()
    print(f"warm-up {time.perf_counter() - began:.2f} s; {bars.height:,} bars")
    cases: list[Case] = []
    loop_ms = time_ms(plain(bars))
    for name, source in (
        ("on_bar that does nothing", EMPTY),
        ("on_bar with limit, bracket", BRACKET),
        ("compiled limit, bracket", COMPILED),
        ("rule, SMA cross", RULE),
    ):
        ours_ms = time_ms(running(source, bars))
        cases.append(Case(name, ours_ms, loop_ms, "plain Python loop", "ms"))
        print(f"{name}: {bars.height / ours_ms / 1e3:.2f} M bars/s")
    write_results("strategies", cases)


if __name__ == "__main__":
    main()
