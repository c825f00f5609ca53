"""The book: one row of numbers for each order, target or bracket leg that waits.

Cells are set one by one because that compiles ten times faster than slices.
"""

import math

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import BOOKED, DAY_US, OVERFLOW, Floats, Ints
from neural_trader_tools.engine.compiled import compiled_within

ID, KIND, SIDE, SIZE, SIZED_BY, LIMIT, STOP, TRAIL, TAKE_PROFIT, STOP_LOSS, LAST_DAY, LEG, BORN, ORIGIN = (
    range(14)
)
GROUP, TRAIL_LOSS, TRAIL_BY = range(14, 17)
BOOK_SIZE = 17
# SIZE: what is still to be filled. LEG: 1 for a take-profit or stop-loss. BORN: 4 x the bar + the phase of
# the entry that left a leg (or of the trigger of a stop-limit). ORIGIN: the price at which that entry was
# filled. GROUP: orders with the same number cancel each other. STOP is infinite once a stop was triggered
# and the bar's volume did not suffice: what is left fills at the next open.
DEAD = -1.0
AT_OPEN, IN_STOPS, IN_LIMITS, AT_CLOSE = range(4)
WAITS, WAITS_BUT_PROFIT = 3.0, 3.5
"""In the place of the phase: a leg that begins with the next bar; a take-profit that may come before."""
NEVER = np.iinfo(np.int64).max

_MARKET, _BY_TARGET, _PROFIT, _LOSS = o.BY_MARKET, o.BY_TARGET, o.BY_TAKE_PROFIT, o.BY_STOP_LOSS
_PART = o.PART


@compiled_within
def kill(book: Floats, row: int, state: float, states: Ints) -> None:
    """Takes an order out of the book; a bracket leg has no state of its own."""
    if book[row, LEG] == 0.0 and book[row, ID] >= 0.0:
        states[int(book[row, ID])] = int(state)
    book[row, ID] = DEAD


@compiled_within
def trailed(extreme: float, side: float, trail: float, trail_by: float) -> float:
    """Returns the level of a trailing stop: below (for a sell) or above (for a buy) an extreme price."""
    return extreme * (1.0 + side * trail) if trail_by == _PART else extreme + side * trail


@compiled_within
def add_leg(
    entry: int,
    is_loss: bool,
    size: float,
    level: float,
    born: float,
    origin: float,
    account: Floats,
    book: Floats,
) -> None:
    """Adds a take-profit or stop-loss of an entry, or enlarges it after a further partial fill."""
    count = int(account[BOOKED])
    order, side = book[entry, ID], -book[entry, SIDE]
    kind = _LOSS if is_loss else _PROFIT
    for row in range(entry + 1, count):
        if book[row, ID] == order and book[row, LEG] == 1.0 and book[row, KIND] == kind:
            book[row, SIZE] += size
            if born % 4.0 < WAITS:  # else what protects already goes on
                book[row, BORN] = born
                book[row, ORIGIN] = origin
            return
    if count >= book.shape[0]:
        account[OVERFLOW] = 1.0
        return
    for column in range(BOOK_SIZE):
        book[count, column] = np.nan
    book[count, ID] = order
    book[count, KIND] = kind
    book[count, SIDE] = side
    book[count, SIZE] = size
    book[count, SIZED_BY] = 0.0
    if not is_loss:
        book[count, LIMIT] = level
    else:
        trail, by = book[entry, TRAIL_LOSS], book[entry, TRAIL_BY]
        if not math.isnan(trail):
            start = trailed(origin, side, trail, by)
            if math.isnan(level) or side * (level - start) > 0.0:
                level = start  # of two levels the tighter one
        book[count, TRAIL] = trail
        book[count, TRAIL_BY] = by
        book[count, STOP] = level
    book[count, LEG] = 1.0
    book[count, BORN] = born
    book[count, ORIGIN] = origin
    account[BOOKED] = count + 1


