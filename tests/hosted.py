"""Our whole HTTP server in the test's own process, on a free port: front, gate and tools over a home."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, build_server
from neural_trader_server.connections import tls_context
from neural_trader_server.endpoint import Endpoint
from neural_trader_server.front import Buckets, http_app
from neural_trader_server.home import Home
from neural_trader_server.hosting import web_server
from neural_trader_server.listening import bind
from neural_trader_server.settings import Settings


def everything_served(services: Services) -> Endpoint:
    """Our server with all toolsets."""
    return build_server(services, toolsets="all")


@asynccontextmanager
async def hosted(
    home: Home, build: Callable[[Services], Endpoint] = everything_served, **settings: Any
) -> AsyncGenerator[str]:
    """Our server on a free port of loopback, in this process; yields its address."""
    chosen = Settings(**settings)
    tls = tls_context(chosen)
    services = Services(home, chosen, WallClock())
    listener = bind("127.0.0.1", 0)
    address = f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}"
    try:
        server = build(services)
        buckets = Buckets(chosen)
        web = web_server(http_app(server, services, host="127.0.0.1", url=address, buckets=buckets), tls)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: web.serve(sockets=[listener]))
            while not web.started:
                await anyio.lowlevel.checkpoint()
            yield address
            web.should_exit = True
    finally:
        await services.aclose()
