"""Mandates as an order meets them: judged, charged in the order's own transaction, settled by fills.

    standing = assess(connection, issuer=…, agent=…, …)       # while the order is judged
    spend(connection, standing.mandate_id, issuer=…, …)       # when it is written: the same transaction
    book_fill(connection, client_order_id, …)                 # the actual value replaces the estimate
    release(connection, client_order_id)                      # what never filled is free again

Periods are calendar periods in UTC: a day begins at 00:00Z, a week on Monday, a month on its first.
An order counts in the period that it was sent in. Amounts are whole cents, rounded against the agent.
"""

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime

from neural_trader_governance.errors import RiskError
from neural_trader_governance.mandate_register import (
    EVERY_SYMBOL,
    Mandate,
    Period,
    Registered,
    read_register,
    released_ids,
)
from neural_trader_governance.mandate_register import SCHEMA as _REGISTER
from neural_trader_governance.policy.contexts import CENTS_MAX
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.terms.clocks import format_time, to_utc
from neural_trader_governance.terms.money import CENT, format_usd

SCHEMA = f"""{_REGISTER}
CREATE TABLE IF NOT EXISTS mandate_spend (
  client_order_id TEXT PRIMARY KEY, mandate_id TEXT NOT NULL, period TEXT NOT NULL,
  reserved_cents INTEGER NOT NULL, filled_micros INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS mandate_spend_mandate ON mandate_spend (mandate_id);
CREATE TABLE IF NOT EXISTS mandate_totals (
  mandate_id TEXT NOT NULL, period TEXT NOT NULL, cents INTEGER NOT NULL,
  PRIMARY KEY (mandate_id, period)) STRICT, WITHOUT ROWID;
"""
"""`reserved_cents` is held for what may still fill; `filled_micros` is the value of what did. Totals are the
sums over a mandate's orders of a period, so that the ten-thousandth order takes no longer than the first."""

_MICROS_PER_CENT = 10_000
_NOTE_MAX = 200


@dataclass(frozen=True, slots=True)
class MandateStanding:
    """What mandates say to one order.

    Attributes:
        required: The agent trades under mandates, or everybody must.
        mandate_id: The mandate that is to be charged; None where none is.
        covers: Mandates let the order through; true where none is required.
        note: Why not, in words; empty where they do.
    """

    required: bool
    mandate_id: str | None
    covers: bool
    note: str


def assess(
    connection: sqlite3.Connection,
    *,
    issuer: VerifyingKey,
    agent: str,
    account: str,
    symbol: str,
    side: str,
    notional_cents: int,
    now: datetime,
    required_for_all: bool = False,
) -> MandateStanding:
    """Finds the mandate that an order would be charged to, of those that cover it the first to expire.

    Args:
        connection: Inside the transaction that acts on the answer.
        issuer: The pinned key; every row is verified against it.
        agent: Who trades.
        account: Exactly as the order names it, like symbol and side.
        symbol: See account.
        side: See account.
        notional_cents: The order's worst-case value, rounded up.
        now: The desk's clock.
        required_for_all: The desk binds every agent (setting `mandates_required`).
    """
    register = read_register(connection, issuer=issuer, agent=agent)
    free = released_ids(connection, issuer=issuer, agent=agent) if register else frozenset[str]()
    binding = [row for row in register if row.mandate_id not in free]
    if not binding:
        if not required_for_all:
            return MandateStanding(False, None, True, "")
        return MandateStanding(True, None, False, f"this desk requires mandates, and {agent} has none")
    covering: list[Mandate] = []
    reasons: list[tuple[int, str]] = []
    for row in binding:
        reason = _why_not(connection, row, account, symbol, side, notional_cents, now)
        if reason is None and row.mandate is not None:
            covering.append(row.mandate)
        elif reason is not None:
            reasons.append(reason)
    if covering:
        chosen = min(covering, key=lambda mandate: (mandate.expires, mandate.mandate_id))
        return MandateStanding(True, chosen.mandate_id, True, "")
    # The one that came closest teaches most.
    return MandateStanding(True, None, False, max(reasons, key=lambda reason: reason[0])[1][:_NOTE_MAX])


def spend(
    connection: sqlite3.Connection,
    mandate_id: str,
    *,
    issuer: VerifyingKey,
    client_order_id: str,
    cents: int,
    now: datetime,
) -> None:
    """Charges an order to its mandate, in the transaction that writes the order.

    The mandate, its time and its room are checked again, so that no caller can spend what it did
    not assess; that the order is of the mandate's agent, account, symbol and side is `assess`'s part.

    Raises:
        RiskError: `mandate_unusable`; the transaction must not commit.
    """
    row = connection.execute("SELECT agent FROM mandates WHERE mandate_id = ?", (mandate_id,)).fetchone()
    register = read_register(connection, issuer=issuer, agent=row[0]) if row else []
    free = released_ids(connection, issuer=issuer, agent=row[0]) if row else frozenset[str]()
    found = next(
        (item for item in register if item.mandate_id == mandate_id and mandate_id not in free), None
    )
    mandate = found.mandate if found else None
    if found is None or mandate is None:
        why = f"{mandate_id} is no mandate that the issuer signed"
    else:
        symbol = mandate.symbols[0]
        refused = _why_not(connection, found, mandate.account, symbol, mandate.sides[0], cents, now)
        why = refused[1] if refused else ""
    if mandate is None or why:
        raise RiskError("mandate_unusable", why, "preview the order again")
    period = period_of(mandate.period, now)
    connection.execute(
        "INSERT INTO mandate_spend VALUES (?, ?, ?, ?, 0)", (client_order_id, mandate_id, period, cents)
    )
    connection.execute(
        "INSERT INTO mandate_totals VALUES (?, ?, ?)"
        " ON CONFLICT (mandate_id, period) DO UPDATE SET cents = cents + excluded.cents",
        (mandate_id, period, cents),
    )


