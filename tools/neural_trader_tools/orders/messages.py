"""Messages: what was sent to the venue, counted in the very transaction that sends it.

Orders and cancels count (this desk modifies by cancel and new order). A cancel is counted and never
refused: it lowers risk, and a desk that may not cancel because it canceled too much is the less safe
one. Counts are rows of the store, so that they hold across processes and restarts. The windows of
seconds and minutes run on the machine's clock, "today" on the desk's trading day.
"""

import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.terms.clocks import to_epoch_us
from neural_trader_governance.terms.orders import OrderIntent

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id          INTEGER PRIMARY KEY,
    at_us       INTEGER NOT NULL,
    agent       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    pattern     TEXT NOT NULL,
    fingerprint TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS messages_by_time ON messages (at_us, agent, kind, pattern, fingerprint);
CREATE TABLE IF NOT EXISTS sent_values (
    day     TEXT NOT NULL,
    account TEXT NOT NULL,
    agent   TEXT NOT NULL,
    cents   INTEGER NOT NULL,
    PRIMARY KEY (day, account, agent)
) STRICT, WITHOUT ROWID;
"""
"""`pattern`: symbol and side; `fingerprint`: the order without its reason and strategy."""

RATE_WINDOW = timedelta(minutes=1)
DUPLICATE_WINDOW = timedelta(seconds=10)
REPEAT_WINDOW = timedelta(minutes=10)
_KEPT = timedelta(hours=1)
_COUNT_MAX = 10**6


@dataclass(frozen=True, slots=True)
class Rates:
    """How much was sent before the order that is being judged; values in cents."""

    messages: int
    desk_messages: int
    duplicates: int
    repeats: int
    agent_sent_cents: int
    account_sent_cents: int


def read_rates(
    connection: sqlite3.Connection, intent: OrderIntent, *, now: datetime, day: date, enabled_us: int
) -> Rates:
    """Counts what the windows hold.

    Args:
        connection: Inside the transaction that acts on the answer.
        intent: The order that is being judged; it is not counted yet.
        now: The machine's time.
        day: The desk's trading day.
        enabled_us: Repeats before this moment are forgiven: a person looked at them.
    """
    counted = connection.execute(
        "SELECT COUNT(*) FILTER (WHERE at_us > ?1),"
        " COUNT(*) FILTER (WHERE at_us > ?1 AND agent = ?5),"
        " COUNT(*) FILTER (WHERE at_us > ?2 AND agent = ?5 AND kind = 'new' AND fingerprint = ?6),"
        " COUNT(*) FILTER (WHERE at_us > ?3 AND agent = ?5 AND kind = 'new' AND pattern = ?7)"
        " FROM messages WHERE at_us > ?4",
        (
            to_epoch_us(now - RATE_WINDOW),
            to_epoch_us(now - DUPLICATE_WINDOW),
            max(enabled_us, to_epoch_us(now - REPEAT_WINDOW)),
            to_epoch_us(now - REPEAT_WINDOW),
            intent.agent,
            _fingerprint(intent),
            _pattern(intent),
        ),
    ).fetchone()
    sent = connection.execute(
        "SELECT COALESCE(SUM(cents) FILTER (WHERE agent = ?), 0),"
        " COALESCE(SUM(cents) FILTER (WHERE account = ?), 0) FROM sent_values WHERE day = ?",
        (intent.agent, intent.account, day.isoformat()),
    ).fetchone()
    desk, own, duplicates, repeats = (min(int(count), _COUNT_MAX - 1) for count in counted)
    return Rates(own, desk, duplicates, repeats, int(sent[0]), int(sent[1]))


def count_order(
    connection: sqlite3.Connection, intent: OrderIntent, *, cents: int, now: datetime, day: date
) -> None:
    """Counts an order at once, in its own transaction; what is older than an hour is forgotten."""
    connection.execute("DELETE FROM messages WHERE at_us < ?", (to_epoch_us(now - _KEPT),))
    _insert(connection, intent.agent, "new", _pattern(intent), _fingerprint(intent), now)
    connection.execute(
        "INSERT INTO sent_values VALUES (?, ?, ?, ?)"
        " ON CONFLICT (day, account, agent) DO UPDATE SET cents = cents + excluded.cents",
        (day.isoformat(), intent.account, intent.agent, cents),
    )


def count_cancel(connection: sqlite3.Connection, intent: OrderIntent, *, now: datetime) -> None:
    """Counts a cancel against the order's agent, whoever asked for it; nothing refuses one."""
    _insert(connection, intent.agent, "cancel", _pattern(intent), "", now)


def _insert(
    connection: sqlite3.Connection, agent: str, kind: str, pattern: str, fingerprint: str, now: datetime
) -> None:
    connection.execute(
        "INSERT INTO messages (at_us, agent, kind, pattern, fingerprint) VALUES (?, ?, ?, ?, ?)",
        (to_epoch_us(now), agent, kind, pattern, fingerprint),
    )


def _pattern(intent: OrderIntent) -> str:
    # Not by strategy: the agent names that as it likes, and a new name each time would never repeat.
    return f"{intent.symbol} {intent.side}"


def _fingerprint(intent: OrderIntent) -> str:
    """Two orders are the same if all that the venue would see of them is."""
    seen = intent.model_dump(mode="json", exclude={"reason", "strategy_id"})
    return hashlib.sha256(canonical_bytes(seen)).hexdigest()[:32]
