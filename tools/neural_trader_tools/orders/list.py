"""The tool `orders_list`: what was submitted and how it stands."""

from difflib import get_close_matches
from typing import Annotated

from pydantic import BaseModel, Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import Order, OrderState
from neural_trader_tools.orders.desk import Desk


class OrderRow(BaseModel):
    """One order."""

    client_order_id: str
    symbol: str
    side: str
    type: str
    quantity: str
    limit_price: str | None
    stop_price: str | None
    state: str
    filled_quantity: str
    average_price: str | None
    created_time: str
    audit_seq: int
    detail: str


class OrdersResult(BaseModel):
    """Orders, newest first."""

    mode: str
    orders: list[OrderRow]


def to_row(order: Order) -> OrderRow:
    """Returns the order as its flat, textual row."""
    intent = order.intent

    def text(value: object) -> str | None:
        return None if value is None else str(value)

    return OrderRow(
        client_order_id=order.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        type=intent.type,
        quantity=format_decimal(intent.quantity),
        limit_price=text(intent.limit_price),
        stop_price=text(intent.stop_price),
        state=order.state,
        filled_quantity=format_decimal(order.filled_quantity),
        average_price=format_decimal(order.average_price) if order.average_price is not None else None,
        created_time=format_time(order.created_time),
        audit_seq=order.audit_seq,
        detail=order.detail,
    )


async def orders_list(
    desk: Desk,
    caller: Caller,
    *,
    state: Annotated[str | None, Field(description="Such as filled")] = None,
    limit: Annotated[int, Field(ge=1, le=200, description="Most rows")] = 20,
) -> OrdersResult:
    """List orders, newest first, as the venue has them now."""
    states: frozenset[OrderState] | None = None
    if state is not None:
        if state not in set(OrderState):
            close = get_close_matches(state, list(OrderState), n=1)
            raise InputError(
                "unknown_state",
                f"{state!r:.40} is not an order state",
                f"did you mean {close[0]}?" if close else f"use one of: {', '.join(OrderState)}",
            )
        states = frozenset({OrderState(state)})
    await desk.reconcile(caller)
    orders = [to_row(order) for order in await desk.orders(states=states, limit=limit)]
    return OrdersResult(mode=desk.broker.mode, orders=orders)
