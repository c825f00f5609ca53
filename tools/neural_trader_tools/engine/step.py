"""A step: what the kernel does before and after a strategy's decision on one bar, each in one cheap call.

What it works on is handed over as one array of addresses (`engine/addresses.py`); `Cells` keeps the arrays
alive and the addresses current.
"""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import MAINTENANCE
from neural_trader_tools.engine.addresses import floats_at, ints_at, pointer_to, table_at
from neural_trader_tools.engine.arena import ARENA
from neural_trader_tools.engine.book import DEAD, NEVER, quiet_range
from neural_trader_tools.engine.compiled import compiled_bare, compiled_within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OPEN, HIGH, LOW, CLOSE, VOLUME, TIMES, DIVIDENDS = range(7)
COMMANDS, RULES, ACCOUNT, BOOK, FILLS, STATES, TOLD = range(7, 14)
BARS, ROWS, FILLS_MAX, HAS_DIVIDENDS, HAS_BEGIN = range(14, 19)
ADDRESSES: Final = 19

CASH, POSITION, BOOKED, FILL_COUNT, STATE, FALL, RISE, EXPIRY, WAITING = range(9)
"""What is told after a step: the account, `book.quiet_range`, how many orders wait; then their rows.

STATE: 0 as a rule; see `WATCHED`, `RUINED`, `OVERFLOW`.
"""
WATCHED: Final = 1
"""Equity may fall to what the position needs, so that each close has to be looked at."""
RUINED: Final = 2
OVERFLOW: Final = 3
FIRST: Final = 9
TOLD_SIZE: Final = FIRST + o.WORKING_MAX

_WIDTH, _FILL_WIDTH = len(o.COLUMNS), len(o.FILL_COLUMNS)
_ACCOUNT_SIZE, _RULES_SIZE, _BOOK_SIZE = kernel.ACCOUNT_SIZE, kernel.RULES_SIZE, kernel.BOOK_SIZE
_WORKING_MAX, _BY_TARGET = o.WORKING_MAX, o.BY_TARGET
FILLS_A_BAR: Final = 2 * o.WORKING_MAX + 2
_FEW, _MANY = 1_024, 262_144
"""Rows and fills that there is room for at first, an eighth of the bars: what is not used costs nothing."""


