"""Previews: an intent that was priced and judged, waiting to be submitted once, or to expire.

A preview is single use. It lives `PREVIEW_TTL`, or `APPROVAL_TTL` while a person is needed; an
approval extends it to `APPROVAL_TTL` from then. Times here are the wall clock's.
"""

import hashlib
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pydantic import ValidationError

from neural_trader_governance.approvals import Approval
from neural_trader_governance.errors import IntegrityError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import Verdict
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.terms.clocks import format_time, parse_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import OrderIntent, OrderState

PREVIEW_TTL = timedelta(minutes=5)
APPROVAL_TTL = timedelta(minutes=15)
PREVIEWS_A_MINUTE_MAX = 300
"""Three times the orders that an agent may send: a loop must not fill the disk that a halt is written to."""
WAITING_MAX = 20
"""How many orders of one agent may wait for persons at once: who is asked too much reads nothing."""
_WAITED_MAX = timedelta(hours=24)  # bounds the search; each signature extends a preview by minutes

SCHEMA = """
CREATE TABLE IF NOT EXISTS previews (
    preview_id      TEXT PRIMARY KEY,
    agent           TEXT NOT NULL,
    principal       TEXT NOT NULL,
    intent          TEXT NOT NULL,
    intent_hash     TEXT NOT NULL,
    price           TEXT NOT NULL,
    notional        TEXT NOT NULL,
    verdict         TEXT NOT NULL,
    state           TEXT NOT NULL,
    created_time    TEXT NOT NULL,
    expires_time    TEXT NOT NULL,
    client_order_id TEXT UNIQUE
) STRICT;
CREATE INDEX IF NOT EXISTS previews_by_agent_time ON previews (agent, created_time);
CREATE TABLE IF NOT EXISTS preview_approvals (
    preview_id TEXT NOT NULL REFERENCES previews (preview_id),
    approver   TEXT NOT NULL,
    nonce      TEXT NOT NULL UNIQUE,
    approval   TEXT NOT NULL,
    PRIMARY KEY (preview_id, approver)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """One stored preview; `price` and `notional` are what the verdict was given on."""

    preview_id: str
    caller: Caller
    intent: OrderIntent
    intent_hash: str
    price: Decimal
    notional: Decimal
    verdict: Verdict
    state: OrderState
    created_time: datetime
    expires_time: datetime
    client_order_id: str | None = None

    def require_open(self, now: datetime) -> None:
        """Raises RiskError unless the preview may still be approved or submitted."""
        if self.client_order_id is not None:
            raise RiskError(
                "preview_used",
                f"{self.preview_id} was already submitted as {self.client_order_id}",
                "look at it with orders_list, or call orders_preview for a new order",
                client_order_id=self.client_order_id,
            )
        if self.state in {OrderState.DENIED, OrderState.REJECTED}:
            why, step = "a person rejected it", "change the order"
            if self.state == OrderState.DENIED:
                why = f"policy denied it: {'. '.join(reason.message for reason in self.verdict.reasons)}"
                step = self._way_out()
            raise RiskError(
                f"preview_{self.state}",
                f"{self.preview_id} cannot be submitted, {why}",
                step if "preview again" in step else f"{step}, and call orders_preview again",
            )
        if now >= self.expires_time:
            raise RiskError(
                "preview_expired",
                f"{self.preview_id} expired at {format_time(self.expires_time)}",
                "call orders_preview again",
            )

    def _way_out(self) -> str:
        """Returns what the first rule that denied says to do; approvals would not have been enough."""
        reasons = self.verdict.reasons
        denying = [reason for reason in reasons if not reason.rule.startswith("approval_")] or reasons
        return denying[0].next_step if denying else "change the order"


def hash_intent(intent: OrderIntent) -> str:
    """Returns the SHA-256 (hex) of the intent's canonical JSON: what approvals sign."""
    return hashlib.sha256(canonical_bytes(intent.model_dump(mode="json"))).hexdigest()


def insert_preview(connection: sqlite3.Connection, preview: Preview) -> None:
    """Stores a new preview."""
    connection.execute(
        "INSERT INTO previews VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            preview.preview_id,
            preview.caller.agent,
            preview.caller.principal,
            preview.intent.model_dump_json(),
            preview.intent_hash,
            format_decimal(preview.price),
            format_decimal(preview.notional),
            preview.verdict.model_dump_json(),
            preview.state,
            format_time(preview.created_time),
            format_time(preview.expires_time),
            preview.client_order_id,
        ),
    )


def find_preview(connection: sqlite3.Connection, preview_id: str) -> Preview:
    """Returns a stored preview.

    Raises:
        RiskError: there is none of that id.
        IntegrityError: its intent is not the one that was previewed.
    """
    row = connection.execute("SELECT * FROM previews WHERE preview_id = ?", (preview_id,)).fetchone()
    if row is None:
        raise RiskError(
            "preview_unknown",
            f"there is no preview {preview_id!r:.60}",
            "call orders_preview and use its preview_id",
        )
    return _read(row)


