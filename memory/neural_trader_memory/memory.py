"""Memory: what an agent learned, found again by meaning, and never from the future.

A write is validated, embedded, and then appended; nothing is overwritten. A search sees one agent's rows that
were known at `as_of`, and its scores come from those rows alone, so that what is learned later cannot change
what would have been found before.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from anyio import to_thread

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_memory import limits
from neural_trader_memory.embedders.port import Embedder
from neural_trader_memory.hits import Hit, Provenance, Remembered, read
from neural_trader_memory.keeping import Draft, Keeping, Memorized, new_memory_id, unknown_memory
from neural_trader_memory.recall import Key, Question, Ranked, rank
from neural_trader_memory.revisions import quote
from neural_trader_memory.rows import StoredRecord
from neural_trader_memory.table import MemoryTable

__all__ = ["Draft", "Hit", "Memorized", "Memory", "MemoryStatus", "Provenance", "Remembered"]

BACKEND = "lancedb"
QUERY_MAX_CHARS = 1_000
HITS_MAX = 50
CHAIN_MAX = 200
"""Memories in one chain of causes: what a person can still read."""


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """What holds the memory, and what embeds it; `rows` over all agents, None where it was not counted."""

    backend: str
    embedder: str
    dimension: int
    rows: int | None


class Memory(Keeping):
    """The memory service: one store, one embedder, one clock; the namespaces of many agents.

    `agent` is given by the server, never by the agent itself: it is the fence between namespaces.
    """

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

    async def search(
        self,
        query: str | None,
        *,
        agent: str,
        k: int = 5,
        kind: str | None = None,
        symbols: Iterable[str] = (),
        as_of: datetime | None = None,
        regime: Sequence[float] | None = None,
        neighbours: bool = False,
    ) -> list[Hit]:
        """Returns the agent's `k` best memories that were known at `as_of`, best first, trusted ones before.

        By text, by a market's regime, or by both. Among equal scores the newer comes first. `as_of` is capped
        by the clock. With `symbols`, a memory about any of them is considered. Up to 5,000 rows in scope,
        each of them is scored; of more, those that may be best (`narrowing`), read from indices where the
        present is asked for, and row by row as of any other moment.

        Args:
            query: What is looked for; None asks by regime alone.
            agent: Whose memories.
            k: How many, 1 to 50.
            kind: Only this one.
            symbols: Only memories about any of these.
            as_of: Only what was known then.
            regime: A regime vector; memories written in a market like it score higher.
            neighbours: Whether those beside a good one in time count for more, and come with it.

        Raises:
            InputError: the query is empty or too long, `k` is not 1 to 50, or a filter is malformed.
            IntegrityError: a memory found does not match its content hash.
        """
        asked_regime = limits.validate_regime(regime)
        if query is not None or asked_regime is None:
            limits.validate_text(query or "", field="query", max_chars=QUERY_MAX_CHARS)
        if not 1 <= k <= HITS_MAX:
            raise InputError("invalid_k", f"k is {k}", f"ask for 1 to {HITS_MAX} memories")
        scope = self._scope(agent, as_of, kind=kind, symbols=symbols)
        asked = None if query is None else (await self._embedder.embed([query]))[0]
        question = Question(query or "", asked, asked_regime, scope.as_of, context=neighbours)
        # A named moment is never looked up in an index, not even when nothing came after it: the same
        # question must be answered in the same way when something has.
        present = as_of is None and getattr(self._clock, "kind", "wall") == "wall"
        wide = await self._table.wide(scope, present=present)
        if wide is None:
            found = await self._table.candidates(scope)
        else:
            found = await self._table.narrowed(wide, question)
        if not found.keys:
            return []
        ranked = await to_thread.run_sync(rank, question, found, k)
        beside = found.beside([each.key for each in ranked]) if neighbours else {}
        keys = list(
            dict.fromkeys(
                [*(each.key for each in ranked), *(key for keys in beside.values() for key in keys)]
            )
        )
        stored = await self._table.fetch(scope, keys)
        return [_hit(each, stored, beside.get(each.key, ())) for each in ranked if each.key in stored]

    async def get(self, memory_id: str, *, agent: str, as_of: datetime | None = None) -> Remembered:
        """Returns one of the agent's memories, as it stood at `as_of`; one in quarantine too.

        Raises:
            InputError: the agent has no such memory, or had none at `as_of` (`unknown_memory`).
            IntegrityError: it does not match its content hash.
        """
        stored = await self._table.find(self._scope(agent, as_of, quarantined=True), memory_id)
        if stored is None:
            raise unknown_memory(memory_id)
        return read(Remembered, stored)

    async def revisions(
        self, memory_id: str, *, agent: str, as_of: datetime | None = None
    ) -> list[Remembered]:
        """Returns all that a memory ever was, the oldest first; its tombstone is the last.

        Raises:
            InputError: the agent never had such a memory (`unknown_memory`).
            IntegrityError: a revision does not match its content hash.
        """
        stored = await self._table.revisions(self._scope(agent, as_of), memory_id)
        if not stored:
            raise unknown_memory(memory_id)
        return [read(Remembered, each) for each in stored]

    async def newest(
        self, limit: int | None = None, *, agent: str, as_of: datetime | None = None
    ) -> list[Remembered]:
        """Returns the agent's memories, those in quarantine too, the newest first."""
        stored = await self._table.select(self._scope(agent, as_of, quarantined=True), "true")
        return [read(Remembered, each) for each in stored[::-1][:limit]]

    async def history(self, *, agent: str, as_of: datetime | None = None) -> list[Remembered]:
        """Returns every revision of every memory that the agent had, tombstones too, for an export."""
        return [read(Remembered, each) for each in await self._table.revisions(self._scope(agent, as_of))]

    async def outcomes(
        self, memory_id: str, *, agent: str, seqs: Iterable[int] = (), as_of: datetime | None = None
    ) -> list[Remembered]:
        """Returns what became of a decision: the later memories that speak of its entry, or follow from it.

        Joined by audit number: an outcome's `about_seq` is the decision's own entry or the one that the
        decision speaks of, such as an order's.

        Args:
            memory_id: The decision.
            agent: Whose memories.
            seqs: More entries of the same order, such as its fills.
            as_of: Only what was known then.

        Raises:
            InputError: the agent has no such memory.
        """
        decision = await self.get(memory_id, agent=agent, as_of=as_of)
        own = (decision.provenance.audit_seq, decision.provenance.about_seq)
        joined = sorted({*seqs, *(seq for seq in own if seq is not None)})
        condition = f"array_has(causes, {quote(memory_id)})"
        if joined:
            condition += f" OR about_seq IN ({', '.join(str(int(seq)) for seq in joined)})"
        found = await self._table.select(self._scope(agent, as_of), condition)
        later = (each for each in found if each.record.memory_id != memory_id)
        return [read(Remembered, each) for each in later if each.record.known_time >= decision.known_time]

    async def causes(self, memory_id: str, *, agent: str, as_of: datetime | None = None) -> list[Remembered]:
        """Returns what a memory follows from, and what that follows from, nearest first; at most `CHAIN_MAX`.

        A cause that was forgotten since is left out, and so is what only it leads to.

        Raises:
            InputError: the agent has no such memory.
        """
        first = await self.get(memory_id, agent=agent, as_of=as_of)
        scope = self._scope(agent, as_of, quarantined=True)
        seen, chain, waiting = {memory_id}, list[Remembered](), list(first.causes)
        while waiting and len(chain) < CHAIN_MAX:
            name = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            if (stored := await self._table.find(scope, name)) is not None:
                chain.append(read(Remembered, stored))
                waiting.extend(stored.record.causes)
        return chain

    async def count(self, *, agent: str, as_of: datetime | None = None) -> int:
        """Returns how many memories the agent had at `as_of`."""
        return await self._table.count(self._scope(agent, as_of))

    def read_all(self) -> AsyncIterator[StoredRecord]:
        """Yields every row of every agent, unchecked: for upkeep by a person, never for an agent."""
        return self._table.read_all()


def _hit(ranked: Ranked, stored: Mapping[Key, StoredRecord], beside: Sequence[Key]) -> Hit:
    near = tuple(read(Remembered, stored[key]) for key in beside if key in stored)
    return read(Hit, stored[ranked.key], score=ranked.score, parts=ranked.parts, neighbours=near)
