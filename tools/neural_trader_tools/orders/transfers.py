"""Transfers: positions that an account brings with it, lot by lot, each written once with its audit entry.

A lot comes with what it cost and when it was opened, and moves no cash. The lots of a symbol are its
beginning here: they are refused where the account ever held or traded it, so that a file cannot be booked
twice, and splits after the transfer count for it while those before are contained in its quantity.
"""

import csv
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, Self, cast

from pydantic import Field, ValidationError, model_validator

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Unit
from neural_trader_governance.terms.clocks import UtcTime, format_time, from_epoch_us, to_epoch_us
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import (
    MICRO,
    MONEY_MAX,
    QUANTITY_MAX,
    DecimalText,
    Money,
    format_decimal,
    from_micros,
    from_nanos,
    to_micros,
    to_nanos,
)
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive

SCHEMA = """
CREATE TABLE IF NOT EXISTS transfers (
    transfer_id TEXT PRIMARY KEY,
    account     TEXT NOT NULL REFERENCES accounts (account),
    symbol      TEXT NOT NULL,
    event_us    INTEGER NOT NULL,
    opened_us   INTEGER NOT NULL,
    quantity    INTEGER NOT NULL,
    cost        INTEGER NOT NULL,
    detail      TEXT NOT NULL,
    audit_seq   INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS transfers_by_account ON transfers (account, symbol);
"""
"""`quantity` is signed nano-units, `cost` signed micros of the account's currency, as of a lot."""

LOTS_MAX = 10_000
_COLUMNS = "give symbol, quantity, cost (or unit_cost) and opened (2020-01-31, or a time) of each lot"


class HeldLot(Term):
    """A lot as its owner lists it.

    Attributes:
        quantity: Signed; below zero is short. On today's share basis.
        cost: Of the whole lot, fees included; of a short one what it brought. Or else `unit_cost`.
        opened: When it was bought, or sold short.
    """

    symbol: Symbol
    quantity: DecimalText = Field(ge=-QUANTITY_MAX, le=QUANTITY_MAX)
    cost: DecimalText | None = Field(default=None, ge=0, le=MONEY_MAX)
    unit_cost: DecimalText | None = Field(default=None, ge=0, le=MONEY_MAX)
    opened: UtcTime

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.cost is None) == (self.unit_cost is None):
            raise ValueError("a lot has cost, of all of it, or unit_cost: one of them")
        if self.quantity == 0:
            raise ValueError("a lot of quantity 0 is none")
        to_nanos(self.quantity)
        to_micros(self.cost or Decimal(0))
        return self

    @property
    def signed_cost(self) -> Decimal:
        """What it cost, below zero for a short lot; of a unit cost, rounded to the micro."""
        whole = self.cost
        if whole is None:
            whole = (abs(self.quantity) * (self.unit_cost or Decimal(0))).quantize(MICRO, ROUND_HALF_EVEN)
        return whole if self.quantity > 0 else -whole


@dataclass(frozen=True, slots=True)
class Transfer:
    """A lot that was booked."""

    transfer_id: str
    symbol: str
    event_time: datetime
    opened_time: datetime
    quantity: Decimal
    cost: Money


