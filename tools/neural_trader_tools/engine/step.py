"""A step: what the kernel does before and after a strategy's decision on one bar, each in one cheap call.

Handing ten arrays to compiled code costs more than a quiet bar takes. So their addresses are handed over, in
one array of integers; `Cells` keeps the arrays alive and the addresses current.
"""

import functools
from typing import Any, Final, cast

import numba
import numpy as np
from numba import extending, types
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import MAINTENANCE
from neural_trader_tools.engine.book import DEAD, NEVER, quiet_range
from neural_trader_tools.engine.compiled import compiled

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


def _pointer_to(element: Any) -> Any:
    """Returns the compiled function that makes a pointer of an address."""

    def pointer(context: Any, address: Any) -> Any:  # numba calls it with types, not with values
        def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], target.get_value_type(signature.return_type))

        return cast("Any", types).CPointer(element)(types.int64), generate

    return cast("Any", extending).intrinsic(pointer)


_floats_at, _ints_at = _pointer_to(types.float64), _pointer_to(types.int64)
_carray: Any = cast("Any", numba).carray


_brief = functools.partial(compiled, nogil=False)


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
        self.at[BARS], self.at[HAS_DIVIDENDS] = len(times), len(dividends) > 0
        self.at[HAS_BEGIN] = kernel.needs_begin(rules, dividends)
        self.commands: Floats = np.empty((64, _WIDTH))
        self.states: Ints = np.zeros(64, dtype=np.int64)
        self.fills: Floats = np.empty((4 * o.WORKING_MAX, _FILL_WIDTH))
        self.grow(0, 0)

    def put(self, place: int, values: NDArray[Any]) -> None:
        """Keeps an array and its address."""
        self._arrays[place] = values
        self.at[place] = values.ctypes.data

    def grow(self, rows: int, fills: int) -> None:
        """Makes room for another row, and for the fills of one more bar."""
        while rows >= len(self.commands):
            self.commands = np.concatenate([self.commands, np.empty_like(self.commands)])
            self.states = np.concatenate([self.states, np.zeros_like(self.states)])
        while fills + 2 * o.WORKING_MAX + 2 > len(self.fills):
            self.fills = np.concatenate([self.fills, np.empty_like(self.fills)])
        self.put(COMMANDS, self.commands)
        self.put(STATES, self.states)
        self.put(FILLS, self.fills)
        self.at[ROWS], self.at[FILLS_MAX] = len(self.commands), len(self.fills)


@compiled
def _submit(first: int, last: int, at: Ints) -> None:
    """Puts rows of the stream into the book, each as of the bar on which it was decided."""
    bars = at[BARS]
    close, times = _carray(_floats_at(at[CLOSE]), bars), _carray(_ints_at(at[TIMES]), bars)
    commands = _carray(_floats_at(at[COMMANDS]), (at[ROWS], _WIDTH))
    rules = _carray(_floats_at(at[RULES]), _RULES_SIZE)
    account = _carray(_floats_at(at[ACCOUNT]), _ACCOUNT_SIZE)
    book = _carray(_floats_at(at[BOOK]), (_WORKING_MAX, _BOOK_SIZE))
    states = _carray(_ints_at(at[STATES]), at[ROWS])
    for row in range(first, last):
        bar = int(commands[row, 0])
        kernel.submit(bar, row, commands[row], close[bar], times, rules, account, book, states)


@compiled
def _tell(at: Ints) -> None:
    """Writes what the session mirrors."""
    rules = _carray(_floats_at(at[RULES]), _RULES_SIZE)
    account = _carray(_floats_at(at[ACCOUNT]), _ACCOUNT_SIZE)
    book = _carray(_floats_at(at[BOOK]), (_WORKING_MAX, _BOOK_SIZE))
    told = _carray(_floats_at(at[TOLD]), TOLD_SIZE)
    told[CASH], told[POSITION] = account[kernel.CASH], account[kernel.POSITION]
    told[BOOKED], told[FILL_COUNT] = account[kernel.BOOKED], account[kernel.FILLS]
    cash, position = account[kernel.CASH], account[kernel.POSITION]
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
    count = 0
    for row in range(int(account[kernel.BOOKED])):
        is_order = book[row, kernel.LEG] == 0.0 and book[row, kernel.KIND] != _BY_TARGET
        if is_order and book[row, kernel.ID] != DEAD:
            told[FIRST + count] = book[row, kernel.ID]
            count += 1
    told[WAITING] = count


