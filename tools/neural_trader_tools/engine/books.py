"""The books: orders and weights of many symbols over one purse, played by the kernel of one symbol.

One time is played in this order:

1. *Before the open* of each symbol that has a bar: `account.begin`.
2. *Open.* First the weights that wait, all together (`portfolio.rebalance`); then the orders that fill at the
   open. Symbols in which an order that would reduce the position waits come first, so that sales can pay for
   purchases; otherwise symbols come in their order, which is that of their names.
3. *Stops* of all symbols, then *limits* of all symbols: what was earned inside a bar never pays for its open.
4. *Decision.* Weights, then orders. A weight and a target of one symbol replace each other, the newer counts.
   With `fill="close"` they fill now: weights together, then market orders and targets.
5. *Equity* is cash and every position at its last close. If it is at or below maintenance x gross exposure,
   all orders are canceled and every symbol that has a bar is liquidated; the others at their next bar.

In one symbol all is as in `kernel`; what the purse holds elsewhere is valued at this bar's opens up to the
decision, and at closes after it.
"""

import math
from typing import NamedTuple

import numpy as np

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import (
    ACCOUNT_SIZE,
    BOOKED,
    BORROW_PAID,
    CAPACITY,
    CASH,
    DIVIDENDS_PAID,
    ELSEWHERE,
    ELSEWHERE_GROSS,
    FILL_AT_CLOSE,
    FILLS,
    LIQUIDATIONS,
    MAINTENANCE,
    OVERFLOW,
    POSITION,
    REJECTIONS,
    RUINED,
    SESSION_DAY,
    SETTLEMENT,
    UNSETTLED,
    UNSETTLED_BEFORE,
    VOLUME_CAP,
    Floats,
    Ints,
    begin,
    fee,
)
from neural_trader_tools.engine.book import (
    AT_CLOSE,
    AT_OPEN,
    BOOK_SIZE,
    DEAD,
    ID,
    IN_LIMITS,
    KIND,
    LEG,
    SIDE,
    SIZE,
    close_up,
    kill,
)
from neural_trader_tools.engine.compiled import compiled, compiled_bare
from neural_trader_tools.engine.portfolio import EVENT, FEE, PRICE, QUANTITY, rebalance

SHARED = (
    CASH, FILLS, REJECTIONS, RUINED, UNSETTLED, UNSETTLED_BEFORE, SESSION_DAY, BORROW_PAID, DIVIDENDS_PAID,
    LIQUIDATIONS,
)  # fmt: skip
"""Cells that all symbols' accounts have in common: they live in the purse."""
BY_WEIGHTS = -2
"""Order of a fill: -2 - the row of weights; -1 is a liquidation, 0 and above a row of the order stream."""
_TARGET, _MARKET, _BY_TARGET = o.TARGET, o.BY_MARKET, o.BY_TARGET
_CANCELED, _TARGET_REASON, _LIQUIDATED = float(o.CANCELED), float(o.BY_TARGET), float(o.BY_LIQUIDATION)
_NONE, _WEIGHTS = -1, -2.0


class Events(NamedTuple):
    """The bars of all symbols as one row of events, sorted by time, then by the symbols' order.

    Attributes:
        times: Every time at which a symbol has a bar, microseconds since 1970-01-01 UTC, shape (T,).
        starts: First event of each time, shape (T + 1,).
        symbols: Symbol of each event, shape (K,).
        bars: Number of each event's bar among its symbol's.
        open: Prices of each event, and so on.
        high: See open.
        low: See open.
        close: See open.
        volume: Units.
        dividends: Cash for each unit; empty where none are paid.
        own_times: Times of the first symbol's bars, then of the second's ..., shape (K,).
        offsets: First of each symbol's own times, shape (S + 1,).
    """

    times: Ints
    starts: Ints
    symbols: Ints
    bars: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    dividends: Floats
    own_times: Ints
    offsets: Ints


class Books(NamedTuple):
    """The state of a play; see `make_books`. Accounts, books and the rest have one row for each symbol."""

    rules: Floats
    is_begun: bool
    purse: Floats
    accounts: Floats
    books: Floats
    positions: Floats
    marks: Floats
    bars: Ints
    times_before: Ints
    pending: Floats
    weight_rows: Ints
    used: Floats
    wanted: Floats
    at: Floats
    rest: Floats
    scratch: Floats


