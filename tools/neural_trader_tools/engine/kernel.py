"""The event loop: bars and an order stream in, fills and equity out. The only place that makes profit.

Rules, in the order in which one bar is played:

1. *Open.* Orders decided on earlier bars, in the order of submission: market orders and targets fill at
   the open (`next_open`); a limit or stop that the open already passed fills at the open.
2. *Stops.* Stops, trailing stops and stop-losses that the bar's range touches fill at their level.
   A stop-limit fills at its stop if that is within its limit, else it waits as a limit from the next bar
   (from this bar if the open itself triggered it).
3. *Limits.* Limits and take-profits that the range touches fill at their level. Stops come before
   limits because the path inside a bar is unknown and the worse one is assumed.
4. *Decision* on this bar. With `fill="close"` market orders and targets now fill at this close.
5. *Equity* is cash plus position at the close.

So a buy limit fills at min(open, limit), a buy stop at max(open, stop), and a decision on bar i never
fills before the open of bar i+1, or the close of bar i where that was asked for.

Brackets: a filled entry leaves a take-profit and a stop-loss on the position, one cancels the other, they
only reduce, and they end when the position is closed or reversed. A leg that the entry's
own price is already beyond fills at that price, not at its level. In the entry's own bar the
stop-loss counts as hit if the range touches it; a take-profit does not count after an entry by a limit
inside the bar, because the favourable price may have come first.
Trailing stops follow the extreme of *finished* bars, starting at the close of the deciding bar.
Day orders end with the UTC day of the first bar on which they could fill.

Costs: slippage worsens market, stop, trailing, stop-loss and target fills, never limits; commission is a
part of the notional. Sizes: a target, like `fraction=`, is sized at the fill so that cost and commission
together are target x equity, equity being marked at the fill's price. There is no leverage: a fill that
leaves position and commission above equity is rejected. If equity is zero or below at a close, what is held
is liquidated there and nothing trades any more.
"""

import math

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# account: the running state of one symbol's play
CASH, POSITION, BOOKED, FILLS, REJECTIONS, RUINED, OVERFLOW, ELSEWHERE = range(8)
ACCOUNT_SIZE = 8
# ELSEWHERE: what the same cash holds in other symbols, at their last prices; 0 where there is one symbol

# rules: constants of one run
COMMISSION, SLIPPAGE, WHOLE_LOTS, FILL_AT_CLOSE = 0, 1, 2, 3

# book: one row for each waiting order or bracket leg
ID, KIND, SIDE, SIZE, SIZED_BY, LIMIT, STOP, TRAIL, TAKE_PROFIT, STOP_LOSS, LAST_DAY, LEG, BORN, ORIGIN = (
    range(14)
)
BOOK_SIZE = 14
DEAD = -1.0
AT_OPEN, IN_STOPS, IN_LIMITS = 0, 1, 2
TOLERANCE = 1e-9

_ORDER, _TARGET, _CANCEL, _FRACTION, _DAY = o.ORDER, o.TARGET, o.CANCEL, o.FRACTION, o.DAY
_MARKET, _LIMIT, _STOP, _STOP_LIMIT, _TRAIL = o.BY_MARKET, o.BY_LIMIT, o.BY_STOP, o.BY_STOP_LIMIT, o.BY_TRAIL
_PROFIT, _LOSS, _BY_TARGET, _LIQUIDATION = o.BY_TAKE_PROFIT, o.BY_STOP_LOSS, o.BY_TARGET, o.BY_LIQUIDATION
_WORKING, _FILLED, _REJECTED, _CANCELED = o.WORKING, o.FILLED, o.REJECTED, o.CANCELED
_EXPIRED, _DONE, _WORKING_MAX = o.EXPIRED, o.DONE, o.WORKING_MAX


@compiled
def target_position(
    target: float, cash: float, position: float, market: float, rules: Floats
) -> tuple[float, float]:
    """Returns the position that a target exposure asks for, and the price at which it is reached.

    With c the commission rate and p the fill price, increasing to q from h (both counted in the target's
    direction) solves q p + (q - h) p c = |target| (cash + position p); decreasing has (h - q).
    """
    slippage = rules[SLIPPAGE]
    commission = rules[COMMISSION]
    if target == 0.0:
        return 0.0, market * (1.0 - slippage) if position > 0.0 else market * (1.0 + slippage)
    sign = 1.0 if target > 0.0 else -1.0
    held = position * sign
    price = market * (1.0 + sign * slippage)
    wanted = abs(target) * (cash + position * price)
    if wanted > held * price:
        size = max((wanted + held * price * commission) / (price * (1.0 + commission)), held, 0.0)
        if rules[WHOLE_LOTS] != 0.0:
            size = max(np.floor(size + TOLERANCE), held, 0.0)
        return sign * size, price
    price = market * (1.0 - sign * slippage)
    wanted = abs(target) * (cash + position * price)
    size = min(max((wanted - held * price * commission) / (price * (1.0 - commission)), 0.0), held)
    if rules[WHOLE_LOTS] != 0.0:
        size = min(float(np.floor(size + TOLERANCE)), held)
    return sign * size, price


