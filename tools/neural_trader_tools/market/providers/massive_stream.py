"""Massive (formerly Polygon) over a websocket: trades, quotes and minute aggregates of US stocks and ETFs.

`wss://…/stocks`: it greets, we sign in, subscribe to `T.AAPL`, `Q.AAPL`, `AM.AAPL`, and it confirms every one
of them. Its times are milliseconds; JSON only. A message that is not what it documents is quarantined alone.
"""

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager

import msgspec

from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_tools.market.feed.segments import CONTENT_BYTES_MAX, Quarantined
from neural_trader_tools.market.feed.ticks import BarTick, Event, Quote, Trade
from neural_trader_tools.market.providers.massive import KEY_ADVICE, NAME
from neural_trader_tools.market.providers.settings import MassiveSettings
from neural_trader_tools.market.providers.sockets import ServiceSocket, open_socket
from neural_trader_tools.market.providers.stream import (
    Notice,
    StreamEndedError,
    StreamRequest,
    check_symbols,
    key_missing,
    raise_for,
)

MILLISECOND_NS = 1_000_000
PREFIXES = {"trades": "T", "quotes": "Q", "bars": "AM"}
_STOCK = re.compile(r"[A-Z][A-Z0-9]{0,9}(\.[A-Z]{1,3})?")
_REFUSED = frozenset({"auth_failed", "not_authorized"})
_FINE = frozenset({"connected", "auth_success", "success"})


class _Trade(msgspec.Struct, tag_field="ev", tag="T", gc=False):
    sym: str
    p: float
    s: float
    t: int
    i: str | int = ""
    x: int = 0
    c: tuple[int, ...] | None = None
    ds: str = ""
    """The size with its fraction, where it has one."""


class _Quote(msgspec.Struct, tag_field="ev", tag="Q", gc=False):
    sym: str
    t: int
    bp: float = 0.0
    bs: float = 0.0
    ap: float = 0.0
    as_: float = msgspec.field(name="as", default=0.0)
    bx: int = 0


class _Minute(msgspec.Struct, tag_field="ev", tag="AM", gc=False):
    sym: str
    o: float
    h: float
    l: float  # noqa: E741 (the vendor's name)
    c: float
    v: float
    s: int


class _Second(_Minute, tag_field="ev", tag="A", gc=False):
    pass


class _Status(msgspec.Struct, tag_field="ev", tag="status"):
    status: str = ""
    message: str = ""


class _Head(msgspec.Struct):
    ev: str = ""


_Message = _Trade | _Quote | _Minute | _Second | _Status
_KNOWN = frozenset({"T", "Q", "AM", "A", "status"})
_all = msgspec.json.Decoder(list[_Message])
_raw = msgspec.json.Decoder(list[msgspec.Raw])
_one = msgspec.json.Decoder(_Message)
_head = msgspec.json.Decoder(_Head)


class MassiveStream:
    """Implements `stream.StreamProvider`.

    Args:
        settings: Address and key.
    """

    name = NAME
    dataset_id = "massive-stocks"

    def __init__(self, settings: MassiveSettings) -> None:
        self._settings = settings
        self._key = settings.api_key.get_secret_value() if settings.api_key else ""

    @property
    def source(self) -> str:
        """The service and the address."""
        return f"Massive (formerly Polygon) live stocks, from {self._settings.stream_url}"[:400]

    @property
    def licence(self) -> str:
        """The terms."""
        return "Massive's terms of your subscription: for your own use, not to be passed on"

    def check(self, request: StreamRequest) -> None:
        """See `stream.StreamProvider.check`."""
        if not self._key:
            raise key_missing(self._settings.stream_url, KEY_ADVICE)
        check_symbols("Massive", request, _STOCK)

    @asynccontextmanager
    async def open(self, request: StreamRequest) -> AsyncGenerator["_Stream"]:
        """See `stream.StreamProvider.open`."""
        self.check(request)
        async with open_socket(NAME, "/stocks", self._settings, headers={}, secrets=(self._key,)) as socket:
            stream = _Stream(socket)
            await stream.until("connected", 1, "the greeting")
            await stream.ask("auth", self._key)
            await stream.until("auth_success", 1, "signing in")
            wanted = [
                f"{PREFIXES[channel]}.{symbol}" for channel in request.channels for symbol in request.symbols
            ]
            await stream.ask("subscribe", ",".join(wanted))
            await stream.until("success", len(wanted), "the subscription")
            yield stream


