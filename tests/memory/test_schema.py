"""A store of the first format, made by the version that wrote it, is opened and goes on."""

import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.memory import Memory

pytestmark = pytest.mark.anyio

FIRST = Path(__file__).parent / "fixtures" / "format1.tar.gz"
LATER = datetime(2012, 1, 9, tzinfo=UTC)


@pytest.fixture
def old_store(minilm: MiniLm, tmp_path: Path) -> Callable[[], Memory]:
    with tarfile.open(FIRST) as archive:
        archive.extractall(tmp_path, filter="data")
    clock = SimulatedClock(LATER)
    return lambda: Memory.open(str(tmp_path / "format1"), minilm, clock)


async def test_a_store_of_the_first_format_reads_as_it_was_and_takes_new_memories(
    old_store: Callable[[], Memory],
) -> None:
    memory = old_store()
    found = await memory.search("where was the stop", agent="alice")
    assert {hit.memory_id for hit in found} == {"mem-0000000000000001", "mem-0000000000000002"}
    decision = await memory.get("mem-0000000000000001", agent="alice")
    assert (decision.data, decision.provenance.audit_seq) == ({"price": "421.5"}, 3)
    assert (decision.importance, decision.causes, decision.state) == (None, (), "live")
    (outcome,) = await memory.outcomes(decision.memory_id, agent="alice")
    assert outcome.memory_id == "mem-0000000000000002"
    assert await memory.count(agent="bob", as_of=LATER - timedelta(days=10)) == 0
    new = await memory.write("note", "new here", agent="alice", causes=[outcome.memory_id], importance=1)
    await memory.keep(await memory.draft_tombstone(outcome.memory_id, agent="alice", reason="wrong"))
    again = old_store()  # migrated now
    assert (await again.get(new.memory_id, agent="alice")).causes == (outcome.memory_id,)
    assert {hit.memory_id for hit in await again.search("stop", agent="alice")} == {
        decision.memory_id,
        new.memory_id,
    }


async def test_several_that_open_an_old_store_at_once_all_succeed(old_store: Callable[[], Memory]) -> None:
    opened = [old_store() for _ in range(4)]
    counts: list[int] = []

    async def count(memory: Memory) -> None:
        counts.append(await memory.count(agent="alice"))

    async with anyio.create_task_group() as tasks:
        for memory in opened:
            tasks.start_soon(count, memory)
    assert counts == [2] * 4
