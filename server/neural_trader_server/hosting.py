"""Hosting: the server's process life on HTTP, in one process or in several that share an address."""

import contextlib
import functools
import importlib.util
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import structlog
import uvicorn

from neural_trader_server import failstop
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.connections import connection_class, tls_context
from neural_trader_server.front import Buckets, http_app, own_names, require_reachable
from neural_trader_server.home import Home
from neural_trader_server.listening import bind, end_http_on_signal, keep_what_is_loaded, running
from neural_trader_server.manifest import record_tools
from neural_trader_server.monitoring import Monitor, open_tallies
from neural_trader_server.settings import Settings
from neural_trader_server.tallies import Tallies
from neural_trader_server.workers import Ready, Watch

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from neural_trader_server.app import Services

log = structlog.get_logger(__name__)


async def serve_http(
    home: Home, settings: Settings, toolsets: str | None, read_only: bool, host: str, port: int
) -> None:
    """Serves MCP at `/mcp`, and `/healthz`, `/readyz` and `/metrics`, from this process.

    Raises:
        ConfigurationError: the address is taken, or public without what that needs.
    """
    require_reachable(host, settings)
    listener, tallies = bind(host, port), open_tallies([spec.name for spec in CATALOGUE])
    await serve_listener(home, settings, toolsets, read_only, host, listener, Buckets(settings), tallies)


def serve_workers(
    home: Home, settings: Settings, toolsets: str | None, read_only: bool, host: str, port: int, count: int
) -> int:
    """Serves the same from several processes; returns the exit status. Call it where no thread runs.

    Args:
        home: Where everything is kept.
        settings: What the operator chose.
        toolsets: As `--toolsets` takes it.
        read_only: Serve no tool that writes, but the halt.
        host: To listen on.
        port: 0 takes a free one.
        count: How many processes.

    Raises:
        ConfigurationError: the address is taken, or public without what that needs.
    """
    require_reachable(host, settings)
    buckets, tallies = Buckets(settings), open_tallies([spec.name for spec in CATALOGUE])
    # Holds the port while workers come and go; it does not listen, so no connection waits for it.
    held = bind(host, port, shared=True, listens=False)
    chosen = int(held.getsockname()[1])

    def work(number: int, ready: Ready) -> None:
        # It listens once it serves: until then the kernel gives connections to those who do.
        listener = bind(host, chosen, shared=True, listens=False)
        served = functools.partial(
            serve_listener,
            home,
            settings,
            toolsets,
            read_only,
            host,
            listener,
            buckets,
            tallies,
            worker=number,
            ready=ready,
        )
        run(served)

    with held:
        return Watch(count, work).keep()


def run(serve: Callable[[], Awaitable[None]]) -> None:
    """Runs a server to its end, on the faster event loop where that is installed (the extra `http`)."""
    fast = importlib.util.find_spec("uvloop") is not None
    anyio.run(serve, backend_options={"use_uvloop": fast})


async def serve_listener(
    home: Home,
    settings: Settings,
    toolsets: str | None,
    read_only: bool,
    host: str,
    listener: socket.socket,
    buckets: Buckets,
    tallies: Tallies,
    *,
    worker: int | None = None,
    ready: Ready = lambda: None,
) -> None:
    """Serves MCP on a socket that listens already, until a signal ends this process.

    Args:
        home: Where everything is kept.
        settings: What the operator chose.
        toolsets: As `--toolsets` takes it.
        read_only: Serve no tool that writes, but the halt.
        host: As it was given to `bind`.
        listener: The socket.
        buckets: The rates, which several such processes may share.
        tallies: The counts of calls, which they may share too.
        worker: Which of several processes this is that serve the same address; None where it is alone.
        ready: Called when this process is about to serve.
    """
    tls = tls_context(settings)
    bound = int(listener.getsockname()[1])
    shown = f"[{host}]" if ":" in host else host
    address = f"{'http' if tls is None else 'https'}://{shown}:{bound}"
    async with open_desk(home, settings) as services:
        server = build_server(services, toolsets=toolsets, read_only=read_only)
        await record_tools(server, services)
        monitor = Monitor(services, tallies, own_names(host, settings))
        server.gate.observe = monitor.observe
        server.custom_route("/metrics", methods=["GET"])(monitor.metrics)
        server.custom_route("/readyz", methods=["GET"])(monitor.readyz)
        app = http_app(
            server, services, host=host, url=address, buckets=buckets, stateless=worker is not None
        )
        http = web_server(app, tls)
        keeping = helping(services) if worker else running(services, ends_process=True)
        async with keeping as tasks:
            tasks.start_soon(end_http_on_signal, http, server.end_streams)
            url, mode = f"{address}/mcp", services.broker.mode
            about = {} if worker is None else {"worker": worker}
            log.info("serving", transport="http", url=url, mode=mode, home=str(home.path), **about)
            keep_what_is_loaded()
            ready()
            await http.serve(sockets=[listener])


@asynccontextmanager
async def helping(services: "Services") -> AsyncGenerator[anyio.abc.TaskGroup]:
    """Serves beside a process of this home that keeps house (`running`): starts what calls need, no more.

    Args:
        services: The desk.
    """
    await services.start()
    await services.cosigner.confirm()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(failstop.end_when_failed, services)
        tasks.start_soon(services.watching.keep)
        yield tasks
        tasks.cancel_scope.cancel()


def web_server(app: "ASGIApp", tls: ssl.SSLContext | None) -> uvicorn.Server:
    """Returns what serves an application on sockets, with our connections and none of uvicorn's own ways.

    Args:
        app: The whole application.
        tls: What encrypts; None where nothing does.
    """
    # Our own logs say what happens; uvicorn's would write a second format, some of it to stdout. Headers of
    # proxies are not believed: nothing here is decided by the address that somebody says he has.
    config = uvicorn.Config(
        app,
        http=connection_class(),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        # Agents think between calls; and a loop that is late must not close what has just spoken again.
        timeout_keep_alive=75,
        ws="none",
        ssl_context_factory=None if tls is None else functools.partial(_given, tls),
    )
    http = uvicorn.Server(config)
    # uvicorn would raise the signal again once it has stopped, and so end us before the desk is closed.
    http.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]  # same call
    return http


def _given(context: ssl.SSLContext, *_: object) -> ssl.SSLContext:
    """Returns the context that was made before the socket was opened, whatever uvicorn would make."""
    return context
