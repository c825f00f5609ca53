"""What a memory may hold: every field's bounds, refused with a reason and never repaired.

What was hashed is then what was said.
"""

import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches

from pydantic import JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import format_time, to_utc
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN
from neural_trader_memory.records import KINDS, REGIME_DIMENSION, Kind, canonical

TEXT_MAX_CHARS = 4_000
DATA_MAX_BYTES = 16_000
SYMBOLS_MAX = 16
CAUSES_MAX = 16
AGENT_MAX_CHARS = 200
ORIGIN_MAX_CHARS = 400
REGIME_MAX = 1e6

_SYMBOL = re.compile(SYMBOL_PATTERN, re.ASCII)
_MEMORY_ID = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)


def validate_kind(kind: str) -> Kind:
    """Returns `kind` as one of `KINDS`.

    Raises:
        InputError: it is none of them.
    """
    for known in KINDS:
        if known == kind:
            return known
    close = get_close_matches(str(kind), KINDS, n=1)
    raise InputError(
        "unknown_kind",
        f"{kind!r:.60} is not a kind of memory",
        f"did you mean {close[0]!r}?" if close else f"use one of: {', '.join(KINDS)}",
    )


def validate_text(text: str, *, field: str = "text", max_chars: int = TEXT_MAX_CHARS) -> str:
    """Returns `text` as it is: it is refused, never repaired, so that what was hashed is what was said.

    Raises:
        InputError: empty, too long, or holding characters that could rewrite a terminal or reorder a line.
    """
    if not text.strip():
        raise InputError("empty_text", f"{field} is empty", f"give 1 to {max_chars:,} characters")
    if len(text) > max_chars:
        raise InputError(
            "text_too_long",
            f"{field} has {len(text):,} characters, at most {max_chars:,} are kept",
            "shorten it, or split it into several memories",
        )
    _refuse_controls(text, field)
    return text


def validate_agent(agent: str) -> str:
    """Returns the agent's name, which is any printable text of up to 200 characters.

    Raises:
        InputError: empty, too long, or holding control characters.
    """
    return validate_text(agent, field="agent", max_chars=AGENT_MAX_CHARS)


def validate_symbols(symbols: Iterable[str]) -> tuple[str, ...]:
    """Returns the symbols sorted, without duplicates.

    Raises:
        InputError: one is not written as symbols are, or there are more than `SYMBOLS_MAX`.
    """
    # A lone string would pass as an iterable of letters, each of them a plausible ticker.
    listed = [symbols] if isinstance(symbols, str) else list(symbols)
    for symbol in listed:
        if not _SYMBOL.fullmatch(symbol):
            raise InputError(
                "invalid_symbol",
                f"{symbol!r:.60} is not a symbol",
                "write upper-case letters and digits as `market_search` spells them, such as AAPL or BRK.B",
            )
    if len(listed) > SYMBOLS_MAX:
        raise InputError(
            "too_many_symbols",
            f"{len(listed)} symbols, at most {SYMBOLS_MAX}",
            "name the ones that matter most",
        )
    return tuple(sorted(set(listed)))


def validate_data(data: Mapping[str, JsonValue] | None) -> str:
    """Returns canonical JSON of the object, or "" for None or an empty one.

    Raises:
        InputError: not JSON (NaN included), over `DATA_MAX_BYTES`, or holding control characters.
    """
    if not data:
        return ""
    try:
        text = canonical(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            "invalid_data",
            f"data is not a JSON object: {error}",
            "use strings, finite numbers, lists and objects",
        ) from None
    if len(text) > DATA_MAX_BYTES:
        raise InputError(
            "data_too_large",
            f"data has {len(text):,} bytes, at most {DATA_MAX_BYTES:,} are kept",
            "keep a handle to the table or a summary instead of the values",
        )
    for string in _strings(dict(data)):
        _refuse_controls(string, "data")
    return text.decode()


