"""What goes wrong on demand, between the service's applications and the wire."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class DroppedError(Exception):
    """The service lets the connection fall, as uvicorn does with any exception of an application."""


def _no_headers() -> dict[str, str]:
    return {}


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong with requests that match.

    Attributes:
        match: Searched in "plane METHOD /path"; planes are `api`, `envd` and `code`.
        times: How many requests it meets; -1 is all.
        status: Answer this, with `message`, instead of doing anything.
        message: Of the error.
        headers: Such as Retry-After.
        delay_s: Wait before the request is looked at.
        drop_after_bytes: Let the connection fall after so many bytes of the body.
        slow_s: Send the body byte by byte, with this pause between them.
        pad_bytes: Send so many spaces after the body.
        sandbox_id: Only for this sandbox.
    """

    match: str
    times: int = 1
    status: int | None = None
    message: str = "on demand"
    headers: dict[str, str] = field(default_factory=_no_headers)
    delay_s: float = 0.0
    drop_after_bytes: int | None = None
    slow_s: float | None = None
    pad_bytes: int = 0
    sandbox_id: str | None = None

    def meets(self, request: str, sandbox_id: str | None) -> bool:
        """It is this request's turn."""
        is_turn = self.times != 0 and self.sandbox_id in (None, sandbox_id)
        return is_turn and re.search(self.match, request) is not None

    async def answer(self, send: Send, plane: str) -> None:
        """The error, in the form of the plane it comes from."""
        body = json.dumps({"code": self.status, "message": self.message}).encode()
        if plane == "code":
            body = self.message.encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **self.headers}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})


class FaultySend:
    """Wraps an application's `send` with what a fault does to the body.

    Raises:
        DroppedError: The connection falls now.
    """

    def __init__(self, send: Send, fault: Fault) -> None:
        self._send, self._fault = send, fault
        self._left = fault.drop_after_bytes
        self.is_dropped = False

    async def __call__(self, message: Message) -> None:
        """Send it, changed."""
        if self.is_dropped:
            raise DroppedError
        if message["type"] == "http.response.start":
            await self._send(self._unsized(message) if self._fault.pad_bytes else message)
            return
        body = message.get("body", b"")
        if not message.get("more_body", False):
            body += b" " * self._fault.pad_bytes
        if self._left is not None:
            cut, self._left = body[: self._left], self._left - len(body)
            if self._left <= 0:
                self.is_dropped = True
                await self._send({**message, "body": cut, "more_body": True})
                await asyncio.sleep(0.02)  # what was sent reaches the client before the connection falls
                raise DroppedError
        if self._fault.slow_s is not None:
            for byte in body:
                await self._send({**message, "body": bytes([byte]), "more_body": True})
                await asyncio.sleep(self._fault.slow_s)
            body = b""
        await self._send({**message, "body": body})

    @staticmethod
    def _unsized(message: Message) -> Message:
        headers = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
        return {**message, "headers": headers}
