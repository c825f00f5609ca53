"""Compiled event strategies: the same orders and fills as a class in Python, and as a rule."""

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from neural_trader_tools.engine import guest, kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault

EXAMPLE = Path(__file__).parents[3] / "examples" / "strategies" / "compiled_bracket.py"
BRACKET = """
class Bracket(Strategy):
    window: int = 14
    width: float = 0.5
    rest: int = 5

    def on_start(self):
        self.entry = None

    def on_bar(self, bar):
        atr = self.feature(f"atr({self.window})")[-1]
        if self.position.quantity != 0 or bar.number % self.rest != 0 or atr != atr:
            return
        if self.entry in self.orders:
            self.cancel(self.entry)
        limit = bar.close - self.width * atr
        self.entry = self.buy(fraction=0.5, limit=limit, take_profit=limit + 2 * atr, stop_loss=limit - atr)
"""
CROSSES = {
    "rule": (
        "FEATURES = ('sma(5)', 'sma(20)')\n"
        "def rule(fast, slow, *, size: float = 0.5):\n    return size if fast > slow else 0.0\n"
    ),
    "class": (
        "class Cross(Strategy):\n  size: float = 0.5\n  def on_bar(self, bar):\n"
        "    fast, slow = self.feature('sma(5)')[-1], self.feature('sma(20)')[-1]\n"
        "    if slow == slow:\n      self.target(self.size if fast > slow else 0.0)\n"
    ),
    "compiled": (
        "from neural_trader_tools.engine.desk import target\n"
        "FEATURES = {'fast': 'sma(5)', 'slow': 'sma(20)'}\n"
        "def on_bar(bars, features, state, desk, *, size: float = 0.5):\n"
        "  fast, slow = features.fast[-1], features.slow[-1]\n"
        "  if slow == slow:\n    target(desk, size if fast > slow else 0.0)\n"
    ),
}
HEAD = "from neural_trader_tools.engine.desk import buy, sell, target\n"
FORM = HEAD + "def on_bar(bars, features, state, desk):\n"


def frame(bars: int) -> pl.DataFrame:
    draw = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(draw.normal(0, 0.004, bars)))
    low = np.minimum(open_, close) / np.exp(np.abs(draw.normal(0, 0.004, bars)))
    time = pl.Series(np.arange(bars) * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
    columns = {"time": time, "open": open_, "high": high, "low": low, "close": close}
    return pl.DataFrame({**columns, "volume": np.full(bars, 50.0)})


def decided(source: str, bars: pl.DataFrame, **settings: Any) -> NDArray[np.float64]:
    given = {"cash": 10_000.0, "commission_bps": 5, **settings}
    value, columns = guest.run_strategy({"source": source, "settings": given}, {"bars": bars})
    if value["kind"] == "signals":
        return kernel.target_changes(columns["target"])
    return np.column_stack([columns[name] for name in o.COLUMNS])


@pytest.mark.parametrize("settings", [{}, {"fill": "close"}, {"volume_cap": 0.2, "borrow_bps_annual": 90.0}])
def test_the_compiled_bracket_places_the_orders_of_the_class(settings: dict[str, Any]) -> None:
    bars = frame(9_000)
    compiled = decided(EXAMPLE.read_text(), bars, **settings)
    assert len(compiled) > 1_000
    assert np.array_equal(compiled, decided(BRACKET, bars, **settings), equal_nan=True)


def test_one_strategy_written_three_ways_decides_the_same() -> None:
    bars = frame(2_000)
    rows = {name: decided(source, bars) for name, source in CROSSES.items()}
    assert len(rows["rule"]) > 50
    assert np.array_equal(rows["rule"], rows["class"], equal_nan=True)
    assert np.array_equal(rows["rule"], rows["compiled"], equal_nan=True)


def test_state_is_kept_and_fills_are_told_once_however_many() -> None:
    source = (
        HEAD + "STATE = {'told': 0, 'price': 0.0}\n"
        "def on_bar(bars, features, state, desk):\n"
        "  for fill in range(len(desk.fills)):\n    state.told += 1\n    state.price = desk.fills[fill, 3]\n"
        "  if desk.number < 3_990:\n"
        "    if desk.number % 2 == 0:\n      buy(desk, quantity=1.0)\n"
        "    else:\n      sell(desk, quantity=1.0)\n"
        "  if desk.number == 3_995:\n    sell(desk, quantity=state.told, limit=state.price * 2)\n"
    )
    bars = frame(4_000)  # more fills than are kept at once
    rows = decided(source, bars)
    assert rows[:, o.BAR].tolist() == [*range(3_990), 3_995]
    assert rows[-1, o.SIZE] == 3_990.0
    assert rows[-1, o.LIMIT] == bars["open"][3_990] * 2


@pytest.mark.parametrize(
    ("source", "line", "code", "says"),
    [
        (FORM + "  buy(desk, quantity=-1.0)\n", 2, "invalid_order", r"above 0|out of range.*\(bar 0\)"),
        (FORM + "  buy(desk)\n", 2, "invalid_order", "either quantity"),
        (FORM + "  buy(desk, fraction=1.5)\n", 2, "invalid_order", "out of range"),
        (FORM + "  sell(desk, quantity=1, limit=9.0, take_profit=10.0)\n", 2, "invalid_order", "wrong order"),
        (FORM + "  buy(desk, quantity=1, trail=1.0, stop=2.0)\n", 2, "unsupported_order", "trail"),
        (FORM + "  target(desk, 2.0)\n", 2, "target_out_of_range", "margin"),
        (FORM + "  for _ in range(65):\n    buy(desk, quantity=1, limit=1.0)\n", 2, "too_many_orders", "64"),
        (FORM + "  for _ in range(60):\n    buy(desk, quantity=1, limit=1.0)\n", None,
         "too_many_orders", "254"),
        (FORM + "  bars.close.mean2()\n", 3, "rule_not_compiled", "mean2"),
        ("def on_bar(bar):\n  pass\n", 1, "invalid_rule", "on_bar takes bar"),
        ("STATE = 3\ndef on_bar(bars, features, state, desk):\n  pass\n", 2, "invalid_rule", "STATE is 3"),
        ("FEATURES = {'a': 'sma({n})'}\ndef on_bar(bars, features, state, desk):\n  pass\n", 2,
         "invalid_rule", "no parameter of on_bar"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(source: str, line: int | None, code: str, says: str) -> None:
    with pytest.raises(StrategyFault, match=says) as caught:
        decided(source, frame(30))
    assert caught.value.code == code
    lines = [
        number
        for place, number in traceback.walk_tb(caught.value.__traceback__)
        if place.f_code.co_filename == guest.FILENAME
    ]
    assert lines[-1:] == ([] if line is None else [line])
