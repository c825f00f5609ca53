"""Orders: the intent that governance judges, and the order that carries it through its states."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import MONEY_MAX, NANO, QUANTITY_MAX, DecimalText, price_tick
from neural_trader_governance.terms.term import Term
from neural_trader_governance.terms.words import is_plain

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit", "trailing_stop", "oco"]
"""`oco` is a pair of exits for what is held: a limit at `take_profit`, a stop at `stop_loss`."""
TimeInForce = Literal["day", "gtc", "ioc", "fok", "opg", "cls"]
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


_LATER = ("trail_price", "trail_percent", "take_profit", "stop_loss", "replaces")
"""Terms that an order may lack: an order without them is written, and hashed, as if there were none."""


class OrderIntent(Term):
    """What is to be traded, by whom and why. Its hash is what approvals sign and the log records.

    With `take_profit` and `stop_loss`, or one of them, the order brings its own exits: they wait at the venue
    until it is filled, and one ends the other.
    """

    symbol: Symbol
    side: Side
    quantity: DecimalText = Field(gt=0, le=QUANTITY_MAX, description="Units; fractions down to 1e-9")
    type: OrderType = "market"
    limit_price: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX)
    stop_price: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX)
    trail_price: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX)
    trail_percent: DecimalText | None = Field(default=None, gt=0, lt=100)
    take_profit: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX, description="Limit of an exit")
    stop_loss: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX, description="Stop of an exit")
    replaces: str | None = Field(default=None, max_length=60, description="A working order, by its id")
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
        for name in ("limit_price", "stop_price", "trail_price", "take_profit", "stop_loss"):
            price = getattr(self, name)
            if price is not None and price % price_tick(price) != 0:
                raise ValueError(f"{name} {price} is not a multiple of the {price_tick(price)} tick")
        if self.quantity % NANO != 0:
            raise ValueError("quantity is finer than 1e-9")
        trails = (self.trail_price is not None) + (self.trail_percent is not None)
        if trails != (self.type == "trailing_stop"):
            raise ValueError("a trailing_stop needs one trail, in USD or percent; no other order takes one")
        return self

    @model_validator(mode="after")
    def _exits_fit(self) -> Self:
        gain, loss, buying = self.take_profit, self.stop_loss, self.side == "buy"
        if self.type == "oco":
            if gain is None or loss is None:
                raise ValueError("an oco order needs take_profit and stop_loss")
            if (gain > loss) == buying:
                raise ValueError("take_profit must lie on the gaining side of stop_loss")
        elif gain is not None or loss is not None:
            if self.type == "trailing_stop":
                raise ValueError("a trailing_stop brings no exits; place them once it is filled")
            entry = self.limit_price or self.stop_price
            for name, exit_price, gains in (("take_profit", gain, True), ("stop_loss", loss, False)):
                if exit_price is None or entry is None:
                    continue
                if exit_price == entry or (exit_price > entry) != (gains == buying):
                    raise ValueError(f"{name} {exit_price} lies on the wrong side of {entry}")
            if gain is not None and loss is not None and (gain > loss) != buying:
                raise ValueError("take_profit must lie on the gaining side of stop_loss")
        if self.has_exits and (self.time_in_force not in {"day", "gtc"} or self.quantity % 1 != 0):
            raise ValueError("orders with exits are day or gtc, for whole units")
        return self

    @model_validator(mode="after")
    def _time_fits(self) -> Self:
        if self.time_in_force not in {"day", "gtc"} and self.type not in {"market", "limit"}:
            raise ValueError(f"{self.time_in_force} goes with market and limit orders")
        return self

    @model_serializer(mode="wrap")
    def _without_what_it_lacks(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        for name in _LATER:
            if written.get(name, "") is None:
                del written[name]
        return written

    @property
    def has_exits(self) -> bool:
        """Whether the venue makes several orders of it."""
        return self.take_profit is not None or self.stop_loss is not None

    @property
    def is_plain(self) -> bool:
        """Whether every venue takes it: one order of a classic type, for the day or until canceled."""
        return (
            self.type in {"market", "limit", "stop", "stop_limit"}
            and self.time_in_force in {"day", "gtc"}
            and not self.has_exits
            and self.replaces is None
        )


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
