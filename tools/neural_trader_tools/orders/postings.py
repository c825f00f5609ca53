"""Postings: cash that moves without a trade, each written once with its audit entry.

Deposits and withdrawals are a person's word, dividends come from the archive (`dividends`). Trades are in
`accounts.fills`; both together are all that ever changed an account's cash.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import get_args

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Unit
from neural_trader_governance.terms.clocks import format_time, from_epoch_us, to_epoch_us
from neural_trader_governance.terms.money import CENT, Money, format_decimal, from_micros, to_micros
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounting.events import PaymentKind

SCHEMA = """
CREATE TABLE IF NOT EXISTS postings (
    posting_id TEXT PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (account),
    symbol     TEXT,
    kind       TEXT NOT NULL,
    event_us   INTEGER NOT NULL,
    cash       INTEGER NOT NULL,
    detail     TEXT NOT NULL,
    audit_seq  INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS postings_by_account_time ON postings (account, event_us);
"""
"""`cash` is signed micros of the account's currency."""

KINDS: tuple[PaymentKind, ...] = get_args(PaymentKind)
EXTERNAL: tuple[PaymentKind, ...] = ("deposit", "withdrawal")
"""What comes from or goes to its owner, so that it is no profit."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One movement of cash, signed, at its event time."""

    posting_id: str
    account: str
    symbol: str | None
    kind: PaymentKind
    event_time: datetime
    amount: Money
    detail: str = ""


def post(unit: Unit, posting: Posting, caller: Caller) -> int | None:
    """Books a posting with its audit entry and returns the entry's seq; None if it is booked already.

    Raises:
        InputError: `unknown_account`, `foreign_currency`, or the amount is finer than a cent or of the
            wrong sign.
        RiskError: `not_enough_cash`, a withdrawal wants more than is there and not held back.
    """
    connection, amount = unit.connection, posting.amount
    row = connection.execute(
        "SELECT currency, cash FROM accounts WHERE account = ?", (posting.account,)
    ).fetchone()
    if row is None:
        raise InputError(
            "unknown_account",
            f"there is no account {posting.account!r:.40}",
            "see `neural-trader portfolio list`",
        )
    if amount.currency != row[0]:
        raise InputError(
            "foreign_currency",
            f"{amount.amount} {amount.currency} cannot be booked in {posting.account}, which is in {row[0]}",
            f"convert it to {row[0]} first, or open an account in {amount.currency}",
        )
    if amount.amount % CENT or (
        posting.kind in EXTERNAL and (amount.amount > 0) != (posting.kind == "deposit")
    ):
        raise InputError(
            "invalid_amount",
            f"{amount.amount} is no amount of a {posting.kind}",
            "give whole cents above zero",
        )
    if connection.execute("SELECT 1 FROM postings WHERE posting_id = ?", (posting.posting_id,)).fetchone():
        return None
    free = from_micros(int(row[1])) - accounts.reserved_cash(connection, posting.account)
    if posting.kind == "withdrawal" and -amount.amount > free:
        raise RiskError(
            "not_enough_cash",
            f"{posting.account} has {format_decimal(free)} {amount.currency} that no order holds back",
            "withdraw less, or cancel working orders",
        )
    payload = {
        "posting_id": posting.posting_id,
        "kind": posting.kind,
        "amount": format_decimal(amount.amount),
        "currency": amount.currency,
        "event_time": format_time(posting.event_time),
        "detail": posting.detail,
    }
    entry = AuditEntry.by(
        caller, EntryType.ACCOUNT_POST, account=posting.account, symbol=posting.symbol, payload=payload
    )
    seq = unit.append(entry)
    micros = to_micros(amount.amount)
    connection.execute("UPDATE accounts SET cash = cash + ? WHERE account = ?", (micros, posting.account))
    connection.execute(
        "INSERT INTO postings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            posting.posting_id,
            posting.account,
            posting.symbol,
            posting.kind,
            to_epoch_us(posting.event_time),
            micros,
            posting.detail,
            seq,
        ),
    )
    return seq


def list_postings(connection: sqlite3.Connection, account: str) -> list[Posting]:
    """Returns an account's postings, oldest first."""
    rows = connection.execute(
        "SELECT posting_id, account, symbol, kind, event_us, postings.cash, detail, currency FROM postings"
        " JOIN accounts USING (account) WHERE account = ? ORDER BY event_us, audit_seq",
        (account,),
    ).fetchall()
    return [
        Posting(
            row[0],
            row[1],
            row[2],
            row[3],
            from_epoch_us(row[4]),
            Money(amount=from_micros(row[5]), currency=row[7]),
            row[6],
        )
        for row in rows
    ]


def posted_since(connection: sqlite3.Connection, account: str, since_us: int) -> tuple[Decimal, Decimal]:
    """Returns what postings since then did to cash, and how much of it its owner paid in or took out."""
    row = connection.execute(
        "SELECT COALESCE(SUM(cash), 0), COALESCE(SUM(cash) FILTER (WHERE kind IN (?, ?)), 0) FROM postings"
        " WHERE account = ? AND event_us >= ?",
        (*EXTERNAL, account, since_us),
    ).fetchone()
    return from_micros(row[0]), from_micros(row[1])


def posted_for(
    connection: sqlite3.Connection, account: str, symbol: str, kind: str, event_us: int
) -> tuple[int, int]:
    """Returns how often, and how many micros, were posted for one event of a symbol."""
    row = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(cash), 0) FROM postings"
        " WHERE account = ? AND symbol = ? AND kind = ? AND event_us = ?",
        (account, symbol, kind, event_us),
    ).fetchone()
    return int(row[0]), int(row[1])
