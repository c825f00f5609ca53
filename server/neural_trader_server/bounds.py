"""Bounds: how much a request over HTTP may say, and how long it may take to say it.

A body that is larger or slower ends its request before anything reads it. Heads of requests, which no ASGI
application sees, are bounded on the connection itself (`connections.py`).
"""

from typing import TYPE_CHECKING

import anyio
import structlog
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 4 << 20
"""As the SDK's own; nothing that a tool takes comes near it."""

BODY_WITHIN_S = 20.0
"""From the head of a request to the end of its body."""

_DRAINED = 4  # times the bound that is read before an answer, at most

log = structlog.get_logger(__name__)


class BoundRequests:
    """ASGI middleware: reads the whole body within its bounds, then passes the request on.

    Args:
        app: What is served.
        max_bytes: The longest body.
        within_s: The longest that it may take to come.
    """

    def __init__(
        self, app: "ASGIApp", max_bytes: int = MAX_BODY_BYTES, within_s: float = BODY_WITHIN_S
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._within_s = within_s

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on with its body, or answers 413 or 408 and has the connection closed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        message: Message | None = None
        with anyio.move_on_after(self._within_s) as timer:
            message = await self._body(receive)
        if timer.cancelled_caught:
            text = f"the body took longer than {self._within_s:g} s"
            await _refuse(408, "request_too_slow", text)(scope, receive, send)
        elif message is None:
            text = f"the body is longer than {self._max_bytes} bytes"
            await _refuse(413, "request_too_large", text)(scope, receive, send)
        else:
            await self._app(scope, replay(message, receive), send)

    async def _body(self, receive: "Receive") -> "Message | None":
        """Returns the body as one message, or how else the request ended; None where it is too long.

        What is a little too long is read to its end and forgotten: whoever still sends would see a broken
        connection instead of the answer.
        """
        body, size = bytearray(), 0
        while size <= _DRAINED * self._max_bytes:
            message = await receive()
            if message["type"] != "http.request":
                return message
            part = message.get("body", b"")
            size += len(part)
            if size <= self._max_bytes:
                body += part
            if not message.get("more_body", False):
                whole: Message = {"type": "http.request", "body": bytes(body), "more_body": False}
                return whole if size <= self._max_bytes else None
        return None


def _refuse(status: int, code: str, what: str) -> JSONResponse:
    log.warning(code, status=status)
    error = {"code": code, "what": what, "next_step": "send less at once"}
    return JSONResponse({"error": error}, status, {"Connection": "close"})


def replay(message: "Message", receive: "Receive") -> "Receive":
    """Returns a `receive` that says a message before it goes on."""
    waiting = [message]

    async def said() -> "Message":
        return waiting.pop() if waiting else await receive()

    return said
