"""The tool `orders_cancel`: asks the venue to stop working an order."""

from typing import Annotated

from pydantic import BaseModel, Field

from neural_trader_governance.identity import Caller
from neural_trader_tools.orders.desk import Desk


class CancelResult(BaseModel):
    """The order's state after the venue answered."""

    client_order_id: str
    mode: str
    state: str
    detail: str


async def orders_cancel(
    desk: Desk,
    caller: Caller,
    *,
    client_order_id: Annotated[str, Field(description="From orders_submit or orders_list", max_length=60)],
) -> CancelResult:
    """Cancel what is still working of an order; a finished order is reported as it is."""
    order = await desk.cancel(client_order_id, caller)
    return CancelResult(
        client_order_id=order.client_order_id,
        mode=desk.broker.mode,
        state=order.state,
        detail=order.detail,
    )