def read_lots(path: Path) -> list[HeldLot]:
    """Reads the lots of a CSV file with a header, or of a JSON file with a list of objects.

    Raises:
        InputError: the file is missing or too large, or a lot is none; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "unreadable_file", f"{path} cannot be read ({error})", "give a CSV or JSON file"
        ) from None
    try:
        if path.suffix.lower() == ".json":
            rows: Any = json.loads(text, parse_float=Decimal)
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError("unreadable_file", f"{path.name} does not parse ({error})"[:300], _COLUMNS) from None
    if not isinstance(rows, list) or not 1 <= len(cast("list[Any]", rows)) <= LOTS_MAX:
        raise InputError("no_lots", f"{path.name} holds no list of 1 to {LOTS_MAX:,} lots", _COLUMNS)
    lots: list[HeldLot] = []
    for number, row in enumerate(cast("list[Any]", rows), 1):
        try:
            if not isinstance(row, dict):
                raise ValueError("it is no object")
            named = cast("dict[str, Any]", row)
            given = {name: each for name, each in named.items() if each is not None and each != ""}
            opened = given.get("opened")
            if isinstance(opened, str) and len(opened) == len("2020-01-31"):
                given["opened"] = f"{opened}T00:00:00Z"
            lots.append(HeldLot.model_validate(given))
        except (ValueError, InputError) as error:
            first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
            place = ".".join(str(part) for part in first["loc"]) if first else ""
            what = f"{place}: {first['msg']}".removeprefix(": ") if first else str(error)
            raise InputError("invalid_lot", f"lot {number} of {path.name}: {what}"[:300], _COLUMNS) from None
    return lots


def receive(
    unit: Unit,
    account: str,
    lots: Sequence[HeldLot],
    caller: Caller,
    *,
    archive: Archive,
    now: datetime,
    reason: str,
) -> list[int]:
    """Books lots, all or none, each with its audit entry; returns the entries' seqs.

    Args:
        unit: The transaction.
        account: That brings them.
        lots: In any order; a symbol's are booked oldest first.
        caller: On whose record.
        archive: Has the instruments.
        now: The desk's clock: from then on they are held here.
        reason: Why, in words.

    Raises:
        InputError: `unknown_account`, `foreign_currency`, `already_held`, `long_and_short`, `not_opened_yet`.
        DataError: a symbol is not in the archive.
    """
    row = unit.connection.execute("SELECT currency FROM accounts WHERE account = ?", (account,)).fetchone()
    if row is None:
        raise InputError(
            "unknown_account", f"there is no account {account!r:.40}", "see `neural-trader portfolio list`"
        )
    currency = str(row[0])
    _check(unit.connection, account, lots, currency, archive, now)
    seqs: list[int] = []
    numbers: Counter[str] = Counter()
    for lot in sorted(lots, key=lambda each: (each.symbol, each.opened)):
        transfer_id = f"transfer/{account}/{lot.symbol}/{numbers[lot.symbol]}"
        numbers[lot.symbol] += 1
        cost = lot.signed_cost
        payload = {
            "transfer_id": transfer_id,
            "quantity": format_decimal(lot.quantity),
            "cost": format_decimal(cost),
            "currency": currency,
            "opened": format_time(lot.opened),
            "event_time": format_time(now),
            "detail": reason,
        }
        entry = AuditEntry.by(
            caller, EntryType.ACCOUNT_TRANSFER, account=account, symbol=lot.symbol, payload=payload
        )
        seq = unit.append(entry)
        quantity, micros = to_nanos(lot.quantity), to_micros(cost)
        unit.connection.execute(
            "INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                transfer_id,
                account,
                lot.symbol,
                to_epoch_us(now),
                to_epoch_us(lot.opened),
                quantity,
                micros,
                reason,
                seq,
            ),
        )
        unit.connection.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT (account, symbol) DO UPDATE"
            " SET quantity = quantity + excluded.quantity, cost = cost + excluded.cost",
            (account, lot.symbol, quantity, micros, to_epoch_us(now)),
        )
        seqs.append(seq)
    return seqs


def list_transfers(connection: sqlite3.Connection, account: str) -> list[Transfer]:
    """Returns what an account brought, in the order of its booking."""
    rows = connection.execute(
        "SELECT transfer_id, symbol, event_us, opened_us, quantity, cost, currency FROM transfers"
        " JOIN accounts USING (account) WHERE account = ? ORDER BY audit_seq",
        (account,),
    ).fetchall()
    return [
        Transfer(
            row[0],
            row[1],
            from_epoch_us(row[2]),
            from_epoch_us(row[3]),
            from_nanos(row[4]),
            Money(amount=from_micros(row[5]), currency=row[6]),
        )
        for row in rows
    ]


def _check(
    connection: sqlite3.Connection,
    account: str,
    lots: Sequence[HeldLot],
    currency: str,
    archive: Archive,
    now: datetime,
) -> None:
    sides = {(lot.symbol, lot.quantity > 0) for lot in lots}
    for symbol in sorted({lot.symbol for lot in lots}):
        instrument = archive.instrument(symbol)
        if instrument.currency != currency:
            raise InputError(
                "foreign_currency",
                f"{symbol} is priced in {instrument.currency}, and {account} is in {currency}",
                f"bring it into an account in {instrument.currency}: neural-trader portfolio open --currency",
            )
        if {(symbol, True), (symbol, False)} <= sides:
            raise InputError(
                "long_and_short", f"{symbol} has lots of both signs", "an account is long or short: net them"
            )
        held = connection.execute(
            "SELECT 1 FROM positions WHERE account = ?1 AND symbol = ?2"
            " UNION ALL SELECT 1 FROM orders WHERE account = ?1 AND symbol = ?2",
            (account, symbol),
        ).fetchone()
        if held is not None:
            raise InputError(
                "already_held",
                f"{account} has held or ordered {symbol} before, by a transfer or by an order",
                "nothing was booked; leave it out of the file, or use another account",
            )
    if late := [lot for lot in lots if lot.opened > now]:
        raise InputError(
            "not_opened_yet",
            f"a lot of {late[0].symbol} was opened {format_time(late[0].opened)}, after the desk's clock"
            f" ({format_time(now)})",
            "correct the time, or set the clock: neural-trader data replay set",
        )