def book_fill(
    connection: sqlite3.Connection,
    client_order_id: str,
    *,
    value_micros: int,
    quantity_nanos: int,
    left_nanos: int,
) -> None:
    """Replaces the filled share of an order's reservation by what the fill was worth.

    A fill beyond the estimate counts in full: the cap bounds what is sent, not what venues answer.
    An order under no mandate is left alone.

    Args:
        connection: Inside the transaction that books the fill.
        client_order_id: The order's.
        value_micros: Price x quantity of this fill.
        quantity_nanos: Of this fill.
        left_nanos: What was open before this fill.
    """
    charge = _find_charge(connection, client_order_id)
    if charge is None:
        return
    open_nanos = max(0, left_nanos - quantity_nanos)
    reserved = -(-charge.reserved_cents * open_nanos // left_nanos) if left_nanos > 0 else 0
    filled = charge.filled_micros + max(0, value_micros)
    _move(connection, client_order_id, charge, replace(charge, reserved_cents=reserved, filled_micros=filled))


def release(connection: sqlite3.Connection, client_order_id: str) -> None:
    """Frees what never filled of an order that has finished; its fills stay charged."""
    charge = _find_charge(connection, client_order_id)
    if charge is not None:
        _move(connection, client_order_id, charge, replace(charge, reserved_cents=0))


def spent_cents(connection: sqlite3.Connection, mandate: Mandate, now: datetime) -> int:
    """Returns what the mandate's orders of this period cost or may still cost."""
    row = connection.execute(
        "SELECT cents FROM mandate_totals WHERE mandate_id = ? AND period = ?",
        (mandate.mandate_id, period_of(mandate.period, now)),
    ).fetchone()
    return 0 if row is None else int(row[0])


def period_of(period: Period, now: datetime) -> str:
    """Names the calendar period (UTC) of an instant: `2013-03-01`, `2013-W09`, `2013-03` or `total`."""
    moment = to_utc(now)
    if period == "day":
        return f"{moment:%Y-%m-%d}"
    if period == "week":
        year, week, _ = moment.isocalendar()
        return f"{year:04d}-W{week:02d}"
    return f"{moment:%Y-%m}" if period == "month" else "total"


@dataclass(frozen=True, slots=True)
class _Charge:
    """What one order holds of its mandate."""

    mandate_id: str
    period: str
    reserved_cents: int
    filled_micros: int

    @property
    def cents(self) -> int:
        return self.reserved_cents + -(-self.filled_micros // _MICROS_PER_CENT)


def _find_charge(connection: sqlite3.Connection, client_order_id: str) -> _Charge | None:
    row = connection.execute(
        "SELECT mandate_id, period, reserved_cents, filled_micros FROM mandate_spend"
        " WHERE client_order_id = ?",
        (client_order_id,),
    ).fetchone()
    return None if row is None else _Charge(*row)


def _move(connection: sqlite3.Connection, client_order_id: str, before: _Charge, after: _Charge) -> None:
    connection.execute(
        "UPDATE mandate_spend SET reserved_cents = ?, filled_micros = ? WHERE client_order_id = ?",
        (after.reserved_cents, after.filled_micros, client_order_id),
    )
    connection.execute(
        "UPDATE mandate_totals SET cents = cents + ? WHERE mandate_id = ? AND period = ?",
        (after.cents - before.cents, before.mandate_id, before.period),
    )


def _why_not(
    connection: sqlite3.Connection,
    row: Registered,
    account: str,
    symbol: str,
    side: str,
    cents: int,
    now: datetime,
) -> tuple[int, str] | None:
    """Returns how far the order came and what stopped it, or None where the mandate covers it."""
    mandate, name = row.mandate, row.mandate_id
    if mandate is None:
        return 0, f"{name} does not verify against this desk's issuer key"
    if row.revoked:
        return 1, f"{name} is revoked"
    if now >= mandate.expires:
        return 2, f"{name} ended at {format_time(mandate.expires)}"
    if now < mandate.not_before:
        return 3, f"{name} begins at {format_time(mandate.not_before)}"
    if account != mandate.account:
        return 4, f"{name} is for the account {mandate.account}"
    if mandate.symbols != EVERY_SYMBOL and symbol not in mandate.symbols:
        return 5, f"{name} does not name {symbol}"
    if side not in mandate.sides:
        return 6, f"{name} allows to {' and '.join(mandate.sides)} only"
    if type(cents) is not int or not 0 < cents <= CENTS_MAX:
        return 7, f"the order's value {cents!r:.40} is no amount of cents"
    if cents > mandate.per_order_cap_cents:
        return 8, f"{name} allows {_usd(mandate.per_order_cap_cents)} an order; this one needs {_usd(cents)}"
    room = mandate.cumulative_cap_cents - spent_cents(connection, mandate, now)
    if cents > room:
        cap = f"{_usd(mandate.cumulative_cap_cents)} {_PER[mandate.period]}"
        return 9, f"{name} has {_usd(max(0, room))} of {cap} left; this order needs {_usd(cents)}"
    return None


_PER = {"day": "a day", "week": "a week", "month": "a month", "total": "in total"}


def _usd(cents: int) -> str:
    return format_usd(cents * CENT)
