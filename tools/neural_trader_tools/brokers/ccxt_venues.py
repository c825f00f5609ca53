"""Exchanges that orders may go to through the package ccxt: one row each, with its ways of naming orders.

The package speaks to a hundred exchanges, and hides how they differ where it matters most: whether an order
carries our id, how it is found by that id, and what bounds the time in which a request may still be taken. An
exchange is in `WAYS` when all three are known; the others are refused by name.

No exchange here keeps an id taken for ever, so none can be used up as at Alpaca (ADR 11). Instead every
request that makes an order ends by itself: it says until when it may be taken, counted from the moment in
which the desk had made the order durable, whenever it is sent (docs/adr/0013-a-request-that-ends.md).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from neural_trader_governance.addresses import Address
from neural_trader_governance.terms.money import Currency
from neural_trader_governance.terms.orders import OrderIntent

LIFE = timedelta(seconds=30)
"""From the durable record on, so long an exchange may take an order."""
_OURS = re.compile(r"nt_[0-9a-f]{16}")


class CcxtTradingSettings(BaseModel):
    """How an exchange is asked.

    Attributes:
        exchange: As ccxt calls it.
        url: Of a stand-in on this machine; None for the exchange itself.
        sandbox: The exchange's own sandbox; False is real money.
        currency: What pairs are quoted in, and what counts as cash.
        request_timeout_s: Our deadline for one call.
        settle_grace_s: So long after an order could be taken for the last time it may take to be listed.
        listing_grace_s: As in `AlpacaTradingSettings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: str = Field(default="", pattern=r"^[a-z0-9]{0,32}$")
    url: Address | None = None
    sandbox: bool = True
    currency: Currency = "USD"
    key_id: SecretStr | None = None
    secret_key: SecretStr | None = None
    request_timeout_s: float = Field(default=10.0, ge=0.05, le=120)
    settle_grace_s: float = Field(default=5.0, ge=0, le=600)
    listing_grace_s: float = Field(default=60.0, ge=0, le=86_400)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the desk has on its record of an order."""

    intent: OrderIntent
    time: datetime
    """When the order was made durable, which was before anybody was told of it."""


Record = Callable[[str], Recorded | None]
"""Returns what the desk recorded under a client order id."""


class Ways(Protocol):
    """What differs between exchanges; every call is one or two requests of the package."""

    knows_fok: bool

    def carried(self, client_order_id: str) -> str | None:
        """Returns the id as the exchange takes it; None where it cannot."""
        ...

    def recalled(self, carried: str) -> str:
        """Returns our id of what the exchange carries; "" where that is none of ours."""
        ...

    def terms(self, made: datetime) -> dict[str, Any]:
        """Returns what ends the request, and makes fees come in money."""
        ...

    async def find(self, exchange: Any, carried: str, symbol: str) -> dict[str, Any] | None:
        """Returns the order of an id; None where the exchange never took one."""
        ...

    async def fills(self, exchange: Any, order: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns the executions of an order."""
        ...

    def is_refusal(self, said: str) -> bool:
        """Tells whether words that the package has no class for say that an order was not taken."""
        ...


class BinanceWays:
    """Binance and Binance.US: https://developers.binance.com/docs/binance-spot-api-docs/rest-api.

    A request is refused `recvWindow` after its `timestamp`. An id is unique among working orders only. The
    commission of a buy is taken from what was bought, unless it is paid in another coin.
    """

    knows_fok = True

    def carried(self, client_order_id: str) -> str | None:
        """Letters, digits, `-` and `_`, 36 at most: as it is."""
        return client_order_id if _OURS.fullmatch(client_order_id) else None

    def recalled(self, carried: str) -> str:
        """See `Ways`."""
        return carried if _OURS.fullmatch(carried) else ""

    def terms(self, made: datetime) -> dict[str, Any]:
        """See `Ways`."""
        return {
            "timestamp": int(made.timestamp() * 1000),
            "recvWindow": int(LIFE.total_seconds() * 1000),
        }

    async def find(self, exchange: Any, carried: str, symbol: str) -> dict[str, Any] | None:
        """See `Ways`; -2013 is `OrderNotFound`."""
        from ccxt.base.errors import OrderNotFound  # pyright: ignore[reportMissingTypeStubs]

        try:
            return await exchange.fetch_order("", symbol, {"origClientOrderId": carried})
        except OrderNotFound:
            return None

    async def fills(self, exchange: Any, order: dict[str, Any]) -> list[dict[str, Any]]:
        """See `Ways`; a thousand at most, and what is missing shows against the order."""
        return await exchange.fetch_my_trades(order["symbol"], None, 1_000, {"orderId": order["id"]})

    def is_refusal(self, said: str) -> bool:
        """None beside the package's classes."""
        return False


class KrakenWays:
    """Kraken's spot API: https://docs.kraken.com/api. It has no sandbox.

    `deadline` is the time after which its matching engine refuses an order. Of `cl_ord_id` it takes 18
    characters of free text, so ours loses its underscore. `fciq` asks for fees in the quote currency.
    """

    knows_fok = False

    def carried(self, client_order_id: str) -> str | None:
        """See `Ways`."""
        return client_order_id.replace("_", "") if _OURS.fullmatch(client_order_id) else None

    def recalled(self, carried: str) -> str:
        """See `Ways`."""
        ours = f"nt_{carried.removeprefix('nt')}"
        return ours if carried.startswith("nt") and _OURS.fullmatch(ours) else ""

    def terms(self, made: datetime) -> dict[str, Any]:
        """See `Ways`; whole seconds, so that every reader of RFC 3339 reads the same."""
        until = (made + LIFE).astimezone(UTC)
        return {"deadline": until.strftime("%Y-%m-%dT%H:%M:%SZ"), "oflags": "fciq"}

    async def find(self, exchange: Any, carried: str, symbol: str) -> dict[str, Any] | None:
        """See `Ways`. Working orders first: what ends in between is then among the closed ones."""
        query = {"clientOrderId": carried, "trades": True}
        for listed in (exchange.fetch_open_orders, exchange.fetch_closed_orders):
            for order in await listed(None, None, None, query):
                if order["clientOrderId"] == carried:
                    return order
        return None

    async def fills(self, exchange: Any, order: dict[str, Any]) -> list[dict[str, Any]]:
        """See `Ways`; the order names its executions."""
        named = [each["id"] for each in order["trades"] or ()]
        if not named:
            return []
        return await exchange.fetch_order_trades(order["id"], order["symbol"], None, None, {"trades": named})

    def is_refusal(self, said: str) -> bool:
        """Its words on orders, and on what came too late, are about what it did not take."""
        return '"EOrder:' in said or "Deadline elapsed" in said


WAYS: dict[str, Ways] = {"binance": BinanceWays(), "binanceus": BinanceWays(), "kraken": KrakenWays()}
"""By the package's name of the exchange."""