def make_books(symbols: int, cash: float, rules: Floats, dividends: Floats) -> Books:
    """Returns the state before the first bar."""
    purse = np.zeros(ACCOUNT_SIZE)
    purse[CASH] = cash
    return Books(
        rules=rules,
        is_begun=kernel.needs_begin(rules, dividends),
        purse=purse,
        accounts=np.zeros((symbols, ACCOUNT_SIZE)),
        books=np.empty((symbols, o.WORKING_MAX, BOOK_SIZE)),
        positions=np.zeros(symbols),
        marks=np.ones(symbols),
        bars=np.full(symbols, _NONE, dtype=np.int64),
        times_before=np.full(symbols, _NONE, dtype=np.int64),
        pending=np.full(symbols, np.nan),
        weight_rows=np.full(symbols, _NONE, dtype=np.int64),
        used=np.zeros(symbols),
        wanted=np.empty(symbols),
        at=np.empty(symbols),
        rest=np.zeros(symbols),
        scratch=np.empty((5, symbols)),
    )


@compiled_bare
def _take(s: int, state: Books) -> None:
    for cell in SHARED:
        state.accounts[s, cell] = state.purse[cell]


@compiled_bare
def _return(s: int, state: Books) -> None:
    for cell in SHARED:
        state.purse[cell] = state.accounts[s, cell]


@compiled_bare
def _reduces(s: int, equity: float, state: Books) -> bool:
    """Returns whether an order that would reduce the position waits."""
    held = state.positions[s]
    for row in range(int(state.accounts[s, BOOKED])):
        if state.books[s, row, ID] == DEAD:
            continue
        if state.books[s, row, KIND] == _BY_TARGET:
            wanted = state.books[s, row, SIZE] * equity
            value = held * state.marks[s]
            if wanted * value <= 0.0 or abs(wanted) < abs(value):
                return held != 0.0
        elif state.books[s, row, SIDE] * held < 0.0:
            return True
    return False


@compiled_bare
def _phase(
    t: int, phase: int, events: Events, state: Books, fills: Floats, owners: Ints, states: Ints
) -> None:
    """Plays one phase of a time in the books of all symbols that have a bar."""
    net, gross = 0.0, 0.0
    for s in range(state.positions.shape[0]):
        value = state.positions[s] * state.marks[s]
        net += value
        gross += abs(value)
    equity = state.purse[CASH] + net
    is_ordered = phase in (AT_OPEN, AT_CLOSE)
    for turn in range(2 if is_ordered else 1):
        for k in range(events.starts[t], events.starts[t + 1]):
            s = int(events.symbols[k])
            account = state.accounts[s]
            if account[BOOKED] == 0.0:
                continue
            if is_ordered:
                if turn == 0:
                    state.wanted[s] = 0.0 if _reduces(s, equity, state) else 1.0
                if state.wanted[s] != turn:
                    continue
            own = state.positions[s] * state.marks[s]
            _take(s, state)
            account[POSITION] = state.positions[s]
            account[ELSEWHERE] = net - own
            account[ELSEWHERE_GROSS] = max(gross - abs(own), 0.0)
            before = int(account[FILLS])
            price = events.close[k] if phase == AT_CLOSE else events.open[k]
            kernel.match_phase(
                events.bars[k], phase, price, events.high[k], events.low[k], state.rules, account,
                state.books[s], fills, states,
            )  # fmt: skip
            _return(s, state)
            for row in range(before, int(account[FILLS])):
                owners[row] = s
            state.positions[s] = account[POSITION]
            value = state.positions[s] * state.marks[s]
            net = (net - own) + value
            gross = max(gross - abs(own), 0.0) + abs(value)


