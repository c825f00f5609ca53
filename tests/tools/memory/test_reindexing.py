"""A reindex on the record: its entries, and what verify makes of one that has none or no end."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tests.memory.conftest import WordEmbedder
from tests.tools.memory.calls import memory_write

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.memory import Memory
from neural_trader_memory.reindex import reindex
from neural_trader_tools.memory.reindexing import reindex_memory
from neural_trader_tools.memory.verification import verify_memory

pytestmark = pytest.mark.anyio


async def ignore(_: float) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "words")


async def filled(uri: str, clock: SimulatedClock, store: Store, caller: Caller) -> None:
    memory = Memory.open(uri, WordEmbedder(), clock)
    for text in ("Gaps close.", "They do not."):
        await memory_write(memory, store, caller, kind="note", text=text)


async def problems(uri: str, clock: SimulatedClock, store: Store, name: str) -> list[str]:
    found = await verify_memory(Memory.open(uri, WordEmbedder(name), clock), store)
    return [each.code for each in found.problems]


def recorded(store: Store) -> list[dict[str, object]]:
    with store.read() as connection:
        entries = [read_entry(connection, seq) for seq in range(store.head().size)]
    return [dict(each.payload) for each in entries if each.type is EntryType.MEMORY_REINDEX]


async def test_a_reindex_has_two_entries_and_one_that_does_nothing_has_none(
    uri: str, clock: SimulatedClock, store: Store, caller: Caller
) -> None:
    await filled(uri, clock, store, caller)
    await reindex_memory(uri, WordEmbedder(), store, caller, ignore)
    assert recorded(store) == []
    await reindex_memory(uri, WordEmbedder("other"), store, caller, ignore)
    to = {"embedder": "other", "dimension": 32}
    assert recorded(store) == [
        {"phase": "begun", "embedder_before": "words", "dimension_before": 32, **to},
        {"phase": "done", "rows": 2, "embedded": 2, **to},
    ]
    assert await problems(uri, clock, store, "other") == []


async def test_a_reindex_past_the_record_is_found(
    uri: str, clock: SimulatedClock, store: Store, caller: Caller
) -> None:
    await filled(uri, clock, store, caller)
    await reindex_memory(uri, WordEmbedder("other"), store, caller, ignore)
    await reindex(uri, WordEmbedder("third"), ignore)
    assert await problems(uri, clock, store, "third") == ["unrecorded_reindex"]


async def test_a_killed_reindex_is_found_once_it_took_hold_and_recorded_when_it_is_run_again(
    uri: str, clock: SimulatedClock, store: Store, caller: Caller
) -> None:
    await filled(uri, clock, store, caller)

    class Stopped(WordEmbedder):
        async def embed(self, texts: Sequence[str]) -> Vectors:
            raise KeyError(len(texts))

    with pytest.raises(KeyError):
        await reindex_memory(uri, Stopped("other"), store, caller, ignore)
    assert await problems(uri, clock, store, "words") == []  # nothing was changed yet
    await reindex(uri, WordEmbedder("other"), ignore)  # as if it had been killed between commit and entry
    assert await problems(uri, clock, store, "other") == ["unfinished_reindex"]
    await reindex_memory(uri, WordEmbedder("other"), store, caller, ignore)
    assert [each["phase"] for each in recorded(store)] == ["begun", "done"]
    assert await problems(uri, clock, store, "other") == []
