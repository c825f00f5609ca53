"""Crypto exchanges as venues, through the package ccxt: one adapter, which never sends an order twice.

What the package would do silently is caught here and in `ccxt_wire.py`. It rounds quantities and prices to
the exchange's steps: an order that would be rounded is refused, with the nearest that would not. It makes an
id of its own where none is given: here there is always one. And an exception of its may mean that an order
was refused or that nobody knows: only what surely was not taken is `rejected`, all else is `unknown` and
looked up (docs/adr/0013-a-request-that-ends.md).
"""

import contextlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, cast

import anyio.to_thread
from pydantic import ValidationError

from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import MICRO, format_decimal, parse_decimal
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.ccxt_venues import LIFE, WAYS, CcxtTradingSettings, Record, Recorded, Ways
from neural_trader_tools.brokers.ccxt_wire import CcxtWire, RefusedError
from neural_trader_tools.brokers.port import BrokerReport, Leg, VenueBooks, VenueState
from neural_trader_tools.brokers.synthetic import synthetic_fill
from neural_trader_tools.market.providers.packages import said

_STATES: dict[str, VenueState] = {
    "open": "accepted",
    "canceling": "accepted",
    "closed": "filled",
    "canceled": "canceled",
    "expired": "expired",
    "rejected": "rejected",
}
_TOO_LATE = timedelta(seconds=2)
"""Kraken refuses a deadline that is nearer."""
_ORDERS_MAX = 500


