"""Memory: what an agent learned, found again by meaning, and never from the future.

A write is validated, embedded, and then appended; nothing is overwritten. A search sees one agent's rows that
were known at `as_of`, and its scores come from those rows alone, so that what is learned later cannot change
what would have been found before.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np
from anyio import to_thread
from pydantic import JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import Clock, to_utc
from neural_trader_memory import ranking, records
from neural_trader_memory.embedders.port import Embedder, Vectors
from neural_trader_memory.records import TRUST_BY_SOURCE, Kind, Record, Source, Trust
from neural_trader_memory.table import MemoryTable, Scope, StoredRecord

_R = TypeVar("_R", bound="Remembered")

BACKEND = "lancedb"
QUERY_MAX_CHARS = 1_000
HITS_MAX = 50


@dataclass(frozen=True, slots=True)
class Draft:
    """A memory that is valid and embedded but not yet kept; its hash can be put on record first."""

    record: Record
    content_hash: str
    vector: Vectors


@dataclass(frozen=True, slots=True)
class Memorized:
    """The receipt of a write."""

    memory_id: str
    known_time: datetime
    content_hash: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a memory comes from, and what found it.

    Attributes:
        audit_seq: The entry that recorded the write; None where nothing audited it.
        about_seq: The entry that the memory speaks of.
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


@dataclass(frozen=True, slots=True)
class Remembered:
    """One memory as it was written."""

    memory_id: str
    kind: Kind
    text: str
    symbols: tuple[str, ...]
    data: dict[str, JsonValue]
    event_time: datetime
    known_time: datetime
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Hit(Remembered):
    """One memory with how well it answers.

    Attributes:
        score: 0 to 1: a weighted mean of the cosine and of the share of BM25's maximum (`ranking.fuse`).
    """

    score: float


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """What holds the memory, and what embeds it; `rows` over all agents, None where it was not counted."""

    backend: str
    embedder: str
    dimension: int
    rows: int | None


def new_memory_id() -> str:
    """Returns a fresh id, such as `mem-9f86d081884c7d65`."""
    return f"mem-{secrets.token_hex(8)}"


class Memory:
    """The memory service: one store, one embedder, one clock; the namespaces of many agents.

    `agent` is given by the server, never by the agent itself: it is the fence between namespaces.
    """

    def __init__(
        self, table: MemoryTable, embedder: Embedder, clock: Clock, new_id: Callable[[], str] = new_memory_id
    ) -> None:
        self._table = table
        self._embedder = embedder
        self._clock = clock
        self._new_id = new_id

    @classmethod
    def open(
        cls, uri: str, embedder: Embedder, clock: Clock, new_id: Callable[[], str] = new_memory_id
    ) -> "Memory":
        """Returns the memory at a folder or an object store's address; the first call connects.

        Raises:
            ConfigurationError: the address is not one that can be used. An embedder other than the store's
                is refused by the first call that needs the store (`embedder_mismatch`).
        """
        return cls(MemoryTable(uri, embedder.name, embedder.dimension), embedder, clock, new_id)

    @property
    def profile(self) -> MemoryStatus:
        """Returns what is known without opening the store (which imports LanceDB: about a second)."""
        return MemoryStatus(BACKEND, self._embedder.name, self._embedder.dimension, rows=None)

    async def status(self) -> MemoryStatus:
        """Returns the profile with the number of rows; opens the store."""
        rows = await self._table.count()
        return MemoryStatus(BACKEND, self._embedder.name, self._embedder.dimension, rows)

    async def draft(
        self,
        kind: str,
        text: str,
        *,
        agent: str,
        symbols: Iterable[str] = (),
        data: Mapping[str, JsonValue] | None = None,
        event_time: datetime | None = None,
        about_seq: int | None = None,
        source: Source = "agent",
        trust: Trust | None = None,
    ) -> Draft:
        """Validates and embeds a memory without keeping it; whatever can fail but the disk fails here.

        `known_time` is the clock's. Trust is what the source earns (`TRUST_BY_SOURCE`) unless it is given.

        Raises:
            InputError: a field is outside its limits (`neural_trader_memory.records`).
            HostError: the embedder's weights are missing.
            ConfigurationError: the store belongs to another embedder.
        """
        known_time = to_utc(self._clock.now())
        record = Record(
            memory_id=self._new_id(),
            rev=1,
            agent=records.validate_agent(agent),
            kind=records.validate_kind(kind),
            text=records.validate_text(text),
            symbols=records.validate_symbols(symbols),
            data=records.validate_data(data),
            event_time=records.validate_event_time(event_time, known_time),
            known_time=known_time,
            source=source,
            trust=trust or TRUST_BY_SOURCE[source],
            about_seq=about_seq,
            prev_hash="",
        )
        await self._table.count()  # opens the store, so that a wrong embedder is refused before any record
        return Draft(record, record.content_hash, (await self._embedder.embed([record.text]))[0])

    async def keep(self, draft: Draft, *, audit_seq: int | None = None, audit_hash: str = "") -> Memorized:
        """Appends a draft; every process on this store sees it when this returns.

        Not guaranteed: that it survives a power cut in the next seconds, since LanceDB does not sync its
        files (0.40: no fsync in a trace). The audit entry does survive, and names what is missing.

        Args:
            draft: From `draft`.
            audit_seq: The audit entry that holds the draft's content hash.
            audit_hash: That entry's leaf hash, in hex.

        Raises:
            StorageError: the row could not be written; it is not there.
        """
        stored = StoredRecord(
            record=draft.record,
            content_hash=draft.content_hash,
            audit_seq=audit_seq,
            audit_hash=audit_hash,
            embedder=self._embedder.name,
            dimension=self._embedder.dimension,
        )
        await self._table.append(stored, draft.vector)
        return Memorized(draft.record.memory_id, draft.record.known_time, draft.content_hash)

    async def write(
        self,
        kind: str,
        text: str,
        *,
        agent: str,
        symbols: Iterable[str] = (),
        data: Mapping[str, JsonValue] | None = None,
        event_time: datetime | None = None,
        audit_seq: int | None = None,
        audit_hash: str = "",
        about_seq: int | None = None,
        source: Source = "agent",
        trust: Trust | None = None,
    ) -> Memorized:
        """Drafts and keeps in one go, for a caller that has its audit entry already: see both."""
        draft = await self.draft(
            kind,
            text,
            agent=agent,
            symbols=symbols,
            data=data,
            event_time=event_time,
            about_seq=about_seq,
            source=source,
            trust=trust,
        )
        return await self.keep(draft, audit_seq=audit_seq, audit_hash=audit_hash)

    async def search(
        self,
        query: str,
        *,
        agent: str,
        k: int = 5,
        kind: str | None = None,
        symbols: Iterable[str] = (),
        as_of: datetime | None = None,
    ) -> list[Hit]:
        """Returns the agent's `k` best memories that were known at `as_of`, best first.

        Among equal scores the newer comes first. `as_of` is capped by the clock. With `symbols`, a
        memory about any of them is considered. Time grows with the rows in scope: each of them is scored.

        Raises:
            InputError: the query is empty or too long, `k` is not 1 to 50, or a filter is malformed.
            IntegrityError: a memory found does not match its content hash.
        """
        records.validate_text(query, field="query", max_chars=QUERY_MAX_CHARS)
        if not 1 <= k <= HITS_MAX:
            raise InputError("invalid_k", f"k is {k}", f"ask for 1 to {HITS_MAX} memories")
        scope = Scope(
            agent=records.validate_agent(agent),
            as_of=self._cap(as_of),
            kind=records.validate_kind(kind) if kind is not None else None,
            symbols=records.validate_symbols(symbols),
        )
        found = await self._table.candidates(scope)
        if not found.texts:
            return []
        asked = (await self._embedder.embed([query]))[0]
        scores = await to_thread.run_sync(ranking.score, query, asked, found.texts, found.vectors)
        # Candidates come oldest first: of equal scores, the later position is the newer memory.
        best: list[int] = np.lexsort((np.arange(len(scores)), scores))[::-1][:k].tolist()
        stored = await self._table.fetch(scope, [found.memory_ids[at] for at in best])
        ranked = [(found.memory_ids[at], float(scores[at])) for at in best]
        return [_read(Hit, stored[name], score=score) for name, score in ranked if name in stored]

    async def get(self, memory_id: str, *, agent: str, as_of: datetime | None = None) -> Remembered:
        """Returns one of the agent's memories.

        Raises:
            InputError: the agent has no such memory, or had none at `as_of` (`unknown_memory`).
            IntegrityError: it does not match its content hash.
        """
        scope = Scope(agent=records.validate_agent(agent), as_of=self._cap(as_of))
        stored = (await self._table.fetch(scope, [memory_id])).get(memory_id)
        if stored is None:
            raise InputError(
                "unknown_memory", f"there is no memory {memory_id!r:.60}", "find its id with memory_search"
            )
        return _read(Remembered, stored)

    async def count(self, *, agent: str, as_of: datetime | None = None) -> int:
        """Returns how many memories the agent had at `as_of`."""
        return await self._table.count(Scope(agent=records.validate_agent(agent), as_of=self._cap(as_of)))

    def _cap(self, as_of: datetime | None) -> datetime:
        now = to_utc(self._clock.now())
        return now if as_of is None else min(to_utc(as_of), now)


def _read(shape: type[_R], stored: StoredRecord, **more: float) -> _R:
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
        **more,
    )