class Cells:
    """The arrays of one session. `at` holds their addresses; `told` what the last step left.

    Args:
        columns: open, high, low, close, volume, each contiguous float64.
        times: Opens of the bars, microseconds.
        dividends: As `kernel.play` takes them.
        rules: See `account.make_rules`.
        cash: Cash at the start.
    """

    def __init__(
        self, columns: dict[str, NDArray[Any]], times: Ints, dividends: Floats, rules: Floats, cash: float
    ) -> None:
        self.at: Ints = np.zeros(ADDRESSES, dtype=np.int64)
        self._arrays: dict[int, NDArray[Any]] = {}
        for place, name in enumerate(("open", "high", "low", "close", "volume")):
            self.put(place, columns[name])
        self.put(TIMES, np.ascontiguousarray(times, dtype=np.int64))
        self.put(DIVIDENDS, np.ascontiguousarray(dividends, dtype=np.float64))
        self.put(RULES, np.ascontiguousarray(rules, dtype=np.float64))
        self.account: Floats = np.zeros(kernel.ACCOUNT_SIZE)
        self.account[kernel.CASH] = cash
        self.put(ACCOUNT, self.account)
        self.put(BOOK, np.empty((o.WORKING_MAX, kernel.BOOK_SIZE)))
        self.told: Floats = np.zeros(TOLD_SIZE)
        self.put(TOLD, self.told)
        self.address = int(self.at.ctypes.data)
        self.at[BARS], self.at[HAS_DIVIDENDS] = len(times), len(dividends) > 0
        self.at[HAS_BEGIN] = kernel.needs_begin(rules, dividends)
        room = min(max(len(times) // 8, _FEW), _MANY)
        self.commands: Floats = ARENA.floats(room, _WIDTH)
        self.states: Ints = np.zeros(room, dtype=np.int64)
        self.fills: Floats = np.empty((room, _FILL_WIDTH))
        self.grow(0, 0)

    def put(self, place: int, values: NDArray[Any]) -> None:
        """Keeps an array and its address."""
        self._arrays[place] = values
        self.at[place] = values.ctypes.data

    def grow(self, rows: int, fills: int) -> None:
        """Makes room for another row, and for the fills of one more bar."""
        if rows >= len(self.commands):
            room = 2 * rows
            self.commands = _larger(self.commands, ARENA.floats(room, _WIDTH))
            self.states = _larger(self.states, np.zeros(room, dtype=np.int64))
        needed = fills + FILLS_A_BAR
        if needed > len(self.fills):
            self.fills = _larger(self.fills, np.empty((2 * needed, _FILL_WIDTH)))
        self.put(COMMANDS, self.commands)
        self.put(STATES, self.states)
        self.put(FILLS, self.fills)
        self.at[ROWS], self.at[FILLS_MAX] = len(self.commands), len(self.fills)


def _larger(values: NDArray[Any], larger: NDArray[Any]) -> NDArray[Any]:
    larger[: len(values)] = values
    return larger


@compiled_within
def _submit(first: int, last: int, at: Ints) -> None:
    """Puts rows of the stream into the book, each as of the bar on which it was decided."""
    bars = at[BARS]
    close, times = floats_at(at[CLOSE], bars), ints_at(at[TIMES], bars)
    commands = table_at(at[COMMANDS], at[ROWS], _WIDTH)
    rules = floats_at(at[RULES], _RULES_SIZE)
    account = floats_at(at[ACCOUNT], _ACCOUNT_SIZE)
    book = table_at(at[BOOK], _WORKING_MAX, _BOOK_SIZE)
    states = ints_at(at[STATES], at[ROWS])
    for row in range(first, last):
        bar = int(commands[row, 0])
        kernel.submit(bar, row, commands[row], close[bar], times, rules, account, book, states)


@compiled_within
def _tell(at: Ints) -> None:
    """Writes what the session mirrors."""
    rules = floats_at(at[RULES], _RULES_SIZE)
    account = floats_at(at[ACCOUNT], _ACCOUNT_SIZE)
    book = table_at(at[BOOK], _WORKING_MAX, _BOOK_SIZE)
    told = floats_at(at[TOLD], TOLD_SIZE)
    cash, position = account[kernel.CASH], account[kernel.POSITION]
    told[CASH], told[POSITION], told[FILL_COUNT] = cash, position, account[kernel.FILLS]
    state = 0.0
    if not (cash >= 0.0 and position >= 0.0 and cash + position > 0.0 and rules[MAINTENANCE] < 1.0):
        state = WATCHED
    if account[kernel.RUINED] != 0.0:
        state = RUINED
    if account[kernel.OVERFLOW] != 0.0:
        state = OVERFLOW
    told[STATE] = state
    fall, rise, expiry = quiet_range(account, book)
    told[FALL], told[RISE] = fall, rise
    told[EXPIRY] = np.inf if expiry == NEVER else float(expiry)
    booked, count = int(account[kernel.BOOKED]), 0
    told[BOOKED] = booked  # a copy beside that of the fills would wait for what was just written to settle
    for row in range(booked):
        is_order = book[row, kernel.LEG] == 0.0 and book[row, kernel.KIND] != _BY_TARGET
        if is_order and book[row, kernel.ID] != DEAD:
            told[FIRST + count] = book[row, kernel.ID]
            count += 1
    told[WAITING] = count


@compiled_bare
def before(bar: int, first: int, last: int, address: int) -> None:
    """Plays a bar up to its decision: rows `first` … `last` enter the book, then `begin` and `match`.

    `address` is that of `Cells.at`.
    """
    at = ints_at(address, ADDRESSES)
    bars = at[BARS]
    open_ = floats_at(at[OPEN], bars)
    high, low = floats_at(at[HIGH], bars), floats_at(at[LOW], bars)
    times = ints_at(at[TIMES], bars)
    rules = floats_at(at[RULES], _RULES_SIZE)
    account = floats_at(at[ACCOUNT], _ACCOUNT_SIZE)
    book = table_at(at[BOOK], _WORKING_MAX, _BOOK_SIZE)
    fills = table_at(at[FILLS], at[FILLS_MAX], _FILL_WIDTH)
    states = ints_at(at[STATES], at[ROWS])
    _submit(first, last, at)
    if at[HAS_BEGIN] != 0:
        earlier = max(bar - 1, 0)
        close, volume = floats_at(at[CLOSE], bars), floats_at(at[VOLUME], bars)
        dividend = floats_at(at[DIVIDENDS], bars)[bar] if at[HAS_DIVIDENDS] != 0 else 0.0
        kernel.begin(times[bar], times[earlier], close[earlier], dividend, volume[bar], rules, account)
    if account[kernel.BOOKED] > 0.0:
        kernel.match(bar, open_[bar], high[bar], low[bar], times, rules, account, book, fills, states)
    _tell(at)


@compiled_bare
def after(bar: int, first: int, last: int, address: int) -> None:
    """Ends a bar after its decision: rows `first` … `last` enter the book, then `finish`."""
    at = ints_at(address, ADDRESSES)
    close = floats_at(at[CLOSE], at[BARS])
    rules = floats_at(at[RULES], _RULES_SIZE)
    account = floats_at(at[ACCOUNT], _ACCOUNT_SIZE)
    book = table_at(at[BOOK], _WORKING_MAX, _BOOK_SIZE)
    fills = table_at(at[FILLS], at[FILLS_MAX], _FILL_WIDTH)
    states = ints_at(at[STATES], at[ROWS])
    _submit(first, last, at)
    kernel.finish(bar, close[bar], rules, account, book, fills, states)
    _tell(at)


@compiled_bare
def enter(_bar: int, first: int, last: int, address: int) -> None:
    """Puts rows into the book at once, where their fate matters on the bar itself."""
    at = ints_at(address, ADDRESSES)
    _submit(first, last, at)
    _tell(at)


@functools.cache
def pointers() -> tuple[Any, Any, Any]:
    """Returns `before`, `after` and `enter` for callers in machine code, by the address of `Cells.at`."""
    return tuple(pointer_to(function, 4) for function in (before, after, enter))  # type: ignore[return-value]
