"""The tool `trading_halt`: the agent's one-way kill switch; only a person resumes."""

from typing import Annotated

import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.halts import halt
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.machine import WORKING


class HaltResult(BaseModel):
    """The switch after the call."""

    halted: bool
    reason: str
    canceled: list[str] = Field(description="Working orders that were canceled")


async def trading_halt(
    store: Store,
    desk: Desk,
    caller: Caller,
    *,
    reason: Annotated[str, Field(min_length=1, max_length=500, description="Why; goes into the audit log")],
) -> HaltResult:
    """Stop all new orders at once and cancel working ones. One-way: only a person can resume."""

    def commit() -> None:
        with store.unit() as unit:
            halt(unit, reason=reason, caller=caller)

    await anyio.to_thread.run_sync(commit)
    canceled: list[str] = []
    for order in await desk.orders(states=WORKING, limit=100_000):
        after = await desk.cancel(order.client_order_id, caller)
        if after.state == "canceled":
            canceled.append(order.client_order_id)
    return HaltResult(halted=True, reason=reason, canceled=canceled)
