"""The journal: an account's events in their order, read from what the desk has stored.

Fills and postings are stored rows, splits are the archive's, and what working orders hold back is the order
table's. The books that this journal folds to must equal the balances that the ledger kept as it went:
`audit` compares them, with the signed log's own fills as the third witness.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import orjson
import polars as pl

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import Money, format_decimal, from_micros, from_nanos
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounting.books import Books
from neural_trader_tools.orders.accounting.events import (
    Event,
    Opened,
    Paid,
    Received,
    Reserved,
    Split,
    Traded,
)
from neural_trader_tools.orders.accounting.settlement import settlement_date, trade_date
from neural_trader_tools.orders.postings import list_postings
from neural_trader_tools.orders.transfers import list_transfers
from neural_trader_tools.orders.valuation import Pricer

_RANKS = {"Opened": 0, "Received": 0, "Split": 1, "Paid": 2, "Traded": 3, "Reserved": 4}
"""Of events of one instant: a dividend is paid on the shares of after a split, and before anything trades."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The events of one account up to a moment, oldest first."""

    account: str
    currency: str
    events: tuple[Event, ...]

    def until(self, moment: datetime) -> list[Event]:
        """Returns the events before a moment; the opening, and what was brought, is before every moment."""
        return [
            each for each in self.events if isinstance(each, Opened | Received) or each.event_time < moment
        ]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of the books with what the ledger keeps."""

    what: str
    books: str
    ledger: str

    @property
    def ok(self) -> bool:
        """Whether both say the same."""
        return self.books == self.ledger


def read_journal(connection: sqlite3.Connection, account: str, archive: Archive, now: datetime) -> Journal:
    """Reads the journal of an account; splits up to `now` are in it.

    Raises:
        InputError: `unknown_account`.
    """
    row = connection.execute(
        "SELECT currency, opening_cash, opened_time FROM accounts WHERE account = ?", (account,)
    ).fetchone()
    if row is None:
        raise InputError(
            "unknown_account", f"there is no account {account!r:.40}", "see `neural-trader portfolio list`"
        )
    currency = str(row[0])

    def money(micros: int) -> Money:
        return Money(amount=from_micros(micros), currency=currency)

    opened = Opened(event_id="opened", event_time=parse_time(str(row[2])), cash=money(int(row[1])))
    trades = _trades(connection, account)
    paid = [
        Paid(
            event_id=each.posting_id,
            event_time=each.event_time,
            kind=each.kind,
            amount=each.amount,
            symbol=each.symbol,
        )
        for each in list_postings(connection, account)
    ]
    received = [
        Received(
            event_id=each.transfer_id,
            event_time=each.event_time,
            symbol=each.symbol,
            quantity=each.quantity,
            cost=each.cost,
            opened_time=each.opened_time,
        )
        for each in list_transfers(connection, account)
    ]
    held = [
        Reserved(
            event_id=f"reserve/{order}",
            event_time=now,
            client_order_id=str(order),
            amount=money(int(micros)),
        )
        for order, micros in connection.execute(
            "SELECT client_order_id, reserved FROM orders WHERE account = ? AND reserved > 0"
            " ORDER BY audit_seq",
            (account,),
        )
    ]
    events = [*received, *paid, *trades, *_splits([*received, *trades], archive, now), *held]
    events.sort(key=lambda event: (event.event_time, _RANKS[type(event).__name__]))
    return Journal(account, currency, (opened, *events))


def _trades(connection: sqlite3.Connection, account: str) -> list[Traded]:
    rows = connection.execute(
        "SELECT fills.fill, fills.cash, json_extract(orders.intent, '$.strategy_id') FROM fills"
        " LEFT JOIN orders USING (client_order_id) WHERE fills.account = ?"
        " ORDER BY fills.event_us, fills.audit_seq",
        (account,),
    ).fetchall()
    trades: list[Traded] = []
    for text, cash, strategy in rows:
        fill = Fill.model_validate_json(text)
        trades.append(
            Traded(
                event_id=fill.execution_id,
                event_time=fill.event_time,
                symbol=fill.symbol,
                quantity=fill.quantity if fill.side == "buy" else -fill.quantity,
                cash=Money(amount=from_micros(cash), currency=fill.currency),
                fee=Money(amount=fill.fee, currency=fill.currency),
                settles_on=settlement_date(trade_date(fill.event_time)),
                strategy=strategy or "",
                client_order_id=fill.client_order_id,
            )
        )
    return trades


def _splits(trades: Iterable[Received | Traded], archive: Archive, now: datetime) -> list[Split]:
    first: dict[str, datetime] = {}
    for trade in trades:
        first.setdefault(trade.symbol, trade.event_time)
    splits: list[Split] = []
    for symbol, since in first.items():
        try:
            actions = archive.actions(symbol, now)
        except DataError:  # a symbol that the archive no longer lists has no splits that we know
            continue
        rows = actions.filter(
            (pl.col("kind") == "split") & (pl.col("event_time") > since) & (pl.col("event_time") <= now)
        )
        splits += [
            Split(
                event_id=f"split/{symbol}/{moment.isoformat()}/{number}",
                event_time=moment,
                symbol=symbol,
                ratio=Decimal(repr(float(ratio))),
            )
            for number, (moment, ratio) in enumerate(rows.select("event_time", "value").iter_rows())
        ]
    return splits


def audit(connection: sqlite3.Connection, journal: Journal, archive: Archive, pricer: Pricer) -> list[Check]:
    """Compares the books with the ledger's balances, and the fills with the signed log's.

    What was realised depends on the order in which fills are booked, and it may differ from the order in
    which they happened; realised profit less open cost does not, so that is compared.
    """
    account = journal.account
    books = Books.replay(journal.events, journal.currency, "average")
    cash = connection.execute("SELECT cash FROM accounts WHERE account = ?", (account,)).fetchone()[0]
    checks = [
        Check("cash", format_decimal(from_micros(books.cash)), format_decimal(from_micros(int(cash)))),
        Check(
            "reserved cash",
            format_decimal(from_micros(books.reserved)),
            format_decimal(accounts.reserved_cash(connection, account)),
        ),
    ]
    kept = dict(accounts.holdings(connection, account, pricer.split_factor))
    for symbol in sorted({*kept, *books.positions}):
        lots, holding = books.positions.get(symbol), kept.get(symbol, accounts.Holding())
        quantity = lots.quantity if lots else 0
        net = lots.realized - lots.cost if lots else 0
        checks.append(
            Check(
                f"{symbol} quantity",
                format_decimal(from_nanos(quantity)),
                format_decimal(from_nanos(holding.quantity)),
            )
        )
        checks.append(
            Check(
                f"{symbol} cash flow",
                format_decimal(from_micros(net)),
                format_decimal(from_micros(holding.realized - holding.cost)),
            )
        )
    return [*checks, *_log_checks(connection, account), *_order_checks(connection, account)]


def _log_checks(connection: sqlite3.Connection, account: str) -> list[Check]:
    """Compares each stored fill and posting with the entry of the log that was signed for it."""
    fills, differing = 0, list[str]()
    rows = connection.execute(
        "SELECT fill, entry FROM fills JOIN audit_entries ON seq = fills.audit_seq"
        " WHERE account = ? AND length(entry) > 0",  # what was archived has no bytes here
        (account,),
    )
    for text, entry in rows:
        fills += 1
        fill = Fill.model_validate_json(text)
        if orjson.loads(entry)["payload"] != fill.model_dump(mode="json"):
            differing.append(fill.execution_id)
    signed = _signed(connection, account, "broker.fill")
    return [
        Check("fills in the log", str(fills), str(signed)),
        Check("fills that differ from the log", ", ".join(differing) or "none", "none"),
        Check(
            "payments in the log",
            str(len(list_postings(connection, account))),
            str(_signed(connection, account, "account.post")),
        ),
        Check(
            "transfers in the log",
            str(len(list_transfers(connection, account))),
            str(_signed(connection, account, "account.transfer")),
        ),
    ]


def _signed(connection: sqlite3.Connection, account: str, kind: str) -> int:
    """Returns how many entries of a type the log holds for an account, the archived ones left out."""
    rows = connection.execute("SELECT entry FROM audit_entries WHERE type = ? AND length(entry) > 0", (kind,))
    return sum(orjson.loads(entry).get("account") == account for (entry,) in rows)


def _order_checks(connection: sqlite3.Connection, account: str) -> list[Check]:
    """Compares each order's filled quantity with the sum of its fills."""
    rows = connection.execute(
        "SELECT orders.client_order_id, orders.filled, COALESCE(SUM(ABS(fills.quantity)), 0) FROM orders"
        " LEFT JOIN fills USING (client_order_id) WHERE orders.account = ?"
        " GROUP BY orders.client_order_id HAVING orders.filled <> COALESCE(SUM(ABS(fills.quantity)), 0)"
        " ORDER BY orders.audit_seq",
        (account,),
    ).fetchall()
    if not rows:
        return [Check("orders whose fills do not add up", "none", "none")]
    return [
        Check(
            f"filled of {order}",
            format_decimal(from_nanos(int(total))),
            format_decimal(from_nanos(int(filled))),
        )
        for order, filled, total in rows
    ]
