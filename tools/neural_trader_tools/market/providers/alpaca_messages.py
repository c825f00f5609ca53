"""Alpaca's live messages: an array per frame, in JSON or MessagePack, turned into events.

`t` trade, `q` quote, `b` minute bar, `u` a bar revised half a minute later, `c` a correction and `x` a
cancellation of a trade; `success`, `subscription` and `error` are about the connection. A message that is not
what Alpaca documents is quarantined alone, and its frame's other messages count.
"""

from collections.abc import Iterable
from typing import final

import msgspec
from msgspec.msgpack import Ext

from neural_trader_governance.errors import ConfigurationError, DataError, NetworkError
from neural_trader_tools.market.feed.segments import CONTENT_BYTES_MAX, Quarantined
from neural_trader_tools.market.feed.ticks import (
    SECOND_NS,
    Amendment,
    BarTick,
    Copies,
    Event,
    Quote,
    Trade,
    parse_ns,
)
from neural_trader_tools.market.providers.stream import Notice

Moment = str | Ext
"""RFC 3339 in JSON; in MessagePack its own timestamp, which keeps nanoseconds (`datetime` would not)."""
_TIMESTAMP = -1


@final
class _Trade(msgspec.Struct, tag_field="T", tag="t", gc=False):
    S: str
    p: float
    s: float
    t: Moment
    i: int = 0
    x: str = ""
    c: tuple[str, ...] | None = None


@final
class _Quote(msgspec.Struct, tag_field="T", tag="q", gc=False):
    S: str
    t: Moment
    bp: float = 0.0
    bs: float = 0.0
    ap: float = 0.0
    as_: float = msgspec.field(name="as", default=0.0)
    bx: str = ""


class _Bar(msgspec.Struct, tag_field="T", tag="b", gc=False):
    S: str
    o: float
    h: float
    l: float  # noqa: E741 (the vendor's name)
    c: float
    v: float
    t: Moment


class _Revised(_Bar, tag_field="T", tag="u", gc=False):
    pass


class _Correction(msgspec.Struct, tag_field="T", tag="c", gc=False):
    S: str
    oi: int
    ci: int
    cp: float
    cs: float
    t: Moment
    x: str = ""


class _Cancel(msgspec.Struct, tag_field="T", tag="x", gc=False):
    S: str
    i: int
    t: Moment
    x: str = ""


class Success(msgspec.Struct, tag_field="T", tag="success"):
    """A step of signing in is done."""

    msg: str = ""


class Subscription(msgspec.Struct, tag_field="T", tag="subscription"):
    """What the connection is subscribed to now."""

    trades: tuple[str, ...] | None = None
    quotes: tuple[str, ...] | None = None
    bars: tuple[str, ...] | None = None


class Error(msgspec.Struct, tag_field="T", tag="error"):
    """Something is wrong with the connection or with what was asked."""

    code: int = 0
    msg: str = ""


class _Head(msgspec.Struct):
    T: str = ""


_Message = _Trade | _Quote | _Bar | _Revised | _Correction | _Cancel | Success | Subscription | Error
_KNOWN = frozenset({"t", "q", "b", "u", "c", "x", "success", "subscription", "error"})

_REFUSED = {
    400: "it does not understand the subscription",
    402: "it refuses the API key",
    405: "the plan allows fewer symbols",
    408: "this feed is not enabled for the account",
    409: "the plan does not include this feed",
    410: "this feed has no such channel",
}
"""By code, what no other try would change."""
_ADVICE = {
    405: "subscribe to fewer symbols, or look at what the plan includes",
    408: "look at what the account's plan includes",
    409: "set alpaca_feed = 'iex', which the free plan has, or look at what the plan includes",
}
_PASSING = {
    404: "it waited too long for the key",
    406: "another connection of this key is open, and the plan allows no more",
    407: "we read too slowly",
}


