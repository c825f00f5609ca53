"""Alpaca as a venue: our own client of its trading API, which never sends an order twice.

Alpaca's own client repeats a POST after 504 and so can make two orders of one; here a POST is sent once,
always with a client order id, and any answer that does not say what became of it is `unknown`: a
NetworkError, which the desk settles by looking the id up.

An id that Alpaca never saw is barred by using it up: a buy of one share for a cent, canceled at once. Client
order ids are unique for ever, so a late submission of the same id is refused there
(docs/adr/0011-an-id-is-used-up.md).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NoReturn, cast

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from neural_trader_governance.addresses import Address, is_loopback
from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_governance.redaction import redact
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import DecimalText, format_decimal
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.port import BrokerReport, VenueState

PAPER_URL = "https://paper-api.alpaca.markets"
LIVE_URL = "https://api.alpaca.markets"
CANCELS_RESERVED = 20
"""Of the requests a minute, so many are kept for cancels and look-ups: an order may not use the last ones."""
_PAGE = 100
_BODY_MAX = 4 * 1024 * 1024
_ID_TAKEN = 40010001
_BARRED = "used up before it arrived: the venue never saw this order, and will not take it"

_STATES: dict[str, VenueState] = {
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
    "replaced": "canceled",
    "expired": "expired",
    "rejected": "rejected",
}
"""Of Alpaca's words. What is on its way to be canceled still works."""


class AlpacaTradingSettings(BaseModel):
    """How Alpaca's trading API is asked.

    Attributes:
        url: `PAPER_URL`, `LIVE_URL`, or a paper exchange on this machine.
        request_timeout_s: Our deadline for one answer.
        stand_in_symbol: What is bid a cent for, to use up an id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Address = PAPER_URL
    key_id: SecretStr | None = None
    secret_key: SecretStr | None = None
    request_timeout_s: float = Field(default=10.0, ge=0.05, le=120)
    stand_in_symbol: str = "SPY"


class _OrderAnswer(BaseModel):
    """What is read of Alpaca's order document."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=1, max_length=64)
    client_order_id: str
    symbol: str | None = None
    side: Literal["buy", "sell"] | None = None
    qty: DecimalText | None = None
    filled_qty: DecimalText = Decimal(0)
    limit_price: DecimalText | None = None
    status: str


