"""The event loop: bars and an order stream in, fills and equity out. The only place that makes profit.

Rules, in the order in which one bar is played:

1. *Before the open* (`account.begin`): proceeds settle, shorts pay for the borrowed shares by calendar time,
   dividends of an ex-date are credited to longs and debited from shorts.
2. *Open.* Orders decided on earlier bars, in the order of submission: market orders and targets fill at
   the open (`next_open`); a limit or stop that the open already passed fills at the open.
3. *Stops.* Stops, trailing stops and stop-losses that the bar's range touches fill at their level.
   A stop-limit fills at its stop if that is within its limit, else it waits as a limit from the next bar
   (from this bar if the open itself triggered it).
4. *Limits.* Limits and take-profits that the range touches fill at their level. Stops come before
   limits because the path inside a bar is unknown and the worse one is assumed.
5. *Decision* on this bar. With `fill="close"` market orders and targets now fill at this close.
6. *Equity* is cash plus position at the close.

So a buy limit fills at min(open, limit), a buy stop at max(open, stop), and a decision on bar i never
fills before the open of bar i+1, or the close of bar i where that was asked for.

Brackets: a filled entry leaves a take-profit and a stop-loss on the position, one cancels the other, they
only reduce, and they end when the position is closed or reversed. Where the rules say `next_bar`, those of
a limit or stop entry begin with the next bar, but for a take-profit after a stop entry in a bar that does not
reach the stop-loss. Otherwise, in the entry's own bar, a leg that its price is already beyond fills at that
price, not at its level; the stop-loss counts as hit if the range touches it; a take-profit does not count
after an entry by a limit inside the bar, because the favourable price may have come first. A partial fill of
the entry is protected at once; when a leg is reached, what is left of its entry is canceled.
Trailing stops follow the extreme of *finished* bars, starting at the close of the deciding bar; a trailing
stop-loss starts at the entry's price, and the bar of the entry counts if that was at its open.
Of the orders of one `oco` group the first fill, even a partial one, cancels the others.
Day orders end with the UTC day of the first bar on which they could fill.

Volume: where it is capped, all fills of one bar together are at most that part of its volume. What is left of
an order keeps waiting: a triggered stop for the next open, a target goes on towards its exposure.

Costs: slippage and half of the spread worsen market, stop, trailing, stop-loss and target fills, never
limits; commission is a part of the notional and an amount for each unit, at least a minimum for each fill.
Sizes: a target, like `fraction=`, is sized at the fill so that cost and commission together are
target x equity, equity being marked at the fill's price. A fill that enlarges or reverses the position is
rejected if position x margin and commission are above equity; with margin 1 there is no leverage. With
settlement, a purchase beyond covering a short is paid from settled cash: targets and fractions are cut down
to it (a target keeps waiting), a quantity that it cannot pay is rejected. If equity is at or below
maintenance x position at a close, what is held is liquidated there, whatever the volume, and orders are
canceled; if it is zero or below, nothing trades any more.
"""

import math

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import (
    ACCOUNT_SIZE,
    BOOKED,
    BORROW,
    BORROW_PAID,
    CAPACITY,
    CASH,
    COMMISSION,
    COMMISSION_MIN,
    DAY_US,
    DIVIDENDS_PAID,
    ELSEWHERE,
    ELSEWHERE_GROSS,
    FILL_AT_CLOSE,
    FILLS,
    HALF_SPREAD,
    LIQUIDATIONS,
    MAINTENANCE,
    MARGIN,
    NEXT_BAR,
    OVERFLOW,
    PER_UNIT,
    POSITION,
    REJECTIONS,
    RUINED,
    RULES_SIZE,
    SETTLEMENT,
    SLIPPAGE,
    UNSETTLED,
    UNSETTLED_BEFORE,
    VOLUME_CAP,
    WHOLE_LOTS,
    Floats,
    Ints,
    begin,
    exposure_max,
    fee,
    make_rules,
    needs_begin,
    settled_cash,
)
from neural_trader_tools.engine.book import (
    AT_CLOSE,
    AT_OPEN,
    BOOK_SIZE,
    BORN,
    DEAD,
    GROUP,
    ID,
    IN_LIMITS,
    IN_STOPS,
    KIND,
    LAST_DAY,
    LEG,
    LIMIT,
    NEVER,
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
    WAITS,
    WAITS_BUT_PROFIT,
    add_leg,
    close_up,
    kill,
    quiet_range,
    trailed,
)
from neural_trader_tools.engine.compiled import compiled, compiled_bare
from neural_trader_tools.engine.sizing import TOLERANCE, target_position, units_for

