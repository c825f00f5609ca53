"""Submission: a row of the order stream enters the book, or takes an order out of it."""

import math

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import BOOKED, DAY_US, OVERFLOW, REJECTIONS, RUINED, Floats, Ints
from neural_trader_tools.engine.book import (
    BORN,
    DEAD,
    GROUP,
    ID,
    KIND,
    LAST_DAY,
    LEG,
    LIMIT,
    SIDE,
    SIZE,
    SIZED_BY,
    STOP,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAIL,
    TRAIL_BY,
    TRAIL_LOSS,
    kill,
    trailed,
)
from neural_trader_tools.engine.compiled import compiled_within

_TARGET, _CANCEL, _DAY, _OCO = o.TARGET, o.CANCEL, o.DAY, o.OCO
_MARKET, _LIMIT, _STOP, _STOP_LIMIT, _TRAIL = o.BY_MARKET, o.BY_LIMIT, o.BY_STOP, o.BY_STOP_LIMIT, o.BY_TRAIL
_BY_TARGET, _WORKING = o.BY_TARGET, o.WORKING
# floats, because numba compiles a function once more for each literal integer it is called with
_REJECTED, _CANCELED, _DONE = float(o.REJECTED), float(o.CANCELED), float(o.DONE)


@compiled_within
def _cancel(command: Floats, account: Floats, book: Floats, states: Ints) -> None:
    """Takes an order, or the legs that it left, out of the book."""
    for other in range(int(account[BOOKED])):
        if book[other, ID] == command[o.SIZE]:
            kill(book, other, _CANCELED, states)


@compiled_within
def _waits(group: float, account: Floats, book: Floats) -> bool:
    """Returns whether the first order of a group still waits, and nothing of it has filled."""
    for other in range(int(account[BOOKED])):
        if book[other, ID] == group and book[other, LEG] == 0.0 and book[other, GROUP] == group:
            return True
    return False


@compiled_within
def submit(
    bar: int,
    row: int,
    command: Floats,
    close: float,
    times: Ints,
    rules: Floats,
    account: Floats,
    book: Floats,
    states: Ints,
) -> None:
    """Puts one row of the order stream, decided on `bar`, into the book (or carries out a cancellation).

    `times` are the opens of the bars, microseconds since 1970-01-01 UTC.
    """
    action = int(command[o.ACTION])
    count = int(account[BOOKED])
    states[row] = _WORKING
    if action == _CANCEL:
        states[row] = int(_DONE)
        _cancel(command, account, book, states)
        return
    if account[RUINED] != 0.0:
        states[row] = int(_REJECTED)
        account[REJECTIONS] += 1.0
        return
    group = float(row)
    if action == _TARGET:
        for other in range(count):
            if book[other, ID] != DEAD and book[other, KIND] == _BY_TARGET:
                kill(book, other, _CANCELED, states)
    elif not math.isnan(command[_OCO]):
        group = command[_OCO]
        if not _waits(group, account, book):  # its first order has filled or ended: so has the group
            states[row] = int(_CANCELED)
            return
    if count >= book.shape[0] - 2:
        account[OVERFLOW] = 1.0
        return
    limit, stop, trail = command[o.LIMIT], command[o.STOP], command[o.TRAIL]
    kind = _MARKET
    if action == _TARGET:
        kind = _BY_TARGET
    elif not math.isnan(trail):
        kind = _TRAIL
        stop = trailed(close, command[o.SIDE], trail, command[o.TRAIL_BY])
    elif not math.isnan(stop):
        kind = _STOP if math.isnan(limit) else _STOP_LIMIT
    elif not math.isnan(limit):
        kind = _LIMIT
    book[count, ID] = row
    book[count, KIND] = kind
    book[count, SIDE] = command[o.SIDE]
    book[count, SIZE] = command[o.SIZE]
    book[count, SIZED_BY] = command[o.SIZED_BY]
    book[count, LIMIT] = limit
    book[count, STOP] = stop
    book[count, TRAIL] = trail
    book[count, TAKE_PROFIT] = command[o.TAKE_PROFIT]
    book[count, STOP_LOSS] = command[o.STOP_LOSS]
    book[count, LAST_DAY] = np.nan
    if command[o.TIME_IN_FORCE] == _DAY and bar + 1 < times.shape[0]:
        book[count, LAST_DAY] = times[bar + 1] // DAY_US
    book[count, LEG] = 0.0
    book[count, BORN] = -1.0
    book[count, GROUP] = group
    book[count, TRAIL_LOSS] = command[o.TRAIL_LOSS]
    book[count, TRAIL_BY] = command[o.TRAIL_BY]
    account[BOOKED] = count + 1
