"""Export: orders, fills and payments of the desk as tables, and whether they add up to the ledger.

CSV spells decimals and times as text; Parquet keeps them typed (Decimal, microseconds UTC). In CSV a text
that a spreadsheet would run as a formula gets an apostrophe before it: reasons are words of agents.
"""

import csv
import io
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import format_time, from_epoch_us
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import format_decimal, from_micros, from_nanos
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.market.durable import write_durably

Format = Literal["csv", "parquet"]
Cell = str | int | Decimal | datetime | None
_Row = tuple[Any, ...]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_ORDERS = (
    ("client_order_id", "text"), ("preview_id", "text"), ("account", "text"), ("agent", "text"),
    ("strategy", "text"), ("symbol", "text"), ("side", "text"), ("type", "text"), ("quantity", "quantity"),
    ("limit_price", "money"), ("stop_price", "money"), ("time_in_force", "text"), ("state", "text"),
    ("filled_quantity", "quantity"), ("filled_value", "money"), ("created_time", "time"),
    ("updated_time", "time"), ("parent_id", "text"), ("audit_seq", "whole"), ("reason", "text"),
    ("detail", "text"),
)  # fmt: skip
_FILLS = (
    ("execution_id", "text"), ("client_order_id", "text"), ("account", "text"), ("strategy", "text"),
    ("symbol", "text"), ("side", "text"), ("quantity", "quantity"), ("price", "money"), ("fee", "money"),
    ("cash", "money"), ("currency", "text"), ("event_time", "time"), ("known_time", "time"),
    ("clock", "text"), ("rule", "text"), ("audit_seq", "whole"),
)  # fmt: skip
_PAYMENTS = (
    ("posting_id", "text"), ("account", "text"), ("symbol", "text"), ("kind", "text"), ("amount", "money"),
    ("currency", "text"), ("event_time", "time"), ("detail", "text"), ("audit_seq", "whole"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """One exported table; `columns` are names with their kind: text, quantity, money, time or whole."""

    name: str
    columns: Sequence[tuple[str, str]]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True, slots=True)
class CashCheck:
    """Opening cash and every exported movement of an account, beside the ledger's cash."""

    account: str
    currency: str
    exported: Decimal
    ledger: Decimal

    @property
    def ok(self) -> bool:
        """Whether both agree."""
        return self.exported == self.ledger


def read_tables(connection: sqlite3.Connection, account: str | None = None) -> list[Table]:
    """Returns orders, fills and payments, oldest first, of one account or of all."""
    return [_orders(connection, account), _fills(connection, account), _payments(connection, account)]


def check_cash(
    connection: sqlite3.Connection, tables: Sequence[Table], account: str | None = None
) -> list[CashCheck]:
    """Compares what the rows of `read_tables` add up to with each exported account's cash."""
    moved: dict[str, Decimal] = {}
    for table, column in ((tables[1], "cash"), (tables[2], "amount")):
        names = [name for name, _ in table.columns]
        account_at, cash_at = names.index("account"), names.index(column)
        for row in table.rows:
            amount = row[cash_at]
            assert isinstance(amount, Decimal)  # noqa: S101 - the table's own column
            moved[str(row[account_at])] = moved.get(str(row[account_at]), Decimal(0)) + amount
    rows = connection.execute(
        "SELECT account, currency, opening_cash, cash FROM accounts WHERE account = COALESCE(?, account)"
        " ORDER BY account",
        (account,),
    )
    return [
        CashCheck(name, currency, from_micros(opening) + moved.get(name, Decimal(0)), from_micros(cash))
        for name, currency, opening, cash in rows.fetchall()
    ]


def write_tables(folder: Path, tables: Sequence[Table], form: Format) -> list[Path]:
    """Writes each table as a file of its own, wholly or not at all; returns their paths.

    Raises:
        InputError: a file of that name exists already.
        StorageError: the disk refused.
    """
    write: Callable[[Table, BinaryIO], None] = _write_csv if form == "csv" else _write_parquet
    paths = [folder / f"{table.name}.{form}" for table in tables]
    for path in paths:
        if path.exists():
            raise InputError("file_exists", f"{path} exists already", "name a new folder, or remove it first")
    for path, table in zip(paths, tables, strict=True):
        write_durably(path, lambda out, table=table: write(table, out))
    return paths


def _orders(connection: sqlite3.Connection, account: str | None) -> Table:
    rows = connection.execute(
        "SELECT client_order_id, orders.preview_id, intent, state, filled, filled_value, created_us,"
        " updated_us, COALESCE(parent_id, ''), audit_seq, detail FROM orders"
        " LEFT JOIN children USING (client_order_id)"
        " WHERE account = COALESCE(?, account) ORDER BY audit_seq",
        (account,),
    )

    def cells(row: _Row) -> tuple[Cell, ...]:
        intent = OrderIntent.model_validate_json(row[2])
        return (
            row[0], row[1], intent.account, intent.agent, intent.strategy_id or "", intent.symbol,
            intent.side, intent.type, intent.quantity, intent.limit_price, intent.stop_price,
            intent.time_in_force, row[3], from_nanos(row[4]), from_micros(row[5]), from_epoch_us(row[6]),
            from_epoch_us(row[7]), row[8], row[9], intent.reason, row[10],
        )  # fmt: skip

    return Table("orders", _ORDERS, [cells(row) for row in rows])


def _fills(connection: sqlite3.Connection, account: str | None) -> Table:
    rows = connection.execute(
        "SELECT fill, fills.account, json_extract(intent, '$.strategy_id'), cash, fills.audit_seq FROM fills"
        " LEFT JOIN orders USING (client_order_id) WHERE fills.account = COALESCE(?, fills.account)"
        " ORDER BY fills.event_us, fills.audit_seq",
        (account,),
    )

    def cells(row: _Row) -> tuple[Cell, ...]:
        fill = Fill.model_validate_json(row[0])
        return (
            fill.execution_id, fill.client_order_id, row[1], row[2] or "", fill.symbol, fill.side,
            fill.quantity, fill.price, fill.fee, from_micros(row[3]), fill.currency, fill.event_time,
            fill.known_time, fill.clock, fill.rule, row[4],
        )  # fmt: skip

    return Table("fills", _FILLS, [cells(row) for row in rows])


def _payments(connection: sqlite3.Connection, account: str | None) -> Table:
    rows = connection.execute(
        "SELECT posting_id, account, symbol, kind, postings.cash, currency, event_us, detail, audit_seq"
        " FROM postings JOIN accounts USING (account) WHERE account = COALESCE(?, account)"
        " ORDER BY event_us, audit_seq",
        (account,),
    )
    return Table(
        "payments",
        _PAYMENTS,
        [(*row[:4], from_micros(row[4]), row[5], from_epoch_us(row[6]), *row[7:]) for row in rows],
    )


def _write_csv(table: Table, out: BinaryIO) -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow([name for name, _ in table.columns])
    for row in table.rows:
        writer.writerow([_plain(cell) for cell in row])
    text.detach()


def _plain(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case Decimal():
            return format_decimal(cell)
        case datetime():
            return format_time(cell)
        case int():
            return str(cell)
        case _:
            return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _write_parquet(table: Table, out: BinaryIO) -> None:
    import polars as pl

    kinds: dict[str, pl.DataType] = {
        "text": pl.String(),
        "whole": pl.Int64(),
        "quantity": pl.Decimal(38, 9),
        "money": pl.Decimal(38, 6),
        "time": pl.Datetime("us", "UTC"),
    }
    columns = list(zip(*table.rows, strict=True)) or [() for _ in table.columns]
    frame = pl.DataFrame(
        [
            pl.Series(name, list(values), dtype=kinds[kind])
            for (name, kind), values in zip(table.columns, columns, strict=True)
        ]
    )
    frame.write_parquet(out, compression="zstd")
