"""Dates of publication: what sources write about when a text came out, as an instant or as nothing.

A date without a time of day is taken as that day's end: by then the text was out, and whoever decides at
noon must not read it in the morning.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

SAID_MAX = 100
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}")
_EPOCH = re.compile(r"\d{10}(\d{3})?")


def read_published(said: str, zone: str = "UTC") -> datetime | None:
    """Reads a time of publication.

    Args:
        said: ISO 8601, RFC 822 (as RSS has it), or Unix seconds or milliseconds.
        zone: IANA name; of a date and of a time without an offset.

    Returns:
        UTC; None where it cannot be read, does not exist in its zone or is ambiguous there.
    """
    said = said.strip()[:SAID_MAX]
    try:
        if _EPOCH.fullmatch(said):
            return datetime.fromtimestamp(int(said[:10]), UTC) + timedelta(milliseconds=int(said[10:] or 0))
        moment = _moment(said)
        if _DATE.fullmatch(said):
            moment += timedelta(days=1, microseconds=-1)
        return _placed(moment, zone)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _moment(said: str) -> datetime:
    """Reads what was written; without a zone where it names none."""
    try:
        return datetime.fromisoformat(said)
    except ValueError:
        moment = parsedate_to_datetime(said)
        # RFC 2822: -0000 is a time in UTC of which no local zone is known
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None and said.endswith("-0000") else moment


def _placed(moment: datetime, zone: str) -> datetime | None:
    """Returns the instant in UTC; None where the zone's clocks skip it or show it twice."""
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    local = moment.replace(tzinfo=ZoneInfo(zone))
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return first if first == second else None
