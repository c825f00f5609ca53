"""Ticks: what a live feed says, in the one form in which every provider hands it on.

Prices are float64, because they are observations to compute with; nothing that settles an order reads them.
Times are integers, nanoseconds since 1970-01-01 UTC: `datetime` would round what vendors send to
microseconds. `ts_event_ns` is the vendor's time, `ts_recv_ns` when we received it: what the archive calls
event_time and known_time.
"""

import re
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from neural_trader_governance.errors import DataError

SECOND_NS = 1_000_000_000
TIME_NS_MAX = 2**63 - 1
"""2262-04-11: Arrow and Parquet keep nanoseconds in 64 bits with a sign."""


class Trade(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="trade"):
    """One execution that a venue printed."""

    symbol: str
    price: float
    size: float
    ts_event_ns: int
    ts_recv_ns: int
    trade_id: str
    """As the venue numbers it, unique with symbol and venue; empty where it numbers none."""
    venue: str
    conditions: tuple[str, ...] = ()


class Quote(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="quote"):
    """The best prices at one time; a side that nobody quotes has price 0 and size 0."""

    symbol: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    ts_event_ns: int
    ts_recv_ns: int
    venue: str


class BarTick(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="bar"):
    """One bar, complete; the same bar received again with other values is a revision."""

    symbol: str
    interval: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    ts_event_ns: int
    """The open of the interval."""
    ts_recv_ns: int


class Amendment(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="amendment"):
    """What a venue says afterwards of a trade that it printed: that it was another one, or none."""

    symbol: str
    trade_id: str
    venue: str
    price: float
    """The corrected one; 0 where the trade is cancelled."""
    size: float
    ts_event_ns: int
    ts_recv_ns: int
    new_trade_id: str = ""
    """Under which the corrected trade is known from now on; empty where it is cancelled."""


class Gap(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="gap"):
    """A span of which a feed may have missed something, such as the time of a reconnect."""

    symbol: str
    """Empty where every symbol of the feed is concerned."""
    from_ns: int
    to_ns: int
    reason: str


_Text = TypeVar("_Text", str, tuple[str, ...])
COPIES_MAX = 100_000


class Copies(dict[_Text, _Text]):
    """One copy of each text that a feed says thousands of times: `copies[text]` equals `text`.

    What is looked up and written again and again is then in the core's cache, and messages leave nothing
    behind for the garbage collector. Bounded, since a stranger chooses the texts.
    """

    def __missing__(self, text: _Text) -> _Text:
        """Keeps the first copy."""
        if len(self) >= COPIES_MAX:
            self.clear()
        self[text] = text
        return text


Tick = Trade | Quote | BarTick
Event = Trade | Quote | BarTick | Amendment | Gap

_SECOND = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", re.ASCII)
_REST = re.compile(r"(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)
_TENS = tuple(10 ** (9 - digits) for digits in range(10))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_KEPT = 4096
_seconds: dict[str, int] = {}
"""Seconds met lately, in nanoseconds: a feed says the same second thousands of times."""


def parse_ns(text: str) -> int:
    """Returns nanoseconds since 1970 of an RFC 3339 time, exactly.

    Args:
        text: Such as `2026-11-20T15:30:00.123456789Z`; an offset may stand for the `Z`.

    Raises:
        DataError: it is no RFC 3339 time, is finer than a nanosecond, a leap second, or beyond
            64 bits (1677 to 2262).
    """
    second = _seconds.get(text[:19])
    if second is None:
        second = _parsed_second(text)
    length = len(text)
    if length == 30 and text[19] == "." and text[29] == "Z":
        fraction = text[20:29]
        if fraction.isascii() and fraction.isdigit():
            return second + int(fraction)
    rest = _REST.fullmatch(text, 19)
    if rest is None:
        raise _unreadable(text)
    digits, sign, hours, minutes = rest.groups()
    moment = second + (int(digits) * _TENS[len(digits)] if digits else 0)
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise _unreadable(text)
        offset = (int(hours) * 3600 + int(minutes) * 60) * SECOND_NS
        moment += offset if sign == "-" else -offset
    if not -TIME_NS_MAX <= moment <= TIME_NS_MAX:
        raise _unreadable(text)
    return moment


def format_ns(moment_ns: int) -> str:
    """Returns RFC 3339 in UTC with nine digits: what `parse_ns` reads back."""
    seconds, fraction = divmod(moment_ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _parsed_second(text: str) -> int:
    if _SECOND.fullmatch(text, 0, 19) is None or len(text) < 20:
        raise _unreadable(text)
    try:
        since = datetime.fromisoformat(text[:10] + "T" + text[11:19] + "+00:00") - _EPOCH
    except ValueError:
        raise _unreadable(text) from None
    second = (since.days * 86_400 + since.seconds) * SECOND_NS
    if not -TIME_NS_MAX + SECOND_NS <= second <= TIME_NS_MAX - SECOND_NS:
        raise _unreadable(text)
    if len(_seconds) >= _SECONDS_KEPT:
        _seconds.clear()
    _seconds[text[:19]] = second
    return second


def _unreadable(text: str) -> DataError:
    return DataError(
        "invalid_time",
        f"{text!r:.60} is no RFC 3339 time that nanoseconds in 64 bits can hold",
        "write it like 2026-11-20T15:30:00.123456789Z, with at most nine decimals",
    )
