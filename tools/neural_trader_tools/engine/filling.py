"""Fills: one order of the book, or a target that alone waits, at a market price.

What a fill does to the account, the rest of the order, its bracket and the other orders of its group.
`kernel` states the rules; `matching` says when an order fills, and at which price.
"""

import math

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import (
    BOOKED,
    CAPACITY,
    CASH,
    COMMISSION,
    COMMISSION_MIN,
    ELSEWHERE,
    ELSEWHERE_GROSS,
    FILLS,
    HALF_SPREAD,
    MARGIN,
    NEXT_BAR,
    PER_UNIT,
    POSITION,
    REJECTIONS,
    SETTLEMENT,
    SLIPPAGE,
    UNSETTLED,
    VOLUME_CAP,
    WHOLE_LOTS,
    Floats,
    Ints,
    fee,
    settled_cash,
)
from neural_trader_tools.engine.book import (
    DEAD,
    GROUP,
    ID,
    KIND,
    LEG,
    SIDE,
    SIZE,
    SIZED_BY,
    STOP,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAIL_LOSS,
    WAITS,
    WAITS_BUT_PROFIT,
    add_leg,
    kill,
)
from neural_trader_tools.engine.compiled import compiled_bare, compiled_within
from neural_trader_tools.engine.sizing import TOLERANCE, target_position, units_for

_QUANTITY, _FRACTION = o.QUANTITY, o.FRACTION
_MARKET, _STOP, _STOP_LIMIT, _TRAIL = o.BY_MARKET, o.BY_STOP, o.BY_STOP_LIMIT, o.BY_TRAIL
_LOSS, _BY_TARGET = o.BY_STOP_LOSS, o.BY_TARGET
# floats, because numba compiles a function once more for each literal integer it is called with
_FILLED, _REJECTED, _CANCELED, _DONE = float(o.FILLED), float(o.REJECTED), float(o.CANCELED), float(o.DONE)


@compiled_within
def write(
    bar: int,
    order: float,
    traded: float,
    price: float,
    cost: float,
    kind: float,
    wanted: float,
    account: Floats,
    fills: Floats,
) -> None:
    """Books a fill: cash, position and one row of the record."""
    account[CASH] = account[CASH] - traded * price - cost
    account[POSITION] = wanted
    count = int(account[FILLS])
    fills[count, 0] = bar
    fills[count, 1] = order
    fills[count, 2] = traded
    fills[count, 3] = price
    fills[count, 4] = cost
    fills[count, 5] = kind
    fills[count, 6] = wanted
    account[FILLS] = count + 1


@compiled_within
def _leave(row: int, kind: int, side: float, size: float, book: Floats) -> None:
    """Leaves the rest of an order for later bars: a triggered stop is a market order from now on."""
    book[row, SIZE] = size
    if kind == _STOP_LIMIT:
        book[row, STOP] = np.nan
    elif kind in (_STOP, _TRAIL, _LOSS):
        book[row, STOP] = -side * np.inf


@compiled_within
def _end_entry(order: float, account: Floats, book: Floats, states: Ints) -> None:
    """Cancels what is left of an entry, one of whose legs was reached."""
    for other in range(int(account[BOOKED])):
        if book[other, ID] == order and book[other, LEG] == 0.0:
            kill(book, other, _CANCELED, states)


@compiled_within
def _order_size(
    row: int, price: float, funds: float, gross: float, held: float, rules: Floats, book: Floats
) -> float:
    """Returns the units that an order or a leg asks for at a price."""
    size, side = book[row, SIZE], book[row, SIDE]
    if book[row, SIZED_BY] == _FRACTION:
        equity = funds + held * price
        size = units_for(size * equity, price, rules)
        margin = rules[MARGIN]
        if margin < 1.0 or gross > 0.0:
            free = equity - (gross + side * held * price) * margin
            most = free / (price * (margin + rules[COMMISSION]) + rules[PER_UNIT])
            if rules[COMMISSION_MIN] > 0.0:
                most = min(most, (free - rules[COMMISSION_MIN]) / (price * margin))
            size = max(min(size, most), 0.0)
    if rules[WHOLE_LOTS] != 0.0:
        size = float(np.floor(size + TOLERANCE))
    if book[row, LEG] == 1.0:
        size = min(size, max(-side * held, 0.0))
    return size


@compiled_within
def rounded(held: float, wanted: float, traded: float) -> tuple[float, float]:
    """Returns the position after a fill and what is traded, both without what only rounding left of them."""
    if abs(wanted) <= 1e-12 * max(abs(held), abs(traded)):
        wanted = 0.0
        traded = -held
    if abs(traded) <= 1e-12 * max(abs(held), abs(wanted)):
        traded = 0.0
    return wanted, traded


@compiled_within
def is_too_much(
    held: float, wanted: float, price: float, cost: float, funds: float, gross: float, rules: Floats
) -> bool:
    """Returns whether a position grows beyond what equity covers."""
    grows = abs(wanted) > abs(held) or wanted * held < 0.0
    needed = (abs(wanted) * price + gross) * rules[MARGIN] + cost
    return grows and needed > (funds + held * price) * (1.0 + TOLERANCE)


@compiled_bare
def fill_target(
    bar: int,
    row: int,
    target: float,
    market: float,
    rules: Floats,
    account: Floats,
    fills: Floats,
    states: Ints,
) -> None:
    """Fills the only order that waits, a target, as `fill` does where volume and settlement know no bound."""
    funds, held, gross = account[CASH] + account[ELSEWHERE], account[POSITION], account[ELSEWHERE_GROSS]
    wanted, price = target_position(target, funds, held, market, rules, gross)
    wanted, traded = rounded(held, wanted, wanted - held)
    if traded == 0.0:
        states[row] = int(_DONE)
        return
    cost = fee(traded, price, rules)
    if is_too_much(held, wanted, price, cost, funds, gross, rules):
        account[REJECTIONS] += 1.0
        states[row] = int(_REJECTED)
        return
    write(bar, float(row), traded, price, cost, float(_BY_TARGET), wanted, account, fills)
    states[row] = int(_FILLED)