def validate_event_time(event_time: datetime | None, known_time: datetime) -> datetime:
    """Returns when it happened, in UTC; `known_time` where it is not given.

    Raises:
        InputError: it lies in the future of the clock.
    """
    if event_time is None:
        return known_time
    event_time = to_utc(event_time)
    if event_time > known_time:
        raise InputError(
            "event_in_future",
            f"event_time {format_time(event_time)} is after the desk's clock, {format_time(known_time)}",
            "remember what has happened; leave event_time out to mean now",
        )
    return event_time


def validate_importance(importance: float | None) -> float | None:
    """Returns the importance, 0 to 1; None lets the kind speak.

    Raises:
        InputError: it is not a number from 0 to 1.
    """
    if importance is None:
        return None
    if isinstance(importance, bool) or not 0 <= importance <= 1:
        raise InputError(
            "invalid_importance", f"importance is {importance!r:.40}", "give 0 (idle) to 1 (vital)"
        )
    return float(importance)


def validate_expiry(expires_at: datetime | None, known_time: datetime) -> datetime | None:
    """Returns the moment from which the memory is not found any more, in UTC; None for never.

    Raises:
        InputError: it is not after `known_time`.
    """
    if expires_at is None:
        return None
    expires_at = to_utc(expires_at)
    if expires_at <= known_time:
        raise InputError(
            "already_expired",
            f"expires_at {format_time(expires_at)} is not after the desk's clock, {format_time(known_time)}",
            "give a later time, or leave it out to keep the memory",
        )
    return expires_at


def validate_causes(causes: Iterable[str]) -> tuple[str, ...]:
    """Returns the ids of the memories that this one follows from, without duplicates, in their order.

    Raises:
        InputError: one is not written as ids are, or there are more than `CAUSES_MAX`.
    """
    listed = [causes] if isinstance(causes, str) else list(dict.fromkeys(causes))
    for memory_id in listed:
        if not _MEMORY_ID.fullmatch(memory_id):
            raise InputError(
                "invalid_cause", f"{memory_id!r:.60} is not a memory's id", "take one from memory_search"
            )
    if len(listed) > CAUSES_MAX:
        raise InputError(
            "too_many_causes", f"{len(listed)} causes, at most {CAUSES_MAX}", "name the ones that decided"
        )
    return tuple(listed)


def validate_origin(origin: str) -> str:
    """Returns the words that say where an imported memory comes from; "" for one that was not.

    Raises:
        InputError: too long, or holding control characters.
    """
    return validate_text(origin, field="origin", max_chars=ORIGIN_MAX_CHARS) if origin else ""


def validate_regime(regime: Sequence[float] | None) -> tuple[float, ...] | None:
    """Returns a regime vector as the store keeps it (32-bit); None where there is none.

    Raises:
        InputError: it has not `REGIME_DIMENSION` finite numbers.
    """
    if regime is None:
        return None
    if len(regime) != REGIME_DIMENSION or not all(abs(each) <= REGIME_MAX for each in regime):
        raise InputError(
            "invalid_regime",
            f"a regime vector of {len(regime)} numbers, or with one that is not finite",
            f"give {REGIME_DIMENSION} finite numbers, as features.regime.regime_vector makes them",
        )
    return tuple(struct.unpack("f", struct.pack("f", each))[0] for each in regime)


def _strings(value: JsonValue) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _refuse_controls(text: str, field: str) -> None:
    # Cc: terminal escapes; Cf: bidirectional overrides and invisible marks; Cs: lone surrogates, which no
    # UTF-8 can carry. The joiners that scripts and emoji need are let through.
    for position, character in enumerate(text):
        if unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in "\n\t\u200c\u200d":
            raise InputError(
                "control_characters",
                f"{field} holds U+{ord(character):04X} at position {position}",
                "remove control, escape and invisible formatting characters; newlines and tabs are fine",
            )
