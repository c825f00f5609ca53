"""Read windows: which bars an agent asked for, and how far it may look."""

from dataclasses import dataclass
from datetime import datetime

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import format_time, parse_time


@dataclass(frozen=True, slots=True)
class ReadWindow:
    """From `start` inclusive to `end` exclusive, as known at `as_of`; None leaves that side open."""

    start: datetime | None
    end: datetime | None
    as_of: datetime | None


def read_window(
    start: str | None, end: str | None, as_of: str | None, horizon: datetime | None
) -> ReadWindow:
    """Reads the times that an agent wrote, and caps `as_of` at the replay clock's horizon.

    Args:
        start: RFC 3339 or an ISO date.
        end: The same.
        as_of: The same.
        horizon: `ReplayClock.horizon()`: where the desk is replaying the past, its future stays unseen.

    Raises:
        InputError: a time does not parse, or `end` is not after `start`.
    """
    first, last, known = (parse_time(text) if text is not None else None for text in (start, end, as_of))
    if first is not None and last is not None and last <= first:
        raise InputError(
            "invalid_range",
            f"end {format_time(last)} is not after start {format_time(first)}",
            "swap them, or leave one out; start is inclusive, end exclusive",
        )
    if horizon is not None:
        known = min(known, horizon) if known is not None else horizon
    return ReadWindow(first, last, known)


def checked_limit(limit: int, limit_max: int) -> int:
    """Returns the limit.

    Raises:
        InputError: it is not from 1 to `limit_max`.
    """
    if isinstance(limit, bool) or not 1 <= limit <= limit_max:
        raise InputError(
            "invalid_limit",
            f"limit {limit!r:.20} is not from 1 to {limit_max}",
            "give a number in that range",
        )
    return limit
