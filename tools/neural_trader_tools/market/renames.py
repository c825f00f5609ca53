"""Symbol changes: which stored series make up the one that a symbol stands for, as of a moment.

A symbol means whoever holds it at `as_of`. From the moment at which a change is in force and known, the old
symbol and the new one read the same series: the old symbol's rows before the change, the new one's from it
on, raw prices unchanged. Who asks as of an earlier moment sees neither the change nor the join.

- Rows that the new symbol had before the change belong to its former holder (META was an ETF until 2022)
  and are left out, unless the old symbol has none of that interval: then the source had already put the
  whole history under the new symbol.
- Rows that the old symbol has after the change belong to its next holder, and then that is who it stands for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field, model_validator

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.term import Term


class Rename(Term):
    """One symbol change."""

    old: Symbol
    new: Symbol
    event_time: UtcTime = Field(description="From when the new symbol trades: the start of that date")
    known_time: UtcTime = Field(description="When that could be known")
    dataset_id: str = ""

    @model_validator(mode="after")
    def _changes_something(self) -> "Rename":
        if self.old == self.new:
            raise ValueError("the old and the new symbol are the same")
        return self

    def in_force(self, as_of: datetime | None) -> bool:
        """Says whether it has happened and is known at `as_of`; None sees everything."""
        return as_of is None or max(self.event_time, self.known_time) <= as_of


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one stored symbol: from `start` inclusive to `end` exclusive; None leaves that side open."""

    symbol: str
    start: datetime | None = None
    end: datetime | None = None


def holder(
    symbol: str, renames: Iterable[Rename], has_rows_from: Callable[[str, datetime], bool]
) -> tuple[str, datetime | None]:
    """Returns the symbol under which the holder of `symbol` is found last, and since when it holds `symbol`.

    Args:
        symbol: As asked for.
        renames: Those in force.
        has_rows_from: Says whether a stored symbol has rows from a moment on: a next holder's.

    Returns:
        The symbol to read, and the moment before which its rows are a former holder's, None for none.
    """
    changes = sorted(renames, key=lambda one: one.event_time)
    since: datetime | None = None
    after: datetime | None = None
    while True:
        later = [one for one in changes if one.old == symbol and (after is None or one.event_time > after)]
        if not later:
            return symbol, since
        if after is None and has_rows_from(symbol, later[-1].event_time):
            return symbol, later[-1].event_time
        step = later[-1] if after is None else later[0]
        symbol, after = step.new, step.event_time


def pieces(
    symbol: str,
    since: datetime | None,
    renames: Iterable[Rename],
    has_rows_before: Callable[[str, datetime], bool],
) -> list[Piece]:
    """Returns what makes up a holder's series, oldest first.

    Args:
        symbol: As `holder` returns it.
        since: The same.
        renames: Those in force.
        has_rows_before: Says whether a stored symbol has rows before a moment.
    """
    changes = sorted(renames, key=lambda one: one.event_time, reverse=True)
    found: list[Piece] = []
    end: datetime | None = None
    while True:
        earlier = [
            one
            for one in changes
            if one.new == symbol
            and (end is None or one.event_time < end)
            and (since is None or one.event_time >= since)
        ]
        source = next((one for one in earlier if has_rows_before(one.old, one.event_time)), None)
        if source is None:
            found.append(Piece(symbol, since, end))
            return found[::-1]
        found.append(Piece(symbol, source.event_time, end))
        symbol, end = source.old, source.event_time
