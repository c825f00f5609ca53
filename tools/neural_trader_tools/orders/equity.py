"""Equity as it went: what an account was worth at each close since it was opened.

Folded from the journal, so from the fills and payments that the log holds, and valued at the daily closes
that were known at each moment. What is said of a moment never depends on a bar that came after it; a bar that
was corrected later counts as corrected.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import prod
from typing import NamedTuple

import polars as pl

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.money import Money, from_micros, price_tick, round_to_tick
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.orders.accounting.books import Books
from neural_trader_tools.orders.accounting.events import Opened, Received, Reserved, Traded
from neural_trader_tools.orders.journal import read_journal
from neural_trader_tools.orders.postings import EXTERNAL


class EquityPoint(NamedTuple):
    """An account at one moment, in its currency; `paid_in` is what its owner paid in less what they took."""

    time: datetime
    equity: Decimal
    paid_in: Decimal


class _Closes(NamedTuple):
    """A symbol's closes on today's shares by when they were known, and its splits by when they happened."""

    known: Sequence[datetime]
    closes: Sequence[float]
    splits: Sequence[tuple[datetime, float]]

    def at(self, moment: datetime) -> Decimal | None:
        """Returns the last close known at a moment, on the shares of that moment."""
        row = bisect_right(self.known, moment)
        if row == 0:
            return None
        factor = prod(ratio for time, ratio in self.splits if time > moment)
        close = Decimal(repr(self.closes[row - 1] * factor))
        return round_to_tick(close, price_tick(close), "nearest")


def equity_history(
    connection: sqlite3.Connection, account: str, archive: Archive, now: datetime
) -> tuple[list[EquityPoint], int]:
    """Returns an account's equity from its opening on, oldest first, and how many moments had no price.

    The moments are those at which something was booked, and those at which a close of anything that was ever
    held became known. One at which something held had no price is left out.

    Args:
        connection: Of the desk's store.
        account: Its name.
        archive: Where the closes come from.
        now: The desk's clock; nothing known later is seen.

    Raises:
        InputError: `unknown_account`.
    """
    journal = read_journal(connection, account, archive, now)
    # What was brought in has no moment of its own on the replay clock: it was there from the beginning.
    first = [each for each in journal.events if isinstance(each, Opened | Received)]
    booked = [
        each
        for each in journal.events
        if not isinstance(each, Opened | Received | Reserved) and each.event_time <= now
    ]
    books = Books.replay(first, journal.currency)
    start = min([now, *(each.event_time for each in (*first, *booked))])
    symbols = {each.symbol for each in journal.events if isinstance(each, Received | Traded)}
    closes = {symbol: _closes(archive, symbol, now) for symbol in sorted(symbols)}
    moments = {start, *(each.event_time for each in booked)}
    moments.update(time for each in closes.values() for time in each.known if start < time <= now)
    points: list[EquityPoint] = []
    row = unpriced = 0
    for moment in sorted(moments):
        while row < len(booked) and booked[row].event_time <= moment:
            books.apply(booked[row])
            row += 1
        prices = _prices(books, closes, moment)
        if prices is None:
            unpriced += 1
            continue
        paid_in = sum(books.payments.get(kind, 0) for kind in EXTERNAL)
        points.append(EquityPoint(moment, from_micros(books.worth(prices).equity), from_micros(paid_in)))
    return points, unpriced


def _prices(books: Books, closes: Mapping[str, _Closes], moment: datetime) -> dict[str, Money] | None:
    prices: dict[str, Money] = {}
    for symbol, lots in books.positions.items():
        if not lots.quantity:
            continue
        price = closes[symbol].at(moment)
        if price is None:
            return None
        prices[symbol] = Money(amount=price, currency=books.currency)
    return prices


def _closes(archive: Archive, symbol: str, now: datetime) -> _Closes:
    try:
        bars = archive.bars(symbol, "1d", as_of=now).sort("known_time")
    except DataError:  # no longer in the archive, or of no daily bars: nothing values it
        return _Closes((), (), ())
    actions = archive.actions(symbol, now).filter(pl.col("kind") == "split")
    return _Closes(
        bars["known_time"].to_list(), bars["close"].to_list(), actions.select("event_time", "value").rows()
    )
