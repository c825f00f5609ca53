"""The desk of a compiled strategy: what its `on_bar` sees of its account, and how it places orders.

    from neural_trader_tools.engine.desk import buy, cancel, waits

All of it is compiled and called from compiled code (`engine/event.py`). Orders become rows of the order
stream, as those of a `Strategy` do, and mean the same.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.compiled import compiled_bare

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROWS, FIRST_ROW, ERROR, ENTERED, TOLD = range(5)
CURSOR_SIZE: Final = 5
"""Cells of the cursor: rows of the stream, those before this bar, what was wrong with an order; between two
calls of the loop also the rows that the book knows, and the fills that were told."""
LAST_TARGET, EXPOSURE_MAX = 0, 1
MEMORY_SIZE: Final = 2

ERRORS: Final = {
    1: ("too_many_orders", f"more than {o.ORDERS_PER_BAR_MAX} orders", "place fewer orders on one bar"),
    2: ("invalid_order", "give either quantity= (units) or fraction= (of equity)", "give exactly one"),
    3: ("invalid_order", "a quantity or fraction is out of range", "give a finite number above 0"),
    4: ("invalid_order", "a price is not a finite number above 0", "leave it out, or give a price"),
    5: ("invalid_order", "stop_loss, limit and take_profit are in the wrong order", "mirror them to sell"),
    6: ("unsupported_order", "trail= takes no limit= or stop=", "use trail_loss= to protect an entry"),
    7: ("target_out_of_range", "a target lies outside what margin allows", "give -1 … 1"),
}
"""Faults by the number in `cursor[ERROR]`."""

_ORDER, _TARGET, _CANCEL = float(o.ORDER), float(o.TARGET), float(o.CANCEL)
_SIZE_MIN, _SIZE_MAX, _MOST, _WORKING = o.SIZE_MIN, o.SIZE_MAX, o.ORDERS_PER_BAR_MAX, o.WORKING
NAN: Final = math.nan


class Bars(NamedTuple):
    """Columns up to and including the current bar: `bars.close[-1]` is the latest close. time: us."""

    time: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class Desk(NamedTuple):
    """The account as of this bar's close.

    Attributes:
        cash: In the currency of the bars.
        position: Units, negative when short.
        equity: Cash plus position at this close.
        fills: What was filled since the last bar, shape (fills, 7), see `orders.FILL_COLUMNS`.
        number: Of the bar.
        rows: The order stream; with states, cursor and memory the desk's own.
        states: What became of each row.
        cursor: See `CURSOR_SIZE`.
        memory: The last target, and the largest that margin allows.
    """

    cash: float
    position: float
    equity: float
    fills: Floats
    number: int
    rows: Floats
    states: Ints
    cursor: Ints
    memory: Floats


@compiled_bare
def _put(desk: Desk, action: float, side: float, size: float) -> int:
    """Adds a row without prices and returns its number; -1, with an error, where there are too many."""
    row = desk.cursor[ROWS]
    if row - desk.cursor[FIRST_ROW] >= _MOST:
        desk.cursor[ERROR] = 1
        return -1
    rows = desk.rows
    rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3], rows[row, 4] = (
        desk.number,
        action,
        side,
        size,
        0.0,
    )
    for column in range(5, 10):
        rows[row, column] = np.nan
    rows[row, 10], rows[row, 11], rows[row, 12], rows[row, 13] = 0.0, np.nan, np.nan, 0.0
    desk.states[row] = _WORKING
    desk.cursor[ROWS] = row + 1
    return row


@compiled_bare
def place(
    desk: Desk,
    side: float,
    quantity: float,
    fraction: float,
    limit: float,
    stop: float,
    trail: float,
    take_profit: float,
    stop_loss: float,
    day: bool,
    oco: float,
    trail_loss: float,
    by_part: bool,
) -> int:
    """Places an order with everything said; absent prices are NaN. See `buy`."""
    error = 0
    size = fraction if math.isnan(quantity) else quantity
    if math.isnan(quantity) == math.isnan(fraction):
        error = 2
    elif not _SIZE_MIN <= size <= (_SIZE_MAX if math.isnan(fraction) else desk.memory[EXPOSURE_MAX]):
        error = 3
    for price in (limit, stop, trail, take_profit, stop_loss, trail_loss):
        if price <= 0.0 or price == np.inf:  # false for NaN, which is absent
            error = 4
    if side * (stop_loss - limit) >= 0.0 or side * (limit - take_profit) >= 0.0:
        error = 5
    if side * (stop_loss - take_profit) >= 0.0:
        error = 5
    if not math.isnan(trail) and not (math.isnan(limit) and math.isnan(stop)):
        error = 6
    if by_part and (trail >= 1.0 or trail_loss >= 1.0):
        error = 4
    if error != 0:
        desk.cursor[ERROR] = error
        return -1
    row = _put(desk, _ORDER, side, size)
    if row < 0:
        return row
    rows = desk.rows
    rows[row, 4] = 0.0 if math.isnan(fraction) else 1.0
    rows[row, 5], rows[row, 6], rows[row, 7], rows[row, 8], rows[row, 9] = (
        limit, stop, trail, take_profit, stop_loss,
    )  # fmt: skip
    rows[row, 10] = 1.0 if day else 0.0
    if oco >= 0.0:
        group = desk.rows[int(oco), 11]
        rows[row, 11] = oco if math.isnan(group) else group
    rows[row, 12], rows[row, 13] = trail_loss, 1.0 if by_part else 0.0
    desk.memory[LAST_TARGET] = np.nan
    return row


@compiled_bare
def buy(
    desk: Desk,
    quantity: float = NAN,
    fraction: float = NAN,
    limit: float = NAN,
    stop: float = NAN,
    trail: float = NAN,
    take_profit: float = NAN,
    stop_loss: float = NAN,
    trail_loss: float = NAN,
    by_part: bool = False,
    oco: float = -1.0,
    day: bool = False,
) -> int:
    """Buys; returns the order's number. Arguments as of `Strategy.buy`.

    `by_part` stands for trail_by="part", `day` for time_in_force="day", `oco` is an order's number.
    """
    return place(
        desk, 1.0, float(quantity), float(fraction), float(limit), float(stop), float(trail),
        float(take_profit), float(stop_loss), bool(day), float(oco), float(trail_loss), bool(by_part),
    )  # fmt: skip


@compiled_bare
def sell(
    desk: Desk,
    quantity: float = NAN,
    fraction: float = NAN,
    limit: float = NAN,
    stop: float = NAN,
    trail: float = NAN,
    take_profit: float = NAN,
    stop_loss: float = NAN,
    trail_loss: float = NAN,
    by_part: bool = False,
    oco: float = -1.0,
    day: bool = False,
) -> int:
    """Sells, and goes short beyond what is held; arguments as in `buy`, mirrored."""
    return place(
        desk, -1.0, float(quantity), float(fraction), float(limit), float(stop), float(trail),
        float(take_profit), float(stop_loss), bool(day), float(oco), float(trail_loss), bool(by_part),
    )  # fmt: skip


@compiled_bare
def target(desk: Desk, exposure: float) -> None:
    """Moves the position to `exposure` x equity; NaN keeps. Trades when the target changes."""
    if math.isnan(exposure):
        return
    if abs(exposure) > desk.memory[EXPOSURE_MAX]:
        desk.cursor[ERROR] = 7
        return
    if abs(exposure) < _SIZE_MIN:
        exposure = 0.0
    if exposure != desk.memory[LAST_TARGET]:
        _put(desk, _TARGET, 0.0, float(exposure))
        desk.memory[LAST_TARGET] = exposure


@compiled_bare
def close(desk: Desk) -> None:
    """Closes the whole position; orders that wait keep waiting."""
    if desk.position != 0.0 or desk.memory[LAST_TARGET] != 0.0:
        _put(desk, _TARGET, 0.0, 0.0)
    desk.memory[LAST_TARGET] = 0.0


@compiled_bare
def cancel(desk: Desk, order: float) -> None:
    """Cancels an order, or what is left of it; a number below 0 is no order and does nothing."""
    if order >= 0.0:
        row = _put(desk, _CANCEL, 0.0, float(int(order)))
        if row >= 0 and desk.states[int(order)] == _WORKING:
            desk.states[int(order)] = _CANCELED


@compiled_bare
def waits(desk: Desk, order: float) -> bool:
    """Returns whether an order still waits to be filled; a number below 0 is no order."""
    return order >= 0.0 and desk.states[int(order)] == _WORKING


_CANCELED = o.CANCELED