@compiled
def _weigh(
    t: int, prices: Floats, events: Events, state: Books, fills: Floats, owners: Ints, states: Ints
) -> None:
    """Fills the weights that wait at these prices, and ends the brackets of positions that they closed."""
    is_waiting = False
    first, last = int(events.starts[t]), int(events.starts[t + 1])
    capped = state.rules[VOLUME_CAP] > 0.0
    for k in range(first, last):
        s = int(events.symbols[k])
        is_waiting |= not math.isnan(state.pending[s])
        if capped:
            state.used[s] = state.rules[VOLUME_CAP] * events.volume[k] - state.accounts[s, CAPACITY]
    if not is_waiting or state.purse[RUINED] != 0.0:
        return
    count = rebalance(
        first, last, events.symbols, prices, events.volume, state.pending, state.marks, state.positions,
        state.used, state.rules, state.purse, state.wanted, state.at, state.rest, state.scratch, 0,
    )  # fmt: skip
    for number in range(count):
        k = int(state.scratch[EVENT, number])
        s = int(events.symbols[k])
        traded, held = state.scratch[QUANTITY, number], state.positions[s]
        earlier = state.accounts[s, POSITION]
        row = int(state.purse[FILLS])
        fills[row, 0] = events.bars[k]
        fills[row, 1] = _WEIGHTS - state.weight_rows[s]
        fills[row, 2] = traded
        fills[row, 3] = state.scratch[PRICE, number]
        fills[row, 4] = state.scratch[FEE, number]
        fills[row, 5] = _TARGET_REASON
        fills[row, 6] = held
        owners[row] = s
        state.purse[FILLS] = row + 1
        if earlier != 0.0 and held * earlier <= 0.0:
            for other in range(int(state.accounts[s, BOOKED])):
                if state.books[s, other, LEG] == 1.0:
                    state.books[s, other, ID] = DEAD
        state.accounts[s, POSITION] = held
        state.accounts[s, CAPACITY] -= abs(traded)


@compiled
def before(t: int, events: Events, state: Books, fills: Floats, owners: Ints, states: Ints) -> None:
    """Plays a time up to its decision.

    Args:
        t: The time's number.
        events: The bars.
        state: See `make_books`.
        fills: Out, (room, 7), see `orders.FILL_COLUMNS`; `purse[FILLS]` rows are written.
        owners: Out: symbol of each fill.
        states: What became of each row of the order stream.
    """
    first, last = int(events.starts[t]), int(events.starts[t + 1])
    time = int(events.times[t])
    is_booked = False
    for k in range(first, last):
        s = int(events.symbols[k])
        account = state.accounts[s]
        account[POSITION] = state.positions[s]
        if state.is_begun:
            _take(s, state)
            since = time if state.times_before[s] < 0 else int(state.times_before[s])
            dividend = events.dividends[k] if events.dividends.shape[0] > 0 else 0.0
            begin(time, since, state.marks[s], dividend, events.volume[k], state.rules, account)
            _return(s, state)
        state.times_before[s] = time
        state.bars[s] = events.bars[k]
        state.marks[s] = events.open[k]
        if account[BOOKED] > 0.0:
            is_booked = True
            kernel.expire(time, account, state.books[s], states)
    _weigh(t, events.open, events, state, fills, owners, states)
    if is_booked:
        for phase in range(AT_OPEN, IN_LIMITS + 1):
            _phase(t, phase, events, state, fills, owners, states)
    for k in range(first, last):
        s = int(events.symbols[k])
        state.marks[s] = events.close[k]
        if state.accounts[s, BOOKED] > 0.0:
            close_up(events.bars[k], events.high[k], events.low[k], state.accounts[s], state.books[s])


@compiled
def weigh(row: int, weights: Floats, state: Books, states: Ints) -> None:
    """Takes one row of weights, decided now: NaN leaves a symbol alone. Targets that wait end."""
    if state.purse[RUINED] != 0.0:
        return
    for s in range(weights.shape[0]):
        if math.isnan(weights[s]):
            continue
        state.pending[s] = weights[s]
        state.weight_rows[s] = row
        for other in range(int(state.accounts[s, BOOKED])):
            if state.books[s, other, ID] != DEAD and state.books[s, other, KIND] == _BY_TARGET:
                kill(state.books[s], other, _CANCELED, states)


@compiled
def order(
    first: int, last: int, commands: Floats, symbols: Ints, events: Events, state: Books, states: Ints
) -> None:
    """Takes rows of the order stream, decided now, into their symbols' books."""
    for row in range(first, last):
        s = int(symbols[row])
        if commands[row, o.ACTION] == _TARGET:
            state.pending[s] = np.nan
        _take(s, state)
        own = events.own_times[events.offsets[s] : events.offsets[s + 1]]
        kernel.submit(
            int(state.bars[s]), row, commands[row], state.marks[s], own, state.rules, state.accounts[s],
            state.books[s], states,
        )  # fmt: skip
        _return(s, state)


