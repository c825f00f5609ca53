"""Embedding a store anew goes on record: who did it, from which model to which, and how many rows.

Two entries, one before the work and one after it, so that a crash in between is seen from the log, too.
Content hashes do not cover vectors: these entries are all that says why a search finds other memories than
before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread
from pydantic import JsonValue

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_memory.embedders.port import Embedder
from neural_trader_memory.reindex import Reindexed, Told, embedder_at, reindex
from neural_trader_tools.memory.problems import WHAT, Problem


@dataclass(frozen=True, slots=True)
class _Entry:
    seq: int
    done: bool
    embedder: str


async def reindex_memory(uri: str, embedder: Embedder, store: Store, caller: Caller, told: Told) -> Reindexed:
    """Embeds every row of a store anew, with an audit entry before and one after.

    Where nothing is to be done, nothing is recorded; the end of an earlier run that was killed is.

    Args:
        uri: The store.
        embedder: The model that it shall be searched with.
        store: The log.
        caller: Who does it.
        told: Hears how far the work is, 0 to 1.

    Raises:
        InputError: there is no store yet (`no_memory`).
        StorageError: the log could not be written; then nothing was embedded.
    """
    before = await embedder_at(uri)
    to: dict[str, JsonValue] = {"embedder": embedder.name, "dimension": embedder.dimension}
    entries = await to_thread.run_sync(lambda: list(_entries(store, store.head().size, None)))
    unfinished = bool(entries) and not entries[-1].done
    if before is not None and before != (embedder.name, embedder.dimension):
        begun = {"phase": "begun", "embedder_before": before[0], "dimension_before": before[1], **to}
        await to_thread.run_sync(_record, store, caller, begun)
        unfinished = True
    done = await reindex(uri, embedder, told)
    if unfinished or done.embedded:
        ended: dict[str, JsonValue] = {"phase": "done", "rows": done.rows, "embedded": done.embedded, **to}
        await to_thread.run_sync(_record, store, caller, ended)
    return done


def verify_reindexes(store: Store, size: int, embedders: set[str], archive: Path | None) -> Iterator[Problem]:
    """Yields what does not fit between the log's reindex entries and the vectors that are there.

    Args:
        store: The log.
        size: Only entries before this one.
        embedders: Of the rows.
        archive: Where archived entries lie now.
    """
    entries = list(_entries(store, size, archive))
    if not entries or not embedders:
        return
    newest = entries[-1]
    ended = [each for each in entries if each.done]
    if not newest.done and newest.embedder in embedders:
        yield _problem("unfinished_reindex", newest.seq)
    elif ended and ended[-1].embedder not in embedders:
        yield _problem("unrecorded_reindex", ended[-1].seq)


def _problem(code: str, seq: int) -> Problem:
    return Problem(code=code, memory_id="", rev=0, agent="", audit_seq=seq, what=WHAT[code])


def _record(store: Store, caller: Caller, payload: dict[str, JsonValue]) -> None:
    with store.unit() as unit:
        unit.append(AuditEntry.by(caller, EntryType.MEMORY_REINDEX, payload=payload))


def _entries(store: Store, size: int, archive: Path | None) -> Iterator[_Entry]:
    query = "SELECT seq FROM audit_entries WHERE type = ? AND seq < ? ORDER BY seq"
    with store.read() as connection:
        for (seq,) in connection.execute(query, (EntryType.MEMORY_REINDEX, size)).fetchall():
            payload = read_entry(connection, int(seq), folder=archive).payload
            yield _Entry(int(seq), payload["phase"] == "done", str(payload["embedder"]))
