"""The audit log for a browser that checks it by itself: entries' exact bytes, paths and signed checkpoints.

Nothing here says that anything verifies. What is sent is what a checker needs, as it is stored: a damaged
entry goes out as its damaged bytes, and the page finds out.
"""

import base64
import sqlite3
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.audit import log, merkle, witnessing
from neural_trader_governance.audit.archive import Shelf
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.errors import InputError, IntegrityError, StorageError
from neural_trader_governance.terms.clocks import format_time, from_epoch_us, parse_time, to_epoch_us
from neural_trader_governance.terms.term import Term
from neural_trader_server.console.guard import answer, read_query

if TYPE_CHECKING:
    from neural_trader_server.app import Services

PAGE_MAX = 50
PROOFS_MAX = 100
BYTES_MAX = 1_000_000
"""Of entries in one answer; the page asks again for the rest."""

_Number = Annotated[int, Field(ge=0, le=2**53 - 1), BeforeValidator(int)]
_Words = Annotated[str, Field(min_length=1, max_length=80)]


class _Search(Term):
    type: EntryType | None = None
    symbol: _Words | None = None
    agent: _Words | None = None
    since: _Words | None = None
    older: Annotated[str, Field(pattern=r"^-?\d{1,17}\.\d{1,16}$")] | None = None
    """Time and number of the last entry that was shown."""


class _Head(Term):
    seen: _Number = 0
    """Up to where the browser has checked before."""


class _Span(Term):
    start: _Number
    end: _Number
    size: Annotated[int, Field(ge=1, le=2**53 - 1), BeforeValidator(int)]
    """Of the signed tree that the paths lead to."""


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the log."""

    def search(query: _Search) -> dict[str, Any]:
        with services.store.read() as connection:
            return _listed(connection, query)

    def head(query: _Head) -> dict[str, Any]:
        vkey = services.home.log_vkey.read_text(encoding="ascii").strip()
        with services.store.read() as connection:
            return {"vkey": vkey, **_signed(connection, query.seen)}

    def proofs(query: _Span) -> dict[str, Any]:
        with services.store.read() as connection:
            return _proven(connection, query)

    async def searched(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(search, read_query(request, _Search)))

    async def signed(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(head, read_query(request, _Head)))

    async def proven(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(proofs, read_query(request, _Span)))

    return [
        Route("/audit/entries", searched, methods=["GET"]),
        Route("/audit/head", signed, methods=["GET"]),
        Route("/audit/proofs", proven, methods=["GET"]),
    ]


def _listed(connection: sqlite3.Connection, query: _Search) -> dict[str, Any]:
    """Returns entries in a line each, the newest first, and from where on older ones follow."""
    from neural_trader_tools.audit.search import search_query

    clauses, values = list[str](), list[str | int]()
    for column, value in (("type", query.type), ("symbol", query.symbol), ("agent", query.agent)):
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(str(value))
    if query.since is not None:
        clauses.append("time_us >= ?")
        values.append(to_epoch_us(parse_time(query.since)))
    if query.older is not None:
        clauses.append("(time_us, seq) < (?, ?)")
        values += [int(part) for part in query.older.split(".")]
    rows = connection.execute(search_query(clauses), (*values, PAGE_MAX + 1)).fetchall()
    shelf = Shelf(connection)
    last = rows[PAGE_MAX - 1] if len(rows) > PAGE_MAX else None
    return {
        "types": [each.value for each in EntryType],
        "entries": [_line(shelf, *row) for row in rows[:PAGE_MAX]],
        "older": None if last is None else f"{last[4]}.{last[0]}",
    }


def _line(
    shelf: Shelf, seq: int, leaf_hash: bytes, stored: bytes, entry_type: bytes, time_us: int
) -> dict[str, Any]:
    from neural_trader_tools.audit.search import summarize

    line = {
        "seq": seq,
        "time": format_time(from_epoch_us(time_us)),
        "type": bytes(entry_type).decode(errors="replace"),
        "agent": "",
        "symbol": None,
        "problem": None,
    }
    try:
        entry = LoggedEntry.decode(shelf.read(seq, bytes(leaf_hash), bytes(stored)))
    except (StorageError, IntegrityError) as error:  # one that cannot be read must not hide the others
        return line | {"summary": error.what, "problem": error.code}
    who = entry.agent or entry.principal
    return line | {
        "type": entry.type.value,
        "agent": who,
        "symbol": entry.symbol,
        "summary": summarize(entry).removeprefix(f"{who}:").strip(),
    }


def _signed(connection: sqlite3.Connection, seen: int) -> dict[str, Any]:
    """Returns the newest checkpoint, how it grew out of an earlier size, and the newest cosigned one."""
    found = log.read_checkpoint(connection)
    if found is None:
        raise IntegrityError(
            "audit_log_broken", "the audit log has no checkpoint", "run: neural-trader audit verify"
        )
    size, note = found
    pinned = witnessing.read_pin(connection)
    witness = None
    if pinned is not None:
        cosigned = witnessing.newest_cosigned(connection, pinned.key)
        row = connection.execute(
            "SELECT max(size) FROM audit_cosignatures WHERE witness = ?", (pinned.key.label,)
        ).fetchone()
        witness = {
            "vkey": pinned.key.vkey,
            "refused": None if pinned.consistent else pinned.detail,
            "note": cosigned,
            "path": None if row[0] is None else _growth(connection, int(row[0]), size),
        }
    return {"note": note, "growth": _growth(connection, seen, size), "witness": witness}


def _growth(connection: sqlite3.Connection, old: int, new: int) -> list[str] | None:
    """Returns the proof that one tree grew out of another; None where there can be none."""
    if not 0 < old <= new:
        return None
    return _encoded(merkle.consistency_proof(log.node_reader(connection), old, new))


def _proven(connection: sqlite3.Connection, query: _Span) -> dict[str, Any]:
    """Returns entries' bytes and their paths to the root of a tree, in the order of their numbers."""
    last = connection.execute("SELECT max(size) FROM audit_checkpoints").fetchone()[0] or 0
    if not query.start < query.end <= query.size <= last:
        raise InputError(
            "unknown_seq",
            f"no entries {query.start} to {query.end - 1} in a tree of {query.size}; the log has {last}",
            "choose an entry of the list",
        )
    shelf, read = Shelf(connection), log.node_reader(connection)
    rows = connection.execute(
        "SELECT seq, leaf_hash, entry FROM audit_entries WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
        (query.start, query.end, PROOFS_MAX),
    )
    entries, size = list[dict[str, Any]](), 0
    for seq, leaf_hash, stored in rows:
        data, absent = bytes(stored), None
        if not data:  # archived
            try:
                data = shelf.read(int(seq), bytes(leaf_hash), data)
            except (StorageError, IntegrityError) as error:
                absent = str(error)
        path = _encoded(merkle.inclusion_proof(read, int(seq), query.size))
        entries.append(
            {
                "seq": int(seq),
                "entry": None if absent else base64.b64encode(data).decode(),
                "absent": absent,
                "leaf_hash": bytes(leaf_hash).hex(),
                "path": path,
            }
        )
        size += len(data)
        if size > BYTES_MAX:
            break
    return {"entries": entries}


def _encoded(path: list[bytes]) -> list[str]:
    return [base64.b64encode(step).decode() for step in path]
