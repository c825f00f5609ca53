"""The statement of a day: what an account began with, what happened, what it ended with, and who earned it.

Everything is folded from the journal, and then held against the ledger's own balances: a statement whose
checks do not all agree says so in `reconciled`.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from pydantic import Field

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.money import (
    Currency,
    DecimalText,
    Money,
    from_micros,
    from_nanos,
    price_tick,
    round_to_tick,
)
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock, newest_bar
from neural_trader_tools.market.sessions import start_of_day
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounting.attribution import attribute
from neural_trader_tools.orders.accounting.books import Books, per_unit
from neural_trader_tools.orders.accounting.events import Paid, Traded
from neural_trader_tools.orders.accounting.lots import LotMethod
from neural_trader_tools.orders.accounting.margin import assess
from neural_trader_tools.orders.accounting.settlement import settlement_date, trade_date
from neural_trader_tools.orders.journal import audit, read_journal
from neural_trader_tools.orders.postings import EXTERNAL
from neural_trader_tools.orders.valuation import Pricer


class Balance(Term):
    """Money at one moment, in the statement's currency."""

    cash: DecimalText
    settled_cash: DecimalText
    equity: DecimalText


class PositionLine(Term):
    """One holding at the day's end."""

    symbol: str
    quantity: DecimalText
    average_cost: DecimalText
    price: DecimalText | None
    value: DecimalText
    unrealized: DecimalText


class TradeLine(Term):
    """One fill of the day; `cash` is signed and holds the fee."""

    time: UtcTime
    execution_id: str
    client_order_id: str
    symbol: str
    quantity: DecimalText
    cash: DecimalText
    fee: DecimalText
    settles_on: date
    strategy: str


class PaymentLine(Term):
    """Cash of the day that was no trade."""

    time: UtcTime
    kind: str
    symbol: str | None
    amount: DecimalText


class StrategyLine(Term):
    """What one strategy earned; empty is whatever named none. The lines add up to the account's profit."""

    strategy: str
    day_pnl: DecimalText
    realized: DecimalText = Field(description="Since the beginning, by its own lots")
    unrealized: DecimalText
    dividends: DecimalText
    fees: DecimalText


class MarginLine(Term):
    """What a margin account is asked for at the day's end; `call` is what must be paid in."""

    initial: DecimalText
    maintenance: DecimalText
    excess: DecimalText
    buying_power: DecimalText
    call: DecimalText


class CheckLine(Term):
    """One comparison with the ledger."""

    what: str
    books: str
    ledger: str
    ok: bool


class Statement(Term):
    """One account's day, New York time."""

    account: str
    currency: Currency
    day: date
    until: UtcTime = Field(description="The day's end, or the desk's clock where that comes first")
    lots: LotMethod
    opening: Balance
    closing: Balance
    day_pnl: DecimalText = Field(description="Change of equity less what the owner paid in")
    realized: DecimalText = Field(description="Of the day, net of fees")
    dividends: DecimalText
    fees: DecimalText
    paid_in: DecimalText
    positions: tuple[PositionLine, ...]
    trades: tuple[TradeLine, ...]
    payments: tuple[PaymentLine, ...]
    settles: dict[str, DecimalText] = Field(description="Sale proceeds that settle after the day, by date")
    strategies: tuple[StrategyLine, ...]
    margin: MarginLine | None = Field(description="Of a margin account only")
    checks: tuple[CheckLine, ...]
    reconciled: bool


def day_statement(
    connection: sqlite3.Connection,
    account: str,
    archive: Archive,
    replay: ReplayClock,
    *,
    day: date | None = None,
    lots: LotMethod = "fifo",
) -> Statement:
    """Returns the statement of a day, by default of the day on which the desk's clock stands.

    Raises:
        InputError: `unknown_account`, or the day has not begun by the desk's clock.
        DataError: something held has no price.
    """
    now = replay.now()
    day = day or trade_date(now)
    start, end = start_of_day(day), start_of_day(day + timedelta(days=1))
    if start > now:
        raise InputError(
            "day_not_begun",
            f"{day.isoformat()} has not begun: the desk's clock stands at {format_time(now)}",
            "give an earlier day, or step the clock: neural-trader data replay step",
        )
    until = min(end, now + timedelta(microseconds=1))
    journal = read_journal(connection, account, archive, now)
    before, after = journal.until(start), journal.until(until)
    opening, closing = (Books.replay(events, journal.currency, lots) for events in (before, after))
    then = attribute(before, journal.currency, lots)
    current = attribute(after, journal.currency, lots)
    prices_before = prices_at(archive, [opening, *then.values()], start)
    prices = prices_at(archive, [closing, *current.values()], until)
    checks = audit(connection, journal, archive, Pricer(archive, replay, now))
    today = after[len(before) :]
    paid_in = _external(closing) - _external(opening)
    equity_before, worth = opening.worth(prices_before).equity, closing.worth(prices)
    return Statement(
        account=account,
        currency=journal.currency,
        day=day,
        until=min(end, now),
        lots=lots,
        opening=_balance(opening, equity_before, day - timedelta(days=1)),
        closing=_balance(closing, worth.equity, day),
        day_pnl=from_micros(worth.equity - equity_before - paid_in),
        realized=from_micros(closing.realized - opening.realized),
        dividends=from_micros(closing.payments.get("dividend", 0) - opening.payments.get("dividend", 0)),
        fees=from_micros(closing.fees - opening.fees),
        paid_in=from_micros(paid_in),
        positions=_positions(closing, prices),
        trades=tuple(_trade(each) for each in today if isinstance(each, Traded)),
        payments=tuple(
            PaymentLine(time=each.event_time, kind=each.kind, symbol=each.symbol, amount=each.amount.amount)
            for each in today
            if isinstance(each, Paid)
        ),
        settles={
            due.isoformat(): from_micros(amount)
            for due, amount in sorted(closing.unsettled.items())
            if due > day
        },
        strategies=_strategies(then, current, prices_before, prices),
        margin=_margin(closing, prices) if accounts.kind_of(connection, account) == "margin" else None,
        checks=tuple(CheckLine(what=c.what, books=c.books, ledger=c.ledger, ok=c.ok) for c in checks),
        reconciled=all(check.ok for check in checks),
    )


