"""What a venue pays or charges without a trade: dividends, interest and fees, booked once, by its own ids.

A venue lists such movements with an id each, which becomes the posting's id: who asks again, or in another
process, books nothing twice. A movement belongs to the account whose shares it is of (the oldest one, where
several traded the symbol, or where it is of none), and it counts from the account's first trade or transfer
on: cash of before is in its opening.
"""

import sqlite3
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import anyio.to_thread
import structlog

from neural_trader_governance.errors import DataError, InputError, NetworkError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import from_epoch_us
from neural_trader_governance.terms.money import Money
from neural_trader_tools.brokers.port import Broker, Paying, Payment
from neural_trader_tools.orders.postings import Posting, post

AGAIN = timedelta(days=7)
"""So far before the newest booked payment a venue is asked again: it may list one late."""
_ZONE = ZoneInfo("America/New_York")
_MOVED = (
    "SELECT account, symbol, event_us, audit_seq FROM fills"
    " UNION ALL SELECT account, symbol, event_us, audit_seq FROM transfers"
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VenuePayments:
    """Books what a venue lists; any process may, as often as it likes."""

    store: Store
    broker: Broker

    async def book(self, caller: Caller) -> list[Posting]:
        """Asks the venue and books what is not booked yet; a venue that does not say is asked again.

        Raises:
            StorageError: the log cannot be written.
        """
        if not isinstance(self.broker, Paying):
            return []
        since = await anyio.to_thread.run_sync(self._since)
        if since is None:
            return []
        try:
            listed = await self.broker.payments(since)
        except NetworkError as error:
            _log.warning("payments.unlisted", error=str(error))
            return []
        return await anyio.to_thread.run_sync(self._book, listed, caller) if listed else []

    def _since(self) -> date | None:
        """Returns the first day to ask about; None where nothing was ever held."""
        with self.store.read() as connection:
            first = connection.execute(f"SELECT MIN(event_us) FROM ({_MOVED})").fetchone()[0]  # noqa: S608
            newest = connection.execute(
                "SELECT MAX(event_us) FROM postings WHERE posting_id LIKE ?", (f"{self.broker.name}/%",)
            ).fetchone()[0]
        if first is None:
            return None
        days = [from_epoch_us(int(first)).astimezone(_ZONE).date()]
        if newest is not None:
            days.append(from_epoch_us(int(newest)).astimezone(_ZONE).date() - AGAIN)
        return max(days)

    def _book(self, listed: tuple[Payment, ...], caller: Caller) -> list[Posting]:
        with self.store.read() as connection:
            fresh = [each for each in listed if not _is_booked(connection, self._name(each))]
        booked: list[Posting] = []
        for each in fresh:
            try:
                with self.store.unit() as unit:  # asked again: another process may have been faster
                    posting = self._posting(unit.connection, each)
                    if posting is not None and post(unit, posting, caller) is not None:
                        booked.append(posting)
            except (
                InputError,
                DataError,
            ) as error:  # it stays a difference of cash, and is told
                _log.warning("payments.unbooked", payment=each.payment_id, error=str(error))
        return booked

    def _posting(self, connection: sqlite3.Connection, each: Payment) -> Posting | None:
        row = connection.execute(
            "SELECT account, MIN(event_us) FROM accounts"  # noqa: S608 - a constant
            f" JOIN ({_MOVED}) USING (account) WHERE symbol = COALESCE(?, symbol)"
            " GROUP BY account ORDER BY opened_time, account",
            (each.symbol,),
        ).fetchone()
        if row is None:
            return None
        first = from_epoch_us(int(row[1])).astimezone(_ZONE).date()
        if each.day < first or (each.kind == "dividend" and each.day == first):
            return None
        return Posting(
            posting_id=self._name(each),
            account=str(row[0]),
            symbol=each.symbol,
            kind=each.kind,
            event_time=each.event_time,
            amount=Money(amount=each.amount, currency=each.currency),
            detail=each.detail,
        )

    def _name(self, payment: Payment) -> str:
        return f"{self.broker.name}/{payment.payment_id}"


def _is_booked(connection: sqlite3.Connection, posting_id: str) -> bool:
    row = connection.execute("SELECT 1 FROM postings WHERE posting_id = ?", (posting_id,)).fetchone()
    return row is not None
