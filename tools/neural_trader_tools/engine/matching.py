"""Matching: which orders of the book a bar reaches, in which phase, and at which price."""

import math

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import BOOKED, DAY_US, FILL_AT_CLOSE, Floats, Ints
from neural_trader_tools.engine.book import (
    AT_CLOSE,
    AT_OPEN,
    BORN,
    DEAD,
    ID,
    IN_LIMITS,
    IN_STOPS,
    KIND,
    LAST_DAY,
    LIMIT,
    ORIGIN,
    SIDE,
    STOP,
    STOP_LOSS,
    WAITS,
    close_up,
    kill,
)
from neural_trader_tools.engine.bracket import match_bracket
from neural_trader_tools.engine.compiled import compiled_bare, compiled_within
from neural_trader_tools.engine.filling import fill

_MARKET, _STOP_LIMIT, _LOSS, _BY_TARGET = o.BY_MARKET, o.BY_STOP_LIMIT, o.BY_STOP_LOSS, o.BY_TARGET
_WORKING_MAX = o.WORKING_MAX
_EXPIRED = float(o.EXPIRED)  # a float: numba compiles `kill` once more for each literal integer


@compiled_within
def _level(
    bar: int, row: int, phase: int, open_: float, high: float, low: float, at_close: bool, book: Floats
) -> float:
    """Returns the market price at which an order is reached in a phase of a bar, or NaN where it is not."""
    kind = int(book[row, KIND])
    side, stop, limit = book[row, SIDE], book[row, STOP], book[row, LIMIT]
    is_stopped = math.isnan(stop)  # an order without a stop, or a stop-limit that was triggered
    born = book[row, BORN] - bar * 4.0
    if born >= WAITS:  # of the favourable level of a stop's entry the path is known, if the other stays away
        other = book[row, STOP_LOSS]
        if born == WAITS or phase != IN_LIMITS or (high >= other if side > 0.0 else low <= other):
            return np.nan
    if phase == AT_OPEN:
        if kind in (_MARKET, _BY_TARGET):
            return np.nan if at_close else open_  # what a close left unfilled goes on at the next one
        if not is_stopped and side * (open_ - stop) >= 0.0:
            if kind != _STOP_LIMIT:
                return open_
            book[row, STOP] = np.nan  # triggered: a limit from here on
            is_stopped = True
        return open_ if is_stopped and side * (limit - open_) >= 0.0 else np.nan
    is_touched = (side > 0.0 and high >= stop) or (side < 0.0 and low <= stop)
    if phase == IN_STOPS:
        if not is_touched or math.isinf(stop):  # infinite: what is left of it had its turn at the open
            return np.nan
        if kind == _STOP_LIMIT and side * (limit - stop) < 0.0:
            book[row, STOP] = np.nan  # triggered beyond its limit: waits as a limit
            book[row, BORN] = bar * 4.0 + IN_LIMITS
            return np.nan
        # an entry may have been beyond its own stop-loss already
        return book[row, ORIGIN] if born >= 0.0 and side * (book[row, ORIGIN] - stop) > 0.0 else stop
    if kind == _LOSS:
        # only the legs of entries made in this phase; the low (high) came with the entry or after it
        if born == IN_LIMITS and is_touched:
            return stop if side * (book[row, ORIGIN] - stop) <= 0.0 else book[row, ORIGIN]
    elif born != IN_LIMITS and is_stopped and side * (limit - (low if side > 0.0 else high)) >= 0.0:
        return book[row, ORIGIN] if born >= 0.0 and side * (limit - book[row, ORIGIN]) > 0.0 else limit
    return np.nan


@compiled_within
def match(
    bar: int,
    open_: float,
    high: float,
    low: float,
    times: Ints,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
    states: Ints,
) -> None:
    """Plays the orders of earlier bars over one bar: its open, then stops, then limits.

    Where `account.needs_begin` says so, `account.begin` comes before it.
    """
    first = int(account[BOOKED])
    if first == 0:
        return
    if match_bracket(bar, open_, high, low, rules, account, book, fills, states):
        return
    at_close = rules[FILL_AT_CLOSE] != 0.0
    for row in range(first):
        last_day = book[row, LAST_DAY]
        if not math.isnan(last_day) and book[row, ID] != DEAD and last_day < times[bar] // DAY_US:
            kill(book, row, _EXPIRED, states)
    for phase in range(3):
        for row in range(
            _WORKING_MAX
        ):  # legs born meanwhile are appended, and visited from the next phase on
            if row >= (first if phase == AT_OPEN else int(account[BOOKED])):
                break
            if book[row, ID] != DEAD:
                market = _level(bar, row, phase, open_, high, low, at_close, book)
                if not math.isnan(market):
                    fill(bar, row, market, phase, rules, account, book, fills, states)
    close_up(bar, high, low, account, book)


@compiled_bare
def match_phase(
    bar: int,
    phase: int,
    open_: float,
    high: float,
    low: float,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
    states: Ints,
) -> None:
    """Plays one phase of a bar, for a caller that plays several books side by side (`engine/books.py`).

    AT_OPEN, IN_STOPS and IN_LIMITS one after the other, between `expire` and `book.close_up`, are `match`.
    AT_CLOSE fills what `finish` fills; the close stands in the place of the open then.
    """
    first = int(account[BOOKED])
    at_close = rules[FILL_AT_CLOSE] != 0.0
    for row in range(_WORKING_MAX):
        # legs born meanwhile are visited too, but not at the open and the close
        if row >= (int(account[BOOKED]) if phase in (IN_STOPS, IN_LIMITS) else first):
            break
        if book[row, ID] == DEAD:
            continue
        if phase == AT_CLOSE:
            if book[row, KIND] == _MARKET or book[row, KIND] == _BY_TARGET:
                fill(bar, row, open_, IN_LIMITS + 0 * phase, rules, account, book, fills, states)
            continue
        market = _level(bar, row, phase, open_, high, low, at_close, book)
        if not math.isnan(market):
            fill(bar, row, market, phase, rules, account, book, fills, states)


@compiled_bare
def expire(time: int, account: Floats, book: Floats, states: Ints) -> None:
    """Takes day orders of earlier days out of the book."""
    for row in range(int(account[BOOKED])):
        last_day = book[row, LAST_DAY]
        if not math.isnan(last_day) and book[row, ID] != DEAD and last_day < time // DAY_US:
            kill(book, row, _EXPIRED, states)
