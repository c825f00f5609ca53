"""What a client may ask for: a new order, a replacement; their shape, not yet the market, is checked here.

The fields and their rules are Alpaca's (docs.alpaca.markets, "Placing orders"; the OpenAPI document in the
wheel of alpaca-mcp-server), so that clients written for it work unchanged.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from neural_trader_governance.terms.money import MONEY_MAX, NANO, QUANTITY_MAX, parse_decimal
from neural_trader_tools.brokers.exchange import amounts

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit", "trailing_stop"]
TimeInForce = Literal["day", "gtc", "ioc", "fok", "opg", "cls"]
OrderClass = Literal["simple", "bracket", "oco", "oto"]

_WITH_LIMIT = {"limit", "stop_limit"}
_WITH_STOP = {"stop", "stop_limit"}
_CENTI = Decimal("0.01")


def _amount(value: Any) -> Any:
    return None if value is None else parse_decimal(value)


Amount = Annotated[Decimal | None, BeforeValidator(_amount)]


class _Request(BaseModel):
    """Numbers come as text or as exact JSON numbers; what is not known is refused, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("limit_price", "stop_price", "trail_price", "trail", check_fields=False)
    @classmethod
    def _price_on_its_tick(cls, price: Decimal | None) -> Decimal | None:
        if price is not None and (price <= 0 or price > MONEY_MAX):
            raise ValueError(f"{price} is no price; give one above 0")
        if price is not None and not amounts.is_on_tick(price):
            raise ValueError(
                f"{price}: sub-penny increment does not fulfill minimum pricing criteria (SEC Rule 612)"
            )
        return price

    @field_validator("qty", check_fields=False)
    @classmethod
    def _quantity_in_range(cls, quantity: Decimal | None) -> Decimal | None:
        if quantity is None:
            return None
        if not 0 < quantity <= QUANTITY_MAX:
            raise ValueError("qty must be above 0 and at most 1,000,000,000")
        if quantity % NANO != 0:
            raise ValueError("qty can have nine decimal places at most")
        return quantity


class TakeProfit(_Request):
    """The limit order that closes a bracket with a gain."""

    limit_price: Annotated[Decimal, BeforeValidator(parse_decimal)]


class StopLoss(_Request):
    """The stop (or stop-limit) order that closes a bracket with a loss."""

    stop_price: Annotated[Decimal, BeforeValidator(parse_decimal)]
    limit_price: Amount = None


