"""Alpaca's stream `trade_updates`: one connection, signed in; what it says, as news of orders.

News say which order changed, and never what is booked: that is looked up, so that an event which is lost,
repeated or late changes nothing (`orders/following.py`).
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from neural_trader_governance.errors import ConfigurationError
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.brokers.port import News
from neural_trader_tools.market.providers.settings import StreamSettings
from neural_trader_tools.market.providers.sockets import ServiceSocket, open_socket
from neural_trader_tools.market.providers.stream import StreamEndedError

_FRAME_MAX = 1 << 20


class _Order(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    client_order_id: str


class _Update(BaseModel):
    """What is read of one message."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event: str
    order: _Order


class TradeUpdates:
    """A connection that is signed in and listens; `open_updates` makes it."""

    def __init__(self, socket: ServiceSocket) -> None:
        self._socket = socket

    async def receive(self) -> News:
        """Returns the next news, waiting for them; what is said about the connection is passed over.

        Raises:
            StreamEndedError: the connection is over, or it says what cannot be read.
        """
        while True:
            said = _read(await self._socket.receive())
            if said.get("stream") == "authorization":
                self._refused(said)
            if said.get("stream") != "trade_updates":
                continue
            try:
                update = _Update.model_validate(said.get("data"))
            except ValidationError:
                raise StreamEndedError(
                    "stream_unreadable",
                    "trade_updates said what cannot be read",
                    "the desk connects again, and looks its orders up",
                ) from None
            return News(client_order_id=update.order.client_order_id, event=update.event)

    async def expect(self, stream: str, step: str) -> Any:
        """Returns the answer to a step of signing in.

        Raises:
            ConfigurationError: the key is refused.
            StreamEndedError: it ends, or takes too long.
        """
        while True:
            said = _read(await self._socket.answer(step))
            if said.get("stream") == "authorization":
                self._refused(said)
            if said.get("stream") == stream:
                return said.get("data")

    def _refused(self, said: dict[str, Any]) -> None:
        data = said.get("data")
        if not isinstance(data, dict) or data.get("status") != "authorized":  # pyright: ignore[reportUnknownMemberType]
            raise ConfigurationError(
                "broker_key_refused",
                "trade_updates refuses the key",
                "check the key: it must be of this account, paper or live as the address is",
            )


@asynccontextmanager
async def open_updates(settings: AlpacaTradingSettings) -> AsyncGenerator[TradeUpdates]:
    """Connects, signs in and listens; the venue has confirmed all of it when the context begins.

    Raises:
        ConfigurationError: no key, or it is refused: no other try helps.
        StreamEndedError: the venue cannot be reached, or fails.
    """
    if settings.key_id is None or settings.secret_key is None:
        raise ConfigurationError("broker_key_missing", "there is no key", "set APCA_API_KEY_ID")
    keys = (settings.key_id.get_secret_value(), settings.secret_key.get_secret_value())
    address = "ws" + settings.url.removeprefix("http")
    where = StreamSettings(
        url=settings.url,
        stream_url=address,
        connect_timeout_s=settings.request_timeout_s,
        ping_interval_s=settings.ping_interval_s,
        frame_bytes_max=_FRAME_MAX,
    )
    async with open_socket("broker", "/stream", where, headers={}, secrets=keys) as socket:
        updates = TradeUpdates(socket)
        await socket.send(orjson.dumps({"action": "auth", "key": keys[0], "secret": keys[1]}))
        await updates.expect("authorization", "signing in")
        await socket.send(orjson.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        await updates.expect("listening", "listening")
        yield updates


def _read(frame: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(frame)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise StreamEndedError(
            "stream_unreadable",
            "trade_updates sent what is no JSON object",
            "the desk connects again, and looks its orders up",
        )
    return said  # pyright: ignore[reportUnknownVariableType] - JSON
