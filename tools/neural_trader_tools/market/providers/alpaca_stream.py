"""Alpaca's market data over a websocket: trades, quotes and minute bars of US stocks and ETFs.

`wss://…/v2/FEED`: it greets, we sign in within ten seconds, subscribe, and it confirms each step. The
account's plan says how many connections (mostly one) and symbols there may be.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.feed.segments import Quarantined
from neural_trader_tools.market.feed.ticks import Event
from neural_trader_tools.market.providers.alpaca import KEY_ADVICE, NAME
from neural_trader_tools.market.providers.alpaca_messages import (
    AlpacaDecoder,
    Error,
    Subscription,
    Success,
)
from neural_trader_tools.market.providers.settings import AlpacaSettings
from neural_trader_tools.market.providers.sockets import ServiceSocket, open_socket
from neural_trader_tools.market.providers.stream import (
    Notice,
    StreamEndedError,
    StreamRequest,
    check_symbols,
    key_missing,
    raise_for,
)

CONTENT_TYPES = {"json": "application/json", "msgpack": "application/msgpack"}
_STOCK = re.compile(r"[A-Z][A-Z0-9]{0,9}(\.[A-Z]{1,3})?")


class AlpacaStream:
    """Implements `stream.StreamProvider`.

    Args:
        settings: Address, key, feed and encoding.
    """

    name = NAME

    def __init__(self, settings: AlpacaSettings) -> None:
        self._settings = settings
        self._key, self._secret = (
            each.get_secret_value() if each else "" for each in (settings.key_id, settings.secret_key)
        )

    @property
    def dataset_id(self) -> str:
        """The feeds differ, so each is a data set of its own."""
        return f"alpaca-{self._settings.feed}"

    @property
    def source(self) -> str:
        """The service, the feed, the address."""
        return f"Alpaca market data, live feed {self._settings.feed}, from {self._settings.stream_url}"[:400]

    @property
    def licence(self) -> str:
        """The terms."""
        return "Alpaca's terms and the exchanges' of your subscription: for your own use, not to be passed on"

    def check(self, request: StreamRequest) -> None:
        """See `stream.StreamProvider.check`."""
        if not (self._key and self._secret):
            raise key_missing(self._settings.stream_url, KEY_ADVICE)
        check_symbols("Alpaca", request, _STOCK)

    @asynccontextmanager
    async def open(self, request: StreamRequest) -> AsyncGenerator["_Stream"]:
        """See `stream.StreamProvider.open`."""
        self.check(request)
        encoding = self._settings.encoding
        async with open_socket(
            NAME,
            f"/v2/{self._settings.feed}",
            self._settings,
            headers={"Content-Type": CONTENT_TYPES[encoding]},
            secrets=(self._key, self._secret),
        ) as socket:
            stream = _Stream(socket, encoding)
            await stream.until(Success, "connected", "the greeting")
            await stream.ask({"action": "auth", "key": self._key, "secret": self._secret})
            await stream.until(Success, "authenticated", "signing in")
            channels = {
                # With bars come their revisions; with trades, by themselves, corrections and cancellations.
                name: list(request.symbols)
                for channel in request.channels
                for name in ((channel, "updatedBars") if channel == "bars" else (channel,))
            }
            await stream.ask({"action": "subscribe", **channels})
            await stream.until(Subscription, "", "the subscription")
            yield stream


class _Stream:
    """Implements `stream.Stream`."""

    def __init__(self, socket: ServiceSocket, encoding: str) -> None:
        self._socket = socket
        self._decoder = AlpacaDecoder(encoding, KEY_ADVICE)
        self._encode = msgspec.json.encode if encoding == "json" else msgspec.msgpack.encode
        self._as_text = encoding == "json"
        self._early: list[bytes] = []

    @property
    def notices(self) -> list[Notice]:
        """What was said about the connection."""
        return self._decoder.notices

    async def receive(self) -> bytes:
        """Returns the next frame; first those that came while the subscription was not confirmed yet."""
        return self._early.pop(0) if self._early else await self._socket.receive()

    def decode(self, frame: bytes, recv_ns: int) -> Sequence[Event | Quarantined]:
        """Returns the events in a frame."""
        return self._decoder.decode(frame, recv_ns)

    async def ask(self, message: dict[str, object]) -> None:
        """Sends one of our messages."""
        encoded = self._encode(message)
        await self._socket.send(encoded.decode() if self._as_text else encoded)

    async def until(self, kind: type[Success] | type[Subscription], said: str, step: str) -> None:
        """Waits until the service has confirmed a step.

        Raises:
            ConfigurationError: it refuses, for good.
            StreamEndedError: it refuses for now, or says something else.
        """
        frame = await self._socket.answer(step)
        try:
            messages = list(self._decoder.messages(frame, 0, []))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, DataError) as error:
            raise StreamEndedError(
                "stream_malformed",
                f"alpaca answered {step} with {len(frame)} bytes that are not what it documents"
                f" ({self._socket.said(str(error))})",
                "it is tried again; if it stays so, look whether a proxy answers in its place",
            ) from None
        for message in messages:
            if isinstance(message, Error):
                raise_for(self._decoder.refusal(message))
            if isinstance(message, kind) and (not said or getattr(message, "msg", "") == said):
                if len(messages) > 1:
                    self._early.append(frame)
                return
        raise StreamEndedError(
            "stream_malformed",
            f"alpaca did not confirm {step}",
            "it is tried again; if it stays so, look whether a proxy answers in its place",
        )
