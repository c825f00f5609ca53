"""Portfolios by hand and by property: what weights buy, and what must hold whatever they are."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.portfolio import Panel, replay_portfolio
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o

DAY = 86_400_000_000
NAN = float("nan")
Floats = NDArray[np.float64]


def prices(
    symbol: str, opens: Sequence[float], closes: Sequence[float], days: Sequence[int] | None = None
) -> Prices:
    open_, close = np.array(opens, dtype=float), np.array(closes, dtype=float)
    times = np.array(days if days is not None else range(len(opens)), dtype=np.int64) * DAY
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    return Prices(symbol, times, open_, high, low, close, np.full(len(open_), 1_000.0))


def play(
    symbols: Sequence[Prices], rows: Sequence[int], weights: Any, cash: float = 1_000.0, **rules: Any
) -> Replay:
    chosen = Settings(cash=Decimal(str(cash)), **rules)
    wanted = np.array(weights, dtype=float).reshape(len(rows), len(symbols))
    return replay_portfolio(np.array(rows, dtype=np.int64), wanted, Panel.of(symbols), chosen, cash)


def fills(replay: Replay) -> list[list[tuple[float, ...]]]:
    return [[tuple(row[[0, 2, 3, 4]]) for row in symbol.fills] for symbol in replay.symbols]


def test_weights_are_filled_at_the_next_open_and_equity_is_marked_at_closes() -> None:
    a, b = prices("A", [10, 10, 10], [10, 11, 12]), prices("B", [20, 20, 20], [20, 19, 20])
    found = play([a, b], [0], [0.5, 0.25])
    assert fills(found) == [[(1, 50, 10, 0)], [(1, 12.5, 20, 0)]]
    np.testing.assert_allclose(found.equity, [1_000, 250 + 550 + 237.5, 250 + 600 + 250])


def test_at_the_close_they_are_filled_on_the_bar_that_decided() -> None:
    found = play([prices("A", [10, 10], [12, 12])], [0], [1.0], fill="close")
    assert fills(found)[0][0][:3] == pytest.approx((0, 1_000 / 12, 12))


def test_the_same_weight_again_restores_what_prices_moved_and_nan_leaves_alone() -> None:
    a, b = prices("A", [10, 10, 20, 20], [10, 20, 20, 20]), prices("B", [10, 10, 10, 10], [10, 10, 10, 10])
    found = play([a, b], [0, 1], [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(found.equity, [1_000, 1_500, 1_500, 1_500])
    assert fills(found)[0][1][1] == pytest.approx(-12.5)  # 1,000 in A should be 750
    assert fills(found)[1][1][1] == pytest.approx(25)
    left = play([a, b], [0, 1], [[0.5, 0.5], [NAN, NAN]])
    assert [len(one) for one in fills(left)] == [1, 1]


def test_a_symbol_without_a_bar_follows_at_its_next_open_and_is_marked_at_its_last_close() -> None:
    a = prices("A", [10, 10, 10, 10], [10, 10, 10, 10])
    b = prices("B", [5, 8], [6, 8], days=[0, 3])
    found = play([a, b], [0], [0.5, 0.5])
    assert fills(found) == [[(1, 50, 10, 0)], [(1, 62.5, 8, 0)]]
    np.testing.assert_allclose(found.equity, 1_000)


def test_cost_and_commission_together_are_the_weight() -> None:
    found = play([prices("A", [10, 10], [10, 10])], [0], [1.0], commission_bps=100.0)
    (fill,) = fills(found)[0]
    assert fill[1] * 10 + fill[3] == pytest.approx(1_000)
    assert found.equity[1] == pytest.approx(1_000 - fill[3])


def test_increases_are_cut_by_one_factor_where_equity_does_not_carry_them() -> None:
    flat = [prices(name, [10] * 4, [10] * 4) for name in "ABC"]
    found = play(flat, [0, 1], [[0.8, NAN, NAN], [NAN, 0.4, 0.6]])
    held = [symbol.positions[-1] * 10 for symbol in found.symbols]
    assert held == pytest.approx([800, 80, 120])  # 200 are left, for 1,000 that were asked
    assert sum(symbol.rejections for symbol in found.symbols) == 1


def test_one_symbol_as_a_portfolio_is_the_same_as_a_target() -> None:
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, 200)))
    open_ = close * np.exp(rng.normal(0, 0.005, 200))
    one = prices("A", list(open_), list(close))
    targets = np.where(rng.random(200) < 0.2, rng.choice([0.0, 0.5, 1.0, -0.7], 200), NAN)
    rows = np.flatnonzero(~np.isnan(targets))
    rows = rows[np.insert(np.diff(targets[rows]) != 0, 0, targets[rows[0]] != 0)]  # targets trade on a change
    rules = Settings(cash=Decimal(1_000), commission_bps=10.0, slippage_bps=5.0)
    expected = replay_symbol("signals", targets, one, rules, 1_000.0)
    found = replay_portfolio(
        rows.astype(np.int64), targets[rows].reshape(-1, 1), Panel.of([one]), rules, 1_000.0
    )
    np.testing.assert_allclose(
        found.symbols[0].fills[:, [0, 2, 3, 4]], expected.fills[:, [0, 2, 3, 4]], rtol=1e-9
    )
    np.testing.assert_allclose(found.equity, expected.equity, rtol=1e-9)


def test_nothing_is_left_to_trade_after_ruin() -> None:
    a = prices("A", [10, 10, 30, 30, 30], [10, 10, 30, 30, 30])
    found = play([a], [0, 2], [[-1.0], [1.0]])
    assert found.equity[-1] == pytest.approx(-1_000)
    assert found.symbols[0].ruined
    assert len(found.symbols[0].fills) == 2


def test_a_cap_that_cuts_nothing_changes_nothing() -> None:
    one = prices("A", [10, 10, 20, 40, 10], [10, 10, 20, 40, 10])
    for fill in ("next_open", "close"):
        free, capped = (play([one], [0], [0.5], fill=fill, volume_cap=cap) for cap in (None, 1.0))
        assert fills(capped) == fills(free)
        assert len(fills(free)[0]) == 1


def test_whole_lots_wait_where_a_bar_leaves_less_than_one() -> None:
    one = prices("A", [10] * 4, [10] * 4)
    one.volume[:] = [9, 9, 1_000, 1_000]
    found = play([one], [0], [0.5], volume_cap=0.1, lots="whole")
    assert fills(found) == [[(2, 50, 10, 0)]]


def test_a_weight_goes_on_as_more_settles() -> None:
    flat = [prices(name, [10] * 6, [10] * 6) for name in "AB"]
    for days in (1, 2):
        found = play(flat, [0, 1], [[1.0, 0.0], [0.0, 1.0]], settlement_days=days)
        assert fills(found) == [[(1, 100, 10, 0), (2, -100, 10, 0)], [(2 + days, 100, 10, 0)]]
        assert sum(symbol.rejections for symbol in found.symbols) == 0


def test_the_least_commission_of_what_is_cut_is_paid_by_equity() -> None:
    flat = [prices(name, [10] * 4, [10] * 4) for name in "AB"]
    found = play(flat, [0, 1], [[1.0, 0.0], [0.0, 1.0]], commission_min=Decimal(10))
    assert [symbol.positions[-1] for symbol in found.symbols] == pytest.approx([0, 97])  # 970 after 3 x 10
    assert found.equity[-1] == pytest.approx(970)


def test_the_same_weight_every_day_pays_the_least_commission_once() -> None:
    rng = np.random.default_rng(0)
    close = 10 * np.exp(np.cumsum(rng.normal(0, 0.02, 250)))
    one = prices("A", list(close * np.exp(rng.normal(0, 0.01, 250))), list(close))
    found = play([one], range(250), [[1.0]] * 250, cash=100_000.0, commission_min=Decimal(1))
    assert len(fills(found)[0]) == 1


def test_a_fill_is_named_after_the_row_that_asked_for_it() -> None:
    a, b = prices("A", [10] * 5, [10] * 5), prices("B", [5, 8, 8], [5, 8, 8], days=[0, 3, 4])
    found = play([a, b], [1, 3], [[0.5, 0.5], [0.2, 0.2]], fill="close")
    assert found.symbols[1].fills[:, [0, 1]].tolist() == [[1, 0], [1, 1]]  # at the open, then at the close
    last = play([a, b], [4], [0.5, 0.5])
    assert [last.symbols[0].states.tolist(), fills(last)[0]] == [[o.WORKING], []]


def test_equity_beyond_all_numbers_is_an_error() -> None:
    one = prices("A", [1e-150, 1e-150, 1e300], [1e-150, 1e-150, 1e300])
    with pytest.raises(StrategyError, match="too large for a number") as caught:
        play([one], [0], [1.0], cash=1e12)
    assert caught.value.code == "equity_overflow"


CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "symbols": st.integers(1, 5),
        "commission_bps": st.sampled_from([0.0, 5.0, 100.0]),
        "slippage_bps": st.sampled_from([0.0, 10.0]),
        "lots": st.sampled_from(["fractional", "whole"]),
        "fill": st.sampled_from(["next_open", "close"]),
        "volume_cap": st.sampled_from([None, 0.01]),
        "margin": st.sampled_from([1.0, 0.5]),
    }
)


def case(seed: int, symbols: int) -> tuple[list[Prices], NDArray[np.int64], Floats]:
    """Random bars with holes, and random weights whose absolute values sum to 1 at most."""
    rng = np.random.default_rng(seed)
    found: list[Prices] = []
    for number in range(symbols):
        days = np.flatnonzero(rng.random(40) < 0.8)
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.03, len(days))))
        open_ = close * np.exp(rng.normal(0, 0.01, len(days)))
        found.append(prices("ABCDE"[number], list(open_), list(close), days.tolist()))
    count = len(np.unique(np.concatenate([one.times for one in found])))
    rows = np.flatnonzero(rng.random(count) < 0.3)
    weights = rng.dirichlet(np.ones(symbols), len(rows)) * rng.choice([1.0, -1.0], (len(rows), symbols))
    weights[rng.random(weights.shape) < 0.2] = np.nan
    return found, rows.astype(np.int64), weights


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_properties_of_any_portfolio(given: dict[str, Any]) -> None:
    seed, count = given.pop("seed"), given.pop("symbols")
    symbols, rows, weights = case(seed, count)
    cash = 100_000.0
    rules = Settings(cash=Decimal(100_000), **given)
    panel = Panel.of(symbols)
    found = replay_portfolio(rows, weights, panel, rules, cash)

    # cash and positions are the equity, at every time
    value = np.full(len(panel.times), cash)
    gross = np.zeros(len(panel.times))
    for symbol in found.symbols:
        at = symbol.prices.times[symbol.fills[:, 0].astype(int)]
        spent = symbol.fills[:, 2] * symbol.fills[:, 3] + symbol.fills[:, 4]
        value -= [spent[at <= time].sum() for time in panel.times]
        last = np.searchsorted(symbol.prices.times, panel.times, side="right") - 1
        held = np.where(last >= 0, symbol.equity[last], 0.0)
        value += held
        gross += np.abs(held)
    np.testing.assert_allclose(found.equity, value, rtol=1e-9)

    for number, symbol in enumerate(found.symbols):
        bars = symbol.fills[:, 0].astype(int)
        order = symbol.fills[:, 1].astype(int)
        weighed = order >= 0
        # no fill before its decision, and none but at the open or close that it was to fill at
        decided = panel.times[rows[np.flatnonzero(~np.isnan(weights[:, number]))]]
        waited = symbol.prices.times[bars[weighed]] - decided[order[weighed]]
        assert (waited >= (1 if given["fill"] == "next_open" else 0)).all()
        base = symbol.prices.open if given["fill"] == "next_open" else symbol.prices.close
        slip = 1.0 + np.sign(symbol.fills[:, 2]) * given["slippage_bps"] / 1e4
        at_base = np.isclose(symbol.fills[:, 3], base[bars] * slip, rtol=1e-12)
        if given["fill"] == "close":  # what volume left over, or had no bar, goes on at the next open
            at_base |= np.isclose(symbol.fills[:, 3], symbol.prices.open[bars] * slip, rtol=1e-12)
        assert at_base[weighed].all()
        if given["volume_cap"]:
            assert (np.abs(symbol.fills[weighed, 2]) <= 0.01 * 1_000.0 * (1 + 1e-9)).all()
        if given["lots"] == "whole":
            assert (symbol.positions == np.round(symbol.positions)).all()

    # the symbols' order changes nothing
    turned = replay_portfolio(rows, weights[:, ::-1], Panel.of(symbols[::-1]), rules, cash)
    np.testing.assert_allclose(turned.equity, found.equity, rtol=1e-9)

    # what comes later changes nothing before it
    cut = int(panel.times[len(panel.times) // 2])
    short = [one.head(int((one.times < cut).sum())) for one in symbols]
    if all(len(one) > 1 for one in short):
        before = Panel.of(short)
        kept = rows < len(before.times)
        early = replay_portfolio(rows[kept], weights[kept], before, rules, cash)
        np.testing.assert_array_equal(early.equity, found.equity[: len(before.times)])

    # prices and cash in another unit scale the equity
    if given["lots"] == "fractional" and not given["volume_cap"]:
        scaled = [
            Prices(one.symbol, one.times, one.open * 8, one.high * 8, one.low * 8, one.close * 8, one.volume)
            for one in symbols
        ]
        eight = replay_portfolio(rows, weights, Panel.of(scaled), rules, cash * 8)
        np.testing.assert_allclose(eight.equity, found.equity * 8, rtol=1e-9)
