"""Another model for a whole store: nothing lost, resumed where it stopped, never mixed."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tests.memory.conftest import WordEmbedder

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory import reindex as module
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.memory import Memory
from neural_trader_memory.reindex import reindex

pytestmark = pytest.mark.anyio


async def ignore(_: float) -> None:
    await anyio.lowlevel.checkpoint()


class StoppedError(Exception):
    pass


class Failing(WordEmbedder):
    """Stops after some texts, as a process does that is killed."""

    def __init__(self, after: int) -> None:
        super().__init__("other", 16)
        self.after = after
        self.seen = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.seen += len(texts)
        if self.seen > self.after:
            raise StoppedError
        return await super().embed(texts)


@pytest.fixture
def uri(plain: Memory) -> str:
    return plain._table.uri  # pyright: ignore[reportPrivateUsage] - the same folder


async def fill(memory: Memory, count: int) -> None:
    for number in range(count):
        causes, regime = (["mem-1"], [0.5] * 33) if number else ([], None)
        await memory.write("note", f"gap number {number}", agent="a", causes=causes, regime=regime)
    await memory.keep(await memory.draft_correction("mem-1", agent="a", source="agent", text="gap corrected"))


async def test_after_reindexing_the_other_model_finds_all_and_the_first_is_refused(
    plain: Memory, clock: SimulatedClock, uri: str
) -> None:
    await fill(plain, 5)
    before = {each.memory_id: repr(each.provenance.content_hash) for each in await plain.newest(9, agent="a")}
    other = WordEmbedder("other", 16)
    heard: list[float] = []

    async def hear(fraction: float) -> None:
        await anyio.lowlevel.checkpoint()
        heard.append(fraction)

    done = await reindex(uri, other, hear)
    assert (done.rows, done.embedded, done.embedder_before, done.embedder) == (6, 6, "words", "other")
    assert heard == sorted(heard)
    assert heard[-1] == 1
    memory = Memory.open(uri, other, clock)
    found = await memory.newest(9, agent="a")
    assert {each.memory_id: repr(each.provenance.content_hash) for each in found} == before
    assert (await memory.search("corrected", agent="a", k=1))[0].memory_id == "mem-1"
    assert found[0].provenance.embedder == "other"
    for call in (plain.search("gap", agent="a"), plain.write("note", "x", agent="a")):
        with pytest.raises(ConfigurationError, match="embedder_mismatch"):
            await call
    again = await reindex(uri, other, ignore)
    assert (again.rows, again.embedded) == (6, 0)


async def test_a_run_that_was_stopped_goes_on_where_it_was(
    plain: Memory, clock: SimulatedClock, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    await fill(plain, 6)
    with pytest.raises(StoppedError):
        await reindex(uri, Failing(after=4), ignore)
    assert len(await plain.search("gap", agent="a", k=20)) == 6  # the old model serves on
    await plain.write("note", "written in between", agent="a")
    done = await reindex(uri, WordEmbedder("other", 16), ignore)
    assert (done.rows, done.embedded) == (8, 4)
    memory = Memory.open(uri, WordEmbedder("other", 16), clock)
    assert (await memory.search("written between", agent="a", k=1))[0].text == "written in between"


async def test_a_stopped_run_for_a_third_model_is_begun_anew(plain: Memory, uri: str) -> None:
    await fill(plain, 3)
    with pytest.raises(StoppedError):
        await reindex(uri, Failing(after=0), ignore)
    done = await reindex(uri, WordEmbedder("third", 8), ignore)
    assert (done.rows, done.embedded, done.dimension) == (4, 4, 8)


async def test_what_is_written_in_the_very_moment_of_the_change_is_taken_along(
    plain: Memory, clock: SimulatedClock, uri: str
) -> None:
    await fill(plain, 3)
    other = WordEmbedder("other", 16)
    database = await module.connect(uri)
    table = await database.open_table(module.TABLE)
    # As if the commit had been made from rows that were read before the last of them was written.
    rows = await anext(module._rows(table, await module._keys(table)))  # pyright: ignore[reportPrivateUsage] - a moment that no test can hit
    made = await module._embed(rows[:-1], other)  # pyright: ignore[reportPrivateUsage] - as above
    await database.create_table(module.TABLE, data=made, schema=made.schema, mode="overwrite")
    done = await reindex(uri, other, ignore)
    assert (done.rows, done.embedded) == (4, 1)
    assert await Memory.open(uri, other, clock).count(agent="a") == 3


async def test_no_store_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no_memory"):
        await reindex(str(tmp_path / "none"), WordEmbedder(), ignore)
