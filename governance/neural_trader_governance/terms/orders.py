"""Orders: the intent that governance judges, and the order that carries it through its states."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import MONEY_MAX, NANO, QUANTITY_MAX, DecimalText, price_tick
from neural_trader_governance.terms.term import Term
from neural_trader_governance.terms.words import is_plain

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit"]
TimeInForce = Literal["day", "gtc"]
AccountId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_\-]{0,39}$")]
AgentId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_\-.]{0,39}$")]


class OrderState(StrEnum):
    """Every state an order can be in; `orders/machine.py` holds the transitions."""

    PREVIEWED = "previewed"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    DENIED = "denied"
    EXPIRED = "expired"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    CANCELED = "canceled"
    REPLACED = "replaced"
    UNKNOWN = "unknown"


class OrderIntent(Term):
    """What is to be traded, by whom and why. Its hash is what approvals sign and the log records."""

    symbol: Symbol
    side: Side
    quantity: DecimalText = Field(gt=0, le=QUANTITY_MAX, description="Units; fractions down to 1e-9")
    type: OrderType = "market"
    limit_price: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX)
    stop_price: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX)
    time_in_force: TimeInForce = "day"
    account: AccountId = "paper"
    agent: AgentId
    reason: str = Field(min_length=1, max_length=500, description="Why, in words: it goes into the audit log")
    strategy_id: str | None = Field(
        default=None, pattern=r"^[!-~]{1,80}$", description="As a halt on a strategy can name it"
    )

    @model_validator(mode="after")
    def _words_are_plain(self) -> Self:
        # Whoever approves reads this on a terminal: nothing in it may move the cursor or hide a digit.
        if not is_plain(self.reason):
            raise ValueError("reason holds characters that cannot be seen; write one line of plain text")
        return self

    @model_validator(mode="after")
    def _prices_fit_the_type(self) -> Self:
        wants_limit = self.type in {"limit", "stop_limit"}
        wants_stop = self.type in {"stop", "stop_limit"}
        if wants_limit != (self.limit_price is not None):
            raise ValueError(f"a {self.type} order {'needs' if wants_limit else 'takes no'} limit_price")
        if wants_stop != (self.stop_price is not None):
            raise ValueError(f"a {self.type} order {'needs' if wants_stop else 'takes no'} stop_price")
        for name, price in (("limit_price", self.limit_price), ("stop_price", self.stop_price)):
            if price is not None and price % price_tick(price) != 0:
                raise ValueError(f"{name} {price} is not a multiple of the {price_tick(price)} tick")
        if self.quantity % NANO != 0:
            raise ValueError("quantity is finer than 1e-9")
        return self


class Order(Term):
    """An intent on its way: its states, what was filled, and where it stands in the audit log."""

    client_order_id: str
    preview_id: str
    intent: OrderIntent
    intent_hash: str
    state: OrderState
    filled_quantity: DecimalText
    average_price: DecimalText | None = None
    created_time: UtcTime
    updated_time: UtcTime
    audit_seq: int = Field(ge=0, description="Sequence number of the order.intent entry")
    detail: str = Field(default="", description="Why it is in this state, where a word helps")
