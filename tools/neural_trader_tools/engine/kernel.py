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

import numpy as np

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import (
    ACCOUNT_SIZE,
    BOOKED,
    BORROW,
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
    RULES_SIZE,
    SETTLEMENT,
    UNSETTLED,
    UNSETTLED_BEFORE,
    VOLUME_CAP,
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
    BOOK_SIZE,
    DEAD,
    ID,
    IN_LIMITS,
    KIND,
    LEG,
    NEVER,
    kill,
    quiet_range,
)
from neural_trader_tools.engine.compiled import compiled, compiled_bare
from neural_trader_tools.engine.filling import fill, write
from neural_trader_tools.engine.matching import expire, match, match_phase
from neural_trader_tools.engine.sizing import target_position
from neural_trader_tools.engine.submission import submit
from neural_trader_tools.engine.targets import changed_bars, hold, play_targets, target_changes, write_changes

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
    "changed_bars",
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
    "write_changes",
]  # fmt: skip

_MARKET, _BY_TARGET, _WORKING_MAX = o.BY_MARKET, o.BY_TARGET, o.WORKING_MAX
# floats, because numba compiles a function once more for each literal integer it is called with
_CANCELED, _LIQUIDATED = float(o.CANCELED), float(o.BY_LIQUIDATION)


def fills_max(rows: int, bars: int, rules: Floats) -> int:
    """Returns how many fills a stream can make: two for each row, and what volume and settlement cut."""
    return 2 * rows + 1 + bars * (int(rules[VOLUME_CAP] > 0.0) + int(rules[SETTLEMENT] > 0.0))


@compiled_bare
def finish(
    bar: int, close: float, rules: Floats, account: Floats, book: Floats, fills: Floats, states: Ints
) -> float:
    """Ends a bar: fills at the close where asked for, then returns equity at the close."""
    count = int(account[BOOKED])
    if count > 0 and rules[FILL_AT_CLOSE] != 0.0:
        for phase in range(IN_LIMITS, IN_LIMITS + 1):  # a literal would have numba compile fill once more
            for row in range(count):
                if book[row, ID] != DEAD and (book[row, KIND] == _MARKET or book[row, KIND] == _BY_TARGET):
                    fill(bar, row, close, phase, rules, account, book, fills, states)
    position = account[POSITION]
    equity = account[CASH] + account[ELSEWHERE] + position * close
    gross = abs(position) * close + account[ELSEWHERE_GROSS]
    if equity <= rules[MAINTENANCE] * gross and account[RUINED] == 0.0:
        if equity <= 0.0:  # a stop that a gap jumped may have left no position, and debt
            account[RUINED] = 1.0
        if position != 0.0:
            cost = fee(position, close, rules)
            write(bar, -1.0, -position, close, cost, _LIQUIDATED, 0.0, account, fills)
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
    is_plain, is_marked = not (has_begin or at_close), positions.shape[0] > 0
    while bar < bars:
        if is_plain and row < rows and account[BOOKED] == 0.0 and account[RUINED] == 0.0:
            bar, row = play_targets(
                bar, row, open_, close, commands, rules, account, fills, equity, positions, states
            )
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
                bar = hold(bar, until, funds, position, least, close, equity, positions)
            else:
                while bar < until and low[bar] > fall and high[bar] < rise and times[bar] < expiry:
                    value = funds + position * close[bar]
                    if value <= least * close[bar]:
                        break
                    equity[bar] = value
                    if is_marked:
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
        if is_marked:
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
        positions: Out: units held at each close; an empty array where nobody asks: the fills say it too.
        states: Out: what became of each row, see `STATES`.
    """
    _play(
        open_, high, low, close, volume, times, dividends, np.empty((_WORKING_MAX, BOOK_SIZE)), commands,
        cash, rules, account, fills, equity, positions, states,
    )  # fmt: skip
