"""The player: lets the market happen to a served exchange, instant after instant, at a pace or when told."""

from collections.abc import Iterator

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from neural_trader_tools.brokers.exchange.api.documents import moment
from neural_trader_tools.brokers.exchange.api.service import ExchangeService
from neural_trader_tools.brokers.exchange.market import Instant

STEPS_MAX = 100_000


class Player:
    """Plays a market.

    Args:
        service: The exchange.
        instants: What happens, in the order of time.

    Attributes:
        played: Instants so far.
        is_over: Nothing more happens.
    """

    def __init__(self, service: ExchangeService, instants: Iterator[Instant]) -> None:
        self._service = service
        self._instants = instants
        self._turn = anyio.Lock()
        self.played = 0
        self.is_over = False

    async def step(self, count: int = 1) -> int:
        """Lets so many instants happen; returns how many there were."""
        done = 0
        async with self._turn:
            while done < count and not self.is_over:
                instant = next(self._instants, None)
                if instant is None:
                    self.is_over = True
                    break
                await self._service.call(instant.happen)
                self.played += 1
                done += 1
        return done

    async def play(self, every_s: float) -> None:
        """Lets an instant happen every so many seconds, until nothing more does."""
        while not self.is_over:
            await anyio.sleep(every_s)
            await self.step()

    def routes(self) -> list[Route]:
        """Returns `POST /market/step?count=N` and `GET /market`, which are ours and not Alpaca's.

        They take no key: whoever reaches a loopback address may move a paper market, as at the terminal.
        """

        async def step(request: Request) -> Response:
            text = request.query_params.get("count", "1")
            if not text.isdecimal() or not 1 <= int(text) <= STEPS_MAX:
                message = f"count must be from 1 to {STEPS_MAX}"
                return JSONResponse({"code": 42210000, "message": message}, 422)
            return JSONResponse({"stepped": await self.step(int(text))} | self._where())

        async def where(_: Request) -> Response:
            return JSONResponse(self._where())

        return [Route("/market/step", step, methods=["POST"]), Route("/market", where)]

    def _where(self) -> dict[str, object]:
        exchange = self._service.exchange
        return {
            "time": moment(exchange.now_ns),
            "is_open": exchange.hours.at(exchange.now_ns) is not None,
            "played": self.played,
            "is_over": self.is_over,
            "prices": {
                symbol: book.tape.last / 10_000 for symbol, book in sorted(exchange.registry.books.items())
            },
        }
