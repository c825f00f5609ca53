"""Orders: all of the desk, whoever's agent sent them, and the story of each as the log tells it."""

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.errors import ExecutionError, InputError
from neural_trader_governance.principals import Role
from neural_trader_governance.terms.clocks import format_time, to_epoch_us
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import Order, OrderState
from neural_trader_server.console.guard import answer, visitor_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.orders.previews import Preview

LISTED_MAX = 500
STORY_MAX = 400


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the orders."""
    from neural_trader_tools.orders.machine import WORKING

    async def listed(request: Request) -> Response:
        wanted = request.query_params.get("state", "all")
        orders = await services.desk.orders(states=_states(wanted, WORKING), limit=LISTED_MAX)
        return answer(
            {
                "mode": services.broker.mode,
                "states": [state.value for state in OrderState],
                "limit": LISTED_MAX,
                "orders": [_row(order, WORKING) for order in orders],
            }
        )

    def read(client_order_id: str) -> dict[str, Any]:
        with services.store.read() as connection:
            return _told(connection, client_order_id, WORKING)

    async def story(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(read, request.path_params["client_order_id"]))

    async def cancel(request: Request) -> Response:
        from neural_trader_tools.orders.cancel import orders_cancel

        visitor = visitor_of(request)
        visitor.require(Role.TRADER, Role.APPROVER, Role.ADMIN)
        # A person, and recorded as one: the agent of this home may cancel only its own.
        canceled = await orders_cancel(
            services.desk, visitor.caller, client_order_id=request.path_params["client_order_id"]
        )
        return answer(canceled)

    return [
        Route("/orders", listed, methods=["GET"]),
        Route("/orders/{client_order_id}", story, methods=["GET"]),
        Route("/orders/{client_order_id}/cancel", cancel, methods=["POST"]),
    ]


def _states(wanted: str, working: frozenset[OrderState]) -> frozenset[OrderState] | None:
    if wanted == "all":
        return None
    if wanted == "working":
        return working
    try:
        return frozenset({OrderState(wanted)})
    except ValueError:
        raise InputError(
            "unknown_state", f"{wanted!r:.40} is no state of an order", "choose one of the list"
        ) from None


def _row(order: Order, working: frozenset[OrderState]) -> dict[str, Any]:
    intent = order.intent
    return {
        "client_order_id": order.client_order_id,
        "agent": intent.agent,
        "account": intent.account,
        "symbol": intent.symbol,
        "side": intent.side,
        "type": intent.type,
        "quantity": format_decimal(intent.quantity),
        "state": order.state.value,
        "works": order.state in working,
        "filled_quantity": format_decimal(order.filled_quantity),
        "average_price": None if order.average_price is None else format_decimal(order.average_price),
        "created_at": format_time(order.created_time),
        "updated_at": format_time(order.updated_time),
        "audit_seq": order.audit_seq,
        "detail": order.detail,
        "reason": intent.reason,
    }


def _told(
    connection: sqlite3.Connection, client_order_id: str, working: frozenset[OrderState]
) -> dict[str, Any]:
    """Returns an order with its preview, its approvals and every entry of the log that is about it."""
    from neural_trader_tools.orders import book, previews
    from neural_trader_tools.orders.history import replay

    order = book.find_order(connection, client_order_id)
    preview = _preview_of(connection, order)
    try:
        played = replay(connection, client_order_id)
        states, agrees = {each.seq: each.state.value for each in played.moments}, played.agrees
    except ExecutionError as error:
        if error.code != "history_missing":
            raise
        states, agrees = {}, None  # its entries were archived: neither confirmed nor contradicted
    signed = previews.find_approvals(connection, order.preview_id)
    return {
        "order": _row(order, working),
        "intent": order.intent.model_dump(mode="json"),
        "intent_hash": order.intent_hash,
        "principal": None if preview is None else preview.caller.principal,
        "price": None if preview is None else format_decimal(preview.price),
        "notional": None if preview is None else format_decimal(preview.notional),
        "reasons": [] if preview is None else [each.model_dump() for each in preview.verdict.reasons],
        "approvals": [
            {"person": person, **approval.model_dump(mode="json")} for person, approval in signed.items()
        ],
        "agrees": agrees,
        "entries": [
            {**entry, "state": states.get(entry["seq"])} for entry in _entries(connection, order, preview)
        ],
    }


def _preview_of(connection: sqlite3.Connection, order: Order) -> "Preview | None":
    """Returns the preview that an order was made from; None for one that was adopted from the venue."""
    from neural_trader_tools.orders import previews

    if connection.execute("SELECT 1 FROM previews WHERE preview_id = ?", (order.preview_id,)).fetchone():
        return previews.find_preview(connection, order.preview_id)
    return None


def _entries(connection: sqlite3.Connection, order: Order, preview: "Preview | None") -> list[dict[str, Any]]:
    """Returns the log's entries of an order and of its preview, oldest first."""
    rows: list[tuple[int, bytes]] = connection.execute(
        "SELECT seq, entry FROM audit_entries WHERE client_order_id = ? ORDER BY seq LIMIT ?",
        (order.client_order_id, STORY_MAX),
    ).fetchall()
    if preview is not None:
        before = connection.execute(
            "SELECT seq, entry FROM audit_entries WHERE symbol = ? AND time_us BETWEEN ? AND ?"
            " AND client_order_id IS NULL AND instr(CAST(entry AS TEXT), ?) ORDER BY seq LIMIT ?",
            (
                order.intent.symbol,
                to_epoch_us(preview.created_time) - 60_000_000,
                to_epoch_us(order.created_time) + 60_000_000,
                f'"preview_id":"{preview.preview_id}"',
                STORY_MAX,
            ),
        ).fetchall()
        rows = sorted({int(row[0]): bytes(row[1]) for row in [*before, *rows]}.items())
    told: list[dict[str, Any]] = []
    for seq, text in rows:
        if not text:
            continue  # archived: only its hash is here
        entry = json.loads(text)
        told.append(
            {
                "seq": seq,
                "time": entry["ts"],
                "type": entry["type"],
                "principal": entry["principal"],
                "agent": entry["agent"],
                "payload": entry["payload"],
            }
        )
    return told
