"""Which rows count at a moment: the newest revision of each memory, if it is live and within its time.

A correction, a tombstone and a change of trust are rows of their own. Nothing is ever marked in an older row,
so what was visible at T follows from the rows known at T and from nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from neural_trader_governance.terms.clocks import format_time
from neural_trader_memory.records import Kind

COLUMNS = ("memory_id", "rev", "agent", "kind", "symbols", "known_time", "content_hash")
ADDED_COLUMNS = ("trust", "expires_at", "state")


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that one call may see. Every part narrows; none can widen, whatever its text is.

    Attributes:
        quarantined: Whether memories in quarantine are seen too: for the people who look after them.
    """

    agent: str
    as_of: datetime
    kind: Kind | None = None
    symbols: tuple[str, ...] = ()
    quarantined: bool = False

    @property
    def known(self) -> str:
        """Returns the SQL condition of this agent's rows that were known by `as_of`."""
        moment = _moment(self.as_of)
        return (
            f"agent = {quote(self.agent)} AND known_time <= {moment}"
            f" AND (superseded_at IS NULL OR superseded_at > {moment})"
        )

    @property
    def where(self) -> str:
        """Returns the SQL condition of the rows among which `heads` decides.

        First revisions are narrowed by the store. Later ones, which are few, all come: one that no longer
        matches must still hide the revision that did.
        """
        moment = _moment(self.as_of)
        parts = [f"(expires_at IS NULL OR expires_at > {moment})"]
        if not self.quarantined:
            parts.append("trust <> 'quarantined'")
        if self.kind:
            parts.append(f"kind = {quote(self.kind)}")
        if self.symbols:
            parts.append(f"array_has_any(symbols, [{', '.join(map(quote, self.symbols))}])")
        return f"{self.known} AND (rev > 1 OR ({' AND '.join(parts)}))"

    @property
    def chosen(self) -> str:
        """Returns the SQL condition of what the caller chose, apart from time: for rows looked at again."""
        parts = [f"agent = {quote(self.agent)}"]
        if self.kind:
            parts.append(f"kind = {quote(self.kind)}")
        if self.symbols:
            parts.append(f"array_has_any(symbols, [{', '.join(map(quote, self.symbols))}])")
        return " AND ".join(parts)

    def admits(self, row: dict[str, Any]) -> bool:
        """Whether a head is seen: what `where` says of first revisions, for the others."""
        expires_at: datetime | None = row["expires_at"]
        return (
            row["state"] in {None, "live"}
            and (expires_at is None or expires_at > self.as_of)
            and (self.quarantined or row["trust"] != "quarantined")
            and (self.kind is None or row["kind"] == self.kind)
            and (not self.symbols or not set(self.symbols).isdisjoint(row["symbols"]))
        )


def visible(rows: Any, scope: Scope) -> list[int]:
    """Returns the positions, ascending, of the rows that count.

    Args:
        rows: An Arrow table of what `scope.where` found, with `COLUMNS` and `ADDED_COLUMNS`.
        scope: Who asks, and as of when.
    """
    revs: list[int] = rows.column("rev").to_pylist()
    revised = [at for at, rev in enumerate(revs) if rev > 1]
    if not revised:  # what the store let through is all live first revisions
        return list(range(len(revs)))
    later = rows.take(revised).select([*COLUMNS, *ADDED_COLUMNS]).to_pylist()
    heads: dict[str, tuple[tuple[int, datetime, str], int]] = {}
    for at, row in zip(revised, later, strict=True):
        # Two processes can correct one revision at once; the order of the two is the same everywhere.
        place = (row["rev"], row["known_time"], row["content_hash"])
        heads[row["memory_id"]] = max(heads.get(row["memory_id"], (place, at)), (place, at))
    admitted = {
        at
        for at, row in zip(revised, later, strict=True)
        if heads[row["memory_id"]][1] == at and scope.admits(row)
    }
    names: list[str] = rows.column("memory_id").to_pylist()
    return [at for at, rev in enumerate(revs) if at in admitted or (rev == 1 and names[at] not in heads)]


def head(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the newest of one memory's revisions, or None where there is none."""
    return max(rows, key=lambda row: (row["rev"], row["known_time"], row["content_hash"]), default=None)


def quote(text: str) -> str:
    """Returns a SQL string literal; a quote is doubled, which is the only escape that DataFusion knows."""
    return "'" + text.replace("'", "''") + "'"


def _moment(moment: datetime) -> str:
    return f"TIMESTAMP '{format_time(moment)}'"