@compiled_within
def fill(
    bar: int,
    row: int,
    market: float,
    phase: int,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
    states: Ints,
) -> None:
    """Fills one order of the book at a market price, in part where it has to be, or rejects it."""
    order = book[row, ID]
    kind = int(book[row, KIND])
    side = book[row, SIDE]
    is_leg = book[row, LEG] == 1.0
    is_capped = rules[VOLUME_CAP] > 0.0
    if is_capped and account[CAPACITY] <= 0.0:
        _leave(row, kind, side, book[row, SIZE], book)
        if is_leg:
            _end_entry(order, account, book, states)
        return
    funds = account[CASH] + account[ELSEWHERE]
    held = account[POSITION]
    gross = account[ELSEWHERE_GROSS]
    size = 0.0
    if kind == _BY_TARGET:
        wanted, price = target_position(book[row, SIZE], funds, held, market, rules, gross)
        traded = wanted - held
    else:
        price = market
        if kind in (_MARKET, _STOP, _TRAIL, _LOSS):
            price = market * (1.0 + side * (rules[SLIPPAGE] + rules[HALF_SPREAD]))
        size = _order_size(row, price, funds, gross, held, rules, book)
        traded = side * size
        wanted = held + traded
    wanted, traded = rounded(held, wanted, traded)
    if traded == 0.0:
        if kind == _BY_TARGET or is_leg:
            kill(book, row, _DONE, states)
        else:
            account[REJECTIONS] += 1.0
            kill(book, row, _REJECTED, states)
        return
    is_rest_left = False
    if is_capped and abs(traded) > account[CAPACITY]:
        most = account[CAPACITY]
        if rules[WHOLE_LOTS] != 0.0:
            most = float(np.floor(most))
        if most <= 0.0:
            _leave(row, kind, side, book[row, SIZE], book)
            if is_leg:
                _end_entry(order, account, book, states)
            return
        is_rest_left = True
        traded = math.copysign(most, traded)
        wanted = held + traded
    if rules[SETTLEMENT] > 0.0 and traded > 0.0 and wanted > 0.0:
        settled = settled_cash(account)
        if traded * price + fee(traded, price, rules) > settled * (1.0 + TOLERANCE):
            traded = max(units_for(settled, price, rules), -held)
            if rules[WHOLE_LOTS] != 0.0:
                traded = max(float(np.floor(traded + TOLERANCE)), -held)
            is_fixed = kind != _BY_TARGET and book[row, SIZED_BY] == _QUANTITY
            if is_fixed or traded <= 1e-12 * max(abs(held), 1e-12):
                if kind != _BY_TARGET:
                    account[REJECTIONS] += 1.0
                    kill(book, row, _REJECTED, states)
                return
            wanted = held + traded
            is_rest_left = kind == _BY_TARGET
    cost = fee(traded, price, rules)
    if is_too_much(held, wanted, price, cost, funds, gross, rules):
        account[REJECTIONS] += 1.0
        kill(book, row, _REJECTED, states)
        return
    write(bar, order, traded, price, cost, float(kind), wanted, account, fills)
    account[CAPACITY] -= abs(traded)
    if traded < 0.0 and rules[SETTLEMENT] > 0.0:
        account[UNSETTLED] += max(-traded * price - cost, 0.0)
    group = book[row, GROUP]
    ended = held != 0.0 and wanted * held <= 0.0
    for other in range(int(account[BOOKED])):
        if other == row or book[other, ID] == DEAD:
            continue
        if book[other, LEG] == 1.0:
            if is_leg and is_rest_left and book[other, ID] == order:
                book[other, SIZE] -= abs(traded)
            elif ended or (is_leg and book[other, ID] == order):
                book[other, ID] = DEAD
        elif (is_leg and book[other, ID] == order) or (not is_leg and book[other, GROUP] == group):
            kill(book, other, _CANCELED, states)
    if not is_leg and wanted * side > 0.0 and kind != _BY_TARGET:
        part = min(abs(traded), abs(wanted))
        born = bar * 4.0 + phase
        stop_loss, take_profit = book[row, STOP_LOSS], book[row, TAKE_PROFIT]
        waits = rules[NEXT_BAR] != 0.0 and kind != _MARKET
        if waits:
            born = bar * 4.0 + WAITS
        if not (math.isnan(stop_loss) and math.isnan(book[row, TRAIL_LOSS])):
            add_leg(row, True, part, stop_loss, born, market, account, book)
        if not math.isnan(take_profit):
            if waits and kind in (_STOP, _TRAIL):
                born = bar * 4.0 + WAITS_BUT_PROFIT
            add_leg(row, False, part, take_profit, born, market, account, book)
            last = int(account[BOOKED]) - 1
            is_leg_before = book[last - 1, ID] == order and book[last - 1, LEG] == 1.0  # not the entry itself
            if waits and book[last, ID] == order and is_leg_before:
                book[last, STOP_LOSS] = book[last - 1, STOP]
    if not is_rest_left:
        kill(book, row, _FILLED, states)
        return
    book[row, GROUP] = np.nan  # its group is over
    if kind != _BY_TARGET:
        book[row, SIZED_BY] = _QUANTITY
        _leave(row, kind, side, size - abs(traded), book)
