"""The tool `orders_preview`: what an order would cost, and what policy says of it."""

import re
import unicodedata
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


def _trail(trail: str | int | float | None) -> dict[str, object]:
    if isinstance(trail, str) and trail.rstrip().endswith("%"):
        return {"trail_percent": trail.rstrip()[:-1].rstrip()}
    return {"trail_price": trail}


def _spelled(symbol: str) -> str:
    """Says how a symbol is written; of full-width or lower-case letters, which ones are meant."""
    plain = unicodedata.normalize("NFKC", symbol).strip().upper()
    if plain != symbol and plain.isascii() and re.fullmatch(r"[A-Z0-9][A-Z0-9.\-/]{0,15}", plain):
        return f"did you mean {plain}?"
    return "write it as market_search spells it, such as AAPL"


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
    mode: str
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
    type: Annotated[str, Field(description="Or limit, stop, stop_limit, trailing_stop, oco")] = "market",  # noqa: A002 - contract
    limit_price: Annotated[Number | None, Field(description="For limits")] = None,
    stop_price: Annotated[Number | None, Field(description="For stops")] = None,
    trail: Annotated[Number | None, Field(description="USD, or percent as 2%")] = None,
    take_profit: Annotated[Number | None, Field(description="Limit of an exit")] = None,
    stop_loss: Annotated[Number | None, Field(description="Stop of an exit")] = None,
    time_in_force: Annotated[str, Field(description="Or gtc, ioc, fok, opg, cls")] = "day",
    account: Annotated[str, Field(description="Account name")] = "paper",
    strategy_id: Annotated[str | None, Field(description="Strategy behind the order")] = None,
    replaces: Annotated[str | None, Field(description="Order to replace")] = None,
) -> PreviewResult:
    """Price an order and ask policy about it, without sending it. Then call orders_submit with preview_id."""
    try:
        intent = OrderIntent.model_validate(
            {
                "symbol": symbol,
                "side": side,
                "quantity": quantity,
                "type": type,
                "limit_price": limit_price,
                "stop_price": stop_price,
                **_trail(trail),
                "take_profit": take_profit,
                "stop_loss": stop_loss,
                "replaces": replaces,
                "time_in_force": time_in_force,
                "account": account,
                "agent": caller.agent,
                "reason": one_line(reason),
                "strategy_id": strategy_id,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        if place == "symbol":
            what, step = f"{symbol!r:.40} is no symbol", _spelled(symbol)
        else:
            step = f"correct {place or 'that'} and preview again"
        raise InputError("invalid_order", f"{place}: {what}" if place else what, step) from None
    preview = await desk.preview(intent, caller)
    return PreviewResult(
        preview_id=preview.preview_id,
        intent_hash=preview.intent_hash,
        mode=desk.broker.mode,
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
