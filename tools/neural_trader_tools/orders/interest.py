"""Interest: what a margin account pays for the cash that it borrowed, day by day.

For a venue that charges none itself. Each calendar day is charged once, when it has ended in New York, on the
settled debit balance of its end: debit x rate / 360, as United States brokers count (actual/360), rounded up
to the cent. What was charged is owed from then on. Days before a rate was first set are never charged, and
days of another rate never again: `accruals` keeps how far each account was charged.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal

from neural_trader_governance.errors import DataError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import to_epoch_us
from neural_trader_governance.terms.money import CENT, Money, format_decimal, from_micros
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounting.settlement import ZONE, trade_date, unsettled_since
from neural_trader_tools.orders.postings import Posting, post, posted_since

SCHEMA = """
CREATE TABLE IF NOT EXISTS accruals (
    account TEXT PRIMARY KEY REFERENCES accounts (account),
    through TEXT NOT NULL
) STRICT;
"""
"""`through` is the last day, in New York, that needs no charge any more."""

YEAR_DAYS = 360


@dataclass(frozen=True, slots=True)
class Interest:
    """Charges what is due at the replay clock; any process may, at any time, as often as it likes.

    Attributes:
        rate: A year's, as a fraction: 0.08 is 8 %; with 0 nothing is charged.
    """

    store: Store
    replay: ReplayClock
    rate: Decimal

    def book(self, caller: Caller) -> list[Posting]:
        """Posts what is due and not charged; returns it.

        Raises:
            StorageError: the log cannot be written.
        """
        try:
            ended = trade_date(self.replay.now()) - timedelta(days=1)
        except DataError:  # an empty archive has no days
            return []
        with self.store.read() as connection:
            if not self._behind(connection, ended):
                return []
        booked: list[Posting] = []
        with self.store.unit() as unit:  # asked again: another process may have been faster
            for account, currency, through in self._behind(unit.connection, ended):
                for day in _days_after(through, ended) if through else ():
                    charge = self._charge(unit.connection, account, currency, day)
                    if charge is not None:
                        post(unit, charge, caller)
                        booked.append(charge)
                unit.connection.execute(
                    "INSERT OR REPLACE INTO accruals VALUES (?, ?)", (account, ended.isoformat())
                )
        return booked

    def _behind(self, connection: sqlite3.Connection, ended: date) -> list[tuple[str, str, date | None]]:
        """Returns the margin accounts with days to come to terms with, and the last day that was."""
        rows = connection.execute(
            "SELECT account, currency, through FROM accounts JOIN account_kinds USING (account)"
            " LEFT JOIN accruals USING (account) WHERE kind = 'margin' ORDER BY account"
        ).fetchall()
        found = [(name, currency, date.fromisoformat(day) if day else None) for name, currency, day in rows]
        # Without a rate the days pass, so that a later one does not charge them.
        return [each for each in found if (self.rate if each[2] is None else each[2] < ended)]

    def _charge(
        self, connection: sqlite3.Connection, account: str, currency: str, day: date
    ) -> Posting | None:
        end = datetime.combine(day + timedelta(days=1), time(), ZONE).astimezone(UTC)
        row = connection.execute("SELECT cash FROM accounts WHERE account = ?", (account,)).fetchone()
        later, _ = posted_since(connection, account, to_epoch_us(end))
        settles_later = unsettled_since(end - timedelta(microseconds=1))
        unsettled, _ = accounts.cash_since(connection, account, to_epoch_us(settles_later))
        debit = -(from_micros(int(row[0])) - later - unsettled)
        if debit <= 0 or not self.rate:
            return None
        owed = (debit * self.rate / YEAR_DAYS).quantize(CENT, ROUND_CEILING)
        percent = format_decimal(self.rate * 100)
        return Posting(
            posting_id=f"interest/{account}/{day.isoformat()}",
            account=account,
            symbol=None,
            kind="interest",
            event_time=end,
            amount=Money(amount=-owed, currency=currency),
            detail=f"{day.isoformat()}: {percent} % a year on {format_decimal(debit)}, actual/360",
        )


def _days_after(last: date, until: date) -> Iterator[date]:
    for number in range(1, (until - last).days + 1):
        yield last + timedelta(days=number)