class AlpacaDecoder:
    """Turns frames into messages, and messages into events.

    Args:
        encoding: `json` or `msgpack`, as it was asked for.
        key_advice: What to do where the key is refused.
    """

    def __init__(self, encoding: str, key_advice: str) -> None:
        self._key_advice = key_advice
        self._texts: Copies[str] = Copies()
        self._conditions: Copies[tuple[str, ...]] = Copies()
        self.notices: list[Notice] = []
        """What was said about the connection; the reader empties it."""
        if encoding == "json":
            self._all = msgspec.json.Decoder(list[_Message])
            self._raw = msgspec.json.Decoder(list[msgspec.Raw])
            self._one = msgspec.json.Decoder(_Message)
            self._head = msgspec.json.Decoder(_Head)
        else:
            self._all = msgspec.msgpack.Decoder(list[_Message])
            self._raw = msgspec.msgpack.Decoder(list[msgspec.Raw])
            self._one = msgspec.msgpack.Decoder(_Message)
            self._head = msgspec.msgpack.Decoder(_Head)

    def decode(self, frame: bytes, recv_ns: int) -> list[Event | Quarantined]:
        """Returns the events in a frame; see `stream.Stream.decode`."""
        events: list[Event | Quarantined] = []
        texts, conditions = self._texts, self._conditions
        for one in self.messages(frame, recv_ns, events):
            try:
                if type(one) is _Quote:
                    sides = (one.bp, one.bs, one.ap, one.as_)
                    events.append(Quote(texts[one.S], *sides, _ns(one.t), recv_ns, texts[one.bx]))
                elif type(one) is _Trade:
                    said = (texts[one.x], conditions[one.c or ()])
                    events.append(Trade(texts[one.S], one.p, one.s, _ns(one.t), recv_ns, str(one.i), *said))
                elif isinstance(one, _Bar):
                    values = (one.o, one.h, one.l, one.c, one.v)
                    events.append(BarTick(one.S, "1m", *values, _ns(one.t), recv_ns))
                elif isinstance(one, _Correction):
                    named = (one.S, str(one.oi), one.x, one.cp, one.cs)
                    events.append(Amendment(*named, _ns(one.t), recv_ns, str(one.ci)))
                elif isinstance(one, _Cancel):
                    events.append(Amendment(one.S, str(one.i), one.x, 0.0, 0.0, _ns(one.t), recv_ns))
                else:
                    self._notice(one)
            except DataError as error:  # its time
                events.append(_refused(error.what, repr(one).encode("utf-8", "replace"), recv_ns))
        return events

    def messages(self, frame: bytes, recv_ns: int, refused: list[Event | Quarantined]) -> Iterable[_Message]:
        """Returns a frame's messages of the kinds known here.

        Args:
            frame: As it came.
            recv_ns: When.
            refused: Gets the messages that cannot be read.

        Raises:
            msgspec.DecodeError: the frame is no array of messages.
        """
        try:
            return self._all.decode(frame)
        except msgspec.ValidationError:  # one message at a time, slower
            return self._each(frame, recv_ns, refused)

    def _each(self, frame: bytes, recv_ns: int, refused: list[Event | Quarantined]) -> Iterable[_Message]:
        messages: list[_Message] = []
        for raw in self._raw.decode(frame):
            try:
                if self._head.decode(raw).T in _KNOWN:  # others are channels that we did not ask for
                    messages.append(self._one.decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                refused.append(_refused(f"undecodable: {error}", bytes(raw), recv_ns))
        return messages

    def _notice(self, message: Success | Subscription | Error) -> None:
        if isinstance(message, Success):
            self.notices.append(Notice(message.msg[:200]))
        elif isinstance(message, Subscription):
            counts = (len(each or ()) for each in (message.trades, message.quotes, message.bars))
            self.notices.append(Notice("subscribed to {} trades, {} quotes, {} bars".format(*counts)))
        else:
            self.notices.append(self.refusal(message))

    def refusal(self, error: Error) -> Notice:
        """Returns what an error of theirs means."""
        said = f"{error.code}: {error.msg[:200]}"
        if error.code in _REFUSED:
            refused = ConfigurationError(
                "provider_key_refused" if error.code == 402 else "provider_plan",
                f"alpaca does not allow this: {_REFUSED[error.code]} ({said})",
                _ADVICE.get(error.code, self._key_advice),
            )
            return Notice(said, refused)
        why = _PASSING.get(error.code, "it reports an error")
        advice = "it is tried again, with growing pauses"
        if error.code == 406:
            advice += "; end the other program that uses this key"
        failed = NetworkError("stream_refused", f"alpaca ends the stream: {why} ({said})", advice)
        return Notice(said, failed, blames_provider=error.code not in {406, 407})


def _ns(moment: Moment) -> int:
    """Returns nanoseconds since 1970 of a time in either encoding.

    Raises:
        DataError: it is none.
    """
    if isinstance(moment, str):
        return parse_ns(moment)
    data = bytes(moment.data)
    if moment.code == _TIMESTAMP:
        if len(data) == 8:  # 30 bits of nanoseconds, 34 of seconds
            both = int.from_bytes(data, "big")
            return (both & 0x3_FFFF_FFFF) * SECOND_NS + (both >> 34)
        if len(data) == 4:
            return int.from_bytes(data, "big") * SECOND_NS
        if len(data) == 12:
            return int.from_bytes(data[4:], "big", signed=True) * SECOND_NS + int.from_bytes(data[:4], "big")
    raise DataError(
        "invalid_time", f"extension {moment.code} of {len(data)} bytes is no time", "see MessagePack"
    )


def _refused(reason: str, content: bytes, recv_ns: int) -> Quarantined:
    return Quarantined("", reason[:400], content[:CONTENT_BYTES_MAX], recv_ns, recv_ns)
