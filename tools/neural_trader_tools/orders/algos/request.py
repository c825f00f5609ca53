"""Requests: what somebody wants executed, checked before it becomes a parent, and its children's orders."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.orders.algos.parents import Parent, ParentState
from neural_trader_tools.orders.algos.plan import LEGS_MAX, Leg, Plan

REASON_MAX = 400


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants executed."""

    account: str
    legs: tuple[Leg, ...]
    plan: Plan
    reason: str
    strategy: str = ""


def admit(
    request: Request, caller: Caller, *, parent_id: str, archive: Archive, now: datetime, wall: datetime
) -> Parent:
    """Returns the parent that a request becomes.

    Args:
        request: What is wanted.
        caller: The agent whose orders the children are.
        parent_id: Its new id.
        archive: Where the symbols must be listed.
        now: The desk's clock.
        wall: The machine's.

    Raises:
        InputError: the plan is over, there are no or too many legs, or no order may carry such words.
        DataError: a symbol is unknown.
        RiskError: `agent_required`, a person places no orders without an agent.
    """
    count = len(request.legs)
    if not caller.agent:
        raise RiskError(
            "agent_required", "a person places no orders of her own here", "start it as an agent of yours"
        )
    if not 1 <= count <= LEGS_MAX:
        raise InputError("invalid_basket", f"{count} legs are outside 1 to {LEGS_MAX}", "split the basket")
    if not 0 < len(request.reason) <= REASON_MAX:
        raise InputError(
            "invalid_reason",
            f"the reason has {len(request.reason)} characters",
            f"give 1 to {REASON_MAX}: it goes into every child",
        )
    if request.plan.algorithm != "now" and request.plan.end <= now:
        raise InputError(
            "plan_over",
            f"the plan ends at {format_time(request.plan.end)}, and the desk's clock stands at"
            f" {format_time(now)}",
            "give a later --end",
        )
    parent = Parent(
        parent_id=parent_id,
        account=request.account,
        caller=caller,
        legs=request.legs,
        plan=request.plan,
        reason=request.reason,
        strategy=request.strategy,
        state=ParentState.RUNNING,
        detail="",
        created_time=now,
        retry_time=wall,
        audit_seq=-1,
    )
    for leg in request.legs:
        archive.instrument(leg.symbol)
        try:
            child_intent(parent, leg, leg.quantity, 1)
        except ValidationError as error:  # words and names that no order may carry
            first = error.errors(include_url=False, include_context=False)[0]
            what = f"{'.'.join(map(str, first['loc'])) or 'order'}: {first['msg']}"
            raise InputError("invalid_order", what, "correct it and start again") from None
    return parent


def child_intent(parent: Parent, leg: Leg, quantity: Decimal, number: int) -> OrderIntent:
    """Returns the order of one child; its reason names its parent, so that the log links them.

    Raises:
        ValidationError: no order may carry such words or names.
    """
    return OrderIntent.model_validate(
        {
            "symbol": leg.symbol,
            "side": leg.side,
            "quantity": quantity,
            "type": "market" if leg.limit_price is None else "limit",
            "limit_price": leg.limit_price,
            "account": parent.account,
            "agent": parent.caller.agent,
            "reason": f"{parent.reason} (child {number} of {parent.parent_id}, {parent.plan.algorithm})",
            "strategy_id": parent.strategy or None,
        }
    )