def list_previews(connection: sqlite3.Connection, *, state: OrderState, now: datetime) -> list[Preview]:
    """Returns the unexpired previews in a state, oldest first."""
    rows = connection.execute(
        "SELECT * FROM previews WHERE state = ? ORDER BY created_time", (state,)
    ).fetchall()
    return [preview for row in rows if (preview := _read(row)).expires_time > now]


def require_pace(connection: sqlite3.Connection, caller: Caller, *, now: datetime) -> None:
    """Passes where the agent has not previewed too much within a minute: each is logged for years.

    Raises:
        RiskError: `preview_rate`; nothing is written of it.
    """
    count = connection.execute(
        "SELECT COUNT(*) FROM previews WHERE agent = ? AND created_time > ?",
        (caller.agent, format_time(now - timedelta(minutes=1))),
    ).fetchone()[0]
    if count >= PREVIEWS_A_MINUTE_MAX:
        raise RiskError(
            "preview_rate",
            f"{caller.agent} previewed {count} orders within a minute",
            "preview what you mean to submit, and wait a minute",
        )


def require_room(connection: sqlite3.Connection, caller: Caller, *, now: datetime) -> None:
    """Passes where another order of this agent may wait for a person.

    Raises:
        RiskError: `too_many_waiting`.
    """
    waiting = connection.execute(
        "SELECT COUNT(*) FROM previews"
        " WHERE agent = ? AND created_time > ? AND state = ? AND expires_time > ?",
        (caller.agent, format_time(now - _WAITED_MAX), OrderState.AWAITING_APPROVAL, format_time(now)),
    ).fetchone()[0]
    if waiting >= WAITING_MAX:
        raise RiskError(
            "too_many_waiting",
            f"{waiting} orders of {caller.agent} wait for a person already",
            "wait until they are answered or expire; smaller orders need nobody",
        )


def _read(row: tuple[str, ...]) -> Preview:
    intent = OrderIntent.model_validate_json(row[3])
    if hash_intent(intent) != row[4] or intent.agent != row[1]:
        raise IntegrityError(
            "preview_altered",
            f"{row[0]} does not hold the order that was previewed",
            "run `neural-trader audit verify`, find out who edits the database, and preview again",
        )
    return Preview(
        preview_id=row[0],
        caller=Caller(agent=row[1], principal=row[2]),
        intent=intent,
        intent_hash=row[4],
        price=Decimal(row[5]),
        notional=Decimal(row[6]),
        verdict=Verdict.model_validate_json(row[7]),
        state=OrderState(row[8]),
        created_time=parse_time(row[9]),
        expires_time=parse_time(row[10]),
        client_order_id=row[11] or None,
    )


def update_preview(
    connection: sqlite3.Connection,
    preview_id: str,
    *,
    state: OrderState,
    expires_time: datetime | None = None,
    client_order_id: str | None = None,
) -> None:
    """Moves a preview on; `client_order_id` marks it as used, for ever."""
    connection.execute(
        "UPDATE previews SET state = ?, expires_time = COALESCE(?, expires_time),"
        " client_order_id = COALESCE(?, client_order_id) WHERE preview_id = ?",
        (state, format_time(expires_time) if expires_time else None, client_order_id, preview_id),
    )


def judge_again(
    connection: sqlite3.Connection,
    preview_id: str,
    *,
    state: OrderState,
    verdict: Verdict,
    price: Decimal,
    notional: Decimal,
    expires_time: datetime,
) -> None:
    """Replaces a preview's verdict, and the prices that it was given on, by newer ones."""
    connection.execute(
        "UPDATE previews SET state = ?, verdict = ?, price = ?, notional = ?, expires_time = ?"
        " WHERE preview_id = ?",
        (
            state,
            verdict.model_dump_json(),
            format_decimal(price),
            format_decimal(notional),
            format_time(expires_time),
            preview_id,
        ),
    )


def insert_approval(
    connection: sqlite3.Connection, preview_id: str, approver: str, approval: Approval
) -> None:
    """Stores a person's signed approval in place of an earlier one of hers; a nonce can be stored once."""
    connection.execute(
        "INSERT OR REPLACE INTO preview_approvals VALUES (?, ?, ?, ?)",
        (preview_id, approver, approval.nonce, approval.model_dump_json()),
    )


def find_approvals(connection: sqlite3.Connection, preview_id: str) -> dict[str, Approval]:
    """Returns the approvals of a preview by approver, unverified, without those altered since."""
    rows = connection.execute(
        "SELECT approver, approval FROM preview_approvals WHERE preview_id = ?", (preview_id,)
    ).fetchall()
    found: dict[str, Approval] = {}
    for approver, text in rows:
        with suppress(ValidationError):
            approval = Approval.model_validate_json(text)
            if approval.model_dump_json() == text:  # one approval has one spelling
                found[approver] = approval
    return found
