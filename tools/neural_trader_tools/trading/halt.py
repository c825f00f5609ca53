"""The tool `trading_halt`: the agent's one-way kill switch; only a person resumes."""

from typing import Annotated

import anyio.to_thread
import structlog
from pydantic import BaseModel, Field

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.halts import Scope, halt
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.machine import WORKING

_log = structlog.get_logger(__name__)


class HaltResult(BaseModel):
    """The switch after the call."""

    halted: bool
    scope: str = Field(description="all, or what the halt covers, such as symbol AAPL")
    reason: str
    canceled: list[str] = Field(description="Working orders that were canceled")
    working: list[str] = Field(description="Orders whose cancel has no answer yet; they may still fill")


async def trading_halt(
    store: Store,
    desk: Desk,
    caller: Caller,
    *,
    reason: Annotated[str, Field(min_length=1, max_length=500, description="Why; goes into the audit log")],
    account: Annotated[str | None, Field(description="Only this account")] = None,
    symbol: Annotated[str | None, Field(description="Only this symbol")] = None,
    strategy_id: Annotated[str | None, Field(description="Only this strategy")] = None,
    agent: Annotated[str | None, Field(description="Only this agent")] = None,
) -> HaltResult:
    """Stop new orders at once and cancel working ones: all, or one scope. Only a person can resume."""
    scope = Scope.choose(account=account, symbol=symbol, strategy_id=strategy_id, agent=agent)

    def commit() -> Scope:
        with store.unit() as unit:
            return halt(unit, reason=reason, caller=caller, scope=scope).scope  # it may be wider

    scope = await anyio.to_thread.run_sync(commit)
    canceled: list[str] = []
    working: list[str] = []
    for order in await desk.orders(states=WORKING, limit=100_000):
        intent = order.intent
        if not scope.covers(
            account=intent.account, symbol=intent.symbol, strategy_id=intent.strategy_id, agent=intent.agent
        ):
            continue
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
    return HaltResult(halted=True, scope=str(scope), reason=reason, canceled=canceled, working=working)
