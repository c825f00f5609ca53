"""The portfolio loop: many symbols, one purse; target weights in, fills and equity out.

The bars of all symbols lie in one row of events, sorted by time, then by symbol; `starts[t]` is the first
event of time t. Rules, in the order in which one time is played:

1. *Before the open* of each symbol that has a bar: `account.begin` (settlement, borrow cost, dividends).
2. *Open.* Weights decided earlier are filled, all of a time together, at the opens of the symbols that have a
   bar; a symbol without one follows at its next open, unless a newer weight came.
3. *Decision* on this time. With `fill="close"` weights are filled at these closes.
4. *Equity* is cash plus every position at its last close, symbols without a bar included.

Sizes: equity is marked once, at the opens (closes) that the weights fill at; a weight is a part of it, cost
and commission included, as a target is in `sizing.target_position`. So the order of the symbols changes
nothing. What decreases a position is done as asked. If what increases positions would leave gross exposure x
margin above equity after all costs, or purchases above the settled cash, all increases are cut by one factor.
A weight is an instruction for its time: the same weight again restores what prices have moved. NaN is none.
What a cap of volume leaves over goes on at the next open, and so does what has to wait for settled cash; what
equity does not carry ends.
If equity falls to maintenance x gross exposure at a close, every symbol that has a bar is liquidated there,
the others at their next if it is still so; at zero or below, nothing trades any more.
"""

import math
from typing import Final

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import (
    ACCOUNT_SIZE,
    BORROW_PAID,
    CASH,
    COMMISSION,
    COMMISSION_MIN,
    DIVIDENDS_PAID,
    FILL_AT_CLOSE,
    LIQUIDATIONS,
    MAINTENANCE,
    MARGIN,
    PER_UNIT,
    POSITION,
    REJECTIONS,
    RUINED,
    SESSION_DAY,
    SETTLEMENT,
    UNSETTLED,
    UNSETTLED_BEFORE,
    VOLUME_CAP,
    WHOLE_LOTS,
    Floats,
    Ints,
    begin,
    fee,
    settled_cash,
)
from neural_trader_tools.engine.compiled import compiled, compiled_bare, compiled_within
from neural_trader_tools.engine.sizing import TOLERANCE, target_position

FILL_COLUMNS: Final = ("event", "quantity", "price", "commission", "reason", "row")
"""One fill: the event (its time and symbol), signed units, price, commission, reason of `orders.REASONS`, and
the row of weights that asked for it, -1 for a liquidation."""
EVENT, QUANTITY, PRICE, FEE, REASON, ROW = range(6)
_BY_WEIGHT, _LIQUIDATION = o.BY_TARGET, o.BY_LIQUIDATION
_DUST = 1e-12
_STEPS = 64


@compiled_within
def _trade(
    event: int, traded: float, price: float, reason: int, s: int, count: int, rules: Floats, purse: Floats,
    positions: Floats, fills: Floats,
) -> int:  # fmt: skip
    """Books one fill and returns how many there are then."""
    cost = fee(traded, price, rules)
    purse[CASH] -= traded * price + cost
    if rules[SETTLEMENT] > 0.0 and traded < 0.0:
        purse[UNSETTLED] += max(-traded * price - cost, 0.0)
    held = positions[s] + traded
    if abs(held) <= _DUST * abs(traded):
        held = 0.0
    positions[s] = held
    fills[EVENT, count] = event
    fills[QUANTITY, count] = traded
    fills[PRICE, count] = price
    fills[FEE, count] = cost
    fills[REASON, count] = reason
    return count + 1


@compiled_within
def _increase(traded: float, held: float) -> float:
    """Returns the part of a trade that makes the position larger, signed: all of it but what closes."""
    if traded * held >= 0.0:
        return traded
    return 0.0 if abs(traded) <= abs(held) else traded + held


