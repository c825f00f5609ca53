"""A memory goes on the record before it exists: draft, audit entry, row, in this order.

The entry is durable before the row exists. A crash in between leaves an entry whose memory is missing, which
`neural-trader memory verify` finds; the other order could leave a memory that sways an agent and that is on
no record. All that can be wrong with the memory itself has been refused by the draft.
"""

from collections.abc import Sequence

from anyio import to_thread
from pydantic import JsonValue

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import format_time
from neural_trader_memory.memory import Draft, Memorized, Memory


async def keep(
    memory: Memory,
    store: Store,
    caller: Caller,
    drafts: Sequence[Draft],
    *,
    before: Sequence[AuditEntry] = (),
) -> list[Memorized]:
    """Records drafts and keeps them: their entries are one commit of the log, their rows one of the store.

    Args:
        memory: The store of memories.
        store: The log.
        caller: Who remembers.
        drafts: What.
        before: Entries of what they follow from, in the same commit.

    Raises:
        StorageError: the log or the store could not be written; without the log nothing is kept.
    """
    marks = await to_thread.run_sync(_record, store, caller, drafts, before)
    rows = [(draft, seq, leaf_hash) for draft, (seq, leaf_hash) in zip(drafts, marks, strict=True)]
    return await memory.keep_all(rows)


def namespace_of(caller: Caller) -> str:
    """Returns whose memory a caller reads and writes: the agent's, or a person's own."""
    return caller.agent or f"person:{caller.principal}"


def _record(
    store: Store, caller: Caller, drafts: Sequence[Draft], before: Sequence[AuditEntry]
) -> list[tuple[int, str]]:
    with store.unit() as unit:
        for entry in before:
            unit.append(entry)
        seqs = [unit.append(entry_of(caller, draft)) for draft in drafts]
    return [(seq, unit.receipt(seq).leaf_hash) for seq in seqs]


def entry_of(caller: Caller, draft: Draft) -> AuditEntry:
    """Returns the entry that puts a draft on record."""
    record = draft.record
    payload: dict[str, JsonValue] = {
        "memory_id": record.memory_id,
        "rev": record.rev,
        "namespace": record.agent,
        "kind": record.kind,
        "content_hash": draft.content_hash,
        "known_time": format_time(record.known_time),
        "symbols": list(record.symbols),
        "source": record.source,
        "trust": record.trust,
        "state": record.state,
        "about_seq": record.about_seq,
        "causes": list(record.causes),
        "prev_hash": record.prev_hash,
    }
    symbol = record.symbols[0] if len(record.symbols) == 1 else None
    return AuditEntry.by(caller, EntryType.MEMORY_WRITE, symbol=symbol, payload=payload)
