"""Symbol changes: which stored series make up the one that a symbol stands for, as of a moment.

A symbol means whoever holds it at `as_of`. From the moment at which a change is in force and known, the old
symbol and the new one read the same series: the old symbol's rows before the change, the new one's from it
on, raw prices unchanged. Who asks as of an earlier moment sees neither the change nor the join.

- Rows that the new symbol had before the change belong to its former holder (META was an ETF until 2022)
  and are left out, unless the old symbol has none of that interval: then the source had already put the
  whole history under the new symbol.
- Rows that the old symbol has after the change belong to its next holder, and then that is who it stands for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.term import Term


class Rename(Term):
    """One version of a symbol change; a change of a symbol to itself withdraws an earlier version."""

    old: Symbol
    new: Symbol
    event_time: UtcTime = Field(description="From when the new symbol trades: the start of that date")
    known_time: UtcTime = Field(description="When that could be known")
    dataset_id: str = ""


@dataclass(frozen=True, slots=True)
class ActionCounts:
    """What an import of actions changed."""

    rows_new: int
    rows_revised: int
    rows_unchanged: int


def merged_renames(
    stored: Sequence[Rename], incoming: Iterable[Rename], revised_at: datetime | None
) -> tuple[tuple[Rename, ...], ActionCounts]:
    """Adds incoming symbol changes to stored ones as bitemporal facts, by the rule of `frames.merge`."""
    merged = list(stored)
    new = revised = unchanged = 0
    for one in incoming:
        versions = [each for each in merged if (each.old, each.event_time) == (one.old, one.event_time)]
        if not versions:
            new += 1
            merged.append(one)
            continue
        newest = max(versions, key=lambda each: each.known_time)
        if newest.new == one.new:
            unchanged += 1
            continue
        revised += 1
        known = max(revised_at or one.known_time, newest.known_time + timedelta(microseconds=1))
        merged.append(one.model_copy(update={"known_time": known}))
    return tuple(merged), ActionCounts(new, revised, unchanged)


def in_force(renames: Iterable[Rename], as_of: datetime, *, upcoming: bool = False) -> list[Rename]:
    """Returns the symbol changes known at `as_of`, in their newest version, by time.

    Those that have not happened by then are left out unless `upcoming`.
    """
    newest: dict[tuple[str, datetime], Rename] = {}
    for one in sorted(renames, key=lambda each: each.known_time):
        if one.known_time <= as_of and (upcoming or one.event_time <= as_of):
            newest[one.old, one.event_time] = one
    return sorted((one for one in newest.values() if one.new != one.old), key=lambda one: one.event_time)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one stored symbol: from `start` inclusive to `end` exclusive; None leaves that side open."""

    symbol: str
    start: datetime | None = None
    end: datetime | None = None


def holder(symbol: str, renames: Sequence[Rename], has_rows_from: Callable[[str, datetime], bool]) -> str:
    """Returns the symbol under which the holder of `symbol` is found last.

    Args:
        symbol: As asked for.
        renames: Those in force, by time.
        has_rows_from: Says whether a stored symbol has rows from a moment on: a next holder's.
    """
    given_up = [one for one in renames if one.old == symbol]
    if not given_up or has_rows_from(symbol, given_up[-1].event_time):
        return symbol
    step: Rename | None = given_up[-1]
    while step is not None:
        symbol, since = step.new, step.event_time
        step = next((one for one in renames if one.old == symbol and one.event_time > since), None)
    return symbol


def pieces(
    symbol: str, renames: Sequence[Rename], has_rows_before: Callable[[str, datetime], bool]
) -> list[Piece]:
    """Returns what makes up a holder's series, oldest first.

    Args:
        symbol: As `holder` returns it.
        renames: Those in force, by time.
        has_rows_before: Says whether a stored symbol has rows before a moment.
    """
    found: list[Piece] = []
    end: datetime | None = None
    while True:
        past = [one for one in renames if end is None or one.event_time < end]
        # Rows from before a holder gave the symbol up are that one's.
        since = max((one.event_time for one in past if one.old == symbol), default=None)
        taken = [one for one in past if one.new == symbol and (since is None or one.event_time >= since)]
        source = next((one for one in taken[::-1] if has_rows_before(one.old, one.event_time)), None)
        if source is None:
            found.append(Piece(symbol, since, end))
            return found[::-1]
        found.append(Piece(symbol, source.event_time, end))
        symbol, end = source.old, source.event_time
