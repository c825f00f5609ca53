"""Events: what the bus carries, typed, and their bytes on the way (JSON, tagged by `kind`).

Market events are the feed's own structs. What is read from a log or a broker is validated here: somebody else
may have written it.
"""

import functools
import hashlib
from typing import Annotated

import msgspec

from neural_trader_governance.errors import DataError, InputError
from neural_trader_tools.bus import subjects
from neural_trader_tools.market.feed.ticks import Amendment, BarTick, Gap, Quote, Trade

EVENT_BYTES_MAX = 262_144
"""Four times the largest audit entry, whose text is escaped once more inside JSON."""
MESSAGE_ID_LENGTH_MAX = 200

_Name = Annotated[str, msgspec.Meta(max_length=subjects.NAME_LENGTH_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class SignalEvent(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="signal"):
    """A strategy's target exposure, before anybody decided whether it may."""

    strategy_id: _Name
    symbol: _Name
    exposure: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    """Part of equity: -1 fully short, 1 fully long."""
    ts_event_ns: int
    ts_known_ns: int


class OrderEvent(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="order"):
    """Something that happened to an order and stands in the audit log."""

    client_order_id: _Name
    symbol: _Name
    account: _Name
    agent: _Name
    what: Annotated[str, msgspec.Meta(max_length=40)]
    """The entry's type, such as `broker.fill`."""
    state: Annotated[str, msgspec.Meta(max_length=40)]
    """The state that the entry names, empty where it names none."""
    audit_seq: _Count
    ts_event_ns: int


class AuditEvent(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="audit"):
    """A committed audit entry: a copy for listeners; the log alone is the truth."""

    audit_seq: _Count
    what: Annotated[str, msgspec.Meta(max_length=40)]
    leaf_hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """RFC 6962 leaf hash of the entry's bytes, by which the copy can be checked."""
    entry: Annotated[str, msgspec.Meta(max_length=65_535)]
    """The canonical JSON that was signed; empty where the log has moved it to an archive."""
    ts_event_ns: int


class BacktestEvent(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="backtest"):
    """How far a run is."""

    run_id: _Name
    state: Annotated[str, msgspec.Meta(max_length=40)]
    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]
    ts_event_ns: int


BusEvent = Trade | Quote | BarTick | Amendment | Gap | SignalEvent | OrderEvent | AuditEvent | BacktestEvent

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[BusEvent] = msgspec.json.Decoder(BusEvent)
_BEGINNINGS: dict[type[BusEvent], str] = {
    Trade: "market.trade.",
    Quote: "market.quote.",
    BarTick: "market.bar.",
    Amendment: "market.amendment.",
    Gap: "market.gap.",
    SignalEvent: "signal.",
    OrderEvent: "order.",
    AuditEvent: "audit.",
    BacktestEvent: "backtest.",
}


@functools.lru_cache(16_384)
def check_subject(subject: str, kind: type[BusEvent]) -> str:
    """Returns the family of a subject that may carry events of this type.

    Raises:
        InputError: it is no subject, or is one of other events.
    """
    family = subjects.family_of(subject)
    beginning = _BEGINNINGS.get(kind)
    if beginning is None or not subject.startswith(beginning):
        raise InputError(
            "wrong_subject",
            f"{subject!r:.80} does not carry {kind.__name__} events",
            f"publish them under {beginning}…" if beginning else "publish one of the bus's own events",
        )
    return family


def subject_of(event: BusEvent) -> str:
    """Returns the subject that an event belongs under.

    Raises:
        InputError: a name in it is too long.
    """
    match event:
        case BarTick():
            return subjects.market_bar(event.symbol, event.interval)
        case Trade():
            return subjects.market_tick("trade", event.symbol)
        case Quote():
            return subjects.market_tick("quote", event.symbol)
        case Amendment():
            return subjects.market_tick("amendment", event.symbol)
        case Gap():
            return subjects.market_tick("gap", event.symbol)
        case SignalEvent():
            return subjects.signal(event.strategy_id, event.symbol)
        case OrderEvent():
            return subjects.order(event.symbol, event.client_order_id)
        case AuditEvent():
            return subjects.AUDIT_ENTRY
        case BacktestEvent():
            return subjects.backtest_progress(event.run_id)


def encode(event: BusEvent) -> bytes:
    """Returns an event's bytes.

    Raises:
        InputError: it is larger than 256 KiB, or holds what `decode` would refuse, such as NaN.
    """
    try:
        data = _encoder.encode(event)
    except (TypeError, ValueError, RecursionError) as error:
        raise _unsendable(event, str(error)) from None
    if len(data) > EVENT_BYTES_MAX:
        raise _unsendable(event, f"{len(data):,} bytes exceed {EVENT_BYTES_MAX:,}")
    if b":null" in data or not isinstance(event, Trade | Quote | BarTick):  # NaN is written as null
        try:
            _decoder.decode(data)
        except msgspec.ValidationError as error:
            raise _unsendable(event, str(error)) from None
    return data


def decode(data: bytes) -> BusEvent:
    """Reads an event's bytes.

    Raises:
        DataError: they are none of our events.
    """
    if len(data) > EVENT_BYTES_MAX:
        raise DataError(
            "event_too_large", f"{len(data):,} bytes exceed {EVENT_BYTES_MAX:,}", "find out who publishes it"
        )
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(
            "invalid_event", f"the bytes are no event: {error}"[:300], "find out who publishes it"
        ) from None


def content_id(data: bytes) -> str:
    """Returns a message id made of the content: the same event again, from anybody, is a duplicate."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def check_message_id(message_id: str) -> str:
    """Returns a message id that every implementation can carry.

    Raises:
        InputError: empty, longer than 200 characters, or not printable ASCII without spaces.
    """
    if (
        0 < len(message_id) <= MESSAGE_ID_LENGTH_MAX
        and message_id.isascii()
        and message_id.isprintable()
        and " " not in message_id
    ):
        return message_id
    raise InputError(
        "invalid_message_id",
        f"{message_id!r:.60} is no message id",
        f"use 1 to {MESSAGE_ID_LENGTH_MAX} printable ASCII characters without spaces",
    )


def _unsendable(event: BusEvent, why: str) -> InputError:
    return InputError(
        "invalid_event", f"a {type(event).__name__} cannot be published: {why}"[:300], "correct the event"
    )
