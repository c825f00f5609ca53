"""Alpaca as a venue: our own client of its trading API, which never sends an order twice.

Alpaca's own client repeats a POST after 504 and so can make two orders of one; here a POST is sent once,
always with a client order id, and any answer that does not say what became of it is `unknown`: a
NetworkError, which the desk settles by looking the id up.

An id that Alpaca never saw is barred by using it up: a buy of one share for a cent, canceled at once. Client
order ids are unique for ever, so a late submission of the same id is refused there
(docs/adr/0011-an-id-is-used-up.md).
"""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.terms.words import visible
from neural_trader_tools.brokers.alpaca_documents import (
    LIVE_URL,
    PAYMENTS,
    STATES,
    AccountAnswer,
    ActivityAnswer,
    AlpacaTradingSettings,
    FillAnswer,
    OrderAnswer,
    PositionAnswer,
    order_terms,
    read_leg,
    replacement_terms,
)
from neural_trader_tools.brokers.alpaca_stream import open_updates
from neural_trader_tools.brokers.alpaca_wire import AlpacaWire, field_of
from neural_trader_tools.brokers.port import BrokerReport, NewsStream, Payment, VenueBooks, VenueState
from neural_trader_tools.brokers.synthetic import synthetic_fill

CANCELS_RESERVED = 20
"""Of the requests a minute, so many are kept for cancels and look-ups: an order may not use the last ones."""
_KEPT = "not sent: what is left of the minute's requests is kept for cancels"
_NEW_YORK = ZoneInfo("America/New_York")
_PAGE = 100
_ORDERS_MAX = 500
_ID_TAKEN = 40010001
_BARRED = "used up before it arrived: the venue never saw this order, and will not take it"


