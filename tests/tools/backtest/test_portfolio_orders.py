"""Orders over one purse: one symbol is the engine of one symbol, and what must hold for many."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.portfolio import Panel, replay_portfolio
from neural_trader_tools.backtest.portfolio_orders import (
    COLUMNS,
    Decisions,
    read_decisions,
    replay_decisions,
)
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o

DAY = 86_400_000_000
NAN = float("nan")
Floats = NDArray[np.float64]
RULES = st.fixed_dictionaries(
    {
        "commission_bps": st.sampled_from([0.0, 20.0]),
        "slippage_bps": st.sampled_from([0.0, 10.0]),
        "lots": st.sampled_from(["fractional", "whole"]),
        "fill": st.sampled_from(["next_open", "close"]),
        "volume_cap": st.sampled_from([None, None, 0.1]),
        "margin": st.sampled_from([1.0, 0.5]),
        "settlement_days": st.sampled_from([0, 0, 1, 2]),
        "borrow_bps_annual": st.sampled_from([0.0, 300.0]),
        "same_bar": st.sampled_from(["pessimistic", "next_bar"]),
        "commission_min": st.sampled_from([Decimal(0), Decimal(0), Decimal(3)]),
        "commission_per_unit": st.sampled_from([Decimal(0), Decimal("0.05")]),
        "spread_bps": st.sampled_from([0.0, 20.0]),
    }
).map(lambda rules: rules | ({"margin": 1.0} if rules["settlement_days"] else {}))


def market(rng: np.random.Generator, symbol: str, days: NDArray[np.int64], pays: bool) -> Prices:
    """Prices on a grid, so that levels are touched exactly."""
    count = len(days)
    open_, close, more, less = (
        np.round(np.clip(10 + rng.normal(0, 2, count), 4, 30) * 4) / 4 for _ in range(4)
    )
    high, low = np.max([open_, close, more, less], axis=0), np.min([open_, close, more, less], axis=0)
    volume = rng.choice([0.0, 300.0, 1e6], count)
    paid = np.where(rng.random(count) < 0.1, 0.25, 0.0) if pays else np.empty(0)
    return Prices(symbol, days * DAY // 2, open_, high, low, close, volume, paid)


def stream(rng: np.random.Generator, bars: list[list[int]], times: int) -> tuple[Floats, NDArray[np.int64]]:
    """Random rows of every kind, of the symbols that have had a bar by then."""
    rows: list[list[float]] = []
    symbols: list[int] = []

    def level(chance: float) -> float:
        return float(np.round(rng.uniform(5, 18) * 4) / 4) if rng.random() < chance else NAN

    for t in range(times):
        for s, own in enumerate(bars):
            if own[0] > t or rng.random() > 0.4:
                continue
            for _ in range(rng.integers(1, 4)):
                mine = [row for row, symbol in enumerate(symbols) if symbol == s]
                row = [float(t), 0.0, 0.0, 0.0, 0.0, NAN, NAN, NAN, NAN, NAN, 0.0, NAN, NAN, 0.0]
                kind = rng.random()
                if kind < 0.15:
                    row[o.ACTION], row[o.SIZE] = o.TARGET, rng.choice([-0.5, 0.0, 0.5, 1.0])
                elif kind < 0.3 and mine:
                    row[o.ACTION], row[o.SIZE] = o.CANCEL, rng.choice(mine)
                else:
                    side = float(rng.choice([-1.0, 1.0]))
                    row[o.SIDE], row[o.SIZED_BY] = side, float(rng.integers(0, 2))
                    row[o.SIZE] = rng.choice([0.2, 0.8]) if row[o.SIZED_BY] else rng.choice([1.0, 20.0, 90.0])
                    if rng.random() < 0.2:
                        row[o.TRAIL], row[o.TRAIL_BY] = (0.1, 1.0) if rng.random() < 0.5 else (1.0, 0.0)
                    else:
                        row[o.LIMIT], row[o.STOP] = level(0.4), level(0.3)
                    row[o.TAKE_PROFIT], row[o.STOP_LOSS] = level(0.3), level(0.3)
                    if rng.random() < 0.2:
                        row[o.TRAIL_LOSS] = 0.1 if row[o.TRAIL_BY] else 1.0
                    row[o.TIME_IN_FORCE] = float(rng.integers(0, 2))
                    orders = [r for r in mine if rows[r][o.ACTION] == o.ORDER and np.isnan(rows[r][o.OCO])]
                    if orders and rng.random() < 0.3:
                        row[o.OCO] = orders[-1]
                rows.append(row)
                symbols.append(s)
    return np.array(rows, dtype=np.float64).reshape(-1, len(o.COLUMNS)), np.array(symbols, dtype=np.int64)


def case(seed: int, count: int, times: int = 30) -> tuple[list[Prices], Decisions]:
    rng = np.random.default_rng(seed)
    while True:
        every = [np.flatnonzero(rng.random(times) < 0.8) for _ in range(count)]
        if all(len(days) > 1 for days in every):
            break
    prices = [market(rng, "ABCDE"[s], days, seed % 2 == 1) for s, days in enumerate(every)]
    union = np.unique(np.concatenate(every))
    own = [np.searchsorted(union, days).tolist() for days in every]
    commands, symbols = stream(rng, own, len(union))
    rows = np.flatnonzero(rng.random(len(union)) < (0.2 if seed % 3 else 0.0))
    weights = rng.dirichlet(np.ones(count), len(rows)) * rng.choice([1.0, -0.5], (len(rows), count))
    weights[rng.random(weights.shape) < 0.3] = NAN
    return prices, Decisions(commands, symbols, rows.astype(np.int64), weights)


def play(prices: list[Prices], decisions: Decisions, cash: float = 1_000.0, **rules: Any) -> Replay:
    chosen = Settings(cash=Decimal(str(cash)), **rules)
    panel = Panel.of(prices)
    return replay_decisions(check(decisions, panel, chosen), panel, chosen, cash)


def check(decisions: Decisions, panel: Panel, rules: Settings) -> Decisions:
    """What the engine is given has gone through the door for strangers."""
    return read_decisions({"kind": "portfolio"}, columns_of(decisions), panel, rules.exposure_max)


def columns_of(decisions: Decisions) -> dict[str, Floats]:
    cells = dict(zip(o.COLUMNS, decisions.commands.T, strict=True))
    return {
        "symbol": decisions.symbols.astype(float),
        **cells,
        "row": decisions.rows.astype(float),
        "weight": decisions.weights.ravel(),
    }


@given(st.integers(0, 100_000), RULES)
@settings(max_examples=120, deadline=None)
def test_one_symbol_as_a_portfolio_is_the_engine_of_one_symbol(seed: int, rules: dict[str, Any]) -> None:
    prices, decisions = case(seed, 1)
    decisions = Decisions(
        decisions.commands, decisions.symbols, np.empty(0, dtype=np.int64), np.empty((0, 1))
    )
    chosen = Settings(cash=Decimal(1_000), **rules)
    expected = replay_symbol("orders", decisions.commands, prices[0], chosen, 1_000.0)
    found = play(prices, decisions, **rules)
    np.testing.assert_array_equal(found.symbols[0].fills, expected.fills)
    np.testing.assert_array_equal(found.symbols[0].states, expected.states)
    np.testing.assert_array_equal(found.symbols[0].commands, expected.commands)
    np.testing.assert_array_equal(found.equity, expected.equity)
    assert found.symbols[0].rejections == expected.rejections


@given(st.integers(0, 100_000), st.integers(2, 5), RULES)
@settings(max_examples=60, deadline=None)
def test_properties_of_any_portfolio_of_orders(seed: int, count: int, rules: dict[str, Any]) -> None:
    prices, decisions = case(seed, count)
    panel = Panel.of(prices)
    found = play(prices, decisions, **rules)

    # cash and positions are the equity, at every time, where nothing but fills moves cash
    if rules["borrow_bps_annual"] == 0.0 and not len(panel.dividends):
        value = np.full(len(panel.times), 1_000.0)
        for symbol in found.symbols:
            at = symbol.prices.times[symbol.fills[:, 0].astype(int)]
            spent = symbol.fills[:, 2] * symbol.fills[:, 3] + symbol.fills[:, 4]
            value -= [spent[at <= time].sum() for time in panel.times]
            last = np.searchsorted(symbol.prices.times, panel.times, side="right") - 1
            value += np.where(last >= 0, symbol.equity[last], 0.0)
        np.testing.assert_allclose(found.equity, value, rtol=1e-9, atol=1e-6)

    for symbol in found.symbols:
        bars, order = symbol.fills[:, 0].astype(int), symbol.fills[:, 1].astype(int)
        # no fill before its order, none outside the range of its bar but by slippage
        waited = bars[order >= 0] - symbol.commands[order[order >= 0], o.BAR]
        own = symbol.commands[order[order >= 0], o.BAR] > 0  # a weight may come before the first bar
        assert (waited >= (0 if rules["fill"] == "close" else 1))[own].all()
        slip = rules["slippage_bps"] / 1e4 + rules["spread_bps"] / 2e4 + 1e-9
        assert (symbol.fills[:, 3] <= symbol.prices.high[bars] * (1 + slip)).all()
        assert (symbol.fills[:, 3] >= symbol.prices.low[bars] * (1 - slip)).all()
        if rules["lots"] == "whole":
            assert (symbol.positions == np.round(symbol.positions)).all()
        if rules["volume_cap"]:
            normal = symbol.fills[:, 5] != o.BY_LIQUIDATION
            traded = np.bincount(bars[normal], np.abs(symbol.fills[normal, 2]), len(symbol.prices))
            assert (traded <= 0.1 * symbol.prices.volume * (1 + 1e-9)).all()

    # what comes later changes nothing before it
    cut = len(panel.times) // 2
    short = [one.head(int((one.times < panel.times[cut]).sum())) for one in prices]
    if all(len(one) > 1 for one in short):
        rows, early = decisions.commands[:, o.BAR] < cut, decisions.rows < cut
        first = Decisions(
            decisions.commands[rows], decisions.symbols[rows], decisions.rows[early], decisions.weights[early]
        )
        np.testing.assert_array_equal(play(short, first, **rules).equity, found.equity[:cut])


@given(st.integers(0, 100_000), st.integers(1, 4), RULES)
@settings(max_examples=40, deadline=None)
def test_weights_alone_are_what_the_engine_of_weights_makes_of_them(
    seed: int, count: int, rules: dict[str, Any]
) -> None:
    prices, decided = case(3 * seed + 1, count)
    none = Decisions(
        np.empty((0, len(o.COLUMNS))), np.empty(0, dtype=np.int64), decided.rows, decided.weights
    )
    chosen = Settings(cash=Decimal(1_000), **rules)
    expected = replay_portfolio(decided.rows, decided.weights, Panel.of(prices), chosen, 1_000.0)
    found = play(prices, none, **rules)
    np.testing.assert_allclose(found.equity, expected.equity, rtol=1e-9)
    for one, other in zip(found.symbols, expected.symbols, strict=True):
        mine, theirs = (np.delete(given.fills, o.FILL_ORDER, axis=1) for given in (one, other))
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def flat(symbol: str, price: float, count: int = 4) -> Prices:
    line = np.full(count, float(price))  # whole numbers would have the kernels compiled anew
    return Prices(symbol, np.arange(count) * DAY, line, line, line, line, np.full(count, 1e6))


def made(line: list[float], high: list[float] | None = None) -> Prices:
    price, top = np.array(line, dtype=float), np.array(high or line, dtype=float)
    return Prices("A", np.arange(len(line)) * DAY, price, top, price, price, np.full(len(line), 1e6))


def at_market(t: int, side: float, size: float, by: int = o.QUANTITY) -> list[float]:
    return [t, o.ORDER, side, size, by, NAN, NAN, NAN, NAN, NAN, o.GTC, NAN, NAN, 0.0]


def of(rows: list[tuple[int, list[float]]], count: int) -> Decisions:
    commands = np.array([row for _, row in rows], dtype=float).reshape(-1, len(o.COLUMNS))
    owners = np.array([s for s, _ in rows], dtype=np.int64)
    return Decisions(commands, owners, np.empty(0, dtype=np.int64), np.empty((0, count)))


def test_sales_pay_for_purchases_whatever_the_names() -> None:
    for seller, buyer in ((0, 1), (1, 0)):
        rows = [
            (seller, at_market(0, 1.0, 1.0, o.FRACTION)),
            (buyer, at_market(1, 1.0, 100.0)),
            (seller, at_market(1, -1.0, 100.0)),
        ]
        found = play([flat("A", 10), flat("B", 10)], of(rows, 2))
        assert [one.positions[-1] for one in found.symbols] == ([0.0, 100.0] if buyer == 1 else [100.0, 0.0])


def test_a_fraction_is_of_the_whole_purse_and_the_purse_pays_once() -> None:
    rows = [(0, at_market(0, 1.0, 0.6, o.FRACTION)), (1, at_market(0, 1.0, 0.6, o.FRACTION))]
    found = play([flat("A", 10), flat("B", 20)], of(rows, 2))
    assert [one.positions[-1] for one in found.symbols] == pytest.approx([60, 20])  # B takes what is left
    rows[1] = (1, at_market(0, 1.0, 30.0))
    found = play([flat("A", 10), flat("B", 20)], of(rows, 2))
    assert [one.positions[-1] for one in found.symbols] == pytest.approx([60, 0])
    assert found.symbols[0].rejections == 1


def test_what_is_earned_inside_a_bar_does_not_pay_for_its_open() -> None:
    a = made([10, 10, 10, 10], high=[10, 10, 12, 10])
    profit = at_market(1, -1.0, 100.0)
    profit[o.LIMIT] = 12.0
    rows = [(0, at_market(0, 1.0, 100.0)), (0, profit), (1, at_market(1, 1.0, 100.0))]
    found = play([a, flat("B", 10)], of(rows, 2))
    assert len(found.symbols[1].fills) == 0
    assert found.equity[-1] == pytest.approx(1_200)


def test_a_margin_call_liquidates_every_symbol_and_cancels_every_order() -> None:
    a = made([10, 10, 3, 3])
    waits = at_market(1, -1.0, 10.0)
    waits[o.LIMIT] = 50.0
    rows = [(0, at_market(0, 1.0, 120.0)), (1, at_market(0, 1.0, 40.0)), (1, waits)]
    found = play([a, flat("B", 10)], of(rows, 2), margin=0.5)
    assert [one.positions[-1] for one in found.symbols] == [0, 0]
    assert found.symbols[1].fills[-1, o.FILL_REASON] == o.BY_LIQUIDATION
    assert found.symbols[1].states[-1] == o.CANCELED
    assert found.equity[-1] == pytest.approx(160)


def test_a_weight_that_closes_a_position_ends_its_bracket_and_a_newer_weight_replaces_a_target() -> None:
    entry = at_market(0, 1.0, 10.0)
    entry[o.STOP_LOSS] = 8.0
    a = made([10, 10, 10, 7])
    decided = Decisions(
        np.array([entry]),
        np.array([0]),
        np.array([1, 2], dtype=np.int64),
        np.array([[0.0, NAN], [-0.5, NAN]]),
    )
    found = play([a, flat("B", 10)], decided)
    assert found.symbols[0].fills[:, o.FILL_REASON].tolist() == [o.BY_MARKET, o.BY_TARGET, o.BY_TARGET]
    assert found.symbols[0].fills[:, o.FILL_ORDER].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"symbol": [0.0, 2.0]}, "a symbol that is not there"),
        ({"symbol": [0.0, 0.5]}, "a symbol that is not there"),
        ({"symbol": [0.0, NAN]}, "a symbol that is not there"),
        ({"bar": [0.0, 9.0]}, "a bar that does not exist"),
        ({"action": [0.0, 2.0], "side": [1.0, 0.0], "size": [1.0, 0.0]}, "names an order of another symbol"),
        ({"oco": [NAN, 0.0]}, "names an order of another symbol"),
        ({"symbol": [0.0]}, "common length"),
        ({"weight": [0.1]}, "1 weights for 0 rows"),
        ({"extra": [0.1]}, "columns, not exactly"),
    ],
)
def test_forged_decisions_are_refused(change: dict[str, list[float]], says: str) -> None:
    columns = columns_of(of([(0, at_market(0, 1.0, 1.0)), (1, at_market(1, 1.0, 1.0))], 2))
    columns |= {name: np.array(values) for name, values in change.items()}
    with pytest.raises(StrategyError, match=says) as caught:
        read_decisions({"kind": "portfolio"}, columns, Panel.of([flat("A", 10), flat("B", 10)]))
    assert caught.value.code == "forged_stream"
    assert "symbol" in COLUMNS


def test_a_symbol_that_has_no_bar_yet_cannot_be_ordered() -> None:
    late = flat("B", 10)
    late = Prices("B", late.times + 2 * DAY, late.open, late.high, late.low, late.close, late.volume)
    panel = Panel.of([flat("A", 10), late])
    with pytest.raises(StrategyError, match="no bar yet"):
        check(of([(1, at_market(0, 1.0, 1.0))], 2), panel, Settings())