@compiled_within
def _move(row: int, to: int, book: Floats) -> None:
    """Moves a row, cell by cell: a vector would wait until what was just written in cells has settled."""
    if to != row:
        book[to, ID] = book[row, ID]
        book[to, KIND] = book[row, KIND]
        book[to, SIDE] = book[row, SIDE]
        book[to, SIZE] = book[row, SIZE]
        book[to, SIZED_BY] = book[row, SIZED_BY]
        book[to, LIMIT] = book[row, LIMIT]
        book[to, STOP] = book[row, STOP]
        book[to, TRAIL] = book[row, TRAIL]
        book[to, TAKE_PROFIT] = book[row, TAKE_PROFIT]
        book[to, STOP_LOSS] = book[row, STOP_LOSS]
        book[to, LAST_DAY] = book[row, LAST_DAY]
        book[to, LEG] = book[row, LEG]
        book[to, BORN] = book[row, BORN]
        book[to, ORIGIN] = book[row, ORIGIN]
        book[to, GROUP] = book[row, GROUP]
        book[to, TRAIL_LOSS] = book[row, TRAIL_LOSS]
        book[to, TRAIL_BY] = book[row, TRAIL_BY]


@compiled_within
def close_up(bar: int, high: float, low: float, account: Floats, book: Floats) -> None:
    """Ends a bar's matching: trailing stops follow its extremes, and dead rows are taken out."""
    kept = 0
    for row in range(int(account[BOOKED])):
        if book[row, ID] == DEAD:
            continue
        trail, stop = book[row, TRAIL], book[row, STOP]
        # in the bar of an entry inside it, the extreme may have come before the entry
        if not (math.isnan(trail) or math.isnan(stop)) and not book[row, BORN] > bar * 4.0:
            if book[row, SIDE] < 0.0:
                book[row, STOP] = max(stop, trailed(high, -1.0, trail, book[row, TRAIL_BY]))
            else:
                book[row, STOP] = min(stop, trailed(low, 1.0, trail, book[row, TRAIL_BY]))
        _move(row, kept, book)
        kept += 1
    account[BOOKED] = kept


@compiled_within
def quiet_range(account: Floats, book: Floats) -> tuple[float, float, int]:
    """Takes dead rows out; returns the range of prices in which nothing in the book can happen.

    To be called whenever something in the book changed: `match` tidies it too, but quiet bars skip that.

    Returns:
        A price, a price, a time: a bar whose low is above the first, whose high is below the second and that
        opens before the third changes neither an order nor a trailing level.
    """
    fall, rise, expiry = -np.inf, np.inf, NEVER
    kept = 0
    for found in range(int(account[BOOKED])):
        if book[found, ID] == DEAD:
            continue
        row = kept
        _move(found, row, book)
        kept += 1
        kind = book[row, KIND]
        if kind in (_MARKET, _BY_TARGET):
            fall, rise, expiry = np.inf, -np.inf, 0
            continue
        last_day = book[row, LAST_DAY]
        if not math.isnan(last_day):
            expiry = min(expiry, (int(last_day) + 1) * DAY_US)
        side, stop, trail = book[row, SIDE], book[row, STOP], book[row, TRAIL]
        if math.isnan(stop):
            if side > 0.0:
                fall = max(fall, book[row, LIMIT])
            else:
                rise = min(rise, book[row, LIMIT])
            continue
        if side > 0.0:
            rise = min(rise, stop)
        else:
            fall = max(fall, stop)
        if not math.isnan(trail):  # the extreme from which on it would follow, less what rounding may do
            is_part = book[row, TRAIL_BY] == _PART
            extreme = stop / (1.0 + side * trail) if is_part else stop - side * trail
            if side > 0.0:
                fall = max(fall, extreme + 1e-12 * abs(extreme))
            else:
                rise = min(rise, extreme - 1e-12 * abs(extreme))
    account[BOOKED] = kept
    return fall, rise, expiry
