"""Importing memories: whatever a file says, they are a stranger's words from now on.

Each is written anew: its own id, known since now, untrusted, with where it came from, and an audit entry.
What the agent has already is not written twice, so an import that was stopped is simply run again.
"""

import hashlib
from pathlib import Path
from typing import Final

from anyio import to_thread
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.term import Term
from neural_trader_memory import limits
from neural_trader_memory.memory import Draft, Memory
from neural_trader_tools.memory.files import MemoryRow, read_rows
from neural_trader_tools.memory.recording import keep
from neural_trader_tools.telling import tell

BATCH: Final = 100
ORIGIN_MAX_CHARS: Final = 200


class MemoriesImported(Term):
    """What became of a file's lines."""

    read: int
    imported: int
    known: int = Field(description="That the agent has already")
    skipped: int = Field(description="Earlier revisions, forgotten and expired ones, and those of the future")
    origin: str


async def import_memories(
    memory: Memory, store: Store, person: Caller, clock: Clock, path: Path, *, agent: str, origin: str
) -> MemoriesImported:
    """Imports a file into an agent's memory.

    Args:
        memory: The memory.
        store: Its audit log.
        person: Who imports; agents cannot.
        clock: Says what has expired.
        path: `.jsonl` or `.parquet`, see `files`.
        agent: Whose memory takes them.
        origin: Where the file comes from, in the importer's words; kept with every memory.

    Raises:
        InputError: no origin, or a file that cannot be read.
        DataError: a line is wrong; nothing was imported.
    """
    if not origin.strip():
        raise InputError("origin_missing", "nothing says where the file comes from", "give --origin WORDS")
    limits.validate_text(origin, field="origin", max_chars=ORIGIN_MAX_CHARS)
    rows = await to_thread.run_sync(read_rows, path)
    digest = await to_thread.run_sync(lambda: hashlib.sha256(path.read_bytes()).hexdigest())
    chosen = _newest(rows, clock)
    said = f"{origin}; {path.name[:80]} sha256 {digest[:16]}"
    limits.validate_text(said, field="file name", max_chars=limits.ORIGIN_MAX_CHARS)
    names: dict[str, str] = {}  # of the file, and here
    met: dict[object, str] = {}
    waiting: list[Draft] = []
    known = 0
    for number, row in enumerate(chosen):
        causes = [names[each] for each in row.causes if each in names]
        if not {draft.record.memory_id for draft in waiting}.isdisjoint(causes) or len(waiting) == BATCH:
            await keep(memory, store, person, waiting)
            waiting = []
        draft = await memory.draft(
            row.kind,
            row.text,
            agent=agent,
            symbols=row.symbols,
            data=row.data,
            event_time=row.event_time,
            source="import",
            importance=row.importance,
            expires_at=row.expires_at,
            causes=causes,
            origin=said,
            regime=row.regime,
        )
        same = await memory.same_as(draft)
        words = (row.kind, row.text, draft.record.symbols, draft.record.data, row.event_time)
        name = met.get(words) if same is None else same.memory_id
        if name is None:
            waiting.append(draft)
            name = draft.record.memory_id
        else:
            known += 1
        met[words] = name
        if row.memory_id:
            names[row.memory_id] = name
        await tell((number + 1) / len(chosen))
    await keep(memory, store, person, waiting)
    return MemoriesImported(
        read=len(rows),
        imported=len(chosen) - known,
        known=known,
        skipped=len(rows) - len(chosen),
        origin=said,
    )


def _newest(rows: list[MemoryRow], clock: Clock) -> list[MemoryRow]:
    """Returns the newest revision of each memory, if it is live and of the past, causes first."""
    now = clock.now()
    heads: dict[str, MemoryRow] = {}
    for number, row in enumerate(rows):
        name = row.memory_id or f"line {number}"
        if name not in heads or row.rev > heads[name].rev:
            heads[name] = row
    live = {
        name: row
        for name, row in heads.items()
        if row.state == "live"
        and (row.expires_at is None or row.expires_at > now)
        and (row.event_time is None or row.event_time <= now)
    }
    ordered: dict[str, MemoryRow] = {}
    for start in live:
        waiting = [start]
        entered: set[str] = set()  # a file may name causes in a circle
        while waiting:
            name = waiting[-1]
            before = [each for each in live[name].causes if each in live and each not in ordered]
            if name not in ordered and name not in entered and before:
                entered.add(name)
                waiting.extend(each for each in before if each not in entered)
            else:
                ordered.setdefault(name, live[name])
                waiting.pop()
    return list(ordered.values())