__all__ = [
    "ACCOUNT_SIZE",
    "BOOKED",
    "BOOK_SIZE",
    "BORROW_PAID",
    "CAPACITY",
    "CASH",
    "DIVIDENDS_PAID",
    "ELSEWHERE",
    "ELSEWHERE_GROSS",
    "FILLS",
    "ID",
    "KIND",
    "LEG",
    "LIQUIDATIONS",
    "OVERFLOW",
    "POSITION",
    "REJECTIONS",
    "RUINED",
    "RULES_SIZE",
    "UNSETTLED",
    "UNSETTLED_BEFORE",
    "Floats",
    "Ints",
    "begin",
    "expire",
    "exposure_max",
    "fills_max",
    "finish",
    "make_rules",
    "match",
    "match_phase",
    "needs_begin",
    "play",
    "settled_cash",
    "submit",
    "target_changes",
    "target_position",
]  # fmt: skip

_ORDER, _TARGET, _CANCEL, _FRACTION, _DAY = o.ORDER, o.TARGET, o.CANCEL, o.FRACTION, o.DAY
_QUANTITY, _OCO = o.QUANTITY, o.OCO
_MARKET, _LIMIT, _STOP, _STOP_LIMIT, _TRAIL = o.BY_MARKET, o.BY_LIMIT, o.BY_STOP, o.BY_STOP_LIMIT, o.BY_TRAIL
_LOSS, _BY_TARGET = o.BY_STOP_LOSS, o.BY_TARGET
_WORKING, _WORKING_MAX = o.WORKING, o.WORKING_MAX
_BLOCK = 16
# floats, because numba compiles a function once more for each literal integer it is called with
_FILLED, _REJECTED, _CANCELED = float(o.FILLED), float(o.REJECTED), float(o.CANCELED)
_EXPIRED, _DONE, _LIQUIDATED = float(o.EXPIRED), float(o.DONE), float(o.BY_LIQUIDATION)


def fills_max(rows: int, bars: int, rules: Floats) -> int:
    """Returns how many fills a stream can make: two for each row, and what volume and settlement cut."""
    return 2 * rows + 1 + bars * (int(rules[VOLUME_CAP] > 0.0) + int(rules[SETTLEMENT] > 0.0))


