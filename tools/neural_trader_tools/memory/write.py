"""The tool `memory_write`: an agent keeps what it learned, on the record."""

from datetime import datetime
from typing import Annotated, Final

from anyio import to_thread
from pydantic import BaseModel, Field, JsonValue

from neural_trader_governance import taints
from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import UtcTime, parse_time
from neural_trader_memory.memory import Memory
from neural_trader_memory.records import Source
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.memory.recording import keep, namespace_of
from neural_trader_tools.memory.regimes import regime_when_written

IN_A_REGIME: Final = frozenset(("decision", "outcome", "reflection", "order", "trade"))
"""Kinds that are about a market at a moment. The first regime of a process costs a second or two."""


class MemoryWritten(BaseModel):
    """The receipt of a memory."""

    memory_id: str
    known_time: UtcTime = Field(description="When the desk came to know it, by the server's clock")
    content_hash: str = Field(description="SHA-256 of every field; the audit entry holds it too")
    audit_seq: int = Field(description="The audit entry of this write")
    embedder: str
    dimension: int


async def memory_write(
    memory: Memory,
    archive: Archive,
    clock: ReplayClock,
    store: Store,
    caller: Caller,
    *,
    kind: Annotated[
        str, Field(description="note, decision, outcome, reflection, skill, backtest, order or trade")
    ],
    text: Annotated[str, Field(description="What to remember, 1 to 4000 characters, in plain words")],
    symbols: Annotated[list[str] | None, Field(description="What it is about, such as AAPL")] = None,
    data: Annotated[dict[str, JsonValue] | None, Field(description="Facts as JSON, up to 16 kB")] = None,
    event_time: Annotated[str | None, Field(description="When it happened, RFC 3339; default now")] = None,
    audit_seq: Annotated[
        int | None, Field(description="Audit entry it speaks of, such as an order's")
    ] = None,
) -> MemoryWritten:
    """Remembers a decision, an outcome or a lesson, so that memory_search finds it by meaning later.

    Memories are private to the calling agent, are never overwritten, and each write is audited.
    """
    if audit_seq is not None:
        await to_thread.run_sync(_check_entry, store, audit_seq)
    source = await to_thread.run_sync(_source_of, store, caller)
    moment = _parse(event_time)
    regime = await regime_when_written(archive, clock, symbols or [], moment) if kind in IN_A_REGIME else None
    draft = await memory.draft(
        kind,
        text,
        agent=namespace_of(caller),
        symbols=symbols or (),
        data=data,
        event_time=moment,
        about_seq=audit_seq,
        source=source,
        regime=regime,
    )
    # The same words again are no second memory: its receipt is the first one's.
    kept = await memory.same_as(draft)
    if kept is None or kept.audit_seq is None:
        (kept,) = await keep(memory, store, caller, [draft])
    assert kept.audit_seq is not None  # noqa: S101 - `keep` has just put it on record
    return MemoryWritten(
        memory_id=kept.memory_id,
        known_time=kept.known_time,
        content_hash=kept.content_hash,
        audit_seq=kept.audit_seq,
        embedder=memory.profile.embedder,
        dimension=memory.profile.dimension,
    )


def _source_of(store: Store, caller: Caller) -> Source:
    """Returns who speaks: an agent that has read text from outside may be repeating it.

    Without this, such text would be clean again once it had passed through the agent's memory.
    """
    if caller.is_person:
        return "person"
    with store.read() as connection:
        note = taints.standing(connection, principal=caller.principal, agent=caller.agent)
    return "outside" if note else "agent"


def _parse(event_time: str | None) -> datetime | None:
    return None if event_time is None else parse_time(event_time)


def _check_entry(store: Store, seq: int) -> None:
    size = store.head().size
    if not 0 <= seq < size:
        raise InputError(
            "unknown_entry",
            f"the audit log has no entry {seq} (it holds {size})",
            "take a seq from audit_search or from a receipt",
        )
