"""What Alpaca's trading API is told and what it answers: settings, orders' terms, documents, words.

The fields are Alpaca's (docs.alpaca.markets; the OpenAPI document in the wheel of alpaca-mcp-server).
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from neural_trader_governance.addresses import Address
from neural_trader_governance.terms.money import DecimalText, format_decimal
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.port import Leg, VenueState

PAPER_URL = "https://paper-api.alpaca.markets"
LIVE_URL = "https://api.alpaca.markets"

STATES: dict[str, VenueState] = {
    "pending_new": "accepted",
    "accepted": "accepted",
    "accepted_for_bidding": "accepted",
    "new": "accepted",
    "held": "accepted",
    "stopped": "accepted",
    "suspended": "accepted",
    "calculated": "accepted",
    "done_for_day": "accepted",
    "pending_cancel": "accepted",
    "pending_replace": "accepted",
    "partially_filled": "partially_filled",
    "filled": "filled",
    "canceled": "canceled",
    "replaced": "replaced",
    "expired": "expired",
    "rejected": "rejected",
}
"""Of Alpaca's words. What is on its way to be canceled still works."""


PaymentKind = Literal["dividend", "interest", "fee"]
_READABLE = {"", "simple", "bracket", "oco", "oto"}


class AlpacaTradingSettings(BaseModel):
    """How Alpaca's trading API is asked.

    Attributes:
        url: `PAPER_URL`, `LIVE_URL`, or a paper exchange on this machine.
        request_timeout_s: Our deadline for one answer.
        ping_interval_s: The stream counts as broken when a ping is not answered for as long again.
        stand_in_symbol: What is bid a cent for, to use up an id.
        listing_grace_s: So long its records of fills may be behind its orders, before what an order says is
            filled is booked without them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address = PAPER_URL
    key_id: SecretStr | None = None
    secret_key: SecretStr | None = None
    request_timeout_s: float = Field(default=10.0, ge=0.05, le=120)
    ping_interval_s: float = Field(default=10.0, ge=0.05, le=600)
    stand_in_symbol: str = "SPY"
    listing_grace_s: float = Field(default=60.0, ge=0, le=86_400)


class OrderAnswer(BaseModel):
    """What is read of Alpaca's order document."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=1, max_length=64)
    client_order_id: str
    symbol: str | None = None
    side: Literal["buy", "sell"] | None = None
    qty: DecimalText | None = None
    filled_qty: DecimalText = Decimal(0)
    limit_price: DecimalText | None = None
    stop_price: DecimalText | None = None
    filled_avg_price: DecimalText | None = None
    type: str = "market"
    time_in_force: str = "day"
    order_class: str = ""
    updated_at: datetime | None = None
    status: str
    legs: tuple["OrderAnswer", ...] | None = None


class FillAnswer(BaseModel):
    """What is read of a FILL activity."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=3, max_length=120)
    order_id: str
    symbol: str
    side: Literal["buy", "sell", "sell_short"]
    qty: DecimalText = Field(gt=0)
    price: DecimalText = Field(gt=0)
    transaction_time: datetime


PAYMENTS: dict[str, PaymentKind] = {
    "DIV": "dividend",
    "DIVCGL": "dividend",
    "DIVCGS": "dividend",
    "DIVFEE": "dividend",
    "DIVFT": "dividend",
    "DIVNRA": "dividend",
    "DIVROC": "dividend",
    "DIVTW": "dividend",
    "DIVTXEX": "dividend",
    "INT": "interest",
    "INTNRA": "interest",
    "INTTW": "interest",
    "FEE": "fee",
    "PTC": "fee",
}
"""Of Alpaca's kinds of activities that are no trades: those of which an amount of cash is booked."""


class ActivityAnswer(BaseModel):
    """What is read of an activity that is no trade."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=3, max_length=120)
    activity_type: str
    date: date
    net_amount: DecimalText
    symbol: str | None = None
    per_share_amount: DecimalText | None = None
    qty: DecimalText | None = None
    status: str = "executed"


class PositionAnswer(BaseModel):
    """What is read of a position."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    symbol: str
    qty: DecimalText


class AccountAnswer(BaseModel):
    """What is read of the account."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    cash: DecimalText
    currency: str


def order_terms(intent: OrderIntent) -> dict[str, Any]:
    """Returns an order as Alpaca wants it, but for its id."""
    kind = "limit" if intent.type == "oco" else intent.type
    terms: dict[str, Any] = {"symbol": intent.symbol, "side": intent.side, "type": kind}
    terms |= {"qty": format_decimal(intent.quantity), "time_in_force": intent.time_in_force}
    for name in ("limit_price", "stop_price", "trail_price", "trail_percent"):
        price: Decimal | None = getattr(intent, name)
        if price is not None:
            terms[name] = format_decimal(price)
    if intent.take_profit is not None:
        terms["take_profit"] = {"limit_price": format_decimal(intent.take_profit)}
    if intent.stop_loss is not None:
        terms["stop_loss"] = {"stop_price": format_decimal(intent.stop_loss)}
    if intent.has_exits:
        both = intent.take_profit is not None and intent.stop_loss is not None
        terms["order_class"] = "oco" if intent.type == "oco" else "bracket" if both else "oto"
    return terms


def replacement_terms(intent: OrderIntent) -> dict[str, Any]:
    """Returns what of a working order is to be other, as Alpaca wants it."""
    terms: dict[str, Any] = {"qty": format_decimal(intent.quantity), "time_in_force": intent.time_in_force}
    for name in ("limit_price", "stop_price"):
        price: Decimal | None = getattr(intent, name)
        if price is not None:
            terms[name] = format_decimal(price)
    trail = intent.trail_price or intent.trail_percent
    return terms if trail is None else terms | {"trail": format_decimal(trail)}


def read_leg(leg: OrderAnswer) -> Leg | None:
    """Returns an exit that the venue made of an order; None where it is none that we could hold."""
    if leg.type not in {"limit", "stop", "stop_limit", "market"} or leg.order_class not in _READABLE:
        return None
    try:
        return Leg.model_validate(
            {
                "client_order_id": leg.client_order_id,
                "symbol": leg.symbol,
                "side": leg.side,
                "quantity": leg.qty,
                "type": leg.type,
                "limit_price": leg.limit_price,
                "stop_price": leg.stop_price,
                "time_in_force": leg.time_in_force,
            }
        )
    except ValidationError:  # another kind of asset, an amount in money, an id that no terminal should show
        return None
