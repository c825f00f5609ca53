"""The tool `audit_search`: find entries of the signed log."""

import difflib
import sqlite3
from collections.abc import Sequence
from typing import Annotated, cast

import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.audit.archive import Shelf
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.errors import InputError, IntegrityError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import format_time, from_epoch_us, parse_time, to_epoch_us
from neural_trader_governance.untrusted.readings import Source, expose

LIMIT_MAX = 200
_SUMMARY_CHARACTERS_MAX = 120
_RESULT_BYTES_MAX = 8_000
# What a person wants to read of a payload first; digests and long texts are for the entry itself.
_TOLD = (
    "decision",
    "rules",
    "state",
    "quantity",
    "price",
    "reason",
    "kind",
    "name",
    "scope",
    "roles",
    "agent",
    "symbols",
    "key_id",
    "version",
    "preview_id",
    "run_id",
    "tools_digest",
)
_DOCUMENTS = ("document", "grant", "mandate", "override", "release", "budget")
"""What a person signed and the entry holds whole; its own fields are told like the payload's."""
_FREE = ("reason", "name")
"""Of those, what whoever acted put into words of their own; another agent's words are outside text."""


class FoundEntry(BaseModel):
    """One entry of the log, in a line."""

    seq: int
    type: str
    time: str
    summary: str
    leaf_hash: str


class AuditSearchResult(BaseModel):
    """Matching entries, the newest first."""

    entries: list[FoundEntry]
    more: bool = Field(description="Older entries match too: narrow the search")


async def audit_search(
    store: Store,
    caller: Caller,
    *,
    type: Annotated[str | None, Field(description="Such as order.intent or broker.fill")] = None,  # noqa: A002 - the contract's name
    symbol: Annotated[str | None, Field(description="Ticker")] = None,
    agent: Annotated[str | None, Field(description="Agent id")] = None,
    since: Annotated[str | None, Field(description="RFC 3339 time or date; inclusive")] = None,
    until: Annotated[str | None, Field(description="The same; exclusive")] = None,
    limit: Annotated[int, Field(description="1 to 200")] = 20,
) -> AuditSearchResult:
    """Find what was asked, decided and done on this desk, newest first."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InputError("invalid_limit", f"limit {limit} is outside 1 to {LIMIT_MAX}", "give one inside")
    clauses: list[str] = []
    values: list[str | int] = []
    if type is not None:
        clauses.append("type = ?")
        values.append(_entry_type(type))
    for column, value in (("symbol", symbol), ("agent", agent)):
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(_short(column, value))
    for bound, comparison in ((since, ">="), (until, "<")):
        if bound is not None:
            clauses.append(f"time_us {comparison} ?")
            values.append(to_epoch_us(parse_time(bound)))

    def search() -> AuditSearchResult:
        with store.read() as connection:
            return _search(connection, caller, clauses, values, limit)

    return await anyio.to_thread.run_sync(search)


def _search(
    connection: sqlite3.Connection, caller: Caller, clauses: list[str], values: list[str | int], limit: int
) -> AuditSearchResult:
    rows = connection.execute(search_query(clauses), (*values, limit + 1)).fetchall()
    shelf = Shelf(connection)
    found: list[FoundEntry] = []
    size = 0
    for seq, leaf_hash, stored, entry_type, time_us in rows[:limit]:
        try:
            data = shelf.read(int(seq), bytes(leaf_hash), bytes(stored))
        except StorageError as error:
            time = format_time(from_epoch_us(int(time_us)))
            entry = FoundEntry(
                seq=seq,
                type=bytes(entry_type).decode(errors="replace"),
                time=time,
                summary=f"ARCHIVED: {error.what}",
                leaf_hash=leaf_hash.hex(),
            )
        except IntegrityError as error:
            entry = _damaged(int(seq), bytes(leaf_hash), error)
        else:
            entry = _found(int(seq), bytes(leaf_hash), data, caller)
        size += len(entry.model_dump_json()) + 1
        if size > _RESULT_BYTES_MAX - 100:
            break
        found.append(entry)
    return AuditSearchResult(entries=found, more=len(rows) > len(found))


def search_query(clauses: Sequence[str]) -> str:
    """Returns the query behind a search; newest first by time, which every index but the order's ends in."""
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    columns = "seq, leaf_hash, entry, CAST(type AS BLOB), time_us"
    # Fixed clauses; the values are bound.
    return f"SELECT {columns} FROM audit_entries {where} ORDER BY time_us DESC, seq DESC LIMIT ?"  # noqa: S608


def _found(seq: int, leaf_hash: bytes, data: bytes, caller: Caller) -> FoundEntry:
    try:
        entry = LoggedEntry.decode(data)
    except IntegrityError as error:
        return _damaged(seq, leaf_hash, error)
    summary = summarize(entry)
    if entry.agent not in {"", caller.agent} and any(entry.payload.get(name) for name in _FREE):
        expose(Source.AGENT, summary)
    return FoundEntry(
        seq=seq,
        type=entry.type.value,
        time=format_time(entry.ts),
        summary=summary,
        leaf_hash=leaf_hash.hex(),
    )


def _damaged(seq: int, leaf_hash: bytes, error: IntegrityError) -> FoundEntry:
    # One damaged entry must not hide the others, nor be dressed up.
    summary = f"DAMAGED: {error.what}; run audit_verify"
    return FoundEntry(seq=seq, type="damaged", time="", summary=summary, leaf_hash=leaf_hash.hex())


def summarize(entry: LoggedEntry) -> str:
    """Returns an entry in one line: who, the order where there is one, and what was decided."""
    words = [f"{entry.agent or entry.principal}:"]
    intent = entry.payload.get("intent")
    if isinstance(intent, dict):
        words += [str(intent[name]) for name in ("side", "quantity", "symbol", "type") if intent.get(name)]
    elif entry.symbol:
        words.append(entry.symbol)
    parts = (entry.payload.get(name) for name in _DOCUMENTS)
    signed = next((cast("dict[str, object]", part) for part in parts if isinstance(part, dict)), None) or {}
    for name in _TOLD:
        value = entry.payload.get(name, signed.get(name))
        if isinstance(value, list):
            value = " ".join(str(item) for item in cast("list[object]", value))
        if isinstance(value, str | int) and value != "":
            words.append(f"{name}={value}")
    text = " ".join(" ".join(words).split())
    return text if len(text) <= _SUMMARY_CHARACTERS_MAX else f"{text[: _SUMMARY_CHARACTERS_MAX - 1]}…"


def _entry_type(name: str) -> str:
    known = [entry_type.value for entry_type in EntryType]
    if name in known:
        return name
    near = difflib.get_close_matches(name[:40], known, n=1)
    raise InputError(
        "unknown_entry_type",
        f"there is no entry type {name!r:.40}",
        f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}",
    )


def _short(name: str, value: str) -> str:
    if not 0 < len(value) <= 80:
        raise InputError(f"invalid_{name}", f"{name} has {len(value)} characters", "give 1 to 80")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"invalid_{name}", f"{name} is not valid Unicode", f"write the {name} again"
        ) from None
    return value
