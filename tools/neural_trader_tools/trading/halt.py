"""The tool `trading_halt`: the agent's one-way kill switch; only a person resumes."""

from typing import Annotated

import anyio.to_thread
import structlog
from pydantic import BaseModel, Field

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.halts import halt
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.machine import WORKING

_log = structlog.get_logger(__name__)


class HaltResult(BaseModel):
    """The switch after the call."""

    halted: bool
    reason: str
    canceled: list[str] = Field(description="Working orders that were canceled")
    working: list[str] = Field(description="Orders whose cancel has no answer yet; they may still fill")


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
    working: list[str] = []
    for order in await desk.orders(states=WORKING, limit=100_000):
        try:
            after = await desk.cancel(order.client_order_id, caller)
        except NeuralTraderError as error:  # one order in trouble must not keep the others working
            _log.error("halt.cancel_failed", client_order_id=order.client_order_id, error=str(error))
            working.append(order.client_order_id)
            continue
        if after.state == "canceled":
            canceled.append(order.client_order_id)
        elif after.state in WORKING:
            working.append(order.client_order_id)
    return HaltResult(halted=True, reason=reason, canceled=canceled, working=working)
