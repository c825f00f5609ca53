"""A forged stream is refused with its reason, whatever is forged."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.stream import read_stream
from neural_trader_tools.engine import orders as o

NAN = float("nan")
ORDER = [1.0, o.ORDER, 1.0, 5.0, o.QUANTITY, NAN, NAN, NAN, NAN, NAN, o.GTC, NAN, NAN, o.DISTANCE]


def columns(*rows: list[float]) -> dict[str, Any]:
    table = np.array(rows, dtype=np.float64).reshape(-1, len(o.COLUMNS))
    return {name: table[:, number].copy() for number, name in enumerate(o.COLUMNS)}


def changed(**cells: float) -> list[float]:
    return [cells.get(name, cell) for name, cell in zip(o.COLUMNS, ORDER, strict=True)]


def test_an_honest_stream_passes() -> None:
    kind, stream = read_stream({"kind": "orders"}, columns(ORDER, changed(action=2, side=0, size=0)), 10)
    assert kind == "orders"
    assert stream.shape == (2, 14)
    assert read_stream({"kind": "orders"}, columns(), 10)[1].shape == (0, 14)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (changed(bar=10), "does not exist"),
        (changed(bar=-1), "does not exist"),
        (changed(bar=1.5), "does not exist"),
        (changed(bar=NAN), "NaN"),
        (changed(size=NAN), "NaN"),
        (changed(size=float("inf")), "NaN or infinity"),
        (changed(size=0), "not above 0"),
        (changed(size=-5), "not above 0"),
        (changed(size=1e300), r"1e\+15"),
        (changed(side=0), "side"),
        (changed(side=2), "side"),
        (changed(action=7), "action"),
        (changed(sized_by=3), "code"),
        (changed(time_in_force=9), "code"),
        (changed(sized_by=1, size=1.01), "fraction"),
        (changed(action=1, side=0, size=1.01), "target"),
        (changed(action=1, side=0, size=1, limit=5), "none belongs"),
        (changed(action=2, side=0, size=0), "not above it"),
        (changed(action=2, side=0, size=1e18), "not above it"),
        (changed(limit=-1), "price"),
        (changed(stop=float("inf")), "price"),
        (changed(trail=1, stop=5), "trailing"),
        (changed(trail_loss=0), "trail_loss that is not above 0"),
        (changed(trail_loss=float("inf")), "trail_loss that is not above 0"),
        (changed(trail_loss=1, trail_by=1), "1 or more of a price"),
        (changed(trail=1, trail_by=1), "1 or more of a price"),
        (changed(trail_by=2), "code"),
        (changed(trail_by=NAN), "NaN"),
        (changed(oco=0), "joins an order that is not above it"),
        (changed(oco=-1), "joins an order that is not above it"),
        (changed(oco=0.5), "joins an order that is not above it"),
        (changed(action=1, side=0, size=1, trail_loss=5), "none belongs"),
        (changed(action=1, side=0, size=1, trail_by=1), "none belongs"),
    ],
)
def test_a_forged_row_is_refused(row: list[float], reason: str) -> None:
    with pytest.raises(StrategyError, match=reason) as caught:
        read_stream({"kind": "orders"}, columns(row), 10)
    assert caught.value.code == "forged_stream"


def test_a_stream_of_eleven_columns_is_still_taken() -> None:
    before = {name: cells for name, cells in columns(ORDER).items() if name in o.COLUMNS_BEFORE_3}
    assert len(before) == 11
    _, stream = read_stream({"kind": "orders"}, before, 10)
    assert np.array_equal(stream, read_stream({"kind": "orders"}, columns(ORDER), 10)[1], equal_nan=True)


def test_leverage_widens_what_targets_and_fractions_may_be() -> None:
    target, fraction = changed(action=1, side=0, size=2), changed(sized_by=1, size=2)
    for row in (target, fraction):
        assert len(read_stream({"kind": "orders"}, columns(row), 10, 2.0)[1]) == 1
    assert read_stream({"kind": "signals"}, {"target": np.array([2.0, -2.0])}, 2, 2.0)[0] == "signals"
    with pytest.raises(StrategyError, match="outside -2 … 2"):
        read_stream({"kind": "signals"}, {"target": np.array([2.1, 0.0])}, 2, 2.0)


def test_rows_out_of_order_or_too_many_on_a_bar_are_refused() -> None:
    with pytest.raises(StrategyError, match="before the row above"):
        read_stream({"kind": "orders"}, columns(changed(bar=3), changed(bar=2)), 10)
    with pytest.raises(StrategyError, match="64 rows on one bar"):
        read_stream({"kind": "orders"}, columns(*[ORDER] * 65), 10)


@pytest.mark.parametrize(
    ("value", "cols"),
    [
        (None, {}),
        ({"kind": "profit"}, {"target": np.zeros(3)}),
        ({"kind": "signals", "sharpe": 9.9}, {"target": np.zeros(3)}),
        ({"kind": "signals"}, {"target": np.zeros(2)}),
        ({"kind": "signals"}, {"target": np.zeros((3, 1))}),
        ({"kind": "signals"}, {"target": np.zeros(3, dtype=np.int64)}),
        ({"kind": "signals"}, {"target": np.array([0, 1.0001, 0])}),
        ({"kind": "signals"}, {"target": np.array([0, np.inf, 0])}),
        ({"kind": "signals"}, {"target": np.zeros(3), "equity": np.zeros(3)}),
        ({"kind": "orders"}, {"target": np.zeros(3)}),
        ({"kind": "orders"}, {**columns(ORDER), "size": np.ones(2)}),
    ],
)
def test_a_forged_frame_is_refused(value: Any, cols: Any) -> None:
    with pytest.raises(StrategyError, match="forged_stream"):
        read_stream(value, cols, 3)


@given(st.lists(st.lists(st.floats(), min_size=14, max_size=14), max_size=5))
def test_whatever_is_sent_is_refused_or_safe(rows: list[list[float]]) -> None:
    try:
        _, stream = read_stream({"kind": "orders"}, columns(*rows), 5)
    except StrategyError:
        return
    assert ((stream[:, o.BAR] >= 0) & (stream[:, o.BAR] < 5)).all()
    assert np.isfinite(stream[:, o.SIZE]).all()
