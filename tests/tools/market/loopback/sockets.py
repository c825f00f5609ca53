"""A loopback websocket server for a vendor's stream: who connected, what was said, faults on demand.

It runs in a thread with a loop of its own; a test says what is sent, and to which connection.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

START_S = 20.0


@dataclass(eq=False, slots=True)
class Session:
    """One client's connection."""

    socket: ServerConnection
    path: str
    headers: dict[str, str]
    authenticated: bool = False
    channels: dict[str, set[str]] = field(default_factory=dict[str, set[str]])


class SocketLoopback:
    """Serves a stream on a port of this machine.

    Attributes:
        url: Its address.
        sessions: Those that are connected now.
        connected: How many ever were.
        said: What clients sent, decoded.
        statuses: HTTP statuses that the next handshakes are refused with.
    """

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = threading.Condition()
        self.reset()

    def reset(self) -> None:
        """Forget what tests did."""
        self.sessions: list[Session] = []
        self.connected = 0
        self.said: list[Any] = []
        self.statuses: list[int] = []

    # What a vendor does

    async def converse(self, session: Session) -> None:
        """Speaks the vendor's protocol until the client leaves."""
        raise NotImplementedError

    # What a test does

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Waits until something became true of what clients did."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), "it never happened"

    def do(self, work: Callable[[], Any]) -> Any:
        """Does something in the server's own thread, and returns what came of it."""
        assert self._loop is not None

        async def run() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def send(self, frame: str | bytes, session: Session | None = None) -> None:
        """Sends one frame, to the newest connection unless another is named."""
        chosen = session or self.sessions[-1]
        with contextlib.suppress(ConnectionClosed):
            self.do(lambda: chosen.socket.send(frame))

    def drop(self, session: Session | None = None) -> None:
        """Lets a connection fall, without a word."""
        chosen = session or self.sessions[-1]

        async def abort() -> None:
            chosen.socket.transport.abort()

        self.do(abort)

    def happened(self) -> None:
        """Wakes those who wait."""
        with self._changed:
            self._changed.notify_all()

    @contextlib.contextmanager
    def serve(self) -> Generator[None]:
        """Answers while the context is open."""
        ready = threading.Event()
        ended = asyncio.Event()

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            async with serve(
                self._handle,
                "127.0.0.1",
                0,
                process_request=self._admit,
                ping_interval=None,
                close_timeout=1,
                max_size=2**20,
            ) as server:
                self.port = server.sockets[0].getsockname()[1]
                self.url = f"ws://127.0.0.1:{self.port}"
                ready.set()
                await ended.wait()

        thread = threading.Thread(target=asyncio.run, args=[run()], name="loopback-stream")
        thread.start()
        assert ready.wait(START_S)
        try:
            yield
        finally:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(ended.set)
            thread.join(START_S)
        assert not thread.is_alive(), "the loopback server did not end"

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if not self.statuses:
            return None
        status = self.statuses.pop(0)
        return connection.respond(HTTPStatus(status), f"on demand {status}\n")

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        session = Session(
            socket,
            socket.request.path,
            {name.lower(): value for name, value in socket.request.headers.raw_items()},
        )
        self.sessions.append(session)
        self.connected += 1
        self.happened()
        try:
            await self.converse(session)
        except ConnectionClosed:
            pass
        finally:
            with contextlib.suppress(ValueError):
                self.sessions.remove(session)
            self.happened()
