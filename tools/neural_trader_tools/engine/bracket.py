"""The short way through a bar for the book that most strategies have: one limit entry, or its bracket alone.

All of it is what `matching.match` does, phase by phase, with what cannot happen left out. What is not as
simple as that goes the long way: whatever has to be cut, refused, or happens twice in one bar.
"""

import math

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import (
    BOOKED,
    CAPACITY,
    CASH,
    ELSEWHERE,
    ELSEWHERE_GROSS,
    HALF_SPREAD,
    NEXT_BAR,
    POSITION,
    SETTLEMENT,
    SLIPPAGE,
    VOLUME_CAP,
    WHOLE_LOTS,
    Floats,
    Ints,
    fee,
)
from neural_trader_tools.engine.book import (
    AT_OPEN,
    BORN,
    DEAD,
    GROUP,
    ID,
    IN_LIMITS,
    KIND,
    LAST_DAY,
    LEG,
    LIMIT,
    ORIGIN,
    SIDE,
    SIZE,
    SIZED_BY,
    STOP,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAIL,
    TRAIL_BY,
    TRAIL_LOSS,
)
from neural_trader_tools.engine.compiled import compiled_within
from neural_trader_tools.engine.filling import is_too_much, rounded, write

_LIMIT, _PROFIT, _LOSS, _QUANTITY, _FILLED = (
    o.BY_LIMIT,
    o.BY_TAKE_PROFIT,
    o.BY_STOP_LOSS,
    o.QUANTITY,
    o.FILLED,
)


@compiled_within
def match_bracket(
    bar: int,
    open_: float,
    high: float,
    low: float,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
    states: Ints,
) -> bool:
    """Plays the bar and returns True if the book is that simple; else it changes nothing."""
    count = account[BOOKED]
    if not (
        count <= 2.0
        and rules[VOLUME_CAP] <= 0.0
        and rules[SETTLEMENT] <= 0.0
        and rules[WHOLE_LOTS] == 0.0
        and rules[NEXT_BAR] == 0.0
    ):
        return False
    if count == 1.0:
        return _enter(bar, open_, high, low, rules, account, book, fills, states)
    return _leave(bar, open_, high, low, rules, account, book, fills)


@compiled_within
def _enter(
    bar: int,
    open_: float,
    high: float,
    low: float,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
    states: Ints,
) -> bool:
    """Fills the only order, a limit, and leaves its bracket in its place."""
    if not (
        book[0, KIND] == _LIMIT
        and book[0, SIZED_BY] == _QUANTITY
        and math.isnan(book[0, LAST_DAY])
        and math.isnan(book[0, TRAIL_LOSS])
        and book[0, ID] != DEAD
    ):
        return False
    side, price, phase = book[0, SIDE], book[0, LIMIT], IN_LIMITS
    stop_loss, take_profit = book[0, STOP_LOSS], book[0, TAKE_PROFIT]
    worst, best = (low, high) if side > 0.0 else (high, low)
    if side * (price - open_) >= 0.0:
        price, phase = open_, AT_OPEN
        if side * (best - take_profit) >= 0.0:
            return False
    elif not side * (price - worst) >= 0.0:
        return True
    if side * (worst - stop_loss) <= 0.0:
        return False
    held, size = account[POSITION], book[0, SIZE]
    wanted = traded = side * size
    if held != 0.0:
        wanted, traded = rounded(held, held + traded, traded)
    cost = fee(traded, price, rules)
    funds = account[CASH] + account[ELSEWHERE]
    if (
        traded == 0.0
        or not wanted * side > 0.0
        or is_too_much(held, wanted, price, cost, funds, account[ELSEWHERE_GROSS], rules)
    ):
        return False
    order = book[0, ID]
    write(bar, order, traded, price, cost, float(_LIMIT), wanted, account, fills)
    account[CAPACITY] -= abs(traded)
    states[int(order)] = _FILLED
    part, born, count = min(abs(traded), abs(wanted)), bar * 4.0 + phase, 0
    if not math.isnan(stop_loss):
        _leg(0, order, float(_LOSS), -side, part, np.nan, stop_loss, born, price, book)
        count = 1
    if not math.isnan(take_profit):
        _leg(count, order, float(_PROFIT), -side, part, take_profit, np.nan, born, price, book)
        count += 1
    account[BOOKED] = count
    return True


@compiled_within
def _leg(
    row: int,
    order: float,
    kind: float,
    side: float,
    size: float,
    limit: float,
    stop: float,
    born: float,
    origin: float,
    book: Floats,
) -> None:
    book[row, ID] = order
    book[row, KIND] = kind
    book[row, SIDE] = side
    book[row, SIZE] = size
    book[row, SIZED_BY] = 0.0
    book[row, LIMIT] = limit
    book[row, STOP] = stop
    book[row, TRAIL] = np.nan
    book[row, TAKE_PROFIT] = np.nan
    book[row, STOP_LOSS] = np.nan
    book[row, LAST_DAY] = np.nan
    book[row, LEG] = 1.0
    book[row, BORN] = born
    book[row, ORIGIN] = origin
    book[row, GROUP] = np.nan
    book[row, TRAIL_LOSS] = np.nan
    book[row, TRAIL_BY] = np.nan


@compiled_within
def _leave(
    bar: int,
    open_: float,
    high: float,
    low: float,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
) -> bool:
    """Closes what the only bracket protects, by its stop-loss or its take-profit."""
    order = book[0, ID]
    if not (
        book[0, KIND] == _LOSS
        and book[1, KIND] == _PROFIT
        and order == book[1, ID]
        and order != DEAD
        and math.isnan(book[0, TRAIL])
        and book[0, BORN] < bar * 4.0
    ):
        return False
    side, stop, limit = book[0, SIDE], book[0, STOP], book[1, LIMIT]
    worst, best = (high, low) if side > 0.0 else (low, high)
    kind, price, size = float(_LOSS), open_, book[0, SIZE]
    if side * (open_ - stop) >= 0.0:
        pass
    elif side * (limit - open_) >= 0.0:
        kind, size = float(_PROFIT), book[1, SIZE]
    elif side * (worst - stop) >= 0.0:
        price = stop
    elif side * (limit - best) >= 0.0:
        kind, price, size = float(_PROFIT), limit, book[1, SIZE]
    else:
        return True
    if kind == _LOSS:
        price = price * (1.0 + side * (rules[SLIPPAGE] + rules[HALF_SPREAD]))
    held = account[POSITION]
    wanted, traded = 0.0, -held
    if side * size != -held:
        size = min(size, max(-side * held, 0.0))
        wanted, traded = rounded(held, held + side * size, side * size)
        if traded == 0.0:
            return False
    cost = fee(traded, price, rules)
    write(bar, order, traded, price, cost, kind, wanted, account, fills)
    account[CAPACITY] -= abs(traded)
    account[BOOKED] = 0.0
    return True