@compiled_bare
def _costs(
    factor: float, first: int, last: int, symbols: Ints, marks: Floats, positions: Floats, wanted: Floats,
    at: Floats, rules: Floats,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Returns what increases cost that a factor cuts, where there is a least commission.

    Below it, cutting further saves no commission: that part is fixed, the rest goes with the factor.

    Returns:
        Fixed and proportional costs of the increases, then fixed and proportional money of the purchases.
    """
    fixed, free, fixed_bought, free_bought = 0.0, 0.0, 0.0, 0.0
    for k in range(first, last):
        s = int(symbols[k])
        if math.isnan(wanted[s]):
            continue
        grown = _increase(wanted[s], positions[s])
        if grown == 0.0:
            continue
        size, bought = abs(grown), max(grown, 0.0)
        free += size * abs(at[s] - marks[s])
        free_bought += bought * at[s]
        cost = size * (at[s] * rules[COMMISSION] + rules[PER_UNIT])
        if cost * factor < rules[COMMISSION_MIN]:
            fixed += rules[COMMISSION_MIN]
            fixed_bought += rules[COMMISSION_MIN] if bought > 0.0 else 0.0
        else:
            free += cost
            free_bought += cost if bought > 0.0 else 0.0
    return fixed, free, fixed_bought, free_bought


@compiled_bare
def _least(
    factor: float, settled: float, spare: float, more: float, bought: float, available: float, first: int,
    last: int, symbols: Ints, marks: Floats, positions: Floats, wanted: Floats, at: Floats, rules: Floats,
) -> tuple[float, float]:  # fmt: skip
    """Returns both factors of `rebalance` where there is a least commission, which a cut does not cut.

    What is needed is convex in a factor: from above this ends at the root.
    """
    for _ in range(_STEPS):
        fixed, free, _, _ = _costs(factor, first, last, symbols, marks, positions, wanted, at, rules)
        before = factor
        factor = min(factor, (spare - fixed) / (rules[MARGIN] * more + free))
        if factor == before or factor <= 0.0:
            break
    for _ in range(_STEPS):
        if bought == 0.0 or settled <= 0.0:
            break
        _, _, fixed, free = _costs(settled, first, last, symbols, marks, positions, wanted, at, rules)
        before = settled
        settled = min(settled, (available - fixed) / free)
        if settled == before:
            break
    return factor, settled


@compiled_bare
def rebalance(
    first: int, last: int, symbols: Ints, prices: Floats, volumes: Floats, pending: Floats, marks: Floats,
    positions: Floats, used: Floats, rules: Floats, purse: Floats, wanted: Floats, at: Floats, rest: Floats,
    fills: Floats, count: int,
) -> int:  # fmt: skip
    """Fills the pending weights of the symbols that have a bar at this time; returns the number of fills.

    Args:
        first: First event of the time.
        last: The event after its last one.
        symbols: Symbol of each event.
        prices: Open (or close) of each event: what the weights fill at.
        volumes: Volume of each event.
        pending: Weight that each symbol waits for, NaN for none; it becomes NaN unless it goes on.
        marks: Price of each symbol now; those of this time's events are `prices`.
        positions: Units held of each symbol.
        used: Units already traded on this bar of each symbol, where volume is capped.
        rules: See `account.make_rules`.
        purse: The shared account.
        wanted: Scratch, one for each symbol.
        at: Scratch, one for each symbol.
        rest: Scratch, one for each symbol.
        fills: Shape (5 or more, room), see `FILL_COLUMNS`; all but `row` is written.
        count: Fills before.
    """
    equity = purse[CASH]
    gross = 0.0
    for s in range(positions.shape[0]):
        if positions[s] != 0.0:
            equity += positions[s] * marks[s]
            gross += abs(positions[s]) * marks[s]
    settles = rules[SETTLEMENT] > 0.0
    available = settled_cash(purse) if settles else math.inf
    lost, lost_more, more, bought = 0.0, 0.0, 0.0, 0.0
    unsettled = purse[UNSETTLED] + purse[UNSETTLED_BEFORE]
    for k in range(first, last):
        s = int(symbols[k])
        wanted[s] = math.nan
        if math.isnan(pending[s]):
            continue
        held = positions[s]
        target, price = target_position(pending[s], equity - held * prices[k], held, prices[k], rules)
        traded = target - held
        if abs(traded) <= _DUST * max(abs(held), abs(target)):
            traded = 0.0  # it is there but for rounding, which costs no commission
        rest[s] = 0.0
        if rules[VOLUME_CAP] > 0.0:
            room = max(rules[VOLUME_CAP] * volumes[k] - used[s], 0.0)
            if rules[WHOLE_LOTS] != 0.0:
                room = np.floor(room + TOLERANCE)
            if abs(traded) > room:
                rest[s] = 1.0
                traded = math.copysign(room, traded)
        wanted[s] = traded
        at[s] = price
        if settles:
            unsettled += max(-traded, 0.0) * price
        grown = _increase(traded, held)
        closed = traded - grown
        gross -= abs(closed) * marks[s]
        if closed != 0.0:
            lost += abs(closed) * abs(price - marks[s]) + fee(closed, price, rules)
        if grown != 0.0:
            more += abs(grown) * marks[s]
            lost_more += abs(grown) * abs(price - marks[s]) + fee(grown, price, rules)
            if grown > 0.0:
                bought += grown * price + fee(grown, price, rules)
    factor, settled = 1.0, 1.0
    if more > 0.0:
        spare = equity - lost - rules[MARGIN] * gross
        factor = min(factor, spare / (rules[MARGIN] * more + lost_more))
        if bought > 0.0:
            settled = available / bought
        if min(factor, settled) < 1.0 - TOLERANCE and rules[COMMISSION_MIN] > 0.0:
            factor, settled = _least(
                factor, settled, spare, more, bought, available, first, last, symbols, marks, positions,
                wanted, at, rules,
            )  # fmt: skip
        factor, settled = max(factor, 0.0), max(settled, 0.0)
    waits = settled < factor * (1.0 - TOLERANCE) and unsettled > 0.0
    factor = min(factor, settled)
    if factor >= 1.0 - TOLERANCE:
        factor = 1.0
    else:
        factor = max(factor, 0.0)
        if not waits:
            purse[REJECTIONS] += 1.0
    for k in range(first, last):
        s = int(symbols[k])
        if math.isnan(wanted[s]):
            continue
        held = positions[s]
        traded = wanted[s]
        grown = _increase(traded, held)
        if factor < 1.0:
            kept = grown * factor
            if rules[WHOLE_LOTS] != 0.0:
                kept = math.copysign(np.floor(abs(kept) + TOLERANCE), kept)
            traded = traded - grown + kept
        if abs(traded) > _DUST * max(abs(held), abs(held + traded), abs(wanted[s])):
            count = _trade(k, traded, at[s], _BY_WEIGHT, s, count, rules, purse, positions, fills)
            used[s] += abs(traded)
        if rest[s] == 0.0 and not (waits and grown != 0.0):
            pending[s] = math.nan
    return count


@compiled
def play_portfolio(
    times: Ints, starts: Ints, symbols: Ints, open_: Floats, close: Floats, volume: Floats, dividends: Floats,
    rows: Ints, weights: Floats, cash: float, rules: Floats, is_begun: bool, purse: Floats, positions: Floats,
    fills: Floats, pending: Floats, equity: Floats, gross: Floats, net: Floats,
) -> int:  # fmt: skip
    """Plays rows of target weights over the bars of many symbols.

    Args:
        times: Every time at which a symbol has a bar, microseconds since 1970-01-01 UTC, shape (T,).
        starts: First event of each time, shape (T + 1,).
        symbols: Symbol of each event, shape (K,).
        open_: Open of each event; like close one finite price > 0.
        close: Close of each event.
        volume: Volume of each event, in units.
        dividends: Cash for each unit on an ex-date, of each event; empty: none are paid.
        rows: Time (its index) at which each row of weights was decided, ascending, shape (R,).
        weights: Parts of equity, shape (R, S); NaN: leave this symbol alone.
        cash: Cash at the start.
        rules: See `account.make_rules`.
        is_begun: Whether anything happens before an open (`account.needs_begin`).
        purse: Out, shape (ACCOUNT_SIZE,): the shared account.
        positions: Out, units held of each symbol, shape (S,).
        fills: Out, shape (6, room), room at least `fills_max(...)`.
        pending: Out: weight that each symbol still waits for in the end, NaN for none, shape (S,).
        equity: Out: cash and positions at each time's closes, shape (T,).
        gross: Out: absolute values of the positions at each time's closes, shape (T,).
        net: Out: their sum, shorts negative, shape (T,).

    Returns:
        The number of fills.
    """
    count_symbols = positions.shape[0]
    for cell in range(ACCOUNT_SIZE):
        purse[cell] = 0.0
    purse[CASH] = cash
    positions[:] = 0.0
    pending[:] = math.nan
    marks = np.ones(count_symbols)
    time_before = np.full(count_symbols, -1, dtype=np.int64)
    used = np.zeros(count_symbols)
    wanted = np.empty(count_symbols)
    at = np.empty(count_symbols)
    rest = np.zeros(count_symbols)
    sources = np.zeros(count_symbols, dtype=np.int64)
    account = np.zeros(ACCOUNT_SIZE)
    at_close = rules[FILL_AT_CLOSE] != 0.0
    waiting = 0
    count = 0
    row = 0
    for t in range(times.shape[0]):
        first, last = int(starts[t]), int(starts[t + 1])
        if is_begun:
            for k in range(first, last):
                s = int(symbols[k])
                if time_before[s] < 0:
                    time_before[s] = times[t]
                for cell in (CASH, UNSETTLED, UNSETTLED_BEFORE, SESSION_DAY, BORROW_PAID, DIVIDENDS_PAID):
                    account[cell] = purse[cell]
                account[POSITION] = positions[s]
                dividend = dividends[k] if dividends.shape[0] > 0 else 0.0
                begin(times[t], time_before[s], marks[s], dividend, volume[k], rules, account)
                for cell in (CASH, UNSETTLED, UNSETTLED_BEFORE, SESSION_DAY, BORROW_PAID, DIVIDENDS_PAID):
                    purse[cell] = account[cell]
                time_before[s] = times[t]
                used[s] = 0.0
        if waiting > 0 and purse[RUINED] == 0.0:
            for k in range(first, last):
                marks[symbols[k]] = open_[k]
            before = count
            count = rebalance(
                first, last, symbols, open_, volume, pending, marks, positions, used, rules, purse, wanted,
                at, rest, fills, count,
            )  # fmt: skip
            for number in range(before, count):
                fills[ROW, number] = sources[symbols[int(fills[EVENT, number])]]
            waiting = 0
            for s in range(count_symbols):
                waiting += not math.isnan(pending[s])
        for k in range(first, last):
            marks[symbols[k]] = close[k]
        if row < rows.shape[0] and rows[row] == t:
            for s in range(count_symbols):
                if not math.isnan(weights[row, s]):
                    pending[s] = weights[row, s]
                    sources[s] = row
            waiting = 1
            row += 1
        if at_close and waiting > 0 and purse[RUINED] == 0.0:
            before = count
            count = rebalance(
                first, last, symbols, close, volume, pending, marks, positions, used, rules, purse, wanted,
                at, rest, fills, count,
            )  # fmt: skip
            for number in range(before, count):
                fills[ROW, number] = sources[symbols[int(fills[EVENT, number])]]
            waiting = 0
            for s in range(count_symbols):
                waiting += not math.isnan(pending[s])
        long, short = 0.0, 0.0
        for s in range(count_symbols):
            value = positions[s] * marks[s]
            long += max(value, 0.0)
            short += min(value, 0.0)
        value = purse[CASH] + (long + short)
        held = long - short
        is_ruined = purse[RUINED] != 0.0
        if (value <= rules[MAINTENANCE] * held and not is_ruined) or (is_ruined and held > 0.0):
            purse[LIQUIDATIONS] += 1.0
            for k in range(first, last):
                s = int(symbols[k])
                if positions[s] != 0.0:
                    count = _trade(
                        k, -positions[s], marks[s], _LIQUIDATION, s, count, rules, purse, positions, fills
                    )
                    fills[ROW, count - 1] = -1.0
            pending[:] = math.nan
            waiting = 0
            long, short = 0.0, 0.0
            for s in range(count_symbols):
                left = positions[s] * marks[s]
                long += max(left, 0.0)
                short += min(left, 0.0)
            value = purse[CASH] + (long + short)
            held = long - short
            if value <= 0.0:
                purse[RUINED] = 1.0
        equity[t] = value
        gross[t] = held
        net[t] = long + short
    return count


def fills_max(weights: Floats, events: int, rules: Floats) -> int:
    """Returns how many fills rows of weights can make: one for each, what is cut and goes on, liquidations.

    What volume or settled cash cut may go on at each bar's open, and at its close where weights fill there.
    """
    asked = int(np.count_nonzero(~np.isnan(weights)))
    goes_on = rules[VOLUME_CAP] > 0.0 or rules[SETTLEMENT] > 0.0
    filled = asked + (2 * events if goes_on else 0)
    liquidated = events if rules[MAINTENANCE] > 0.0 else 0
    return filled + liquidated + weights.shape[1]
