"""The tool `orders_preview`: what an order would cost, and what policy says of it."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.words import one_line
from neural_trader_tools.orders.desk import Desk


def _refuse_truth(value: object) -> object:
    if isinstance(value, bool):  # Python would take True for 1
        raise ValueError("write the number as a decimal string such as '12.50'")
    return value


Number = Annotated[str | int | float, BeforeValidator(_refuse_truth)]
"""A decimal string; a JSON number is accepted where it is exact."""


class Estimate(BaseModel):
    """What the order would cost at the price that governs it."""

    price: str = Field(description="USD per unit")
    notional: str = Field(description="USD")
    fees: str = Field(description="USD")


class VerdictReason(BaseModel):
    """One deciding rule, in words."""

    rule: str
    message: str
    next_step: str


class VerdictResult(BaseModel):
    """The policy's answer with every deciding rule."""

    decision: Literal["allow", "deny", "needs_approval"]
    reasons: list[VerdictReason]
    policy_digest: str


class PreviewResult(BaseModel):
    """A priced and judged order that can be submitted once."""

    preview_id: str = Field(description="Pass to orders_submit; single use")
    intent_hash: str
    symbol: str
    side: str
    quantity: str
    estimate: Estimate
    verdict: VerdictResult
    expires_at: str


async def orders_preview(
    desk: Desk,
    caller: Caller,
    *,
    symbol: Annotated[str, Field(description="Ticker, such as AAPL")],
    side: Annotated[str, Field(description="buy or sell")],
    quantity: Annotated[Number, Field(description="Units, as a decimal string")],
    reason: Annotated[str, Field(description="Why; goes into the audit log")],
    type: Annotated[str, Field(description="market, limit, stop or stop_limit")] = "market",  # noqa: A002 - contract
    limit_price: Annotated[Number | None, Field(description="For limit and stop_limit")] = None,
    stop_price: Annotated[Number | None, Field(description="For stop and stop_limit")] = None,
    trail: Annotated[Number | None, Field(description="Not available yet")] = None,
    take_profit: Annotated[Number | None, Field(description="Not available yet")] = None,
    stop_loss: Annotated[Number | None, Field(description="Not available yet")] = None,
    time_in_force: Annotated[str, Field(description="day or gtc")] = "day",
    account: Annotated[str, Field(description="Account name")] = "paper",
    strategy_id: Annotated[str | None, Field(description="Strategy behind the order")] = None,
    replaces: Annotated[str | None, Field(description="Not available yet")] = None,
) -> PreviewResult:
    """Price an order and ask policy about it, without sending it. Then call orders_submit with preview_id."""
    absent = {"trail": trail, "take_profit": take_profit, "stop_loss": stop_loss, "replaces": replaces}
    for name, value in absent.items():
        if value is not None:
            raise InputError(
                "not_available",
                f"{name} is not supported by this desk yet",
                "place a separate stop or limit order, or cancel and preview again",
            )
    try:
        intent = OrderIntent.model_validate(
            {
                "symbol": symbol,
                "side": side,
                "quantity": quantity,
                "type": type,
                "limit_price": limit_price,
                "stop_price": stop_price,
                "time_in_force": time_in_force,
                "account": account,
                "agent": caller.agent,
                "reason": one_line(reason),
                "strategy_id": strategy_id,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "order"
        raise InputError(
            "invalid_order",
            f"{place}: {first['msg'].removeprefix('Value error, ')}",
            f"correct {place} and preview again",
        ) from None
    preview = await desk.preview(intent, caller)
    return PreviewResult(
        preview_id=preview.preview_id,
        intent_hash=preview.intent_hash,
        symbol=intent.symbol,
        side=intent.side,
        quantity=format_decimal(intent.quantity),
        estimate=Estimate(
            price=format_decimal(preview.price),
            notional=format_decimal(preview.notional),
            fees=format_decimal(Decimal(0)),
        ),
        verdict=VerdictResult(
            decision=preview.verdict.decision,
            reasons=[VerdictReason(**reason.model_dump()) for reason in preview.verdict.reasons],
            policy_digest=preview.verdict.policy_digest,
        ),
        expires_at=format_time(preview.expires_time),
    )
