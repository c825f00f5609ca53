"""History: an order's events as the log has them, and the state that they lead to, played again.

The log is what happened; the table of orders is what we made of it. `replay` makes it again from the log
alone, through the same state machine, so that a row that was edited, or a transition that was not logged,
shows.
"""

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import ExecutionError
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.orders import book
from neural_trader_tools.orders.machine import WORKING, Event, follow

_FILL = "fill"
_SAYS_STATE = {EntryType.BROKER_ACK, EntryType.RECON}


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry of an order: what happened, and how the order stood afterwards.

    An answer and the fills that it brought are entries of one commit, the answer first.
    """

    seq: int
    time: datetime
    event: str
    state: OrderState
    filled: Decimal
    detail: str


@dataclass(frozen=True, slots=True)
class History:
    """What the log says of one order.

    Attributes:
        moments: Oldest first; the first is its submission.
        agrees: Whether the table of orders has the same state and the same quantity filled.
    """

    client_order_id: str
    intent: OrderIntent
    moments: tuple[Moment, ...]
    agrees: bool

    @property
    def state(self) -> OrderState:
        """Where it ended."""
        return self.moments[-1].state

    @property
    def filled(self) -> Decimal:
        """Units filled in all."""
        return self.moments[-1].filled


def replay(connection: sqlite3.Connection, client_order_id: str) -> History:
    """Plays an order's entries again.

    Raises:
        ExecutionError: there is no such order, or its entries do not follow each other.
    """
    order = book.find_order(connection, client_order_id)
    rows = connection.execute(
        "SELECT seq, entry FROM audit_entries WHERE client_order_id = ? ORDER BY seq", (client_order_id,)
    ).fetchall()
    state, filled = OrderState.SUBMITTED, Decimal(0)
    executions: set[str] = set()
    moments: list[Moment] = []
    for seq, text in rows:
        entry: dict[str, Any] = json.loads(text)
        event, more, detail = _read(entry, executions)
        if event is None:
            continue
        if event not in {"submitted", "adopted"}:
            filled += more
            moved = Event.PARTIALLY_FILLED if event == _FILL else Event(event)
            state = follow(state, moved, filled=filled, quantity=order.intent.quantity)
        moments.append(Moment(int(seq), parse_time(entry["ts"]), event, state, filled, detail))
    if not moments:
        raise ExecutionError(
            "history_missing",
            f"the log says nothing of {client_order_id}",
            "run `neural-trader audit verify`, and look for older entries with `neural-trader audit archive`",
        )
    agrees = (state, filled) == (order.state, order.filled_quantity)
    return History(client_order_id, order.intent, tuple(moments), agrees)


def disagreements(connection: sqlite3.Connection, *, limit: int = 1_000) -> list[str]:
    """Returns the ids of the newest orders whose row is not what the log says (archived ones left out)."""
    found: list[str] = []
    for order in book.list_orders(connection, limit=limit):
        try:
            agrees = replay(connection, order.client_order_id).agrees
        except ExecutionError as error:
            agrees = error.code == "history_missing" and order.state not in WORKING
        if not agrees:
            found.append(order.client_order_id)
    return found


def _read(entry: dict[str, Any], executions: set[str]) -> tuple[str | None, Decimal, str]:
    """Returns an entry's event (None where it moves nothing), what it fills, and its detail."""
    kind, payload = EntryType(entry["type"]), entry["payload"]
    nothing = Decimal(0)
    if kind == EntryType.ORDER_INTENT:
        return "submitted", nothing, ""
    if kind == EntryType.BROKER_FILL:
        fill = Fill.model_validate(payload)
        if fill.execution_id in executions:  # booked once, whatever is logged
            return None, nothing, ""
        executions.add(fill.execution_id)
        detail = f"{fill.quantity.normalize():f} at {fill.price.normalize():f}"
        return _FILL, fill.quantity, detail
    if kind == EntryType.BROKER_CANCEL:
        said = str(payload.get("said", Event.CANCEL_ASKED.value))
        return said, nothing, str(payload.get("why", ""))
    if "adopted" in payload:
        return "adopted", nothing, str(payload.get("origin", ""))
    if kind in _SAYS_STATE and "state" in payload:  # a break is a recon entry, too, and has none
        # Entries from before events were logged name the state that followed.
        return str(payload.get("said", payload["state"])), nothing, str(payload.get("detail", ""))
    return None, nothing, ""
