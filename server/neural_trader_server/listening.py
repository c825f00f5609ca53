"""Listening: a server's process life, from opening the desk to closing it; on HTTP, see hosting.py."""

import functools
import gc
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread
import structlog

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server import failstop
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.manifest import record_tools
from neural_trader_server.settings import Settings

if TYPE_CHECKING:
    import uvicorn

    from neural_trader_server.app import Services

END_WITHIN_S = 5.0
CHECKED_FIRST_MAX = 200_000
"""Entries of a log that is checked before anybody is served; a longer one is checked meanwhile."""

log = structlog.get_logger(__name__)


def require_loopback(host: str) -> None:
    """Refuses to listen where another machine could reach a service that has neither door nor encryption.

    Raises:
        ConfigurationError: the host is not a loopback address.
    """
    if is_loopback_host(host):
        return
    raise ConfigurationError(
        "public_bind_refused",
        f"{host!r:.60} is not a loopback address, and this service has no encryption of its own",
        "use --host 127.0.0.1 and reach it through an SSH tunnel",
    )


def is_loopback_host(host: str) -> bool:
    """Tells whether an address to listen on is of this very machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def running(services: "Services", *, ends_process: bool = False) -> AsyncGenerator[anyio.abc.TaskGroup]:
    """Keeps a desk's background work going: backtests, the settling of orders left in doubt, alerts.

    Args:
        services: The desk.
        ends_process: A log that cannot be written, or books that do not agree, end this process.
    """
    services.serving = True
    await services.start()
    check_log = functools.partial(anyio.to_thread.run_sync, services.require_intact_log)
    checked_first = services.store.head().size <= CHECKED_FIRST_MAX
    if checked_first:
        await check_log()
    await services.cosigner.confirm()  # before any order: a log that was put back cannot know it by itself
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(services.alerting.keep_delivering)
        if not checked_first:
            tasks.start_soon(failstop.keep, services, check_log)
        following = services.following
        keep_reconciled = functools.partial(
            services.desk.keep_reconciled, services.caller, found=following.found if following else None
        )
        keep_compared = functools.partial(services.desk.keep_compared, services.caller)
        if ends_process:
            tasks.start_soon(failstop.end_when_failed, services)
            tasks.start_soon(failstop.keep, services, keep_reconciled)
            tasks.start_soon(failstop.keep, services, keep_compared)
            tasks.start_soon(failstop.keep, services, services.execution.keep_stepping)
        else:
            tasks.start_soon(keep_reconciled)
            tasks.start_soon(keep_compared)
            tasks.start_soon(services.execution.keep_stepping)
        if following is not None:
            tasks.start_soon(following.keep)
        tasks.start_soon(services.cosigner.keep_cosigned)
        tasks.start_soon(services.capture.keep_capturing)
        tasks.start_soon(services.watching.keep)
        if services.settings.bus != "off":
            tasks.start_soon(services.publishing.keep_publishing)
        yield tasks
        tasks.cancel_scope.cancel()


def keep_what_is_loaded() -> None:
    """Has the collector of garbage pass over what a server has loaded by now, in this process for ever."""
    gc.freeze()
    gc.enable()


async def serve_stdio(home: Home, settings: Settings, toolsets: str | None, read_only: bool) -> None:
    """Serves one client over stdin and stdout, until it closes stdin or a signal ends us."""
    async with open_desk(home, settings) as services:
        server = build_server(services, toolsets=toolsets, read_only=read_only)
        await record_tools(server, services)
        async with running(services, ends_process=True) as tasks:
            tasks.start_soon(_end_stdio_on_signal, services)
            tasks.start_soon(services.leasing.keep, services.caller)
            keep_what_is_loaded()
            log.info("serving", transport="stdio", mode=services.broker.mode, home=str(home.path))
            await server.run_stdio_async()


def bind(host: str, port: int, *, shared: bool = False, listens: bool = True) -> socket.socket:
    """Listens on an address.

    Args:
        host: The address.
        port: 0 takes a free one.
        shared: Other processes of ours may listen on it too, each for connections of its own.
        listens: False only holds the port.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by its number: asyncio looks at it, and else lets the second packet of an answer wait 40 ms
    # for the first one's acknowledgement (Nagle's algorithm).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        if listens:
            # Who connects before the first request is served waits, and is not refused; so do a thousand.
            listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            "port_unavailable",
            f"{host}:{port} cannot be listened on ({error.strerror})",
            "choose another --port, or 0 for a free one",
        ) from error
    return listener


async def _end_stdio_on_signal(services: "Services") -> None:
    """Ends the process at once: the SDK's reader sits in a read of stdin that nothing can interrupt.

    What is lost is what a SIGKILL loses, which the desk is built for: nothing acknowledged. Children that
    would outlive us are ended first, and a transaction under way is waited for.
    """
    await _signal()
    # A sandbox at a service that does not answer shields its killing; the process ends all the same.
    timer = threading.Timer(END_WITHIN_S + 1, os._exit, (0,))
    timer.daemon = True
    timer.start()
    with anyio.move_on_after(END_WITHIN_S, shield=True):
        await services.abandon()
    logging.shutdown()
    os._exit(0)


async def end_http_on_signal(
    server: "uvicorn.Server", end_streams: Callable[[], None] = lambda: None
) -> None:
    """Asks a web server to end when somebody asks the process to.

    Args:
        server: It waits for the answers under way.
        end_streams: Ends those that would go on for ever.
    """
    await _signal()
    end_streams()
    server.should_exit = True


async def _signal() -> None:
    """Returns when somebody asks the process to end."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            return
