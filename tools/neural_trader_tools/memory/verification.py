"""Is the memory what the audit log says it is? Asked from both sides.

    from the log     every `memory.write` entry has its row, with the same content
    from the store   every row has its entry and carries its hash, and its content matches its own
    from orders      what was recalled before them, and that it was (`recollections`)

That the log itself is whole is another question (`neural-trader audit verify`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread
from pydantic import Field

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.recalls import name_memory
from neural_trader_governance.store import Store
from neural_trader_governance.terms.term import Term
from neural_trader_memory.memory import Memory
from neural_trader_memory.rows import StoredRecord
from neural_trader_tools.memory.problems import WHAT, Problem
from neural_trader_tools.memory.recollections import verify_recalls
from neural_trader_tools.memory.reindexing import verify_reindexes

PROBLEMS_MAX: Final = 1_000
"""What a person reads; `problem_count` counts all of them."""
ENTRIES_AT_ONCE: Final = 500
WAITS_S: Final = (0.0, 0.1, 0.4)
"""Before each look at the store: between an entry and its row lie milliseconds."""


class MemoryVerified(Term):
    """The result of a check."""

    ok: bool
    rows: int
    entries: int
    problem_count: int
    problems: tuple[Problem, ...] = Field(description=f"The first {PROBLEMS_MAX:,}")


@dataclass(frozen=True, slots=True)
class _Entry:
    seq: int
    leaf_hash: str
    memory_id: str
    rev: int
    agent: str
    content_hash: str


async def verify_memory(memory: Memory, store: Store, archive: Path | None = None) -> MemoryVerified:
    """Compares the store with the audit log, both ways.

    What is written while it runs is left out; a row that is still on its way is waited for.

    Args:
        memory: The store, of all agents.
        store: The log.
        archive: Where archived entries lie now, if not where they were archived to.

    Raises:
        StorageError: an entry's archive is not there, or the store cannot be read.
    """
    rows: list[StoredRecord] = []
    problems: list[Problem] = []
    size = store.head().size
    entries = await to_thread.run_sync(_read_entries, store, size, archive)
    for wait_s in WAITS_S:
        await anyio.sleep(wait_s)
        rows = [each async for each in memory.read_all()]
        newest = store.head().size
        rows = [each for each in rows if each.audit_seq is None or not size <= each.audit_seq < newest]
        problems = list(_compare(rows, entries, memory.profile.embedder))
        if all(each.code != "missing_row" for each in problems):
            break
    names: dict[str, set[str]] = {}
    for stored in rows:
        record = stored.record
        name = name_memory(record.memory_id, record.rev, stored.content_hash)
        names.setdefault(record.agent, set()).add(name)
    problems += await to_thread.run_sync(lambda: list(verify_recalls(store, size, names, archive)))
    embedders = {stored.embedder for stored in rows}
    problems += await to_thread.run_sync(lambda: list(verify_reindexes(store, size, embedders, archive)))
    return MemoryVerified(
        ok=not problems,
        rows=len(rows),
        entries=len(entries),
        problem_count=len(problems),
        problems=tuple(problems[:PROBLEMS_MAX]),
    )


def _compare(rows: list[StoredRecord], entries: dict[int, _Entry], embedder: str) -> Iterator[Problem]:
    met: set[int] = set()
    seen: set[tuple[str, str, str]] = set()
    hashes = {(stored.record.agent, stored.record.memory_id, stored.content_hash) for stored in rows}
    for stored in rows:
        record = stored.record
        key = (record.agent, record.memory_id, stored.content_hash)
        if key in seen:
            yield _of_row("double_row", stored)
        seen.add(key)
        if record.content_hash != stored.content_hash:
            yield _of_row("altered_row", stored)
        if record.rev > 1 and (record.agent, record.memory_id, record.prev_hash) not in hashes:
            yield _of_row("broken_chain", stored)
        if stored.embedder != embedder:
            yield _of_row("foreign_vector", stored)
        if stored.audit_seq is None:
            yield _of_row("unaudited_row", stored)
            continue
        entry = entries.get(stored.audit_seq)
        if entry is None or (entry.agent, entry.memory_id, entry.content_hash) != key:
            yield _of_row("wrong_entry", stored)
            continue
        met.add(entry.seq)
        if entry.leaf_hash != stored.audit_hash:
            yield _of_row("wrong_leaf", stored)
    for entry in entries.values():
        if entry.seq not in met:
            yield Problem(
                code="missing_row",
                memory_id=entry.memory_id,
                rev=entry.rev,
                agent=entry.agent,
                audit_seq=entry.seq,
                what=WHAT["missing_row"],
            )


def _of_row(code: str, stored: StoredRecord) -> Problem:
    record = stored.record
    return Problem(
        code=code,
        memory_id=record.memory_id,
        rev=record.rev,
        agent=record.agent,
        audit_seq=stored.audit_seq,
        what=WHAT[code],
    )


def _read_entries(store: Store, size: int, archive: Path | None) -> dict[int, _Entry]:
    query = (
        "SELECT seq, leaf_hash FROM audit_entries WHERE type = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT ?"
    )
    found: dict[int, _Entry] = {}
    last = -1
    while True:
        # A transaction a part: a reader that stays open keeps the write-ahead log from being folded in.
        with store.read() as connection:
            part = connection.execute(query, (EntryType.MEMORY_WRITE, last, size, ENTRIES_AT_ONCE)).fetchall()
            for seq, leaf_hash in part:
                payload = read_entry(connection, int(seq), folder=archive).payload
                found[int(seq)] = _Entry(
                    int(seq),
                    bytes(leaf_hash).hex(),
                    str(payload["memory_id"]),
                    int(str(payload["rev"])),
                    str(payload["namespace"]),
                    str(payload["content_hash"]),
                )
        if not part:
            return found
        last = int(part[-1][0])