@compiled_bare
def _write(
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


@compiled_bare
def _leave(row: int, kind: int, side: float, size: float, book: Floats) -> None:
    """Leaves the rest of an order for later bars: a triggered stop is a market order from now on."""
    book[row, SIZE] = size
    if kind == _STOP_LIMIT:
        book[row, STOP] = np.nan
    elif kind in (_STOP, _TRAIL, _LOSS):
        book[row, STOP] = -side * np.inf


@compiled_bare
def _end_entry(order: float, account: Floats, book: Floats, states: Ints) -> None:
    """Cancels what is left of an entry, one of whose legs was reached."""
    for other in range(int(account[BOOKED])):
        if book[other, ID] == order and book[other, LEG] == 0.0:
            kill(book, other, _CANCELED, states)


@compiled_bare
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


@compiled_bare
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
    if abs(wanted) <= 1e-12 * max(abs(held), abs(traded)):
        wanted = 0.0
        traded = -held
    if abs(traded) <= 1e-12 * max(abs(held), abs(wanted)):
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
    grows = abs(wanted) > abs(held) or wanted * held < 0.0
    needed = (abs(wanted) * price + gross) * rules[MARGIN] + cost
    if grows and needed > (funds + held * price) * (1.0 + TOLERANCE):
        account[REJECTIONS] += 1.0
        kill(book, row, _REJECTED, states)
        return
    _write(bar, order, traded, price, cost, float(kind), wanted, account, fills)
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
            if waits and book[last, ID] == order and book[last - 1, ID] == order:
                book[last, STOP_LOSS] = book[last - 1, STOP]
    if not is_rest_left:
        kill(book, row, _FILLED, states)
    elif kind != _BY_TARGET:
        book[row, SIZED_BY] = _QUANTITY
        book[row, GROUP] = np.nan  # its group is over
        _leave(row, kind, side, size - abs(traded), book)


@compiled_bare
def _cancel(command: Floats, account: Floats, book: Floats, states: Ints) -> None:
    """Takes an order, or the legs that it left, out of the book."""
    for other in range(int(account[BOOKED])):
        if book[other, ID] == command[o.SIZE]:
            kill(book, other, _CANCELED, states)


@compiled_bare
def _waits(group: float, account: Floats, book: Floats) -> bool:
    """Returns whether the first order of a group still waits, and nothing of it has filled."""
    for other in range(int(account[BOOKED])):
        if book[other, ID] == group and book[other, LEG] == 0.0 and book[other, GROUP] == group:
            return True
    return False


@compiled_bare
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


@compiled_bare
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


@compiled_bare
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
                    _fill(bar, row, market, phase, rules, account, book, fills, states)
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
                _fill(bar, row, open_, IN_LIMITS + 0 * phase, rules, account, book, fills, states)
            continue
        market = _level(bar, row, phase, open_, high, low, at_close, book)
        if not math.isnan(market):
            _fill(bar, row, market, phase, rules, account, book, fills, states)


@compiled_bare
def expire(time: int, account: Floats, book: Floats, states: Ints) -> None:
    """Takes day orders of earlier days out of the book."""
    for row in range(int(account[BOOKED])):
        last_day = book[row, LAST_DAY]
        if not math.isnan(last_day) and book[row, ID] != DEAD and last_day < time // DAY_US:
            kill(book, row, _EXPIRED, states)


@compiled_bare
def finish(
    bar: int, close: float, rules: Floats, account: Floats, book: Floats, fills: Floats, states: Ints
) -> float:
    """Ends a bar: fills at the close where asked for, then returns equity at the close."""
    count = int(account[BOOKED])
    if count > 0 and rules[FILL_AT_CLOSE] != 0.0:
        for phase in range(IN_LIMITS, IN_LIMITS + 1):  # a literal would have numba compile _fill once more
            for row in range(count):
                if book[row, ID] != DEAD and (book[row, KIND] == _MARKET or book[row, KIND] == _BY_TARGET):
                    _fill(bar, row, close, phase, rules, account, book, fills, states)
    position = account[POSITION]
    equity = account[CASH] + account[ELSEWHERE] + position * close
    gross = abs(position) * close + account[ELSEWHERE_GROSS]
    if equity <= rules[MAINTENANCE] * gross and account[RUINED] == 0.0:
        if equity <= 0.0:  # a stop that a gap jumped may have left no position, and debt
            account[RUINED] = 1.0
        if position != 0.0:
            cost = fee(position, close, rules)
            _write(bar, -1.0, -position, close, cost, _LIQUIDATED, 0.0, account, fills)
            account[LIQUIDATIONS] += 1.0
        for row in range(int(account[BOOKED])):
            if book[row, ID] != DEAD:
                kill(book, row, _CANCELED, states)
        account[BOOKED] = 0
        equity = account[CASH] + account[ELSEWHERE]
        if equity <= 0.0:
            account[RUINED] = 1.0
    return equity


@compiled_bare
def _hold(
    first: int,
    last: int,
    cash: float,
    position: float,
    least: float,
    close: Floats,
    equity: Floats,
    positions: Floats,
) -> bool:
    """Marks bars on which nothing trades; returns whether equity stays above `least` x close."""
    fell = 0
    for bar in range(first, last):
        value = cash + position * close[bar]
        equity[bar] = value
        positions[bar] = position
        fell |= value <= least * close[bar]
    return fell == 0


@compiled_bare
def _play(
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    times: Ints,
    dividends: Floats,
    book: Floats,
    commands: Floats,
    cash: float,
    rules: Floats,
    account: Floats,
    fills: Floats,
    equity: Floats,
    positions: Floats,
    states: Ints,
) -> None:
    """Plays a stream with a book at hand: quiet bars are only marked, the others go through all steps."""
    for cell in range(ACCOUNT_SIZE):
        account[cell] = 0.0
    account[CASH] = cash
    bars, rows = close.shape[0], commands.shape[0]
    at_close, maintenance = rules[FILL_AT_CLOSE] != 0.0, rules[MAINTENANCE]
    borrows, settles, pays = rules[BORROW] > 0.0, rules[SETTLEMENT] > 0.0, dividends.shape[0] > 0
    has_begin = borrows or settles or pays or rules[VOLUME_CAP] > 0.0
    bar = row = int(account[BOOKED])  # 0, and no literal
    fall, rise, expiry = -np.inf, np.inf, NEVER
    while bar < bars:
        until = int(commands[row, 0]) if row < rows else bars
        position, funds = account[POSITION], account[CASH]
        least = maintenance * abs(position)
        # nothing that has to be done before the open of each bar: then quiet bars only need to be marked
        if not (
            (borrows and position < 0.0)
            or (pays and position != 0.0)
            or (settles and account[UNSETTLED] + account[UNSETTLED_BEFORE] != 0.0)
        ):
            if account[BOOKED] == 0.0:
                if until > bar and _hold(bar, until, funds, position, least, close, equity, positions):
                    bar = until
            else:
                while bar < until and low[bar] > fall and high[bar] < rise and times[bar] < expiry:
                    value = funds + position * close[bar]
                    if value <= least * close[bar]:
                        break
                    equity[bar] = value
                    positions[bar] = position
                    bar += 1
            if bar == bars:
                return
        if has_begin:
            before = max(bar - 1, 0)
            dividend = dividends[bar] if pays else 0.0
            begin(times[bar], times[before], close[before], dividend, volume[bar], rules, account)
        is_changed = False
        if account[BOOKED] > 0.0 and not (low[bar] > fall and high[bar] < rise and times[bar] < expiry):
            match(bar, open_[bar], high[bar], low[bar], times, rules, account, book, fills, states)
            is_changed = True
        while row < rows and commands[row, 0] == bar:
            submit(bar, row, commands[row], close[bar], times, rules, account, book, states)
            row += 1
            is_changed = True
        value = account[CASH] + account[POSITION] * close[bar]
        needed = maintenance * abs(account[POSITION]) * close[bar]
        if value <= needed or (at_close and account[BOOKED] > 0.0):  # else there is nothing to finish
            value = finish(bar, close[bar], rules, account, book, fills, states)
            is_changed = True
        equity[bar] = value
        positions[bar] = account[POSITION]
        if account[OVERFLOW] != 0.0:
            return
        if is_changed and account[BOOKED] > 0.0:
            fall, rise, expiry = quiet_range(account, book)
        bar += 1


@compiled
def play(
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    times: Ints,
    dividends: Floats,
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
        volume: Volumes in units; read only where volume is capped.
        times: Opens of the bars, microseconds since 1970-01-01 UTC, rising.
        dividends: Cash for each unit on its ex-bar and 0 on others; empty where none are paid.
        commands: The order stream, shape (rows, 14), rows sorted by bar, see `orders.COLUMNS`.
        cash: Cash at the start.
        rules: See `account.make_rules`.
        account: Out, shape (16,), see `account`.
        fills: Out, shape (`fills_max`, 7), see `orders.FILL_COLUMNS`; `account[FILLS]` rows are written.
        equity: Out: cash plus position at each close.
        positions: Out: units held at each close.
        states: Out: what became of each row, see `STATES`.
    """
    _play(
        open_, high, low, close, volume, times, dividends, np.empty((_WORKING_MAX, BOOK_SIZE)), commands,
        cash, rules, account, fills, equity, positions, states,
    )  # fmt: skip


@compiled_bare
def _next_change(targets: Floats, first: int, last: float) -> int:
    """Returns the first bar from `first` on whose target is neither NaN nor `last`, or the count of bars.

    Blocks of bars without any are passed over at once, in vector instructions.
    """
    bars = targets.shape[0]
    bar = first
    while bar < bars:
        if bar + _BLOCK <= bars:
            found = 0
            for ahead in range(bar, bar + _BLOCK):
                found |= targets[ahead] != last
            if found == 0:
                bar += _BLOCK
                continue
        until = min(bar + _BLOCK, bars)
        while bar < until:
            if targets[bar] != last and not math.isnan(targets[bar]):
                return bar
            bar += 1
    return bars


@compiled
def target_changes(targets: Floats) -> Floats:
    """Returns the order stream of a target-exposure array: one row wherever the target changes.

    The target before the first bar is 0; NaN keeps the last one.
    """
    bars = targets.shape[0]
    changes = np.empty(bars, dtype=np.int64)  # only as much of it as is written takes memory
    count = 0
    bar = _next_change(targets, 0, 0.0)
    while bar < bars:
        changes[count] = bar
        count += 1
        bar = _next_change(targets, bar + 1, targets[bar])
    commands = np.empty((count, 14))
    for row in range(count):
        bar = changes[row]
        commands[row, 0] = bar
        commands[row, 1] = _TARGET
        commands[row, 2] = 0.0
        commands[row, 3] = targets[bar]
        commands[row, 4] = 0.0
        for column in range(5, 10):
            commands[row, column] = np.nan
        commands[row, 10] = 0.0
        commands[row, 11] = np.nan
        commands[row, 12] = np.nan
        commands[row, 13] = 0.0
    return commands
