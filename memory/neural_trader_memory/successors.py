"""What comes after a memory: its correction, its tombstone, another trust; each is a revision of its own.

Trust never rises by a rewriting. A correction by an agent is trusted as the worse of the two, so that what
came from outside stays untrusted however often it is rewritten; only a person can say otherwise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_memory import limits
from neural_trader_memory.records import TRUST_BY_SOURCE, TRUSTS, Record, Source, Trust, least_trust


def correct(
    previous: Record,
    known_time: datetime,
    source: Source,
    *,
    text: str | None = None,
    symbols: Iterable[str] | None = None,
    data: Mapping[str, JsonValue] | None = None,
    importance: float | None = None,
    expires_at: datetime | None = None,
) -> Record:
    """Returns the next revision with the fields that are given, and the others as they were.

    Raises:
        InputError: a field is outside its limits, or none is given (`nothing_to_correct`).
    """
    changes: dict[str, Any] = {}
    if text is not None:
        changes["text"] = limits.validate_text(text)
    if symbols is not None:
        changes["symbols"] = limits.validate_symbols(symbols)
    if data is not None:
        changes["data"] = limits.validate_data(data)
    if importance is not None:
        changes["importance"] = limits.validate_importance(importance)
    if expires_at is not None:
        changes["expires_at"] = limits.validate_expiry(expires_at, known_time)
    if all(getattr(previous, name) == value for name, value in changes.items()):
        raise InputError(
            "nothing_to_correct",
            f"memory {previous.memory_id} says that already",
            "give a text, symbols, data, importance or expiry that differs",
        )
    earned = TRUST_BY_SOURCE[source]
    # A person who rewrites a text answers for it; one who changes its importance does not.
    own_words = source in {"person", "desk"} and text is not None
    trust = earned if own_words else least_trust(previous.trust, earned)
    return _next(
        previous, known_time, source=source if text is not None else previous.source, trust=trust, **changes
    )


def forget(previous: Record, known_time: datetime, reason: str) -> Record:
    """Returns the tombstone of a memory: from `known_time` on it is not found; earlier moments keep it.

    Raises:
        InputError: the reason is empty or too long.
    """
    return _next(
        previous,
        known_time,
        text=limits.validate_text(reason, field="reason"),
        data="",
        regime=None,
        state="forgotten",
    )


def entrust(previous: Record, known_time: datetime, trust: str, source: Source) -> Record:
    """Returns the revision with another trust: a quarantine, its end, a person's endorsement.

    Raises:
        InputError: `trust` is none of `TRUSTS`, or is the present one (`nothing_to_correct`); or it would
            rise at the word of anybody but a person (`promotion_refused`).
    """
    chosen: Trust | None = next((each for each in TRUSTS if each == trust), None)
    if chosen is None:
        raise InputError("unknown_trust", f"{trust!r:.40} is no trust", f"use one of: {', '.join(TRUSTS)}")
    if chosen == previous.trust:
        raise InputError(
            "nothing_to_correct", f"memory {previous.memory_id} is {chosen} already", "choose another trust"
        )
    if least_trust(chosen, previous.trust) == previous.trust and source != "person":
        raise InputError(
            "promotion_refused",
            f"memory {previous.memory_id} is {previous.trust}; only a person can make it {chosen}",
            "ask a person to run `neural-trader memory trust`",
        )
    return _next(previous, known_time, trust=chosen)


def _next(previous: Record, known_time: datetime, **changes: Any) -> Record:
    return replace(
        previous,
        rev=previous.rev + 1,
        # A clock that was set back must not place a correction before what it corrects.
        known_time=max(known_time, previous.known_time),
        prev_hash=previous.content_hash,
        **changes,
    )
