"""Arrivals: the market's price when an order was decided on, and when it was sent.

Written in the transaction of each decision: the first one, at the preview, is the decision to trade, the last
one, at the submission, the arrival. What an order cost (`costs`) is measured from them, and from nothing that
is looked up afterwards.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from neural_trader_governance.terms.clocks import from_epoch_us, to_epoch_us
from neural_trader_governance.terms.money import from_micros, to_micros

SCHEMA = """
CREATE TABLE IF NOT EXISTS arrivals (
    preview_id     TEXT PRIMARY KEY,
    decision_us    INTEGER NOT NULL,
    decision_price INTEGER NOT NULL,
    arrival_us     INTEGER NOT NULL,
    arrival_price  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""Times are the desk's clock; prices are micros of the last price known at it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The two moments from which an order's cost is measured."""

    decision_time: datetime
    decision_price: Decimal
    arrival_time: datetime
    arrival_price: Decimal


def note_arrival(connection: sqlite3.Connection, preview_id: str, *, last: Decimal, now: datetime) -> None:
    """Writes down the last price at a decision about a preview; the first one stays its decision price."""
    moment, price = to_epoch_us(now), to_micros(last)
    connection.execute(
        "INSERT INTO arrivals VALUES (?1, ?2, ?3, ?2, ?3) ON CONFLICT (preview_id)"
        " DO UPDATE SET arrival_us = excluded.arrival_us, arrival_price = excluded.arrival_price",
        (preview_id, moment, price),
    )


def find_arrival(connection: sqlite3.Connection, preview_id: str) -> Arrival | None:
    """Returns when and at which prices a preview was decided on and sent; None where nothing was written."""
    row = connection.execute("SELECT * FROM arrivals WHERE preview_id = ?", (preview_id,)).fetchone()
    if row is None:
        return None
    return Arrival(from_epoch_us(row[1]), from_micros(row[2]), from_epoch_us(row[3]), from_micros(row[4]))