@compiled
def after(
    t: int, events: Events, state: Books, fills: Floats, owners: Ints, states: Ints
) -> tuple[float, float]:
    """Ends a time: fills at the close where asked for, liquidation; returns equity and gross exposure."""
    first, last = int(events.starts[t]), int(events.starts[t + 1])
    if state.rules[FILL_AT_CLOSE] != 0.0:
        for k in range(first, last):
            state.accounts[events.symbols[k], POSITION] = state.positions[events.symbols[k]]
        _weigh(t, events.close, events, state, fills, owners, states)
        for phase in range(AT_CLOSE, AT_CLOSE + 1):  # a literal would be compiled once more
            _phase(t, phase, events, state, fills, owners, states)
    value, held = _value(state)
    purse = state.purse
    is_ruined = purse[RUINED] != 0.0
    if (value <= state.rules[MAINTENANCE] * held and not is_ruined) or (is_ruined and held > 0.0):
        if value <= 0.0:
            purse[RUINED] = 1.0
        for k in range(first, last):
            s = int(events.symbols[k])
            quantity = -state.positions[s]
            if quantity == 0.0:
                continue
            cost = fee(quantity, state.marks[s], state.rules)
            purse[CASH] = purse[CASH] - quantity * state.marks[s] - cost
            row = int(purse[FILLS])
            fills[row, 0] = events.bars[k]
            fills[row, 1] = -1.0
            fills[row, 2] = quantity
            fills[row, 3] = state.marks[s]
            fills[row, 4] = cost
            fills[row, 5] = _LIQUIDATED
            fills[row, 6] = 0.0
            owners[row] = s
            purse[FILLS] = row + 1
            purse[LIQUIDATIONS] += 1.0
            state.positions[s] = 0.0
        for s in range(state.positions.shape[0]):
            for row in range(int(state.accounts[s, BOOKED])):
                if state.books[s, row, ID] != DEAD:
                    kill(state.books[s], row, _CANCELED, states)
            state.accounts[s, BOOKED] = 0.0
        state.pending[:] = np.nan
        value, held = _value(state)
        if value <= 0.0:
            purse[RUINED] = 1.0
    return value, held


@compiled_bare
def _value(state: Books) -> tuple[float, float]:
    net, gross = 0.0, 0.0
    for s in range(state.positions.shape[0]):
        value = state.positions[s] * state.marks[s]
        net += value
        gross += abs(value)
    return state.purse[CASH] + net, gross


@compiled
def play_books(
    events: Events, commands: Floats, symbols: Ints, rows: Ints, weights: Floats, state: Books, fills: Floats,
    owners: Ints, states: Ints, equity: Floats, gross: Floats,
) -> bool:  # fmt: skip
    """Plays a whole stream of orders and weights.

    Args:
        events: The bars.
        commands: The order stream, (rows, 14), sorted; `bar` is the number of the time of its decision.
        symbols: Symbol of each row.
        rows: Time of each row of weights, ascending.
        weights: Parts of equity, (rows of weights, S); NaN leaves alone.
        state: See `make_books`; it holds cash and positions in the end.
        fills: Out, (`room`, 7).
        owners: Out, (`room`,): symbol of each fill.
        states: Out: what became of each row.
        equity: Out: at each time's closes, (T,).
        gross: Out: absolute values of the positions, (T,).

    Returns:
        Whether no book was too small for what waited.
    """
    row, weight = 0, 0
    for t in range(events.times.shape[0]):
        before(t, events, state, fills, owners, states)
        if weight < rows.shape[0] and rows[weight] == t:
            weigh(weight, weights[weight], state, states)
            weight += 1
        first = row
        while row < commands.shape[0] and commands[row, 0] == t:
            row += 1
        if row > first:
            order(first, row, commands, symbols, events, state, states)
        equity[t], gross[t] = after(t, events, state, fills, owners, states)
    overflows = 0.0
    for s in range(state.positions.shape[0]):
        overflows += state.accounts[s, OVERFLOW]
    return overflows == 0.0


def room(rows: int, asked: int, events: int, symbols: int, rules: Floats) -> int:
    """Returns how many fills a play can make.

    Args:
        rows: Rows of the order stream.
        asked: Weights that are not NaN.
        events: Bars of all symbols.
        symbols: How many there are.
        rules: See `account.make_rules`; volume and settlement cut fills, maintenance liquidates.
    """
    cut = 3 * int(rules[VOLUME_CAP] > 0.0 or rules[SETTLEMENT] > 0.0)
    most = 2 * rows + asked + cut * events * int(rows + asked > 0) + 1
    return most * (2 if rules[MAINTENANCE] > 0.0 else 1) + symbols
