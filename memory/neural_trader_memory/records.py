"""What a memory is: its kinds, its limits, and the record that a store keeps."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Literal, get_args

from pydantic import JsonValue

from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.terms.clocks import format_time, to_utc
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN

Kind = Literal["note", "decision", "outcome", "reflection", "skill", "backtest", "order", "trade"]
Source = Literal["agent", "desk", "person", "import", "outside"]
Trust = Literal["verified", "asserted", "untrusted"]

KINDS: tuple[Kind, ...] = get_args(Kind)
TEXT_MAX_CHARS = 4_000
DATA_MAX_BYTES = 16_000
SYMBOLS_MAX = 16
AGENT_MAX_CHARS = 200

# What the desk saw or a person wrote is verified; what an agent says is a claim until something proves it.
TRUST_BY_SOURCE: Mapping[Source, Trust] = {
    "desk": "verified",
    "person": "verified",
    "agent": "asserted",
    "import": "untrusted",
    "outside": "untrusted",  # an agent's own words, written after it had read text from outside
}

_SYMBOL = re.compile(SYMBOL_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class Record:
    """One revision of one memory, as it is hashed and kept; never changed once written.

    Attributes:
        memory_id: Names the memory through all its revisions.
        rev: 1 for the first; a correction is a new revision, not an overwrite.
        agent: Whose memory it is; the namespace that a search cannot leave.
        symbols: What it is about, sorted, without duplicates.
        data: Canonical JSON text of an object, or "" where there is none.
        event_time: When it happened.
        known_time: When this desk came to know it, by the server's clock.
        about_seq: The audit entry that the memory speaks of, such as an order's.
        prev_hash: Content hash of the revision before, or "".
    """

    memory_id: str
    rev: int
    agent: str
    kind: Kind
    text: str
    symbols: tuple[str, ...]
    data: str
    event_time: datetime
    known_time: datetime
    source: Source
    trust: Trust
    about_seq: int | None
    prev_hash: str

    @property
    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of every field; the audit log carries it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["event_time"] = format_time(self.event_time)
        fields["known_time"] = format_time(self.known_time)
        return hashlib.sha256(b"neural-trader/memory/v1\0" + _canonical(fields)).hexdigest()

    def verify(self, recorded_hash: str) -> None:
        """Checks the record against the hash that was kept beside it.

        Raises:
            IntegrityError: a field was changed after it was written.
        """
        if self.content_hash != recorded_hash:
            raise IntegrityError(
                "memory_altered",
                f"memory {self.memory_id} does not match its content hash {recorded_hash[:16]}…",
                "compare it with its `memory.write` audit entry and restore the folder from a backup",
                memory_id=self.memory_id,
            )


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
        text = _canonical(data)
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


def _canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()  # a lone surrogate ends here, as a UnicodeEncodeError (a ValueError)


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
