"""What the memory gives back: memories as they were written, whence they come, and why they were found."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import JsonValue

from neural_trader_memory.recall import Part
from neural_trader_memory.records import Kind, Source, State, Trust
from neural_trader_memory.rows import StoredRecord

_R = TypeVar("_R", bound="Remembered")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a memory comes from, and what found it.

    Attributes:
        audit_seq: The entry that recorded the write; None where nothing audited it.
        about_seq: The entry that the memory speaks of.
        origin: Where an imported memory comes from; "" for one of our own.
        prev_hash: Content hash of the revision before; "" for the first.
    """

    source: Source
    trust: Trust
    agent: str
    audit_seq: int | None
    audit_hash: str
    about_seq: int | None
    content_hash: str
    embedder: str
    dimension: int
    origin: str = ""
    prev_hash: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """One memory as it was written.

    Attributes:
        importance: 0 to 1; None where its kind speaks for it.
        causes: Ids of the memories that it follows from.
        regime: The market's regime vector at its writing, where there was one.
    """

    memory_id: str
    kind: Kind
    text: str
    symbols: tuple[str, ...]
    data: dict[str, JsonValue]
    event_time: datetime
    known_time: datetime
    provenance: Provenance
    rev: int
    state: State
    importance: float | None
    expires_at: datetime | None
    causes: tuple[str, ...]
    regime: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Hit(Remembered):
    """One memory with how well it answers.

    Attributes:
        score: 0 to 1: the weighted mean of its parts (`recall`).
        parts: What the score is made of.
        neighbours: The memories before and after it in time, where they were asked for.
    """

    score: float
    parts: tuple[Part, ...]
    neighbours: tuple[Remembered, ...] = ()


def read(shape: type[_R], stored: StoredRecord, **more: Any) -> _R:
    """Returns a stored record as what is given back.

    Raises:
        IntegrityError: it does not match its content hash.
    """
    record = stored.record
    record.verify(stored.content_hash)
    provenance = Provenance(
        source=record.source,
        trust=record.trust,
        agent=record.agent,
        audit_seq=stored.audit_seq,
        audit_hash=stored.audit_hash,
        about_seq=record.about_seq,
        content_hash=stored.content_hash,
        embedder=stored.embedder,
        dimension=stored.dimension,
        origin=record.origin,
        prev_hash=record.prev_hash,
    )
    return shape(
        memory_id=record.memory_id,
        kind=record.kind,
        text=record.text,
        symbols=record.symbols,
        data=json.loads(record.data) if record.data else {},
        event_time=record.event_time,
        known_time=record.known_time,
        provenance=provenance,
        rev=record.rev,
        state=record.state,
        importance=record.importance,
        expires_at=record.expires_at,
        causes=record.causes,
        regime=record.regime,
        **more,
    )