class OrderRequest(_Request):
    """A new order."""

    symbol: str = Field(min_length=1, max_length=20)
    qty: Amount = None
    notional: Amount = None
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    limit_price: Amount = None
    stop_price: Amount = None
    trail_price: Amount = None
    trail_percent: Amount = None
    extended_hours: bool = False
    client_order_id: str | None = Field(default=None, min_length=1, max_length=128)
    order_class: OrderClass = "simple"
    take_profit: TakeProfit | None = None
    stop_loss: StopLoss | None = None
    position_intent: Literal["buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close"] | None = None

    @field_validator("order_class", mode="before")
    @classmethod
    def _empty_is_simple(cls, value: Any) -> Any:
        return value or "simple"

    @field_validator("client_order_id", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _size(self) -> Self:
        if (self.qty is None) == (self.notional is None):
            raise ValueError("give qty or notional, one of them")
        if self.notional is not None:
            if self.type != "market" or self.time_in_force != "day" or self.order_class != "simple":
                raise ValueError("notional goes with simple market day orders only")
            if self.notional < 1 or self.notional > MONEY_MAX or self.notional % _CENTI != 0:
                raise ValueError("notional must be whole cents, from 1 USD on")
        return self

    @model_validator(mode="after")
    def _prices(self) -> Self:
        if self.order_class != "oco":
            for name, price, wanted in (
                ("limit_price", self.limit_price, self.type in _WITH_LIMIT),
                ("stop_price", self.stop_price, self.type in _WITH_STOP),
            ):
                if wanted != (price is not None):
                    raise ValueError(f"a {self.type} order {'requires' if wanted else 'takes no'} {name}")
        trails = [price for price in (self.trail_price, self.trail_percent) if price is not None]
        if len(trails) != (1 if self.type == "trailing_stop" else 0):
            raise ValueError(
                "a trailing_stop requires trail_price or trail_percent; no other order takes one"
            )
        percent = self.trail_percent
        if percent is not None and (not 0 < percent < 100 or percent % _CENTI != 0):
            raise ValueError("trail_percent must lie between 0 and 100, with two decimal places at most")
        if self.extended_hours and (self.type != "limit" or self.time_in_force not in {"day", "gtc"}):
            raise ValueError("extended hours orders must be day or gtc limit orders")
        return self

    @model_validator(mode="after")
    def _time_in_force_fits(self) -> Self:
        if self.time_in_force in {"opg", "cls", "ioc", "fok"} and self.type not in {"market", "limit"}:
            raise ValueError(f"{self.time_in_force} goes with market and limit orders only")
        whole = self.qty is not None and self.qty == self.qty.to_integral_value()
        if not whole and self.time_in_force != "day":
            raise ValueError("fractional orders must be DAY orders")
        if self.type == "trailing_stop" and self.time_in_force not in {"day", "gtc"}:
            raise ValueError("a trailing_stop is day or gtc")
        return self

    @model_validator(mode="after")
    def _class_fits(self) -> Self:
        gain, loss = self.take_profit, self.stop_loss
        if self.order_class == "simple":
            if gain or loss:
                raise ValueError("take_profit and stop_loss need order_class bracket, oco or oto")
            return self
        if self.time_in_force not in {"day", "gtc"} or self.extended_hours:
            raise ValueError(f"{self.order_class} orders are day or gtc, in regular hours")
        if self.qty is None or self.qty != self.qty.to_integral_value():
            raise ValueError(f"{self.order_class} orders need whole shares")
        if self.order_class == "oto":
            if (gain is None) == (loss is None):
                raise ValueError("oto orders need take_profit or stop_loss, one of them")
        elif gain is None or loss is None:
            raise ValueError(
                f"{self.order_class} orders need take_profit.limit_price and stop_loss.stop_price"
            )
        if self.order_class == "oco" and (self.type != "limit" or self.limit_price is not None):
            raise ValueError("an oco order is of type limit, its price is take_profit.limit_price")
        if self.type == "trailing_stop":
            raise ValueError(f"a trailing_stop cannot enter a {self.order_class} order")
        self._legs_lie_apart(gain, loss)
        return self

    def _legs_lie_apart(self, gain: TakeProfit | None, loss: StopLoss | None) -> None:
        entry_buys = (self.side == "buy") != (self.order_class == "oco")
        if gain and loss and not _beyond(gain.limit_price, loss.stop_price, up=entry_buys):
            raise ValueError("take_profit.limit_price must lie on the gaining side of stop_loss.stop_price")
        if self.order_class == "oco" or self.limit_price is None:
            return
        if loss and not _beyond(self.limit_price, loss.stop_price, up=entry_buys):
            raise ValueError("stop_loss.stop_price must lie on the losing side of limit_price")
        if gain and not _beyond(gain.limit_price, self.limit_price, up=entry_buys):
            raise ValueError("take_profit.limit_price must lie on the gaining side of limit_price")


class ReplaceRequest(_Request):
    """Other terms for a working order; what is left out stays."""

    qty: Amount = None
    time_in_force: Literal["day", "gtc", "ioc", "fok", "opg", "cls"] | None = None
    limit_price: Amount = None
    stop_price: Amount = None
    trail: Amount = None
    client_order_id: str | None = Field(default=None, min_length=1, max_length=128)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_dump(exclude_none=True, exclude={"client_order_id"}):
            raise ValueError("nothing to replace: give qty, time_in_force, limit_price, stop_price or trail")
        return self


def _beyond(one: Decimal, other: Decimal, *, up: bool) -> bool:
    return one > other if up else one < other
