"""Dividends: cash that the archive's ex-dates bring to who held the shares before.

For a venue that pays none itself. Who held shares when the ex-date began is entitled; the archive knows no
payment dates, so the cash is booked on the ex-date, rounded to the cent against the account; who was short
pays. A fill that becomes known later changes the entitlement, and the difference is posted too, so that what
is booked always equals what was held.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

import polars as pl

from neural_trader_governance.errors import DataError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import from_epoch_us, to_epoch_us
from neural_trader_governance.terms.money import (
    CENT,
    Money,
    format_decimal,
    from_micros,
    from_nanos,
    to_micros,
)
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders.postings import Posting, post, posted_for
from neural_trader_tools.orders.valuation import Pricer

_MOVED = (
    "SELECT account, symbol, event_us, quantity, audit_seq FROM fills"
    " UNION ALL SELECT account, symbol, event_us, quantity, audit_seq FROM transfers"
)
"""What changed holdings: fills, and lots that were brought."""


@dataclass(slots=True)
class Dividends:
    """Books what is due at the replay clock; any process may, at any time, as often as it likes."""

    store: Store
    archive: Archive
    replay: ReplayClock
    _seen: object = field(default=None, init=False)

    def book(self, caller: Caller) -> list[Posting]:
        """Posts what is due and not booked; returns it.

        Raises:
            StorageError: the log cannot be written.
        """
        try:
            now = self.replay.now()
        except DataError:  # an empty archive pays nothing
            return []
        with self.store.read() as connection:
            state = (now, self._newest(connection), self.archive.datasets())
            if state == self._seen:
                return []
            due = list(self._due(connection, now))
        booked: list[Posting] = []
        if due:
            with self.store.unit() as unit:  # asked again: another process may have been faster
                for posting in self._due(unit.connection, now):
                    post(unit, posting, caller)
                    booked.append(posting)
        self._seen = state
        return booked

    def _newest(self, connection: sqlite3.Connection) -> int:
        query = f"SELECT COALESCE(MAX(audit_seq), -1) FROM ({_MOVED})"  # noqa: S608 - a constant
        return int(connection.execute(query).fetchone()[0])

    def _due(self, connection: sqlite3.Connection, now: datetime) -> Iterator[Posting]:
        query = (
            "SELECT account, symbol, MIN(event_us), currency"  # noqa: S608 - a constant
            f" FROM ({_MOVED}) JOIN accounts USING (account) GROUP BY account, symbol ORDER BY 1, 2"
        )
        rows = connection.execute(query).fetchall()
        for account, symbol, first_us, currency in rows:
            actions = self.archive.actions(symbol, now).filter(
                (pl.col("kind") == "dividend")
                & (pl.col("event_time") > from_epoch_us(first_us))
                & (pl.col("event_time") <= now)
            )
            paid = actions.group_by("event_time").agg(pl.col("value")).sort("event_time")
            for moment, values in paid.iter_rows():
                per_share = sum((Decimal(repr(float(value))) for value in values), Decimal(0))
                held = self._held_before(connection, account, symbol, moment)
                owed = (from_nanos(held) * per_share).quantize(CENT, ROUND_FLOOR)
                count, micros = posted_for(connection, account, symbol, "dividend", to_epoch_us(moment))
                if (more := to_micros(owed) - micros) == 0:
                    continue
                yield Posting(
                    posting_id=f"dividend/{account}/{symbol}/{moment.date().isoformat()}/{count}",
                    account=account,
                    symbol=symbol,
                    kind="dividend",
                    event_time=moment,
                    amount=Money(amount=from_micros(more), currency=currency),
                    detail=f"{format_decimal(per_share)} a share on {format_decimal(from_nanos(held))}",
                )

    def _held_before(
        self, connection: sqlite3.Connection, account: str, symbol: str, moment: datetime
    ) -> int:
        """Returns the nano-units held when an ex-date began, on the share basis of that moment."""
        pricer = Pricer(self.archive, self.replay, moment)
        fills = connection.execute(
            f"SELECT event_us, quantity FROM ({_MOVED})"  # noqa: S608 - a constant
            " WHERE account = ? AND symbol = ? AND event_us < ?",
            (account, symbol, to_epoch_us(moment)),
        ).fetchall()
        held = sum(
            (quantity * pricer.split_factor(symbol, from_epoch_us(event_us)) for event_us, quantity in fills),
            Decimal(0),
        )
        return int(held.to_integral_value(ROUND_FLOOR))
