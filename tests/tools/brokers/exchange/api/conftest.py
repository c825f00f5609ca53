"""An exchange served over loopback, as clients meet it."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tests.tools.brokers.exchange.venues import Venue, sessions

from neural_trader_tools.brokers.exchange.api.keys import ApiKey, KeyRing
from neural_trader_tools.brokers.exchange.api.routes import TradingApi
from neural_trader_tools.brokers.exchange.api.service import ExchangeService
from neural_trader_tools.brokers.exchange.keeping import Keeper

KEY, SECRET = "PKTEST", "secret-of-a-test"
WAIT_S = 20.0


class Served:
    """A running exchange: its address, and its market in the test's hand."""

    def __init__(self, path: Path, *, per_minute: int = 0, wrap: Any = None, **rules: Any) -> None:
        self.venue = Venue(
            multiplier=2, hours=sessions(), start_ns=19_723 * 86_400 * 10**9 + 15 * 3600 * 10**9, **rules
        )
        self.service = ExchangeService(self.venue.exchange, Keeper(path, seed=1))
        self._app = TradingApi(self.service, KeyRing([ApiKey.of(KEY, SECRET, "paper")]), per_minute).app()
        if wrap is not None:
            self._app = wrap(self._app)
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def serve(self) -> Generator["Served"]:
        """Answers while the context is open."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(self._app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            async with self.service.running():
                await server.serve(sockets=[listener])

        thread = threading.Thread(target=asyncio.run, args=[run()], name="exchange")
        thread.start()
        deadline = time.monotonic() + WAIT_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)  # uvicorn offers no event to wait on
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(WAIT_S)
            listener.close()
        assert not thread.is_alive()

    def market(self, action: Callable[[Any], Any]) -> None:
        """Does something to the exchange in its own thread, and waits until that is kept and told."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.service.call(action), self._loop).result(WAIT_S)

    def quote(self, bid: float, ask: float, size: float = 10_000, symbol: str = "A") -> None:
        """Shows a quote."""
        from neural_trader_tools.brokers.exchange.prices import QuoteSeen

        self.market(
            lambda exchange: exchange.observe(QuoteSeen.of(symbol, exchange.now_ns, bid, size, ask, size))
        )

    def client(self) -> httpx.Client:
        """Returns a client that is signed in."""
        headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=WAIT_S)


@pytest.fixture
def served(tmp_path: Path) -> Generator[Served]:
    with Served(tmp_path / "exchange.db").serve() as exchange:
        exchange.quote(99.99, 100.00)
        yield exchange