@_brief
def before(bar: int, first: int, last: int, at: Ints) -> None:
    """Plays a bar up to its decision: rows `first` … `last` enter the book, then `begin` and `match`."""
    bars = at[BARS]
    open_ = _carray(_floats_at(at[OPEN]), bars)
    high, low = _carray(_floats_at(at[HIGH]), bars), _carray(_floats_at(at[LOW]), bars)
    times = _carray(_ints_at(at[TIMES]), bars)
    rules = _carray(_floats_at(at[RULES]), _RULES_SIZE)
    account = _carray(_floats_at(at[ACCOUNT]), _ACCOUNT_SIZE)
    book = _carray(_floats_at(at[BOOK]), (_WORKING_MAX, _BOOK_SIZE))
    fills = _carray(_floats_at(at[FILLS]), (at[FILLS_MAX], _FILL_WIDTH))
    states = _carray(_ints_at(at[STATES]), at[ROWS])
    _submit(first, last, at)
    if at[HAS_BEGIN] != 0:
        earlier = max(bar - 1, 0)
        close, volume = _carray(_floats_at(at[CLOSE]), bars), _carray(_floats_at(at[VOLUME]), bars)
        dividend = _carray(_floats_at(at[DIVIDENDS]), bars)[bar] if at[HAS_DIVIDENDS] != 0 else 0.0
        kernel.begin(times[bar], times[earlier], close[earlier], dividend, volume[bar], rules, account)
    if account[kernel.BOOKED] > 0.0:
        kernel.match(bar, open_[bar], high[bar], low[bar], times, rules, account, book, fills, states)
    _tell(at)


@_brief
def after(bar: int, first: int, last: int, at: Ints) -> None:
    """Ends a bar after its decision: rows `first` … `last` enter the book, then `finish`."""
    close = _carray(_floats_at(at[CLOSE]), at[BARS])
    rules = _carray(_floats_at(at[RULES]), _RULES_SIZE)
    account = _carray(_floats_at(at[ACCOUNT]), _ACCOUNT_SIZE)
    book = _carray(_floats_at(at[BOOK]), (_WORKING_MAX, _BOOK_SIZE))
    fills = _carray(_floats_at(at[FILLS]), (at[FILLS_MAX], _FILL_WIDTH))
    states = _carray(_ints_at(at[STATES]), at[ROWS])
    _submit(first, last, at)
    kernel.finish(bar, close[bar], rules, account, book, fills, states)
    _tell(at)


@_brief
def enter(first: int, last: int, at: Ints) -> None:
    """Puts rows into the book at once, where their fate matters on the bar itself."""
    _submit(first, last, at)
    _tell(at)


@functools.cache
def pointers() -> tuple[Any, Any, Any]:
    """Returns `before`, `after` and `enter` for callers in machine code, by the address of `Cells.at`.

    They are handed over and called by their addresses, so that whoever calls them is compiled without them.
    """
    return tuple(_pointer(function) for function in (_before_at, _after_at, _enter_at))  # type: ignore[return-value]


def _pointer(function: Any) -> Any:
    signature = cast("Any", types).void(*[types.int64] * 4)
    try:
        callback = cast("Any", numba).cfunc(signature, cache=True)(function)
    except RuntimeError:  # nowhere to write the cache
        return cast("Any", numba).cfunc(signature)(function)
    return callback


def _before_at(bar: int, first: int, last: int, address: int) -> None:
    before(bar, first, last, _carray(_ints_at(address), ADDRESSES))


def _after_at(bar: int, first: int, last: int, address: int) -> None:
    after(bar, first, last, _carray(_ints_at(address), ADDRESSES))


def _enter_at(bar: int, first: int, last: int, address: int) -> None:
    enter(first, last, _carray(_ints_at(address), ADDRESSES))
