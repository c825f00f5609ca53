"""The guest of a sweep decides as a single run does, whatever runs beside it; its answer is believed last."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.sweeps.answer import Decisions, read_answer
from neural_trader_tools.backtest.sweeps.shards import combination_frame
from neural_trader_tools.engine import kernel
from neural_trader_tools.engine.guest import run_strategy
from neural_trader_tools.engine.sweep import run_sweep

BARS = 400
SETTINGS = {"cash": 1000.0, "commission_bps": 1.0}
RULE = """
FEATURES = ("sma({fast})", "sma({slow})", "close")
def rule(fast_sma, slow_sma, close, *, fast: int = 20, slow: int = 50, size: float = 1.0):
    if close > 1e9:
        return float("nan")
    return size if fast_sma > slow_sma else 0.0
"""
SIGNALS = """
import random
import polars as pl
seen = []
def signals(bars, fast: int = 20, slow: int = 50):
    seen.append(fast)
    if len(seen) > 1:
        raise RuntimeError("a neighbour was here")
    if fast == 13:
        raise ValueError("thirteen; never")
    chance = random.random()
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(pl.Float64) * chance
"""
ORDERS = """
class Buyer(Strategy):
    every: int = 10
    def on_bar(self, bar):
        if bar.number % self.every == 0:
            self.buy(fraction=0.1, take_profit=bar.close * 1.05, stop_loss=bar.close * 0.95)
"""


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    chance = np.random.default_rng(5)
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.01, BARS)))
    open_ = close * np.exp(chance.normal(0.0, 0.003, BARS))
    begin = datetime(2000, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "time": pl.Series([begin + timedelta(days=day) for day in range(BARS)]).dt.cast_time_unit("us"),
            "open": open_,
            "high": np.maximum(open_, close),
            "low": np.minimum(open_, close),
            "close": close,
            "volume": np.ones(BARS),
        }
    )


def swept(
    bars: pl.DataFrame, source: str, combinations: list[dict[str, Any]], budget_s: float = 30.0
) -> Decisions:
    arguments = {"source": source, "params": {}, "settings": SETTINGS, "budget_s": budget_s}
    table = combination_frame(combinations, [7 + number for number in range(len(combinations))])
    value, columns = run_sweep(arguments, {"bars": bars, "combinations": table})
    return read_answer(value, columns, len(combinations), BARS)


def alone(bars: pl.DataFrame, source: str, params: dict[str, Any], seed: int) -> NDArray[np.float64]:
    arguments = {"source": source, "params": params, "settings": SETTINGS, "seed": seed}
    header, columns = run_strategy(arguments, {"bars": bars})
    if header["kind"] == "signals":
        return np.ascontiguousarray(kernel.target_changes(columns["target"])[:, (0, 3)])
    return np.column_stack(list(columns.values()))


@pytest.mark.parametrize(
    ("source", "combinations"),
    [
        (RULE, [{"fast": f, "slow": s, "size": x} for f in (5, 300) for s in (30, 90) for x in (0.5, 1.0)]),
        (SIGNALS, [{"fast": 5, "slow": 30}, {"fast": 6, "slow": 30}]),
        (ORDERS, [{"every": 10}, {"every": 50}, {"every": 7}]),
    ],
)
def test_a_combination_decides_as_it_does_alone(
    bars: pl.DataFrame, source: str, combinations: list[dict[str, Any]]
) -> None:
    found = swept(bars, source, combinations)
    assert found.faults == [None] * len(combinations)
    for number, params in enumerate(combinations):
        single = alone(bars, source, params, 7 + number)
        assert np.array_equal(found.of(number), single, equal_nan=True)
        assert len(single) or params["fast"] == 300


def test_a_combination_that_fails_is_named_and_loses_no_other(bars: pl.DataFrame) -> None:
    found = swept(bars, SIGNALS, [{"fast": fast, "slow": 30} for fast in (5, 13, 6)])
    assert [fault is None for fault in found.faults] == [True, False, True]
    assert found.faults[1] == (
        "strategy_failed: the strategy raised ValueError: thirteen, never (line 10 of the strategy); "
        "correct it"
    )
    assert len(found.of(0)) > 0
    assert len(found.of(2)) > 0


def test_a_rule_out_of_range_or_with_a_bad_feature_loses_no_other(bars: pl.DataFrame) -> None:
    found = swept(
        bars, RULE, [{"fast": f, "slow": 30, "size": x} for f, x in ((5, 0.5), (5, 2.0), (-1, 0.5), (6, 0.5))]
    )
    assert [fault and fault.split(":")[0] for fault in found.faults] == [
        None, "target_out_of_range", "invalid_feature", None,
    ]  # fmt: skip
    assert np.array_equal(found.of(3), alone(bars, RULE, {"fast": 6, "slow": 30, "size": 0.5}, 0))


def test_a_guest_out_of_time_returns_what_it_has(bars: pl.DataFrame) -> None:
    found = swept(bars, SIGNALS, [{"fast": fast, "slow": 30} for fast in (5, 6, 7)], budget_s=0.0)
    assert len(found) == 1


VALUE: dict[str, Any] = {"kind": "signals", "done": 2, "faults": ["x"]}


def columns(**changed: list[float]) -> dict[str, NDArray[np.float64]]:
    good: dict[str, list[float]] = {
        "fault": [-1.0, -1.0], "count": [1.0, 2.0], "row_bar": [3.0, 1.0, 5.0], "row_target": [1.0, 0.5, 0.0],
    }  # fmt: skip
    return {name: np.array(values) for name, values in {**good, **changed}.items()}


def test_an_honest_answer_is_read() -> None:
    found = read_answer(VALUE, columns(), 2, 10)
    assert found.of(1).tolist() == [[1.0, 0.5], [5.0, 0.0]]


@pytest.mark.parametrize(
    ("value", "changed"),
    [
        ({"done": 3}, {}),
        ({"done": 0}, {}),
        ({"kind": "profit"}, {}),
        ({"faults": ["x"] * 65}, {}),
        ({"faults": ["x" * 401]}, {}),
        ({"extra": 1}, {}),
        ({"done": 1}, {}),
        ({}, {"count": [1.0, 1.0]}),
        ({}, {"count": [-1.0, 4.0]}),
        ({}, {"count": [1.5, 1.5]}),
        ({}, {"count": [np.nan, 3.0]}),
        ({}, {"fault": [1.0, -1.0]}),
        ({}, {"fault": [0.0, -1.0]}),  # a failed combination with rows
        ({}, {"row_bar": [3.0, 1.0]}),
        ({}, {"row_bar": [10.0, 1.0, 5.0]}),
        ({}, {"row_bar": [3.0, 5.0, 1.0]}),
        ({}, {"row_bar": [3.0, 5.0, 5.0]}),
        ({}, {"row_bar": [3.5, 1.0, 5.0]}),
        ({}, {"row_target": [1.0, 1.01, 0.0]}),
        ({}, {"row_target": [1.0, np.nan, 0.0]}),
        ({}, {"profit": [1.0]}),
    ],
)
def test_a_forged_answer_is_refused(value: dict[str, Any], changed: dict[str, list[float]]) -> None:
    with pytest.raises(StrategyError, match="forged_stream"):
        read_answer({**VALUE, **value}, columns(**changed), 2, 10)