class _FillAnswer(BaseModel):
    """What is read of a FILL activity."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=3, max_length=120)
    order_id: str
    symbol: str
    side: Literal["buy", "sell", "sell_short"]
    qty: DecimalText = Field(gt=0)
    price: DecimalText = Field(gt=0)
    transaction_time: datetime


class AlpacaBroker:
    """One account at Alpaca, or at an exchange that speaks its API.

    Args:
        settings: Address and keys.
        clock: Says when the desk came to know of a fill.

    Raises:
        ConfigurationError: no key.
    """

    def __init__(self, settings: AlpacaTradingSettings, clock: Clock) -> None:
        if settings.key_id is None or settings.secret_key is None:
            raise ConfigurationError(
                "broker_key_missing",
                "trading at Alpaca needs a key",
                "set APCA_API_KEY_ID and APCA_API_SECRET_KEY, or: keyring set neural-trader alpaca-key-id",
            )
        self._clock = clock
        self._stand_in = settings.stand_in_symbol
        self._is_live = settings.url.rstrip("/") == LIVE_URL
        self._secrets = (settings.key_id.get_secret_value(), settings.secret_key.get_secret_value())
        self._remaining: int | None = None
        host = httpx.URL(settings.url).host
        self._client = httpx.AsyncClient(
            base_url=settings.url.rstrip("/"),
            headers={"APCA-API-KEY-ID": self._secrets[0], "APCA-API-SECRET-KEY": self._secrets[1]},
            timeout=settings.request_timeout_s,
            follow_redirects=False,  # a key goes where the settings say and nowhere else
            trust_env=not is_loopback(host),
        )

    @property
    def name(self) -> str:
        """`alpaca`."""
        return "alpaca"

    @property
    def mode(self) -> Literal["paper", "live"]:
        """`live` for the live host only."""
        return "live" if self._is_live else "paper"

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Sends the order once.

        An id that Alpaca has already is looked up. A refusal comes back as `rejected`, with Alpaca's reason.

        Raises:
            NetworkError: what became of it is unknown.
            IntegrityError: the id stands for another order there.
        """
        if self._remaining is not None and self._remaining <= CANCELS_RESERVED:
            # Learn the budget anew, which a look-up does: it is counted, but never refused here.
            known = await self.order(client_order_id)
            if known is not None or self._remaining <= CANCELS_RESERVED:
                detail = "not sent: what is left of the minute's requests is kept for cancels"
                return known or _ended(client_order_id, "rejected", detail)
        terms = {"symbol": intent.symbol, "side": intent.side, "type": intent.type}
        terms |= {"qty": format_decimal(intent.quantity), "time_in_force": intent.time_in_force}
        for name, price in (("limit_price", intent.limit_price), ("stop_price", intent.stop_price)):
            if price is not None:
                terms[name] = format_decimal(price)
        status, body = await self._ask(
            "POST", "/v2/orders", json={**terms, "client_order_id": client_order_id}
        )
        if status == 200:
            return await self._report(self._read(_OrderAnswer, body), intent)
        if status == 422 and _field(body, "code") == _ID_TAKEN:
            known = await self._find(client_order_id)
            if known is None:
                self._unclear("says that it has the order, and does not know it")
            return await self._report(known, intent)
        if 400 <= status < 500 and status != 408:  # it was heard and not taken
            return _ended(client_order_id, "rejected", self._said(body, status))
        self._unclear(f"answered {self._said(body, status)}")

    async def order(self, client_order_id: str) -> BrokerReport | None:
        """Returns what Alpaca knows, or None if it never saw the id.

        Raises:
            NetworkError: it did not say.
        """
        known = await self._find(client_order_id)
        return None if known is None else await self._report(known)

    async def cancel(self, client_order_id: str) -> BrokerReport:
        """Cancels what is still working and returns the state afterwards; an unknown id is barred.

        Raises:
            NetworkError: the outcome is unknown.
        """
        known = await self._find(client_order_id)
        if known is None:
            return await self.close_unknown(client_order_id)
        if _STATES.get(known.status) in {"accepted", "partially_filled"}:
            status, body = await self._ask("DELETE", f"/v2/orders/{known.id}")
            if status not in {204, 404, 422}:  # 422: it ended meanwhile, and the look-up says how
                self._unclear(f"answered {self._said(body, status)}")
            known = await self._find(client_order_id) or known
        return await self._report(known)

    async def close_unknown(self, client_order_id: str) -> BrokerReport:
        """Reports a known order; uses up an unknown id, so that a late submission of it is refused.

        Raises:
            NetworkError: the outcome is unknown; ask again.
        """
        known = await self._find(client_order_id)
        if known is not None:
            return await self._report(known)
        stand_in = {
            "symbol": self._stand_in,
            "side": "buy",
            "type": "limit",
            "limit_price": "0.01",
            "qty": "1",
            "time_in_force": "day",
            "client_order_id": client_order_id,
        }
        status, body = await self._ask("POST", "/v2/orders", json=stand_in)
        if status == 422 and _field(body, "code") == _ID_TAKEN:  # it arrived after all
            return await self._settled(client_order_id)
        if status != 200:
            self._unclear(f"does not let {client_order_id} be used up: {self._said(body, status)}")
        return await self.cancel(client_order_id)

    def _is_stand_in(self, known: _OrderAnswer) -> bool:
        terms = (known.symbol, known.side, known.qty, known.limit_price)
        return terms == (self._stand_in, "buy", Decimal(1), Decimal("0.01"))

    async def _settled(self, client_order_id: str) -> BrokerReport:
        known = await self._find(client_order_id)
        if known is None:
            self._unclear("says that it has the order, and does not know it")
        return await self._report(known)

    async def _find(self, client_order_id: str) -> _OrderAnswer | None:
        query = {"client_order_id": client_order_id}
        status, body = await self._ask("GET", "/v2/orders:by_client_order_id", params=query)
        if status == 404:
            return None
        if status != 200:
            self._unclear(f"answered {self._said(body, status)}")
        known = self._read(_OrderAnswer, body)
        if known.client_order_id != client_order_id:
            self._unclear(f"answered about {known.client_order_id} when it was asked for {client_order_id}")
        return known

    async def _report(self, known: _OrderAnswer, intent: OrderIntent | None = None) -> BrokerReport:
        if known.status not in _STATES:
            self._unclear(f"says {known.status!r:.40} of an order, which is no state that we know")
        if self._is_stand_in(known) and known.filled_qty == 0:
            return _ended(known.client_order_id, "canceled", _BARRED)
        theirs = (known.symbol, known.side, known.qty)
        if intent is not None and theirs != (intent.symbol, intent.side, intent.quantity):
            raise IntegrityError(
                "foreign_order",
                f"{known.client_order_id} is to {intent.side} {intent.quantity} {intent.symbol}, and Alpaca"
                f" has it as {known.side} {known.qty} {known.symbol}",
                "halt trading and compare with the venue: neural-trader orders reconcile",
            )
        fills = await self._fills(known) if known.filled_qty else ()
        if sum((fill.quantity for fill in fills), Decimal(0)) != known.filled_qty:
            # Its records of fills may follow its order by a moment: half a truth is booked by nobody.
            self._unclear(f"has not listed every fill of {known.client_order_id} yet")
        return BrokerReport(
            client_order_id=known.client_order_id,
            state=_STATES[known.status],
            detail=known.status if known.status not in {"filled", "new"} else "",
            fills=fills,
        )

    async def _fills(self, known: _OrderAnswer) -> tuple[Fill, ...]:
        found: dict[str, Fill] = {}
        token = ""
        while True:
            query = {"order_id": known.id, "direction": "asc", "page_size": str(_PAGE)}
            if token:
                query["page_token"] = token
            status, body = await self._ask("GET", "/v2/account/activities/FILL", params=query)
            if status != 200 or not isinstance(body, list):
                self._unclear(f"answered {self._said(body, status)}")
            page: list[_FillAnswer] = [self._read(_FillAnswer, each) for each in cast("list[Any]", body)]
            fresh = [each for each in page if each.order_id == known.id and each.id not in found]
            for each in fresh:
                found[each.id] = self._fill(known, each)
            if len(page) < _PAGE or not fresh:
                return tuple(found.values())
            token = page[-1].id

    def _fill(self, known: _OrderAnswer, each: _FillAnswer) -> Fill:
        if each.transaction_time.tzinfo is None:
            self._unclear("gave a fill's time without a zone")
        return Fill(
            execution_id=each.id.rpartition("::")[2][:80],
            client_order_id=known.client_order_id,
            symbol=each.symbol,
            side="buy" if each.side == "buy" else "sell",
            quantity=each.qty,
            price=each.price,
            fee=Decimal(0),
            event_time=each.transaction_time.astimezone(UTC),
            known_time=self._clock.now(),
            clock="wall",
            rule="as Alpaca reports it; regulatory fees are charged at the end of the day",
        )

    async def _ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Sends one request, once, and returns its status and JSON."""
        try:
            async with self._client.stream(method, path, **options) as response:
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _BODY_MAX:
                        self._unclear(f"sent more than {_BODY_MAX} bytes")
                left = response.headers.get("x-ratelimit-remaining", "")
                self._remaining = int(left) if left.isascii() and left.isdecimal() else None
                status = response.status_code
        except (httpx.HTTPError, OSError) as error:
            self._unclear(f"did not answer ({type(error).__name__}: {self._clean(str(error))})")
        if not body:
            return status, None
        try:
            return status, httpx.Response(200, content=bytes(body)).json(parse_float=Decimal)
        except (ValueError, RecursionError):
            if status >= 400:
                return status, {"message": self._clean(bytes(body[:300]).decode("utf-8", "replace"))}
            self._unclear("sent an answer that is no JSON")

    def _read(self, model: Callable[..., Any], body: Any) -> Any:
        try:
            return model(**body)
        except (ValidationError, TypeError) as error:
            self._unclear(f"sent a document that is not what it documents ({self._clean(str(error))[:200]})")

    def _said(self, body: Any, status: int) -> str:
        message = str(_field(body, "message") or "")
        return f"{status}: {self._clean(message)[:300]}" if message else str(status)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return " ".join("".join(each if each.isprintable() else " " for each in redact(text)).split())

    def _unclear(self, what: str) -> NoReturn:
        raise NetworkError(
            "broker_unclear",
            f"alpaca {what}",
            "nothing is sent again; the desk looks the order up: neural-trader orders reconcile",
        )


def _ended(client_order_id: str, state: VenueState, detail: str) -> BrokerReport:
    return BrokerReport(client_order_id=client_order_id, state=state, detail=detail)


def _field(body: Any, name: str) -> Any:
    return cast("dict[str, Any]", body).get(name) if isinstance(body, dict) else None
