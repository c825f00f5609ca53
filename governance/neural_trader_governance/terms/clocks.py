"""Clocks: wall time for the desk, simulated time for replays and tests. All times are UTC."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol

from pydantic import AfterValidator, AwareDatetime, PlainSerializer

from neural_trader_governance.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_utc(moment: datetime) -> datetime:
    """Returns the same instant in UTC.

    Raises:
        InputError: the datetime has no time zone, so its instant is unknown.
    """
    if moment.tzinfo is None:
        raise InputError(
            "naive_time",
            f"{moment.isoformat()} has no time zone",
            "give it with an offset, such as 2013-03-01T00:00:00Z",
        )
    return moment.astimezone(UTC)


def format_time(moment: datetime) -> str:
    """Returns RFC 3339 in UTC with a `Z`, with microseconds only where there are any."""
    return to_utc(moment).isoformat().replace("+00:00", "Z")


def to_epoch_us(moment: datetime) -> int:
    """Returns microseconds since 1970-01-01 UTC: how databases store and compare instants."""
    return (to_utc(moment) - _EPOCH) // timedelta(microseconds=1)


def from_epoch_us(epoch_us: int) -> datetime:
    """Returns the instant, in UTC, of a stored count of microseconds."""
    return _EPOCH + timedelta(microseconds=epoch_us)


def parse_time(text: str) -> datetime:
    """Reads an RFC 3339 instant or an ISO date (taken as midnight UTC).

    Raises:
        InputError: the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InputError(
            "invalid_time",
            f"{text!r:.60} is not an RFC 3339 time or an ISO date",
            "write it like 2012-01-01 or 2012-01-01T14:30:00Z",
        ) from None
    if moment.tzinfo is None and (len(text) == len("2012-01-01") or "T" not in text.upper()):
        moment = moment.replace(tzinfo=UTC)
    try:
        return to_utc(moment)
    except OverflowError:
        raise InputError("invalid_time", f"{text!r:.60} is out of range", "use years 1 to 9999") from None


UtcTime = Annotated[
    AwareDatetime, AfterValidator(to_utc), PlainSerializer(format_time, return_type=str, when_used="json")
]
"""A pydantic field type: time-zone aware, normalised to UTC, RFC 3339 with `Z` in JSON."""


class Clock(Protocol):
    """Where a component asks for the time; injected, so that a run can be replayed."""

    def now(self) -> datetime:
        """Returns the current instant, in UTC."""
        ...


class WallClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Returns the machine's time, in UTC."""
        return datetime.now(UTC)


class SimulatedClock:
    """A clock that moves only when told, and never backwards."""

    def __init__(self, start: datetime) -> None:
        self._now = to_utc(start)

    def now(self) -> datetime:
        """Returns the simulated instant, in UTC."""
        return self._now

    def advance(self, step: timedelta) -> datetime:
        """Moves forward by `step` and returns the new instant."""
        return self.advance_to(self._now + step)

    def advance_to(self, moment: datetime) -> datetime:
        """Moves to `moment`.

        Raises:
            InputError: `moment` lies before the clock's time.
        """
        moment = to_utc(moment)
        if moment < self._now:
            raise InputError(
                "clock_backwards",
                f"the clock stands at {format_time(self._now)} and cannot go back to {format_time(moment)}",
                "advance to a later time",
            )
        self._now = moment
        return moment
