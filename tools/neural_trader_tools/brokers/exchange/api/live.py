"""The live market of a served exchange: ticks of a feed from the event bus, at the machine's time.

The matching is the same as for the archive's bars. What differs is that a feed may fall silent, so a symbol
trades only while its newest price is fresh: `keep` runs before every call, halts what has become stale before
time moves on, and so no order ever meets a price that is older than the bound. It trades again with the next
price. What comes late, out of order, or was seen already is passed over; where a feed tells trades or quotes
of a symbol, its bars (which are made of them) are.
"""

from collections import Counter
from collections.abc import Callable, Collection

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from neural_trader_tools.brokers.exchange.api.documents import moment
from neural_trader_tools.brokers.exchange.api.service import ExchangeService
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.market import seen_of
from neural_trader_tools.brokers.exchange.prices import BarSeen
from neural_trader_tools.bus.events import BusEvent
from neural_trader_tools.bus.port import Subscription
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Gap, Quote, Tick, Trade

WATCH_S = 0.25
STALE_S = 15.0


class LiveMarket:
    """Shows a feed's ticks to a served exchange; every symbol is halted until its first.

    Args:
        service: The exchange.
        symbols: What it trades; ticks of others are passed over.
        clock_ns: The machine's time.
        stale_s: A symbol whose newest price is older trades no more until the next; for a bar, older
            than another of its length and this.

    Attributes:
        taken: Ticks that the exchange saw.
        passed: Those that it did not, by the reason.
    """

    def __init__(
        self,
        service: ExchangeService,
        symbols: Collection[str],
        *,
        clock_ns: Callable[[], int],
        stale_s: float = STALE_S,
    ) -> None:
        self._service = service
        self._clock_ns = clock_ns
        self._stale_ns = round(stale_s * SECOND_NS)
        self._fresh_until = dict.fromkeys(symbols, 0)
        self._newest: dict[tuple[str, type[Tick]], int] = {}
        self._in_ticks: set[str] = set()
        self.taken = 0
        self.passed: Counter[str] = Counter()
        service.before = self.keep

    def keep(self, exchange: Exchange) -> None:
        """Halts what is stale at the machine's time, and only then lets that time come."""
        now_ns = self._clock_ns()
        for symbol, until_ns in self._fresh_until.items():
            if now_ns > until_ns:
                exchange.halt(symbol)
        exchange.advance(now_ns)

    def see(self, exchange: Exchange, event: BusEvent) -> None:
        """Shows the exchange an event, where it is a price of now; after a gap all waits for the next."""
        if isinstance(event, Gap):
            for symbol in [event.symbol] if event.symbol else list(self._fresh_until):
                if symbol in self._fresh_until:
                    self._fresh_until[symbol] = 0
            self.keep(exchange)
            return
        if not isinstance(event, Trade | Quote | BarTick) or event.symbol not in self._fresh_until:
            return
        kind, symbol, now_ns = type(event), event.symbol, self._clock_ns()
        seen = seen_of(event)
        made_ns = seen.time_ns
        length_ns = seen.time_ns - seen.open_ns if isinstance(seen, BarSeen) else 0
        if now_ns - made_ns > self._stale_ns:
            self.passed["stale"] += 1
        elif made_ns > now_ns + self._stale_ns:
            self.passed["from the future"] += 1
        elif isinstance(event, BarTick) and symbol in self._in_ticks:
            self.passed["made of ticks"] += 1
        elif made_ns < (before := self._newest.get((symbol, kind), -1)) or (
            made_ns == before and isinstance(event, BarTick)
        ):
            self.passed["out of order"] += 1
        else:
            self._newest[symbol, kind] = made_ns
            if not isinstance(event, BarTick):
                self._in_ticks.add(symbol)
            self._fresh_until[symbol] = max(self._fresh_until[symbol], made_ns + length_ns + self._stale_ns)
            exchange.resume(symbol)
            exchange.observe(seen)
            self.taken += 1

    async def follow(self, subscription: Subscription) -> None:
        """Takes in what a subscription delivers, until the bus is closed.

        Raises:
            StorageError: what an event did to orders cannot be written.
        """
        async for delivery in subscription:
            event = delivery.event
            await self._service.call(lambda exchange, event=event: self.see(exchange, event))
            await delivery.ack()

    async def watch(self, every_s: float = WATCH_S) -> None:
        """Lets time pass, and what is stale be halted, also while nothing comes."""
        while True:
            await self._service.call(lambda _: None)
            await anyio.sleep(every_s)

    def routes(self) -> list[Route]:
        """Returns `GET /market`, and `POST /market/step`, which a live market refuses; both are ours."""

        async def where(_: Request) -> Response:
            exchange = self._service.exchange
            books = sorted(exchange.registry.books.items())
            return JSONResponse(
                {
                    "time": moment(exchange.now_ns),
                    "is_open": exchange.hours.at(exchange.now_ns) is not None,
                    "played": self.taken,
                    "is_over": False,
                    "prices": {symbol: book.tape.last / 10_000 for symbol, book in books},
                    "halted": [symbol for symbol, book in books if book.tape.is_halted],
                    "passed_over": dict(self.passed),
                }
            )

        async def step(_: Request) -> Response:
            message = "a live market is not stepped: its time is the machine's"
            return JSONResponse({"code": 42210000, "message": message}, 422)

        return [Route("/market/step", step, methods=["POST"]), Route("/market", where)]
