"""The stream of trade updates, over a websocket, as Alpaca's clients listen to it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from neural_trader_tools.brokers.exchange.api.documents import Document
from neural_trader_tools.brokers.exchange.api.keys import KeyRing
from neural_trader_tools.brokers.exchange.api.service import ExchangeService

SIGN_IN_S = 10.0
"""How long a client may take to authenticate."""
MESSAGE_MAX = 4096


def trade_updates(service: ExchangeService, keys: KeyRing) -> Callable[[WebSocket], Awaitable[None]]:
    """Returns the endpoint: authenticate, then listen to `trade_updates`."""

    async def serve(socket: WebSocket) -> None:
        await socket.accept()
        try:
            account = await _sign_in(socket, keys)
            if account is not None:
                await _follow(socket, service, account)
        except WebSocketDisconnect:
            pass

    return serve


async def _sign_in(socket: WebSocket, keys: KeyRing) -> str | None:
    with anyio.move_on_after(SIGN_IN_S):
        while True:
            message = await _message(socket)
            action, data = message.get("action"), message.get("data")
            given = cast("dict[str, Any]", data if isinstance(data, dict) else message)
            if action not in {"authenticate", "auth"}:
                await _say(socket, "authorization", {"status": "unauthorized", "action": "listen"})
                continue
            key_id, secret = (
                given.get("key_id", given.get("key")),
                given.get("secret_key", given.get("secret")),
            )
            if isinstance(key_id, str) and isinstance(secret, str):
                account = keys.account(key_id, secret)
                if account is not None:
                    await _say(socket, "authorization", {"status": "authorized", "action": "authenticate"})
                    return account
            await _say(socket, "authorization", {"status": "unauthorized", "action": "authenticate"})
    await socket.close(1008, "authentication timeout")
    return None


async def _follow(socket: WebSocket, service: ExchangeService, account: str) -> None:
    async with service.listen(account) as updates, anyio.create_task_group() as tasks:
        listening = anyio.Event()

        async def send() -> None:
            await listening.wait()
            async for document in updates:
                await socket.send_text(json.dumps(document))
            # The listener fell too far behind: it must reconnect, and ask for what it missed.
            await socket.close(1013, "too slow: updates were dropped; ask for the state of your orders")
            tasks.cancel_scope.cancel()

        tasks.start_soon(send)
        try:
            while True:
                message = await _message(socket)
                if message.get("action") != "listen":
                    continue
                wanted = ["trade_updates"] if "trade_updates" in _streams(message) else []
                await _say(socket, "listening", {"streams": wanted})
                if wanted:
                    listening.set()
        except WebSocketDisconnect:
            tasks.cancel_scope.cancel()


def _streams(message: dict[str, Any]) -> list[Any]:
    data = message.get("data")
    streams: Any = cast("dict[str, Any]", data).get("streams") if isinstance(data, dict) else None
    return cast("list[Any]", streams) if isinstance(streams, list) else []


async def _message(socket: WebSocket) -> dict[str, Any]:
    """Returns the next message; what is no JSON object is taken as an empty one."""
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1000))
    text: str | bytes = event.get("text") or event.get("bytes") or ""
    if len(text) > MESSAGE_MAX:
        await socket.close(1009, "message too long")
        raise WebSocketDisconnect(1009)
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


async def _say(socket: WebSocket, stream: str, data: Document) -> None:
    await socket.send_text(json.dumps({"stream": stream, "data": data}))
