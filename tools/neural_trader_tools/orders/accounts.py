"""Accounts: cash and positions in whole micros and nano-units, changed by fills and by nothing else.

Average-cost accounting. A cash movement is rounded to the cent against the account, so rounding never
creates money. Sale proceeds settle T+1 (`accounting.settlement`). Cash that working buys may need is
reserved, and buying power is what is left of it; in a margin account, of what Regulation T lends on it
(`accounting.margin`).
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.terms.clocks import from_epoch_us, to_epoch_us
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import CENT, from_micros, from_nanos, to_micros, to_nanos
from neural_trader_tools.orders.accounting.amounts import share
from neural_trader_tools.orders.accounting.margin import AccountKind
from neural_trader_tools.orders.machine import WORKING

SplitFactor = Callable[[str, datetime], Decimal]
"""How many shares, at the moment that it speaks for, one share of an earlier moment has become."""

SplitBetween = Callable[[str, datetime, datetime], Decimal]
"""How many shares of the second moment one share of the first has become."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    account      TEXT PRIMARY KEY,
    currency     TEXT NOT NULL,
    opening_cash INTEGER NOT NULL,
    cash         INTEGER NOT NULL,
    opened_time  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS account_kinds (
    account TEXT PRIMARY KEY REFERENCES accounts (account),
    kind    TEXT NOT NULL CHECK (kind IN ('cash', 'margin'))
) STRICT;
CREATE TABLE IF NOT EXISTS permissions (
    account TEXT NOT NULL REFERENCES accounts (account),
    agent   TEXT NOT NULL,
    PRIMARY KEY (account, agent)
) STRICT;
CREATE TABLE IF NOT EXISTS positions (
    account  TEXT NOT NULL REFERENCES accounts (account),
    symbol   TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    cost     INTEGER NOT NULL,
    realized INTEGER NOT NULL,
    basis_us INTEGER NOT NULL,
    PRIMARY KEY (account, symbol)
) STRICT;
CREATE TABLE IF NOT EXISTS fills (
    execution_id    TEXT PRIMARY KEY,
    client_order_id TEXT NOT NULL,
    account         TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    event_us        INTEGER NOT NULL,
    cash            INTEGER NOT NULL,
    quantity        INTEGER NOT NULL,
    fill            TEXT NOT NULL,
    audit_seq       INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS fills_by_account_time ON fills (account, event_us);
CREATE INDEX IF NOT EXISTS fills_by_order ON fills (client_order_id);
CREATE TABLE IF NOT EXISTS fill_hours (
    account  TEXT NOT NULL,
    hour     INTEGER NOT NULL,
    symbol   TEXT NOT NULL,
    cash     INTEGER NOT NULL,
    proceeds INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    PRIMARY KEY (account, hour, symbol)
) STRICT, WITHOUT ROWID;
INSERT INTO fill_hours
    SELECT account, (event_us - (event_us % 3600000000 + 3600000000) % 3600000000) / 3600000000, symbol,
        SUM(cash), SUM(MAX(cash, 0)), SUM(quantity) FROM fills
    WHERE NOT EXISTS (SELECT 1 FROM fill_hours) GROUP BY 1, 2, 3;
CREATE TRIGGER IF NOT EXISTS fill_hours_sum AFTER INSERT ON fills BEGIN
    INSERT INTO fill_hours VALUES (
        new.account, (new.event_us - (new.event_us % 3600000000 + 3600000000) % 3600000000) / 3600000000,
        new.symbol, new.cash, MAX(new.cash, 0), new.quantity
    ) ON CONFLICT (account, hour, symbol) DO UPDATE SET
        cash = cash + excluded.cash, proceeds = proceeds + excluded.proceeds,
        quantity = quantity + excluded.quantity;
END;
"""
"""`cash`, `cost` and `realized` are micros of the account's currency, `quantity` nano-units, both signed.

Every judgement sums each account's day: `fill_hours` keeps the sums by the hour, in the transaction of the
fill, so that an order at the day's end costs what one at its beginning does.
"""

_HOUR_US = 3_600_000_000

_WORKING = ", ".join(f"'{state}'" for state in sorted(WORKING))


@dataclass(frozen=True, slots=True)
class Holding:
    """A stored position: signed nano-units, and signed cost and realised profit in micros.

    `basis_us` is the event time up to which splits are contained in the quantity.
    """

    quantity: int = 0
    cost: int = 0
    realized: int = 0
    basis_us: int = 0


def cash_movement(fill: Fill) -> Decimal:
    """Returns what the fill does to cash: negative for a buy, rounded to the cent against the account."""
    gross = fill.quantity * fill.price
    if fill.side == "buy":
        return -(gross + fill.fee).quantize(CENT, ROUND_CEILING)
    return (gross - fill.fee).quantize(CENT, ROUND_FLOOR)


def apply_fill(holding: Holding, *, quantity: int, cash: int) -> Holding:
    """Returns the holding after a fill of signed `quantity` that moved signed `cash`.

    What closes an existing holding realises profit against its average cost; what opens or adds
    carries its cash as cost; a fill that crosses zero does both, split by quantity.
    """
    if holding.quantity == 0 or (holding.quantity > 0) == (quantity > 0):
        return replace(holding, quantity=holding.quantity + quantity, cost=holding.cost - cash)
    closing = min(abs(quantity), abs(holding.quantity))
    closing_cash = share(cash, closing, abs(quantity))
    closing_cost = share(holding.cost, closing, abs(holding.quantity))
    left = holding.quantity + quantity
    crossed = left != 0 and (left > 0) == (quantity > 0)
    cost = -(cash - closing_cash) if crossed else holding.cost - closing_cost
    return replace(holding, quantity=left, cost=cost, realized=holding.realized + closing_cash - closing_cost)


def open_account(
    connection: sqlite3.Connection,
    *,
    account: str,
    cash: Decimal,
    currency: str,
    opened_time: str,
    kind: AccountKind = "cash",
) -> bool:
    """Creates the account unless it exists; returns whether it was created."""
    micros = to_micros(cash)
    cursor = connection.execute(
        "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, ?, ?)",
        (account, currency, micros, micros, opened_time),
    )
    if cursor.rowcount == 1 and kind != "cash":
        connection.execute("INSERT INTO account_kinds VALUES (?, ?)", (account, kind))
    return cursor.rowcount == 1


def kind_of(connection: sqlite3.Connection, account: str) -> AccountKind:
    """Returns what an account may do: trade its cash, or borrow by Regulation T."""
    row = connection.execute("SELECT kind FROM account_kinds WHERE account = ?", (account,)).fetchone()
    return "margin" if row is not None and row[0] == "margin" else "cash"


def permit_agent(connection: sqlite3.Connection, *, account: str, agent: str) -> bool:
    """Lets an agent trade the account; returns whether that is new."""
    cursor = connection.execute("INSERT OR IGNORE INTO permissions VALUES (?, ?)", (account, agent))
    return cursor.rowcount == 1


def may_trade(connection: sqlite3.Connection, *, account: str, agent: str) -> bool:
    """Tells whether the agent is permitted to trade the account."""
    row = connection.execute("SELECT 1 FROM permissions WHERE account = ? AND agent = ?", (account, agent))
    return row.fetchone() is not None


def post_fill(
    connection: sqlite3.Connection, *, account: str, fill: Fill, audit_seq: int, split_between: SplitBetween
) -> None:
    """Books a fill that is not booked yet; the caller has checked `has_fill` in this transaction.

    Fills may be booked out of order: holding and fill meet on the share basis of the later of them.

    Raises:
        IntegrityError: the fill is in another currency than the account.
    """
    cash = to_micros(cash_movement(fill))
    quantity = to_nanos(fill.quantity) * (1 if fill.side == "buy" else -1)
    event_us = to_epoch_us(fill.event_time)
    stored = dict(_stored_holdings(connection, account)).get(fill.symbol)
    before = stored or Holding(basis_us=event_us)
    basis_us = max(before.basis_us, event_us)

    def carried(symbol: str, since: datetime) -> Decimal:
        return split_between(symbol, since, from_epoch_us(basis_us))

    traded = _rebased(fill.symbol, Holding(quantity=quantity, basis_us=event_us), carried).quantity
    after = apply_fill(_rebased(fill.symbol, before, carried), quantity=traded, cash=cash)
    paid = connection.execute(
        "UPDATE accounts SET cash = cash + ? WHERE account = ? AND currency = ?",
        (cash, account, fill.currency),
    )
    if paid.rowcount != 1:
        raise IntegrityError(
            "foreign_fill",
            f"{fill.execution_id} is in {fill.currency}, which the account {account} does not hold",
            "halt trading and compare with the venue: neural-trader orders reconcile",
        )
    connection.execute(
        "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?, ?)",
        (account, fill.symbol, after.quantity, after.cost, after.realized, basis_us),
    )
    connection.execute(
        "INSERT INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            fill.execution_id,
            fill.client_order_id,
            account,
            fill.symbol,
            event_us,
            cash,
            quantity,
            fill.model_dump_json(),
            audit_seq,
        ),
    )


def has_fill(connection: sqlite3.Connection, execution_id: str) -> bool:
    """Tells whether an execution is booked: the last of the three idempotency layers."""
    return (
        connection.execute("SELECT 1 FROM fills WHERE execution_id = ?", (execution_id,)).fetchone()
        is not None
    )


def fills_of(connection: sqlite3.Connection, client_order_id: str) -> tuple[Fill, ...]:
    """Returns the booked executions of one order, in the order of their booking."""
    rows = connection.execute(
        "SELECT fill FROM fills WHERE client_order_id = ? ORDER BY audit_seq", (client_order_id,)
    )
    return tuple(Fill.model_validate_json(text) for (text,) in rows.fetchall())


def working_quantity(connection: sqlite3.Connection, account: str, symbol: str, side: str) -> Decimal:
    """Returns what working orders of one side may still fill."""
    total = connection.execute(
        f"SELECT COALESCE(SUM(quantity - filled), 0) FROM orders"  # noqa: S608 - a constant list of states
        f" WHERE account = ? AND symbol = ? AND side = ? AND state IN ({_WORKING})",
        (account, symbol, side),
    ).fetchone()[0]
    return from_nanos(total)


def reserved_cash(connection: sqlite3.Connection, account: str) -> Decimal:
    """Returns the cash that working orders hold back."""
    query = f"SELECT COALESCE(SUM(reserved), 0) FROM orders WHERE account = ? AND state IN ({_WORKING})"  # noqa: S608 - a constant list of states
    return from_micros(connection.execute(query, (account,)).fetchone()[0])


def cash_since(connection: sqlite3.Connection, account: str, since_us: int) -> tuple[Decimal, Decimal]:
    """Returns what fills since then did to cash, and how much of it is sale proceeds."""
    hour = -(-since_us // _HOUR_US)
    cash, proceeds = connection.execute(
        "SELECT COALESCE(SUM(cash), 0), COALESCE(SUM(proceeds), 0) FROM fill_hours"
        " WHERE account = ? AND hour >= ?",
        (account, hour),
    ).fetchone()
    if since_us % _HOUR_US:  # what of an hour is before its end, row by row; days begin with an hour
        more = connection.execute(
            "SELECT COALESCE(SUM(cash), 0), COALESCE(SUM(MAX(cash, 0)), 0) FROM fills"
            " WHERE account = ? AND event_us >= ? AND event_us < ?",
            (account, since_us, hour * _HOUR_US),
        ).fetchone()
        cash, proceeds = cash + more[0], proceeds + more[1]
    return from_micros(cash), from_micros(proceeds)


def traded_since(connection: sqlite3.Connection, account: str, symbol: str, since_us: int) -> Decimal:
    """Returns the signed quantity traded since then."""
    hour = -(-since_us // _HOUR_US)
    quantity = connection.execute(
        "SELECT COALESCE(SUM(quantity), 0) FROM fill_hours WHERE account = ? AND hour >= ? AND symbol = ?",
        (account, hour, symbol),
    ).fetchone()[0]
    if since_us % _HOUR_US:
        quantity += connection.execute(
            "SELECT COALESCE(SUM(quantity), 0) FROM fills"
            " WHERE account = ? AND symbol = ? AND event_us >= ? AND event_us < ?",
            (account, symbol, since_us, hour * _HOUR_US),
        ).fetchone()[0]
    return from_nanos(quantity)


def holdings(
    connection: sqlite3.Connection, account: str, split_factor: SplitFactor
) -> list[tuple[str, Holding]]:
    """Returns every position ever held, by symbol, on the share basis of now."""
    return [
        (symbol, _rebased(symbol, holding, split_factor))
        for symbol, holding in _stored_holdings(connection, account)
    ]


def _stored_holdings(connection: sqlite3.Connection, account: str) -> list[tuple[str, Holding]]:
    rows = connection.execute(
        "SELECT symbol, quantity, cost, realized, basis_us FROM positions WHERE account = ? ORDER BY symbol",
        (account,),
    ).fetchall()
    return [(str(row[0]), Holding(*row[1:])) for row in rows]


def _rebased(symbol: str, holding: Holding, split_factor: SplitFactor) -> Holding:
    """Carries a holding over the splits since its basis; the cost stays, the quantity changes."""
    factor = split_factor(symbol, from_epoch_us(holding.basis_us))
    if factor == 1:
        return holding
    quantity = int(
        (holding.quantity * factor).to_integral_value(ROUND_FLOOR if holding.quantity > 0 else ROUND_CEILING)
    )
    return replace(holding, quantity=quantity)