class CcxtBroker:
    """One account at one exchange.

    Args:
        settings: Which exchange, and how.
        clock: The machine's.
        record: What the desk has on its record of an order.

    Raises:
        ConfigurationError: the extra is not installed, the exchange is none whose ways are known, it has no
            sandbox, or there is no key.
    """

    def __init__(self, settings: CcxtTradingSettings, clock: Clock, record: Record) -> None:
        self._settings, self._clock, self._record = settings, clock, record
        self._ways = _ways(settings.exchange)
        self._wire = CcxtWire(settings, self._ways)
        self._call, self._unclear, self._exchange = self._wire.call, self._wire.unclear, self._wire.exchange
        self._sent: dict[str, datetime] = {}
        self._behind: dict[str, tuple[Decimal, datetime]] = {}
        """Orders whose fills are not all listed: what they said was filled, and since when."""

    @property
    def name(self) -> str:
        """Such as `ccxt-kraken`."""
        return f"ccxt-{self._settings.exchange}"

    @property
    def mode(self) -> Literal["paper", "live"]:
        """`live` at the exchange itself, outside of its sandbox."""
        return "paper" if self._settings.sandbox or self._settings.url is not None else "live"

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._exchange.close()

    def unsupported(self, intent: OrderIntent) -> str:
        """Returns why such an order would not be sent; steps are known once the exchange was asked."""
        if intent.replaces is not None:
            return "orders are not replaced there: cancel the old one and preview anew"
        if intent.has_exits or intent.type not in {"market", "limit", "stop", "stop_limit"}:
            return "only single market, limit, stop and stop_limit orders are sent there"
        allowed = {"market": {"day", "gtc"}, "limit": {"gtc", "ioc"}}.get(intent.type, {"gtc"})
        if intent.type == "limit" and self._ways.knows_fok:
            allowed = allowed | {"fok"}
        if intent.time_in_force not in allowed:
            return (
                f"a {intent.type} order there is {' or '.join(sorted(allowed))}: its market has no sessions"
            )
        currency = self._settings.currency
        if not intent.symbol.endswith(f"/{currency}"):
            return f"only pairs quoted in {currency} are traded there, such as BTC/{currency}"
        return self._rounded(intent) if self._exchange.markets else ""

    def _rounded(self, intent: OrderIntent) -> str:
        """Returns what the package would round, and the nearest that it would not; empty where nothing."""
        market: dict[str, Any] | None = self._exchange.markets.get(intent.symbol)
        if market is None or not market.get("spot") or market.get("active") is False:
            return f"{self._settings.exchange} has no open spot market {intent.symbol}"
        for name, kind in (("quantity", "amount"), ("limit_price", "price"), ("stop_price", "price")):
            wished: Decimal | None = getattr(intent, name)
            if wished is None:
                continue
            step = parse_decimal(market["precision"][kind])
            below = wished // step * step
            try:
                sent = parse_decimal(
                    getattr(self._exchange, f"{kind}_to_precision")(intent.symbol, format_decimal(wished))
                )
            except self._wire.package.InvalidOrder:  # less than one step
                sent = Decimal(0)
            if sent != wished or below != wished:
                near = [format_decimal(each) for each in (below, below + step) if each > 0]
                return (
                    f"{name} {format_decimal(wished)} is no multiple of {intent.symbol}'s step"
                    f" {format_decimal(step)}: take {' or '.join(near)}; nothing is rounded here"
                )
        return ""

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Sends the order once, in a request that ends by itself; see the module.

        Raises:
            NetworkError: what became of it is unknown.
            IntegrityError: the id stands for another order there.
        """
        known = await self._recorded(client_order_id)
        carried = self._ways.carried(client_order_id)
        if known is None or carried is None:
            return _ended(
                client_order_id, "rejected", "not sent: it is none of the orders on the desk's record"
            )
        now = self._clock.now()
        self._sent = {each: until for each, until in self._sent.items() if until > now}
        if client_order_id in self._sent or now > known.time + LIFE - _TOO_LATE:
            found = await self.order(client_order_id)
            if found is None and client_order_id in self._sent:
                self._unclear(f"was sent {client_order_id} before, and does not know it")
            return found or _ended(client_order_id, "rejected", "not sent: its time was over before it was")
        try:
            await self._call(self._exchange.load_markets)
        except NetworkError as error:
            return _ended(client_order_id, "rejected", f"not sent: {error.what}")
        if why := self.unsupported(intent):
            return _ended(client_order_id, "rejected", f"not sent: {why}")
        self._sent[client_order_id] = known.time + LIFE
        terms = self._ways.terms(known.time) | {"clientOrderId": carried}
        if intent.type != "market":
            terms["timeInForce"] = intent.time_in_force.upper()
        if intent.stop_price is not None:
            terms["stopLossPrice"] = format_decimal(intent.stop_price)
        kind = "limit" if intent.limit_price is not None else "market"
        price = None if intent.limit_price is None else format_decimal(intent.limit_price)
        quantity = format_decimal(intent.quantity)
        try:
            await self._call(
                lambda: self._exchange.create_order(intent.symbol, kind, intent.side, quantity, price, terms),
                refusable=True,
            )
        except RefusedError as refusal:
            if "uplicate" not in str(refusal):
                return _ended(client_order_id, "rejected", str(refusal)[:300])
        found = await self.order(client_order_id)
        if found is None:
            self._unclear(f"has taken {client_order_id}, and does not list it yet")
        return found

    async def replace(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        """Refuses: a replacement may race with fills differently at each exchange."""
        return _ended(client_order_id, "rejected", f"not sent: {self.unsupported(intent)}")

    async def order(self, client_order_id: str) -> BrokerReport | None:
        """Returns what the exchange knows, or None if it does not know the id.

        Raises:
            NetworkError: it did not say.
        """
        known = await self._recorded(client_order_id)
        found = await self._find(client_order_id, known)
        return None if found is None else await self._report(client_order_id, found, known)

    async def cancel(self, client_order_id: str) -> BrokerReport:
        """Cancels what is still working and returns the state afterwards.

        Raises:
            NetworkError: the outcome is unknown.
        """
        known = await self._recorded(client_order_id)
        found = await self._find(client_order_id, known)
        if found is None:
            return await self.close_unknown(client_order_id)
        if found["status"] in {"open", "canceling"}:
            order = found
            with contextlib.suppress(RefusedError):  # it ended meanwhile, and the look-up says how
                await self._call(
                    lambda: self._exchange.cancel_order(order["id"], order["symbol"]), refusable=True
                )
            found = await self._find(client_order_id, known) or found
        return await self._report(client_order_id, found, known)

    async def close_unknown(self, client_order_id: str) -> BrokerReport:
        """Reports a known order; an unknown one is over once the exchange would not take it any more.

        Raises:
            NetworkError: the outcome is unknown, or it may still arrive; ask again.
        """
        venue_time = await self._venue_time()  # before the look-up, so that nothing is taken after it
        known = await self._recorded(client_order_id)
        found = await self._find(client_order_id, known)
        if found is not None:
            return await self._report(client_order_id, found, known)
        if known is not None:
            end = known.time + LIFE + timedelta(seconds=self._settings.settle_grace_s)
            if venue_time < end:
                self._unclear(f"does not know {client_order_id}, which may arrive until {end:%H:%M:%S} UTC")
        return _ended(
            client_order_id, "canceled", "never arrived, and is not taken any more: its time is over"
        )

    async def books(self) -> VenueBooks:
        """Returns cash, holdings with a pair in the account's currency, and working orders.

        Raises:
            NetworkError: it did not say; nothing may be concluded.
        """
        await self._call(self._exchange.load_markets)
        balance = await self._call(self._exchange.fetch_balance)
        orders: list[dict[str, Any]] = await self._call(self._exchange.fetch_open_orders)
        currency = self._settings.currency
        try:
            totals = {code: parse_decimal(each or "0") for code, each in balance["total"].items()}
        except (ValueError, KeyError, AttributeError) as error:
            self._unclear(f"sent balances that cannot be read ({said(error)})")
        held = {f"{code}/{currency}": total for code, total in totals.items() if total and code != currency}
        legs = [(self._name_of(each), self._leg(each)) for each in orders]
        return VenueBooks(
            cash=totals.get(currency, Decimal(0)),
            currency=currency,
            positions={pair: total for pair, total in held.items() if pair in self._exchange.markets},
            working=tuple(leg for _, leg in legs if leg is not None),
            unreadable=tuple(name for name, leg in legs if leg is None),
            is_complete=len(orders) < _ORDERS_MAX,
        )

    async def _recorded(self, client_order_id: str) -> Recorded | None:
        return await anyio.to_thread.run_sync(self._record, client_order_id)

    async def _venue_time(self) -> datetime:
        stamp = await self._call(self._exchange.fetch_time)
        return datetime.fromtimestamp(int(stamp) / 1000, UTC)

    async def _find(self, client_order_id: str, known: Recorded | None) -> dict[str, Any] | None:
        symbol = "" if known is None else known.intent.symbol
        theirs = client_order_id.removeprefix(f"{self._settings.exchange}:")
        carried = self._ways.carried(client_order_id)
        if not symbol or (carried is None and theirs == client_order_id):
            return None  # an exchange is asked by pair; what the desk has no record of, it never sent
        await self._call(self._exchange.load_markets)
        if carried is None:  # adopted: named by its own id
            return await self._call(lambda: self._exchange.fetch_order(theirs, symbol))
        found: dict[str, Any] | None = await self._call(
            lambda: self._ways.find(self._exchange, carried, symbol)
        )
        if found is not None and found["clientOrderId"] != carried:
            self._unclear(f"answered about another order when it was asked for {client_order_id}")
        return found

    def _name_of(self, order: dict[str, Any]) -> str:
        ours = self._ways.recalled(str(order["clientOrderId"] or ""))
        return ours or re.sub(r"[^!-~]", "?", f"{self._settings.exchange}:{order['id']}")[:80]

    def _leg(self, order: dict[str, Any]) -> Leg | None:
        stop = order.get("stopLossPrice") or order.get("triggerPrice")
        kind = ("stop_limit" if order["price"] else "stop") if stop else order["type"]
        try:
            return Leg(
                client_order_id=self._name_of(order),
                symbol=order["symbol"],
                side=order["side"],
                quantity=order["amount"],
                type=kind,
                limit_price=order["price"] if kind in {"limit", "stop_limit"} else None,
                stop_price=stop,
                time_in_force="gtc",
            )
        except ValidationError:
            return None

    async def _report(
        self, client_order_id: str, found: dict[str, Any], known: Recorded | None
    ) -> BrokerReport:
        state = _STATES.get(str(found["status"]))
        try:
            amount, filled = parse_decimal(found["amount"]), parse_decimal(found["filled"] or "0")
        except ValueError as error:
            self._unclear(f"sent an order that cannot be read ({said(error)})")
        if state is None:
            self._unclear(f"says {found['status']!r:.40} of an order, which is no state that we know")
        if known is not None:
            self._compare(client_order_id, found, amount, known.intent)
        if state == "accepted" and filled:
            state = "partially_filled"
        if state == "filled" and filled < amount:
            state = "canceled"  # closed, with a rest that will not be filled
        fills = await self._fills(client_order_id, found, filled) if filled else ()
        return BrokerReport(client_order_id=client_order_id, state=state, fills=fills, filled=filled)

    def _compare(
        self, client_order_id: str, found: dict[str, Any], amount: Decimal, intent: OrderIntent
    ) -> None:
        """Holds what the exchange has under an id to what was ordered: the package may have changed it."""
        ordered = [intent.symbol, intent.side, intent.quantity]
        has = [found["symbol"], found["side"], amount]
        if intent.limit_price is not None:
            ordered.append(intent.limit_price)
            has.append(parse_decimal(found["price"] or "0"))
        if ordered != has:
            raise IntegrityError(
                "foreign_order",
                f"{client_order_id} is to {_words(ordered)}, and {self.name} has it as {_words(has)}",
                "halt trading and compare with the venue: neural-trader orders reconcile",
            )

    async def _fills(self, client_order_id: str, order: dict[str, Any], filled: Decimal) -> tuple[Fill, ...]:
        trades: list[dict[str, Any]] = await self._call(lambda: self._ways.fills(self._exchange, order))
        try:
            fills = tuple(
                self._fill(client_order_id, order, each)
                for each in sorted(trades, key=lambda each: (each["timestamp"] or 0, str(each["id"])))
                if each["order"] == order["id"]
            )
        except (ValueError, TypeError, KeyError) as error:
            self._unclear(f"sent an execution that cannot be read ({said(error)})")
        if sum((fill.quantity for fill in fills), Decimal(0)) == filled:
            self._behind.pop(client_order_id, None)
            return fills
        now = self._clock.now()
        before, since = self._behind.get(client_order_id, (None, now))
        if before != filled:
            self._behind[client_order_id] = (filled, now)
        elif (now - since).total_seconds() >= self._settings.listing_grace_s and order["average"]:
            fill = synthetic_fill(
                client_order_id,
                order["symbol"],
                order["side"],
                filled=filled,
                average_price=parse_decimal(order["average"]),
                listed=fills,
                event_time=now,
                known_time=now,
            )
            if fill is not None:
                return (*fills, fill.model_copy(update={"currency": self._settings.currency}))
        self._unclear(f"has not listed every fill of {client_order_id} yet")

    def _fill(self, client_order_id: str, order: dict[str, Any], trade: dict[str, Any]) -> Fill:
        currency = self._settings.currency
        fee = cast("dict[str, Any]", trade["fee"] or {})
        cost = parse_decimal(fee.get("cost") or "0")
        rule = f"as {self.name} reports it"
        if (
            cost and fee.get("currency") != currency
        ):  # a holding that the books cannot move: it shows as a break
            rule, cost = (
                f"{rule}; a fee of {format_decimal(cost)} {fee.get('currency')} is not booked",
                Decimal(0),
            )
        return Fill(
            execution_id=f"{self._settings.exchange}:{trade['id']}",
            client_order_id=client_order_id,
            symbol=order["symbol"],
            side=order["side"],
            quantity=parse_decimal(trade["amount"]),
            price=parse_decimal(trade["price"]),
            fee=max(cost, Decimal(0)).quantize(MICRO, "ROUND_CEILING"),
            currency=currency,
            event_time=datetime.fromtimestamp(int(trade["timestamp"]) / 1000, UTC),
            known_time=self._clock.now(),
            clock="wall",
            rule=rule[:200],
        )


def _ways(exchange: str) -> Ways:
    if exchange not in WAYS:
        raise ConfigurationError(
            "exchange_not_tradable",
            f"orders cannot go to {exchange or 'an exchange that was not named'}: it is not known how its"
            " orders carry our id, are found by it, and are refused after a time that we name",
            f"set broker_exchange to one where all of that is known: {', '.join(sorted(WAYS))}",
        )
    return WAYS[exchange]


def _words(terms: list[Any]) -> str:
    symbol, side, quantity, *price = terms
    at = f" at {format_decimal(price[0])}" if price else ""
    return f"{side} {format_decimal(quantity)} {symbol}{at}"


def _ended(client_order_id: str, state: VenueState, detail: str) -> BrokerReport:
    return BrokerReport(client_order_id=client_order_id, state=state, detail=detail)
