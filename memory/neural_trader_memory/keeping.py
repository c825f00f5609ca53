"""The writing half of the memory: a draft is validated and embedded, goes on record, and is then appended.

Corrections, tombstones and changes of trust are drafts like any other, of the memory's next revision.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import Clock, to_utc
from neural_trader_memory import limits, successors
from neural_trader_memory.embedders.port import Embedder, Vectors
from neural_trader_memory.glossary import explain
from neural_trader_memory.records import TRUST_BY_SOURCE, Record, Source, Trust, least_trust
from neural_trader_memory.revisions import Scope, quote
from neural_trader_memory.rows import StoredRecord
from neural_trader_memory.table import MemoryTable

# Not the trust: what a person has put in quarantine is not said anew by saying it again.
_SAME = ("symbols", "data", "about_seq", "source", "causes", "importance", "expires_at")


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
    audit_seq: int | None = None


def new_memory_id() -> str:
    """Returns a fresh id, such as `mem-9f86d081884c7d65`."""
    return f"mem-{secrets.token_hex(8)}"


class Keeping:
    """Drafts and keeps memories; `Memory` adds the reading.

    `agent` is given by the server, never by the agent itself: it is the fence between namespaces.
    """

    def __init__(
        self, table: MemoryTable, embedder: Embedder, clock: Clock, new_id: Callable[[], str] = new_memory_id
    ) -> None:
        self._table = table
        self._embedder = embedder
        self._clock = clock
        self._new_id = new_id

    @property
    def embedder(self) -> Embedder:
        """What embeds texts here."""
        return self._embedder

    @property
    def clock(self) -> Clock:
        """What says when a memory became known."""
        return self._clock

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
        importance: float | None = None,
        expires_at: datetime | None = None,
        causes: Iterable[str] = (),
        origin: str = "",
        regime: Sequence[float] | None = None,
        memory_id: str | None = None,
    ) -> Draft:
        """Validates and embeds a memory without keeping it; whatever can fail but the disk fails here.

        `known_time` is the clock's. Trust is what the source earns (`TRUST_BY_SOURCE`); a given one can only
        lower it, and what an agent draws from other memories is trusted as the worst of them. `memory_id` is
        for what the desk remembers by itself: an event's, so that it is remembered once.

        Raises:
            InputError: a field is outside its limits (`neural_trader_memory.limits`), a cause is no memory of
                this agent, or an import does not say where it comes from (`origin_missing`).
            HostError: the embedder's weights are missing.
            ConfigurationError: the store belongs to another embedder.
        """
        known_time = to_utc(self._clock.now())
        if source == "import" and not origin.strip():
            raise InputError(
                "origin_missing",
                "an imported memory does not say where it comes from",
                "give its origin, such as a file's name and who wrote it",
            )
        owner = limits.validate_agent(agent)
        followed = limits.validate_causes(causes)
        roots = [await self._standing(each, owner) for each in followed]
        earned = TRUST_BY_SOURCE[source]
        parts: list[Trust] = [earned, earned if trust is None else trust]
        if source not in {"person", "desk"}:
            parts.extend(each.trust for each in roots)
        record = Record(
            memory_id=memory_id or self._new_id(),
            rev=1,
            agent=owner,
            kind=limits.validate_kind(kind),
            text=limits.validate_text(text),
            symbols=limits.validate_symbols(symbols),
            data=limits.validate_data(data),
            event_time=limits.validate_event_time(event_time, known_time),
            known_time=known_time,
            source=source,
            trust=least_trust(*parts),
            about_seq=about_seq,
            prev_hash="",
            importance=limits.validate_importance(importance),
            expires_at=limits.validate_expiry(expires_at, known_time),
            causes=followed,
            origin=limits.validate_origin(origin),
            regime=limits.validate_regime(regime),
        )
        return await self._embedded(record)

    async def draft_correction(self, memory_id: str, *, agent: str, source: Source, **changes: Any) -> Draft:
        """Drafts the next revision of a memory; see `successors.correct` for what can change.

        Raises:
            InputError: the agent has no such memory, or a change is refused.
        """
        previous = await self._standing(memory_id, agent)
        return await self._embedded(successors.correct(previous, self._now(), source, **changes))

    async def draft_tombstone(self, memory_id: str, *, agent: str, reason: str) -> Draft:
        """Drafts the end of a memory: kept, it is not found from then on.

        Raises:
            InputError: the agent has no such memory.
        """
        previous = await self._standing(memory_id, agent)
        return await self._embedded(successors.forget(previous, self._now(), reason))

    async def draft_trust(self, memory_id: str, *, agent: str, trust: str, source: Source) -> Draft:
        """Drafts another trust for a memory; only a person raises it (`successors.entrust`).

        Raises:
            InputError: the agent has no such memory, or the change is refused.
        """
        previous = await self._standing(memory_id, agent)
        return await self._embedded(successors.entrust(previous, self._now(), trust, source))

    async def same_as(self, draft: Draft) -> Memorized | None:
        """Returns the memory that says what a draft says, if the agent has one already.

        The same kind, text, symbols, data, subject, source and causes; and the same event, unless the
        draft was not given one, which makes it a repetition.
        """
        new = draft.record
        scope = Scope(agent=new.agent, as_of=self._now(), quarantined=True)
        repeated = new.event_time == new.known_time
        for stored in await self._table.select(
            scope, f"kind = {quote(new.kind)} AND text = {quote(new.text)}"
        ):
            old = stored.record
            alike = all(getattr(old, name) == getattr(new, name) for name in _SAME)
            if alike and (repeated or old.event_time == new.event_time):
                return Memorized(old.memory_id, old.known_time, stored.content_hash, stored.audit_seq)
        return None

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
        return (await self.keep_all([(draft, audit_seq, audit_hash)]))[0]

    async def keep_all(self, drafts: Sequence[tuple[Draft, int | None, str]]) -> list[Memorized]:
        """Appends drafts, each with its audit entry's number and leaf hash, in one commit: all or none.

        Raises:
            StorageError: the rows could not be written; none of them is there.
        """
        rows = [
            (
                StoredRecord(
                    record=draft.record,
                    content_hash=draft.content_hash,
                    audit_seq=seq,
                    audit_hash=leaf_hash,
                    embedder=self._embedder.name,
                    dimension=self._embedder.dimension,
                ),
                draft.vector,
            )
            for draft, seq, leaf_hash in drafts
        ]
        if rows:
            await self._table.append(rows)
        return [
            Memorized(draft.record.memory_id, draft.record.known_time, draft.content_hash, seq)
            for draft, seq, _ in drafts
        ]

    async def write(
        self,
        kind: str,
        text: str,
        *,
        agent: str,
        audit_seq: int | None = None,
        audit_hash: str = "",
        **fields: Any,
    ) -> Memorized:
        """Drafts and keeps in one go, for a caller that has its audit entry already: see both."""
        draft = await self.draft(kind, text, agent=agent, **fields)
        return await self.keep(draft, audit_seq=audit_seq, audit_hash=audit_hash)

    async def version(self) -> int:
        """Returns the store's version: whatever is committed to it makes the next one."""
        return await self._table.version()

    async def kept_of(self, memory_ids: Iterable[str]) -> set[str]:
        """Returns which of these ids the store holds, of any agent and in any state: for upkeep."""
        asked = ", ".join(quote(each) for each in sorted(set(memory_ids)))
        if not asked:
            return set()
        found = self._table.read_all(f"memory_id IN ({asked})")
        return {stored.record.memory_id async for stored in found}

    async def restore(self, rows: Sequence[tuple[Record, int, str]]) -> None:
        """Appends records that are on record but not in the store, under their entries; see `keep_all`."""
        await self._table.count()  # a wrong embedder is refused first
        vectors = await self._embedder.embed([explain(record.text) for record, _, _ in rows])
        drafts = [Draft(record, record.content_hash, vectors[at]) for at, (record, _, _) in enumerate(rows)]
        await self.keep_all([(draft, seq, leaf) for draft, (_, seq, leaf) in zip(drafts, rows, strict=True)])

    async def _embedded(self, record: Record) -> Draft:
        await self._table.count()  # opens the store, so that a wrong embedder is refused before any record
        return Draft(record, record.content_hash, (await self._embedder.embed([explain(record.text)]))[0])

    async def _standing(self, memory_id: str, agent: str) -> Record:
        stored = await self._table.find(self._scope(agent, None, quarantined=True), memory_id)
        if stored is None:
            raise unknown_memory(memory_id)
        stored.record.verify(stored.content_hash)
        return stored.record

    def _scope(
        self,
        agent: str,
        as_of: datetime | None,
        *,
        kind: str | None = None,
        symbols: Iterable[str] = (),
        quarantined: bool = False,
    ) -> Scope:
        """Returns what a call may see: one agent's rows, as of the clock at most."""
        now = self._now()
        return Scope(
            agent=limits.validate_agent(agent),
            as_of=now if as_of is None else min(to_utc(as_of), now),
            kind=limits.validate_kind(kind) if kind is not None else None,
            symbols=limits.validate_symbols(symbols),
            quarantined=quarantined,
        )

    def _now(self) -> datetime:
        return to_utc(self._clock.now())


def unknown_memory(memory_id: str) -> InputError:
    """Returns the refusal of an id that the agent does not have, or not at that moment."""
    return InputError(
        "unknown_memory", f"there is no memory {memory_id!r:.60}", "find its id with memory_search"
    )