def prices_at(archive: Archive, all_books: Sequence[Books], moment: datetime) -> dict[str, Money]:
    """Returns the last prices known at a moment of everything that any books hold, on that moment's shares.

    Instruments in another currency than the books' are refused before they are bought.

    Raises:
        DataError: something held had no price.
    """
    prices: dict[str, Money] = {}
    held = {symbol for books in all_books for symbol, lots in books.positions.items() if lots.quantity}
    for symbol in sorted(held):
        newest = newest_bar(archive, symbol, as_of=moment)
        if newest is None:
            raise DataError(
                "no_price",
                f"{symbol} is held but had no price at {format_time(moment)}",
                f"run: neural-trader data import FILE --symbol {symbol} --interval 1d",
            )
        close = Decimal(repr(float(newest[2].item(0, "close"))))
        prices[symbol] = Money(
            amount=round_to_tick(close, price_tick(close), "nearest"), currency=all_books[0].currency
        )
    return prices


def _balance(books: Books, equity: int, day: date) -> Balance:
    return Balance(
        cash=from_micros(books.cash),
        settled_cash=from_micros(books.settled_cash(day)),
        equity=from_micros(equity),
    )


def _margin(books: Books, prices: Mapping[str, Money]) -> MarginLine:
    found = assess(books, prices, "margin")
    return MarginLine(
        initial=from_micros(found.initial),
        maintenance=from_micros(found.maintenance),
        excess=from_micros(found.excess),
        buying_power=from_micros(found.buying_power),
        call=from_micros(found.call),
    )


def _external(books: Books) -> int:
    return sum(books.payments.get(kind, 0) for kind in EXTERNAL)


def _positions(books: Books, prices: Mapping[str, Money]) -> tuple[PositionLine, ...]:
    lines: list[PositionLine] = []
    for symbol, lots in sorted(books.positions.items()):
        if not lots.quantity:
            continue
        value = from_nanos(lots.quantity) * prices[symbol].amount
        lines.append(
            PositionLine(
                symbol=symbol,
                quantity=from_nanos(lots.quantity),
                average_cost=per_unit(lots.cost, lots.quantity),
                price=prices[symbol].amount,
                value=value,
                unrealized=value - from_micros(lots.cost),
            )
        )
    return tuple(lines)


def _trade(event: Traded) -> TradeLine:
    return TradeLine(
        time=event.event_time,
        execution_id=event.event_id,
        client_order_id=event.client_order_id,
        symbol=event.symbol,
        quantity=event.quantity,
        cash=event.cash.amount,
        fee=event.fee.amount,
        settles_on=settlement_date(trade_date(event.event_time)),
        strategy=event.strategy,
    )


def _strategies(
    before: Mapping[str, Books],
    after: Mapping[str, Books],
    prices_before: Mapping[str, Money],
    prices: Mapping[str, Money],
) -> tuple[StrategyLine, ...]:
    lines: list[StrategyLine] = []
    for name, books in sorted(after.items()):
        profit = _profit(books, prices)
        if name in before:
            profit -= _profit(before[name], prices_before)
        lines.append(
            StrategyLine(
                strategy=name,
                day_pnl=from_micros(profit),
                realized=from_micros(books.realized),
                unrealized=from_micros(books.worth(prices).unrealized),
                dividends=from_micros(books.payments.get("dividend", 0)),
                fees=from_micros(books.fees),
            )
        )
    return tuple(lines)


def _profit(books: Books, prices: Mapping[str, Money]) -> int:
    """Returns all that was earned since the beginning: realised, open and paid, but for the owner's money."""
    return books.realized + books.worth(prices).unrealized + sum(books.payments.values()) - _external(books)