class _Stream:
    """Implements `stream.Stream`."""

    def __init__(self, socket: ServiceSocket) -> None:
        self.notices: list[Notice] = []
        self._socket = socket
        self._early: list[bytes] = []

    async def receive(self) -> bytes:
        """Returns the next frame; first those that came while the subscription was not confirmed yet."""
        return self._early.pop(0) if self._early else await self._socket.receive()

    async def ask(self, action: str, params: str) -> None:
        """Sends one of our messages."""
        await self._socket.send(msgspec.json.encode({"action": action, "params": params}).decode())

    def decode(self, frame: bytes, recv_ns: int) -> Sequence[Event | Quarantined]:
        """Returns the events in a frame."""
        events: list[Event | Quarantined] = []
        for one in _messages(frame, recv_ns, events):
            if isinstance(one, _Quote):
                sides = (one.bp, one.bs, one.ap, one.as_)
                events.append(Quote(one.sym, *sides, one.t * MILLISECOND_NS, recv_ns, str(one.bx)))
            elif isinstance(one, _Trade):
                events.append(_trade(one, recv_ns))
            elif isinstance(one, _Minute):
                values = (one.o, one.h, one.l, one.c, one.v)
                interval = "1s" if isinstance(one, _Second) else "1m"
                events.append(BarTick(one.sym, interval, *values, one.s * MILLISECOND_NS, recv_ns))
            else:
                self.notices.append(_notice(one))
        return events

    async def until(self, status: str, times: int, step: str) -> None:
        """Waits until the service has confirmed a step, so many times.

        Raises:
            ConfigurationError: it refuses, for good.
            StreamEndedError: it refuses for now, or says something else.
        """
        while times > 0:
            frame = await self._socket.answer(step)
            try:
                messages = list(_messages(frame, 0, []))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise StreamEndedError(
                    "stream_malformed",
                    f"massive answered {step} with {len(frame)} bytes that are not what it documents"
                    f" ({self._socket.said(str(error))})",
                    "it is tried again; if it stays so, look whether a proxy answers in its place",
                ) from None
            said = [one for one in messages if isinstance(one, _Status)]
            for one in said:
                raise_for(_notice(one))
                times -= one.status == status
            if len(said) < len(messages):
                self._early.append(frame)
            elif not any(one.status == status for one in said):
                raise StreamEndedError(
                    "stream_malformed",
                    f"massive did not confirm {step}",
                    "it is tried again; if it stays so, look whether a proxy answers in its place",
                )


def _messages(frame: bytes, recv_ns: int, refused: list[Event | Quarantined]) -> Iterable[_Message]:
    """Returns a frame's messages of the kinds known here; `refused` gets those that cannot be read.

    Raises:
        msgspec.DecodeError: the frame is no array of messages.
    """
    try:
        return _all.decode(frame)
    except msgspec.ValidationError:  # one message at a time, slower
        messages: list[_Message] = []
        for raw in _raw.decode(frame):
            try:
                if _head.decode(raw).ev in _KNOWN:  # others are channels that we did not ask for
                    messages.append(_one.decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                content = bytes(raw)[:CONTENT_BYTES_MAX]
                refused.append(Quarantined("", f"undecodable: {error}"[:400], content, recv_ns, recv_ns))
        return messages


def _trade(one: _Trade, recv_ns: int) -> Trade:
    size = one.s
    if one.ds:
        try:
            size = float(one.ds)
        except ValueError:
            size = float("nan")  # the rules refuse it as a bad size
    conditions = tuple(map(str, one.c or ()))
    return Trade(one.sym, one.p, size, one.t * MILLISECOND_NS, recv_ns, str(one.i), str(one.x), conditions)


def _notice(status: _Status) -> Notice:
    said = f"{status.status}: {status.message[:200]}"
    if status.status in _FINE:
        return Notice(said)
    if status.status in _REFUSED or "not authorized" in status.message.lower():
        code = "provider_key_refused" if status.status == "auth_failed" else "provider_plan"
        advice = KEY_ADVICE if status.status == "auth_failed" else "look at what the account's plan includes"
        return Notice(said, ConfigurationError(code, f"massive does not allow this ({said})", advice))
    return Notice(
        said,
        NetworkError(
            "stream_refused",
            f"massive ends the stream ({said})",
            "it is tried again, with growing pauses; one connection a key is what most plans allow",
        ),
        blames_provider=status.status not in {"max_connections", "slow_consumer", "force_disconnect"},
    )