@compiled
def _kill(book: Floats, row: int, state: int, states: Ints) -> None:
    """Takes an order out of the book; a bracket leg has no state of its own."""
    if book[row, LEG] == 0.0 and book[row, ID] >= 0.0:
        states[int(book[row, ID])] = state
    book[row, ID] = DEAD


@compiled
def _add_leg(
    order: float,
    kind: int,
    side: float,
    size: float,
    level: float,
    born: float,
    origin: float,
    account: Floats,
    book: Floats,
) -> None:
    """Adds a take-profit or stop-loss; cells are set one by one because that compiles ten times faster."""
    count = int(account[BOOKED])
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
    book[count, LIMIT if kind == _PROFIT else STOP] = level
    book[count, LEG] = 1.0
    book[count, BORN] = born
    book[count, ORIGIN] = origin
    account[BOOKED] = count + 1


@compiled
def _fill(
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
    """Fills one order of the book at a market price, or rejects it; takes it out of the book either way."""
    order = book[row, ID]
    kind = int(book[row, KIND])
    side = book[row, SIDE]
    size = book[row, SIZE]
    funds = account[CASH] + account[ELSEWHERE]
    held = account[POSITION]
    commission = rules[COMMISSION]
    is_leg = book[row, LEG] == 1.0
    if kind == _BY_TARGET:
        wanted, price = target_position(size, funds, held, market, rules)
        traded = wanted - held
    else:
        slips = kind in (_MARKET, _STOP, _TRAIL, _LOSS)
        price = market * (1.0 + side * rules[SLIPPAGE]) if slips else market
        if book[row, SIZED_BY] == _FRACTION:
            size = max(size * (funds + held * price) / (price * (1.0 + commission)), 0.0)
        if rules[WHOLE_LOTS] != 0.0:
            size = float(np.floor(size + TOLERANCE))
        if is_leg:
            size = min(size, max(-side * held, 0.0))
        traded = side * size
        wanted = held + traded
    if abs(wanted) <= 1e-12 * max(abs(held), abs(traded)):
        wanted = 0.0
        traded = -held
    if abs(traded) <= 1e-12 * max(abs(held), abs(wanted)):
        if kind == _BY_TARGET or is_leg:
            _kill(book, row, _DONE, states)
        else:
            account[REJECTIONS] += 1.0
            _kill(book, row, _REJECTED, states)
        return
    cost = abs(traded) * price * commission
    grows = abs(wanted) > abs(held) or wanted * held < 0.0
    if grows and abs(wanted) * price + cost > (funds + held * price) * (1.0 + TOLERANCE):
        account[REJECTIONS] += 1.0
        _kill(book, row, _REJECTED, states)
        return
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
    _kill(book, row, _FILLED, states)
    ended = held != 0.0 and wanted * held <= 0.0
    for other in range(int(account[BOOKED])):
        sibling = is_leg and book[other, ID] == order
        if book[other, LEG] == 1.0 and (ended or sibling):
            book[other, ID] = DEAD
    if not is_leg and wanted * side > 0.0 and kind != _BY_TARGET:
        size = min(abs(traded), abs(wanted))
        born = bar * 4.0 + phase
        stop_loss, take_profit = book[row, STOP_LOSS], book[row, TAKE_PROFIT]
        if not math.isnan(stop_loss):
            _add_leg(order, _LOSS, -side, size, stop_loss, born, market, account, book)
        if not math.isnan(take_profit):
            _add_leg(order, _PROFIT, -side, size, take_profit, born, market, account, book)


@compiled
def submit(
    bar: int,
    row: int,
    command: Floats,
    close: float,
    bar_days: Ints,
    rules: Floats,
    account: Floats,
    book: Floats,
    states: Ints,
) -> None:
    """Puts one row of the order stream, decided on `bar`, into the book (or carries out a cancellation)."""
    action = int(command[o.ACTION])
    count = int(account[BOOKED])
    states[row] = _WORKING
    if action == _CANCEL:
        states[row] = _DONE
        for other in range(count):
            if book[other, ID] == command[o.SIZE]:
                _kill(book, other, _CANCELED, states)
        return
    if account[RUINED] != 0.0:
        states[row] = _REJECTED
        account[REJECTIONS] += 1.0
        return
    if action == _TARGET:
        for other in range(count):
            if book[other, ID] != DEAD and book[other, KIND] == _BY_TARGET:
                _kill(book, other, _CANCELED, states)
    if count >= book.shape[0] - 2:
        account[OVERFLOW] = 1.0
        return
    limit, stop, trail = command[o.LIMIT], command[o.STOP], command[o.TRAIL]
    kind = _MARKET
    if action == _TARGET:
        kind = _BY_TARGET
    elif not math.isnan(trail):
        kind = _TRAIL
        stop = close + command[o.SIDE] * trail
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
    if command[o.TIME_IN_FORCE] == _DAY and bar + 1 < bar_days.shape[0]:
        book[count, LAST_DAY] = bar_days[bar + 1]
    book[count, LEG] = 0.0
    book[count, BORN] = -1.0
    account[BOOKED] = count + 1


@compiled
def match(
    bar: int,
    open_: float,
    high: float,
    low: float,
    bar_days: Ints,
    rules: Floats,
    account: Floats,
    book: Floats,
    fills: Floats,
    states: Ints,
) -> None:
    """Plays the orders of earlier bars over one bar: its open, then stops, then limits."""
    first = int(account[BOOKED])
    if first == 0:
        return
    day = bar_days[bar]
    for row in range(first):
        if book[row, ID] == DEAD:
            continue
        if book[row, LAST_DAY] < day:  # false for NaN: good till canceled
            _kill(book, row, _EXPIRED, states)
            continue
        kind = int(book[row, KIND])
        side = book[row, SIDE]
        if (
            kind == _STOP_LIMIT
            and not math.isnan(book[row, STOP])
            and side * (open_ - book[row, STOP]) >= 0.0
        ):
            book[row, STOP] = np.nan  # triggered: a limit from here on
        if kind in (_MARKET, _BY_TARGET):
            reached = True
        elif kind in (_STOP, _LOSS, _TRAIL):
            reached = side * (open_ - book[row, STOP]) >= 0.0
        else:
            reached = math.isnan(book[row, STOP]) and side * (book[row, LIMIT] - open_) >= 0.0
        if reached:
            _fill(bar, row, open_, AT_OPEN, rules, account, book, fills, states)

    row = 0
    while row < int(account[BOOKED]):  # legs born meanwhile are appended and visited too
        stop = book[row, STOP]
        if book[row, ID] != DEAD and not math.isnan(stop):
            kind = int(book[row, KIND])
            side = book[row, SIDE]
            if (side > 0.0 and high >= stop) or (side < 0.0 and low <= stop):
                if kind == _STOP_LIMIT and side * (book[row, LIMIT] - stop) < 0.0:
                    book[row, STOP] = np.nan  # triggered beyond its limit: waits as a limit
                    book[row, BORN] = bar * 4.0 + IN_LIMITS
                else:
                    market = stop
                    if book[row, BORN] >= bar * 4.0 and side * (book[row, ORIGIN] - stop) > 0.0:
                        market = book[row, ORIGIN]  # the entry was already beyond its stop-loss
                    _fill(bar, row, market, IN_STOPS, rules, account, book, fills, states)
        row += 1

    row = 0
    while row < int(account[BOOKED]):
        if book[row, ID] != DEAD:
            kind = int(book[row, KIND])
            side = book[row, SIDE]
            stop, limit = book[row, STOP], book[row, LIMIT]
            born = book[row, BORN] - bar * 4.0
            market = np.nan
            if kind == _LOSS:
                # only the legs of entries made in this pass; the low (high) came with the entry or after it
                if born == IN_LIMITS and ((side > 0.0 and high >= stop) or (side < 0.0 and low <= stop)):
                    market = stop if side * (book[row, ORIGIN] - stop) <= 0.0 else book[row, ORIGIN]
            elif (
                born != IN_LIMITS
                and math.isnan(stop)
                and side * (limit - (low if side > 0.0 else high)) >= 0.0
            ):
                beyond = born >= 0.0 and side * (limit - book[row, ORIGIN]) > 0.0
                market = book[row, ORIGIN] if beyond else limit
            if not math.isnan(market):
                _fill(bar, row, market, IN_LIMITS, rules, account, book, fills, states)
        row += 1

    kept = 0
    for row in range(int(account[BOOKED])):
        if book[row, ID] == DEAD:
            continue
        if book[row, KIND] == _TRAIL:
            if book[row, SIDE] < 0.0:
                book[row, STOP] = max(book[row, STOP], high - book[row, TRAIL])
            else:
                book[row, STOP] = min(book[row, STOP], low + book[row, TRAIL])
        if kept != row:
            for column in range(BOOK_SIZE):
                book[kept, column] = book[row, column]
        kept += 1
    account[BOOKED] = kept


@compiled
def finish(
    bar: int, close: float, rules: Floats, account: Floats, book: Floats, fills: Floats, states: Ints
) -> float:
    """Ends a bar: fills at the close where asked for, then returns equity at the close."""
    count = int(account[BOOKED])
    if count > 0 and rules[FILL_AT_CLOSE] != 0.0:
        for row in range(count):
            if book[row, ID] != DEAD and (book[row, KIND] == _MARKET or book[row, KIND] == _BY_TARGET):
                _fill(bar, row, close, IN_LIMITS, rules, account, book, fills, states)
    equity = account[CASH] + account[ELSEWHERE] + account[POSITION] * close
    if (
        equity <= 0.0 and account[RUINED] == 0.0
    ):  # a stop that a gap jumped may have left no position, and debt
        account[RUINED] = 1.0
        position = account[POSITION]
        if position != 0.0:
            cost = abs(position) * close * rules[COMMISSION]
            account[CASH] += position * close - cost
            account[POSITION] = 0.0
            number = int(account[FILLS])
            fills[number, 0] = bar
            fills[number, 1] = -1.0
            fills[number, 2] = -position
            fills[number, 3] = close
            fills[number, 4] = cost
            fills[number, 5] = _LIQUIDATION
            fills[number, 6] = 0.0
            account[FILLS] = number + 1
        for row in range(int(account[BOOKED])):
            if book[row, ID] != DEAD:
                _kill(book, row, _CANCELED, states)
        account[BOOKED] = 0
        equity = account[CASH] + account[ELSEWHERE]
    return equity


@compiled
def play(
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    bar_days: Ints,
    commands: Floats,
    cash: float,
    rules: Floats,
    account: Floats,
    fills: Floats,
    equity: Floats,
    positions: Floats,
    states: Ints,
) -> None:
    """Plays a whole order stream over the bars of one symbol.

    Args:
        open_: Opens; like high, low and close one finite price > 0 for each bar.
        high: Highs.
        low: Lows.
        close: Closes.
        bar_days: Days since 1970-01-01 (UTC) of each bar, for day orders.
        commands: The order stream, shape (rows, 11), rows sorted by bar.
        cash: Cash at the start.
        rules: Commission rate, slippage rate, whole lots (0 or 1), fill at close (0 or 1).
        account: Out, shape (8,): cash, position, booked, fills, rejections, ruined, overflow, elsewhere.
        fills: Out, shape (2 rows + 1, 7), see `FILL_COLUMNS`; `account[FILLS]` rows are written.
        equity: Out: cash plus position at each close.
        positions: Out: units held at each close.
        states: Out: what became of each row, see `STATES`.
    """
    book = np.empty((_WORKING_MAX, BOOK_SIZE))
    for cell in range(ACCOUNT_SIZE):
        account[cell] = 0.0
    account[CASH] = cash
    at_close = rules[FILL_AT_CLOSE] != 0.0
    row = 0
    for bar in range(close.shape[0]):
        if account[BOOKED] > 0.0:
            match(bar, open_[bar], high[bar], low[bar], bar_days, rules, account, book, fills, states)
        while row < commands.shape[0] and commands[row, 0] == bar:
            submit(bar, row, commands[row], close[bar], bar_days, rules, account, book, states)
            row += 1
        value = account[CASH] + account[POSITION] * close[bar]
        if value <= 0.0 or (at_close and account[BOOKED] > 0.0):  # else there is nothing to finish
            value = finish(bar, close[bar], rules, account, book, fills, states)
        equity[bar] = value
        positions[bar] = account[POSITION]
        if account[OVERFLOW] != 0.0:
            return


@compiled
def target_changes(targets: Floats) -> Floats:
    """Returns the order stream of a target-exposure array: one row wherever the target changes.

    The target before the first bar is 0; NaN keeps the last one.
    """
    count = 0
    last = 0.0
    for bar in range(targets.shape[0]):
        if not math.isnan(targets[bar]) and targets[bar] != last:
            last = targets[bar]
            count += 1
    commands = np.empty((count, 11))
    last = 0.0
    row = 0
    for bar in range(targets.shape[0]):
        if not math.isnan(targets[bar]) and targets[bar] != last:
            last = targets[bar]
            commands[row, 0] = bar
            commands[row, 1] = _TARGET
            commands[row, 2] = 0.0
            commands[row, 3] = last
            commands[row, 4] = 0.0
            for column in range(5, 10):
                commands[row, column] = np.nan
            commands[row, 10] = 0.0
            row += 1
    return commands