class AlpacaBroker:
    """One account at Alpaca, or at an exchange that speaks its API.

    Args:
        settings: Address and keys.
        clock: Says when the desk came to know of a fill.

    Raises:
        ConfigurationError: no key.
    """

    def __init__(self, settings: AlpacaTradingSettings, clock: Clock) -> None:
        self._wire = AlpacaWire(settings)
        self._settings = settings
        self._clock = clock
        self._stand_in = settings.stand_in_symbol
        self._is_live = settings.url.rstrip("/") == LIVE_URL
        self._listing_grace_s = settings.listing_grace_s
        self._behind: dict[str, tuple[Decimal | None, datetime | None]] = {}
        """Orders whose fills are not all listed: what they said was filled, and since when."""

    @property
    def name(self) -> str:
        """`alpaca`."""
        return "alpaca"

    @property
    def mode(self) -> Literal["paper", "live"]:
        """`live` for the live host only."""
        return "live" if self._is_live else "paper"

    def updates(self) -> AbstractAsyncContextManager[NewsStream]:
        """Opens `trade_updates`; see `open_updates`."""
        return open_updates(self._settings)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._wire.aclose()

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Sends the order once.

        An id that Alpaca has already is looked up. A refusal comes back as `rejected`, with Alpaca's reason.

        Raises:
            NetworkError: what became of it is unknown.
            IntegrityError: the id stands for another order there.
        """
        if not self._may_spend():
            # Learn the budget anew, which a look-up does: it is counted, but never refused here.
            known = await self.order(client_order_id)
            if known is not None or not self._may_spend():
                return known or _ended(client_order_id, "rejected", _KEPT)
        terms = order_terms(intent) | {"client_order_id": client_order_id}
        return await self._taken(
            client_order_id, intent, *await self._wire.ask("POST", "/v2/orders", json=terms)
        )

    async def replace(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Asks once that an order takes the place of `intent.replaces`; reports the new one.

        The old one is looked up by whoever wants to know: that a replacement is taken does not say that it
        happens, since the old order may be filled first.

        Raises:
            NetworkError: what became of it is unknown.
            IntegrityError: the id stands for another order there.
        """
        old = await self._find(intent.replaces or "")
        if old is None or STATES.get(old.status) != "accepted" or old.filled_qty:
            standing = "not known there" if old is None else f"{old.status}, {old.filled_qty} filled"
            known = await self._find(client_order_id)
            detail = (
                f"not sent: {intent.replaces} is {standing}; only a working order without fills is replaced"
            )
            return await self._report(known, intent) if known else _ended(client_order_id, "rejected", detail)
        if not self._may_spend():
            return _ended(client_order_id, "rejected", _KEPT)
        terms = replacement_terms(intent) | {"client_order_id": client_order_id}
        return await self._taken(
            client_order_id, intent, *await self._wire.ask("PATCH", f"/v2/orders/{old.id}", json=terms)
        )

    async def _taken(self, client_order_id: str, intent: OrderIntent, status: int, body: Any) -> BrokerReport:
        """Reads the answer to an order that was sent: taken, refused, or neither."""
        if status == 200:
            return await self._report(self._wire.read(OrderAnswer, body), intent)
        if status == 422 and field_of(body, "code") == _ID_TAKEN:
            known = await self._find(client_order_id)
            if known is None:
                self._wire.unclear("says that it has the order, and does not know it")
            return await self._report(known, intent)
        if 400 <= status < 500 and status != 408:  # it was heard and not taken
            return _ended(client_order_id, "rejected", self._wire.said(body, status))
        self._wire.unclear(f"answered {self._wire.said(body, status)}")

    def unsupported(self, intent: OrderIntent) -> str:
        """Returns why Alpaca would not take such an order; empty where it would."""
        if intent.quantity % 1 and (intent.time_in_force != "day" or intent.type not in {"market", "limit"}):
            return "fractions go with market and limit orders for the day only"
        if intent.replaces is not None and intent.has_exits:
            return "a replacement brings no exits: those of the old order stay"
        if intent.trail_percent is not None and intent.trail_percent % Decimal("0.01"):
            return "a trail in percent has two decimal places at most"
        return ""

    async def books(self) -> VenueBooks:
        """Returns cash, positions and working orders as Alpaca has them; a failed query is never "flat".

        Raises:
            NetworkError: it did not say; nothing may be concluded.
        """
        account: AccountAnswer = self._wire.read(AccountAnswer, await self._got("/v2/account", {}))
        listed = await self._got("/v2/positions", {})
        if not isinstance(listed, list):
            self._wire.unclear("sent positions that are no list")
        positions: list[PositionAnswer] = [
            self._wire.read(PositionAnswer, each) for each in cast("list[Any]", listed)
        ]
        orders = await self._open_orders()
        legs = [(each, read_leg(each)) for each in orders if not self._is_stand_in(each)]
        return VenueBooks(
            cash=account.cash,
            currency=account.currency,
            positions={visible(each.symbol)[:40]: each.qty for each in positions if each.qty},
            working=tuple(leg for _, leg in legs if leg is not None),
            unreadable=tuple(visible(each.client_order_id)[:80] for each, leg in legs if leg is None),
            is_complete=len(orders) < _ORDERS_MAX,
        )

    async def payments(self, since: date) -> tuple[Payment, ...]:
        """Returns dividends, interest and fees that are executed; others are differences of cash.

        Raises:
            NetworkError: it did not say.
        """
        found: dict[str, ActivityAnswer] = {}
        query = {"activity_types": ",".join(PAYMENTS), "direction": "asc", "page_size": str(_PAGE)}
        query["after"] = (since - timedelta(days=1)).isoformat()
        while True:
            page = await self._got("/v2/account/activities", query)
            if not isinstance(page, list):
                self._wire.unclear("sent activities that are no list")
            rows: list[ActivityAnswer] = [
                self._wire.read(ActivityAnswer, each) for each in cast("list[Any]", page)
            ]
            fresh = [each for each in rows if each.id not in found]
            found |= {each.id: each for each in fresh}
            if len(rows) < _PAGE or not fresh:
                break
            query["page_token"] = rows[-1].id
        paid = [
            each
            for each in found.values()
            if each.activity_type in PAYMENTS and each.status == "executed" and each.net_amount
        ]
        return tuple(self._payment(each) for each in sorted(paid, key=lambda each: (each.date, each.id)))

    def _payment(self, each: ActivityAnswer) -> Payment:
        share = "" if each.per_share_amount is None else f", {format_decimal(each.per_share_amount)} a share"
        try:
            return Payment(
                payment_id=each.id,
                kind=PAYMENTS[each.activity_type],
                symbol=each.symbol or None,
                amount=each.net_amount,
                day=each.date,
                event_time=datetime.combine(each.date, time(12), _NEW_YORK).astimezone(UTC),
                detail=f"{each.activity_type}{share}",
            )
        except ValidationError as error:
            self._wire.unclear(f"sent an activity that cannot be booked ({error.error_count()} errors)")

    async def working(self) -> dict[str, tuple[VenueState, Decimal]]:
        """Returns what Alpaca says of all open orders; one request.

        Raises:
            NetworkError: it did not say.
        """
        return {
            each.client_order_id: (STATES[each.status], each.filled_qty)
            for each in await self._open_orders()
            if each.status in STATES
        }

    async def _open_orders(self) -> list[OrderAnswer]:
        query = {"status": "open", "limit": str(_ORDERS_MAX), "direction": "asc", "nested": "false"}
        answer = await self._got("/v2/orders", query)
        if not isinstance(answer, list):
            self._wire.unclear("sent orders that are no list")
        return [self._wire.read(OrderAnswer, each) for each in cast("list[Any]", answer)]

    async def _got(self, path: str, query: dict[str, str]) -> Any:
        status, body = await self._wire.ask("GET", path, params=query)
        if status != 200:
            self._wire.unclear(f"answered {self._wire.said(body, status)}")
        return body

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
        if STATES.get(known.status) in {"accepted", "partially_filled"}:
            status, body = await self._wire.ask("DELETE", f"/v2/orders/{known.id}")
            if status not in {204, 404, 422}:  # 422: it ended meanwhile, and the look-up says how
                self._wire.unclear(f"answered {self._wire.said(body, status)}")
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
        status, body = await self._wire.ask("POST", "/v2/orders", json=stand_in)
        if status == 422 and field_of(body, "code") == _ID_TAKEN:  # it arrived after all
            return await self._settled(client_order_id)
        if status != 200:
            self._wire.unclear(f"does not let {client_order_id} be used up: {self._wire.said(body, status)}")
        return await self.cancel(client_order_id)

    def _may_spend(self) -> bool:
        """Tells whether an order may use one of the minute's requests."""
        return self._wire.remaining is None or self._wire.remaining > CANCELS_RESERVED

    def _is_stand_in(self, known: OrderAnswer) -> bool:
        terms = (known.symbol, known.side, known.qty, known.limit_price)
        return terms == (self._stand_in, "buy", Decimal(1), Decimal("0.01"))

    async def _settled(self, client_order_id: str) -> BrokerReport:
        known = await self._find(client_order_id)
        if known is None:
            self._wire.unclear("says that it has the order, and does not know it")
        return await self._report(known)

    async def _find(self, client_order_id: str) -> OrderAnswer | None:
        query = {"client_order_id": client_order_id}
        status, body = await self._wire.ask("GET", "/v2/orders:by_client_order_id", params=query)
        if status == 404:
            return None
        if status != 200:
            self._wire.unclear(f"answered {self._wire.said(body, status)}")
        known = self._wire.read(OrderAnswer, body)
        if known.client_order_id != client_order_id:
            self._wire.unclear(
                f"answered about {known.client_order_id} when it was asked for {client_order_id}"
            )
        return known

    async def _report(self, known: OrderAnswer, intent: OrderIntent | None = None) -> BrokerReport:
        if known.status not in STATES:
            self._wire.unclear(f"says {known.status!r:.40} of an order, which is no state that we know")
        if self._is_stand_in(known) and known.filled_qty == 0:
            return _ended(known.client_order_id, "canceled", _BARRED)
        theirs = (known.symbol, known.side, known.qty)
        shrinks = intent is not None and intent.replaces is not None  # by what the old order was filled with
        fits = intent is None or (
            theirs[:2] == (intent.symbol, intent.side)
            and known.qty is not None
            and (known.qty == intent.quantity or (shrinks and known.qty < intent.quantity))
        )
        if not fits and intent is not None:
            raise IntegrityError(
                "foreign_order",
                f"{known.client_order_id} is to {intent.side} {intent.quantity} {intent.symbol}, and Alpaca"
                f" has it as {known.side} {known.qty} {known.symbol}",
                "halt trading and compare with the venue: neural-trader orders reconcile",
            )
        fills = await self._fills(known) if known.filled_qty else ()
        listed = sum((fill.quantity for fill in fills), Decimal(0))
        if listed != known.filled_qty:
            fills = (*fills, self._unlisted(known, fills))
        else:
            self._behind.pop(known.client_order_id, None)
        return BrokerReport(
            client_order_id=known.client_order_id,
            state=STATES[known.status],
            detail=known.status if known.status not in {"filled", "new"} else "",
            fills=fills,
            filled=known.filled_qty,
            legs=tuple(leg for each in known.legs or () if (leg := read_leg(each)) is not None),
        )

    def _unlisted(self, known: OrderAnswer, listed: tuple[Fill, ...]) -> Fill:
        """Returns what stands for executions that are not listed, once they had time to be.

        Raises:
            NetworkError: they have not had it: half a truth is booked by nobody.
        """
        now, (filled, since) = self._clock.now(), self._behind.get(known.client_order_id, (None, None))
        if since is None or filled != known.filled_qty:
            self._behind[known.client_order_id] = (known.filled_qty, now)
        elif (now - since).total_seconds() >= self._listing_grace_s and known.filled_avg_price is not None:
            assert known.symbol is not None  # noqa: S101 - what has fills has a symbol
            fill = synthetic_fill(
                known.client_order_id,
                known.symbol,
                known.side or "buy",
                filled=known.filled_qty,
                average_price=known.filled_avg_price,
                listed=listed,
                event_time=known.updated_at or now,
                known_time=now,
            )
            if fill is not None:
                return fill
        self._wire.unclear(f"has not listed every fill of {known.client_order_id} yet")

    async def _fills(self, known: OrderAnswer) -> tuple[Fill, ...]:
        found: dict[str, Fill] = {}
        token = ""
        while True:
            query = {"order_id": known.id, "direction": "asc", "page_size": str(_PAGE)}
            if token:
                query["page_token"] = token
            status, body = await self._wire.ask("GET", "/v2/account/activities/FILL", params=query)
            if status != 200 or not isinstance(body, list):
                self._wire.unclear(f"answered {self._wire.said(body, status)}")
            page: list[FillAnswer] = [self._wire.read(FillAnswer, each) for each in cast("list[Any]", body)]
            fresh = [each for each in page if each.order_id == known.id and each.id not in found]
            for each in fresh:
                found[each.id] = self._fill(known, each)
            if len(page) < _PAGE or not fresh:
                return tuple(found.values())
            token = page[-1].id

    def _fill(self, known: OrderAnswer, each: FillAnswer) -> Fill:
        if each.transaction_time.tzinfo is None:
            self._wire.unclear("gave a fill's time without a zone")
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


def _ended(client_order_id: str, state: VenueState, detail: str) -> BrokerReport:
    return BrokerReport(client_order_id=client_order_id, state=state, detail=detail)
