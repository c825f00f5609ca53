"""What holds under all rules at once: books, time, range, volume, groups, margin, settlement, scale."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_tools.engine import account as a
from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o

NAN = float("nan")
BARS = 24
DAY_US = 86_400_000_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """Bars and what they pay: open, high, low, close, volume in columns."""

    bars: Floats
    times: NDArray[np.int64]
    dividends: Floats

    def head(self, count: int) -> "Market":
        paid = self.dividends[:count].copy() if len(self.dividends) else self.dividends
        return Market(self.bars[:count].copy(), self.times[:count].copy(), paid)


@dataclass(frozen=True)
class Outcome:
    """What a play came to."""

    account: Floats
    fills: Floats
    equity: Floats
    positions: Floats
    states: list[int]


@st.composite
def markets(draw: st.DrawFn) -> Market:
    price = st.integers(40, 160).map(lambda ticks: ticks / 8)
    drawn = draw(st.lists(st.tuples(price, price, price, price), min_size=BARS, max_size=BARS))
    bars = np.array([(b[0], max(b), min(b), b[3], 0.0) for b in drawn])
    bars[:, 4] = draw(st.lists(st.sampled_from([0.0, 30.0, 200.0, 1e6]), min_size=BARS, max_size=BARS))
    gaps = draw(st.lists(st.sampled_from([DAY_US // 2, DAY_US, 3 * DAY_US]), min_size=BARS, max_size=BARS))
    pays = draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.25]), min_size=BARS, max_size=BARS))
    dividends = np.array(pays) if draw(st.booleans()) else np.empty(0)
    return Market(bars, np.cumsum(gaps).astype(np.int64), dividends)


@st.composite
def streams(draw: st.DrawFn) -> Floats:
    rows: list[list[float]] = []
    level = st.one_of(st.just(NAN), st.just(NAN), st.integers(40, 160).map(lambda ticks: ticks / 8))
    for bar in sorted(draw(st.lists(st.integers(0, BARS - 1), max_size=14))):
        action = draw(st.sampled_from([o.ORDER] * 7 + [o.TARGET, o.CANCEL]))
        row = [float(bar), float(action), 0.0, 0.0, 0.0, NAN, NAN, NAN, NAN, NAN, 0.0, NAN, NAN, 0.0]
        if action == o.TARGET:
            row[o.SIZE] = draw(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0, 2.0]))
        elif action == o.CANCEL:
            row[o.SIZE] = float(draw(st.integers(0, max(len(rows) - 1, 0))))
        else:
            row[o.SIDE] = draw(st.sampled_from([1.0, -1.0]))
            row[o.SIZED_BY] = draw(st.sampled_from([o.QUANTITY, o.QUANTITY, o.FRACTION]))
            sizes = [0.25, 1.0, 2.0] if row[o.SIZED_BY] else [0.5, 3.0, 40.0, 150.0]
            row[o.SIZE] = draw(st.sampled_from(sizes))
            row[o.TRAIL_BY] = draw(st.sampled_from([o.DISTANCE, o.PART]))
            distance = st.sampled_from([0.02, 0.125] if row[o.TRAIL_BY] else [0.5, 2.0])
            if draw(st.integers(0, 4)) == 0:
                row[o.TRAIL] = draw(distance)
            else:
                row[o.LIMIT], row[o.STOP] = draw(level), draw(level)
            row[o.TAKE_PROFIT], row[o.STOP_LOSS] = draw(level), draw(level)
            if draw(st.integers(0, 3)) == 0:
                row[o.TRAIL_LOSS] = draw(distance)
            row[o.TIME_IN_FORCE] = draw(st.sampled_from([o.GTC, o.GTC, o.DAY]))
            if rows and draw(st.integers(0, 2)) == 0:
                row[o.OCO] = float(draw(st.integers(0, len(rows) - 1)))
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, len(o.COLUMNS))


@st.composite
def all_rules(draw: st.DrawFn) -> dict[str, Any]:
    margin = draw(st.sampled_from([1.0, 1.0, 0.5, 0.25]))
    return {
        "commission": draw(st.sampled_from([0.0, 0.002])),
        "per_unit": draw(st.sampled_from([0.0, 0.03125])),
        "commission_min": draw(st.sampled_from([0.0, 1.0])),
        "slippage": draw(st.sampled_from([0.0, 0.003])),
        "spread": draw(st.sampled_from([0.0, 0.01])),
        "whole": draw(st.booleans()),
        "at_close": draw(st.booleans()),
        "borrow": draw(st.sampled_from([0.0, 0.5])),
        "margin": margin,
        "volume_cap": draw(st.sampled_from([None, None, 0.1])),
        "settlement_days": draw(st.sampled_from([0, 0, 1, 2])) if margin == 1.0 else 0,
    }


def play(market: Market, stream: Floats, rules: Floats, cash: float = 1000.0) -> Outcome:
    count = len(market.bars)
    kept = np.ascontiguousarray(stream[stream[:, o.BAR] < count])
    account = np.zeros(kernel.ACCOUNT_SIZE)
    fills = np.full((kernel.fills_max(len(kept), count, rules) + 1, 7), 777.0)
    equity, positions = np.empty(count), np.empty(count)
    states = np.zeros(len(kept), dtype=np.int64)
    open_, high, low, close, volume = (np.ascontiguousarray(market.bars[:, c]) for c in range(5))
    kernel.play(
        open_, high, low, close, volume, market.times, market.dividends, kept, cash, rules, account, fills,
        equity, positions, states,
    )  # fmt: skip
    assert (fills[-1] == 777.0).all()  # fills_max is enough
    assert account[kernel.OVERFLOW] == 0.0
    return Outcome(account, fills[: int(account[kernel.FILLS])].copy(), equity, positions, states.tolist())


def step(market: Market, stream: Floats, rules: Floats, cash: float = 1000.0) -> Outcome:
    """Plays by calling begin, match, submit and finish on every bar: no bar is skipped."""
    count = len(market.bars)
    account, book = np.zeros(kernel.ACCOUNT_SIZE), np.empty((o.WORKING_MAX, kernel.BOOK_SIZE))
    account[kernel.CASH] = cash
    fills = np.zeros((kernel.fills_max(len(stream), count, rules), 7))
    states = np.zeros(len(stream), dtype=np.int64)
    equity, positions = np.empty(count), np.empty(count)
    for bar, (open_, high, low, close, volume) in enumerate(market.bars.tolist()):
        before = max(bar - 1, 0)
        paid = float(market.dividends[bar]) if len(market.dividends) else 0.0
        times = market.times
        kernel.begin(times[bar], times[before], market.bars[before, 3], paid, volume, rules, account)
        kernel.match(bar, open_, high, low, times, rules, account, book, fills, states)
        for row in np.flatnonzero(stream[:, o.BAR] == bar).tolist():
            kernel.submit(bar, row, stream[row], close, times, rules, account, book, states)
        equity[bar] = kernel.finish(bar, close, rules, account, book, fills, states)
        positions[bar] = account[kernel.POSITION]
    return Outcome(account, fills[: int(account[kernel.FILLS])].copy(), equity, positions, states.tolist())


MANY = settings(max_examples=120, deadline=None)


@MANY
@given(market=markets(), stream=streams(), rules=all_rules())
def test_bars_that_are_skipped_as_quiet_would_have_changed_nothing(
    market: Market, stream: Floats, rules: dict[str, Any]
) -> None:
    limits = kernel.make_rules(**rules)
    quick, slow = play(market, stream, limits), step(market, stream, limits)
    assert np.array_equal(quick.fills, slow.fills)
    assert np.array_equal(quick.equity, slow.equity)
    assert np.array_equal(quick.positions, slow.positions)
    assert quick.states == slow.states


@MANY
@given(market=markets(), stream=streams(), rules=all_rules())
def test_the_books_add_up_and_every_fill_keeps_the_rules(
    market: Market, stream: Floats, rules: dict[str, Any]
) -> None:
    limits = kernel.make_rules(**rules)
    found = play(market, stream, limits)
    worse = rules["slippage"] + rules["spread"] / 2
    cash, held, settling = 1000.0, 0.0, list[tuple[int, float]]()
    borrowed = paid = 0.0
    days = market.times // DAY_US
    session = np.cumsum(np.diff(days, prepend=-1) != 0)
    fills = found.fills.tolist()
    for bar in range(BARS):
        _, high, low, close, volume = market.bars[bar].tolist()
        if bar and held < 0:
            cost = -held * market.bars[bar - 1, 3] * rules["borrow"]
            cost *= (market.times[bar] - market.times[bar - 1]) / (365 * DAY_US)
            cash, borrowed = cash - cost, borrowed + cost
        if len(market.dividends):
            cash, paid = cash + held * market.dividends[bar], paid + held * market.dividends[bar]
        traded_units = 0.0
        while fills and fills[0][0] == bar:
            _, order, traded, price, cost, reason, after = fills.pop(0)
            by = int(reason)
            if order >= 0:
                row = stream[int(order)]
                is_now = rules["at_close"] and by in (o.BY_MARKET, o.BY_TARGET)
                assert row[o.BAR] <= bar if is_now else row[o.BAR] < bar
                assert (
                    by == o.BY_TARGET or by in (o.BY_TAKE_PROFIT, o.BY_STOP_LOSS) or traded * row[o.SIDE] > 0
                )
                traded_units += abs(traded)
            allowed = worse if by in (o.BY_MARKET, o.BY_STOP, o.BY_TRAIL, o.BY_STOP_LOSS, o.BY_TARGET) else 0
            assert low * (1 - allowed) * (1 - 1e-12) <= price <= high * (1 + allowed) * (1 + 1e-12)
            fee = abs(traded) * (price * rules["commission"] + rules["per_unit"])
            assert cost == pytest.approx(max(fee, rules["commission_min"]), rel=1e-12)
            if abs(after) > abs(held) or after * held < 0:
                equity = cash + held * price - cost
                assert abs(after) * price * rules["margin"] <= equity * (1 + 1e-8) + 1e-9
            lag = rules["settlement_days"]
            if lag and traded > 0 and after > 0:
                unsettled = sum(amount for sold, amount in settling if session[bar] - sold < lag)
                assert traded * price + cost <= (cash - unsettled) * (1 + 1e-8) + 1e-9
            if lag and traded < 0 and order >= 0:
                settling.append((int(session[bar]), max(-traded * price - cost, 0.0)))
            if rules["whole"] and by != o.BY_LIQUIDATION:
                assert traded == pytest.approx(round(traded), abs=1e-9)
            cash, held = cash - traded * price - cost, after
        if rules["volume_cap"] is not None:
            assert traded_units <= rules["volume_cap"] * volume * (1 + 1e-12)
        assert found.equity[bar] == pytest.approx(cash + held * close, rel=1e-9, abs=1e-7)
        assert found.positions[bar] == held
    assert not fills
    assert found.account[a.BORROW_PAID] == pytest.approx(borrowed)
    assert found.account[a.DIVIDENDS_PAID] == pytest.approx(paid)


@MANY
@given(market=markets(), stream=streams(), rules=all_rules())
def test_of_a_group_only_one_order_ever_fills(market: Market, stream: Floats, rules: dict[str, Any]) -> None:
    found = play(market, stream, kernel.make_rules(**rules))
    entries = {int(fill[1]) for fill in found.fills if fill[5] not in (o.BY_TAKE_PROFIT, o.BY_STOP_LOSS)}
    groups: dict[float, set[int]] = {}
    for row in entries - {-1}:
        group = stream[row, o.OCO]
        groups.setdefault(row if math.isnan(group) else group, set()).add(row)
    assert all(len(members) == 1 for members in groups.values())


def test_a_group_is_over_once_a_target_of_it_is_filled_in_part() -> None:
    """Settled cash cuts a target down, and what is left of it waits: nobody may join its group any more."""
    orders = [
        (0, o.ORDER, 1.0, 0.5, NAN),
        (0, o.TARGET, 0.0, -1.0, NAN),
        (0, o.TARGET, 0.0, 2.0, NAN),
        (1, o.ORDER, -1.0, 0.5, 2.0),
        (1, o.TARGET, 0.0, -1.0, NAN),
        (1, o.ORDER, 1.0, 0.5, 0.0),
        (1, o.TARGET, 0.0, -1.0, NAN),
    ]
    stream = np.full((len(orders), len(o.COLUMNS)), NAN)
    stream[:, [o.SIZED_BY, o.TIME_IN_FORCE, o.TRAIL_BY]] = 0.0
    for row, (bar, action, side, size, group) in enumerate(orders):
        stream[row, [o.BAR, o.ACTION, o.SIDE, o.SIZE, o.OCO]] = bar, action, side, size, group
        if action == o.ORDER:
            stream[row, o.TRAIL] = 0.5
    stream[3, o.TRAIL] = NAN
    bars = np.tile([5.0, 5.0, 5.0, 5.0, 0.0], (BARS, 1))
    times = (np.arange(1, BARS + 1) * DAY_US // 2).astype(np.int64)
    found = play(Market(bars, times, np.empty(0)), stream, kernel.make_rules(settlement_days=1))
    assert 3 not in {int(fill[1]) for fill in found.fills}
    assert 2 in {int(fill[1]) for fill in found.fills}


@MANY
@given(market=markets(), stream=streams(), rules=all_rules(), cut=st.integers(2, BARS - 1))
def test_what_comes_later_changes_nothing_before_it(
    market: Market, stream: Floats, rules: dict[str, Any], cut: int
) -> None:
    limits = kernel.make_rules(**rules)
    whole, early = play(market, stream, limits), play(market.head(cut), stream, limits)
    assert np.array_equal(early.equity, whole.equity[:cut])
    assert np.array_equal(early.positions, whole.positions[:cut])
    assert np.array_equal(early.fills, whole.fills[whole.fills[:, 0] < cut])


@MANY
@given(market=markets(), stream=streams(), rules=all_rules())
def test_prices_and_cash_times_four_are_equity_times_four(
    market: Market, stream: Floats, rules: dict[str, Any]
) -> None:
    """Four is a power of two: not a bit may differ."""
    larger = {**rules, "per_unit": rules["per_unit"] * 4, "commission_min": rules["commission_min"] * 4}
    bars, scaled = market.bars * np.array([4.0, 4.0, 4.0, 4.0, 1.0]), stream.copy()
    scaled[:, [o.LIMIT, o.STOP, o.TAKE_PROFIT, o.STOP_LOSS]] *= 4
    by_distance = stream[:, o.TRAIL_BY] == o.DISTANCE
    scaled[np.ix_(by_distance, [o.TRAIL, o.TRAIL_LOSS])] *= 4
    one = play(market, stream, kernel.make_rules(**rules))
    four = play(
        replace(market, bars=bars, dividends=market.dividends * 4),
        scaled,
        kernel.make_rules(**larger),
        4000.0,
    )
    assert np.array_equal(one.equity * 4, four.equity)
    assert np.array_equal(one.positions, four.positions)


@MANY
@given(
    sold=st.integers(1, 100),
    fraction=st.sampled_from([0.25, 0.5, 1.0]),
    days=st.sampled_from([1, 2]),
    waits=st.integers(0, 2),
    whole=st.booleans(),
    asks=st.sampled_from(["target", "fraction", "quantity"]),
)
def test_a_purchase_before_proceeds_settle_is_paid_from_settled_cash_to_the_last_unit(
    sold: int, fraction: float, days: int, waits: int, whole: bool, asks: str
) -> None:
    """Buy a part, sell some of it, want everything at once: what was sold must not pay for any of it."""
    bars = np.full((6, 5), 10.0)
    bars[:, 4] = 1e6
    market = Market(bars, np.arange(6, dtype=np.int64) * DAY_US, np.empty(0))
    bought = 100 * fraction
    sold_units = min(float(sold), bought)
    unsettled = 10 * sold_units if waits < days else 0.0
    settled = 1000.0 - 10 * bought + 10 * sold_units - unsettled
    last = order_row(2 + waits, 1.0, 1.0, by=o.FRACTION)
    if asks == "target":
        last = order_row(2 + waits, 0.0, 1.0, action=o.TARGET)
    elif asks == "quantity":  # half a unit more than the settled cash can pay
        last = order_row(2 + waits, 1.0, settled / 10 + 0.5)
    first = [order_row(0, 1.0, bought), order_row(2, -1.0, sold_units)]
    stream = np.array([*first, last])
    rules = kernel.make_rules(settlement_days=days, whole=whole)
    found = play(market, stream, rules)
    bars_of = found.fills[found.fills[:, 1] == 2]
    paid = float((bars_of[bars_of[:, 0] == 3 + waits, 2] * 10).sum())
    if asks == "quantity" and not whole:
        assert paid == 0.0
    else:
        assert paid == pytest.approx(np.floor(settled / 10 + 1e-9) * 10 if whole else settled)


def order_row(
    bar: int, side: float, size: float, *, action: int = o.ORDER, by: int = o.QUANTITY
) -> list[float]:
    return [bar, action, side, size, by, NAN, NAN, NAN, NAN, NAN, 0.0, NAN, NAN, 0.0]
