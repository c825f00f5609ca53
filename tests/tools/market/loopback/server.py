"""A loopback HTTP server for a vendor's API: routes, a log of what was asked, faults on demand."""

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

START_S = 20.0
END_S = 20.0


class DroppedError(Exception):
    """The connection falls, as uvicorn lets it with any exception of an application that began to answer."""


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong with requests whose path matches.

    Attributes:
        match: Searched in the path.
        times: How many requests it meets; -1 is all.
        status: Of the answer.
        body: Instead of the answer's; None for a JSON document with a message.
        headers: Such as Retry-After.
        delay_s: Waits before it answers.
        drop_after: Lets the connection fall after so many bytes of the real answer.
        cut_after: Ends the real answer, properly, after so many bytes.
        flood_bytes: Sends so many bytes.
    """

    match: str = ""
    times: int = 1
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay_s: float = 0.0
    drop_after: int | None = None
    cut_after: int | None = None
    flood_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what was answered."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int
    document: Any
    """The answer, where it is JSON."""


class Loopback:
    """Serves routes on a port of this machine, in a thread with a loop of its own.

    Attributes:
        url: Its address.
        log: Every request so far.
        faults: What goes wrong next; the first that matches has its way.
        headers: Sent with every answer.
    """

    def __init__(self, routes: list[BaseRoute]) -> None:
        self._app = Starlette(routes=routes)
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Forget what tests did."""
        self.log: list[Asked] = []
        self.faults: list[Fault] = []
        self.headers: dict[str, str] = {}

    def asked(self, path: str) -> list[Asked]:
        """Requests whose path begins so."""
        return [one for one in self.log if one.path.startswith(path)]

    @contextlib.contextmanager
    def serve(self) -> Generator[None]:
        """Answers while the context is open."""
        # bound with the protocol named: only then asyncio sets TCP_NODELAY, which saves 40 ms an answer
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(self, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=asyncio.run, args=[server.serve(sockets=[listener])], name="loopback"
        )
        thread.start()
        deadline = time.monotonic() + START_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)  # uvicorn offers no event to wait on
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(END_S)
            listener.close()
        assert not thread.is_alive(), f"the loopback server did not end in {END_S:g} s"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a fault have its way, or answer; either way, keep a record."""
        request = Request(scope, receive)
        log = self.log  # of the test that asks: an answer that is late belongs to nobody else
        fault = next(
            (one for one in self.faults if one.times and re.search(one.match, request.url.path)), None
        )
        sent: list[Any] = []

        async def collect(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, collect)
        status: int = sent[0]["status"]
        body = b"".join(message.get("body", b"") for message in sent[1:])
        answer = Response(body, status, headers={"content-type": "application/json", **self.headers})
        if fault is not None:
            fault.times -= 1
            answer = await self._faulty(fault, body)
        with contextlib.suppress(ValueError):
            document = json.loads(body) if fault is None else None
            log.append(
                Asked(
                    request.url.path,
                    dict(request.query_params),
                    dict(request.headers),
                    answer.status_code,
                    document,
                )
            )
        if fault is not None and fault.drop_after is not None:
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": [(b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body[: fault.drop_after], "more_body": True})
            raise DroppedError
        await answer(scope, receive, send)

    async def _faulty(self, fault: Fault, body: bytes) -> Response:
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        headers = {**self.headers, **fault.headers}
        if fault.flood_bytes:
            return StreamingResponse(_flood(fault.flood_bytes), fault.status, headers)
        if fault.body is not None:
            return Response(fault.body, fault.status, headers, "application/json")
        if fault.status != 200:
            return JSONResponse({"message": f"on demand {fault.status}"}, fault.status, headers)
        return Response(body[: fault.cut_after], 200, headers, "application/json")


async def _flood(size: int) -> AsyncGenerator[bytes]:
    piece = b" " * (1 << 20)
    for _ in range(size // len(piece)):
        yield piece
