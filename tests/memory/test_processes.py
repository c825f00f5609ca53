"""Several processes on one store, and one that dies in the middle of a write."""

import contextlib
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.memory.conftest import WordEmbedder

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.memory import Memory
from neural_trader_memory.reindex import embedder_at

pytestmark = pytest.mark.anyio

# Waits for a line, so that all writers begin at once; says each id once its write is acknowledged.
WRITER = """
import anyio, sys
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.memory import Memory

async def main(folder, name, count):
    embedder = MiniLm()
    await embedder.embed(["warm"])
    import lancedb
    memory = Memory.open(folder, embedder, WallClock())
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        kept = await memory.write("note", f"{name} wrote {number}", agent="shared")
        print(kept.memory_id, flush=True)

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""

# The same with an embedder that costs nothing, and upkeep at nearly every write: compaction, pruning, indices
# that are made and trained anew. With a model's name and nothing to write it embeds the store anew instead.
BUSY = """
import sys
from tests.memory import conftest
from neural_trader_memory import indices, narrowing, table
from neural_trader_memory import reindex as anew
import anyio
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_memory.memory import Memory

table.FRAGMENTS_MAX, indices.ROWS_MIN, narrowing.WIDE, anew.BATCH = 3, 40, 50, 2

async def told(fraction):
    print(f"told {fraction}", flush=True)
    sys.stdin.readline()

async def main(folder, name, count):
    memory = Memory.open(folder, conftest.WordEmbedder(), WallClock())
    import lancedb
    print("ready", flush=True)
    sys.stdin.readline()
    if not count:
        await anew.reindex(folder, conftest.WordEmbedder(name, 16), told)
    for number in range(count):
        kept = await memory.write("note", f"{name} wrote {number}", agent="shared")
        print(kept.memory_id, flush=True)

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""

Writer = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def start_writer(tmp_path: Path) -> Writer:
    return _starter(WRITER, tmp_path)


@pytest.fixture
def start_busy(tmp_path: Path) -> Writer:
    return _starter(BUSY, tmp_path)


def _starter(script: str, folder: Path) -> Writer:
    def start(name: str, count: int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", script, str(folder / "memory"), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def _read_line(writer: "subprocess.Popen[str]") -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def _read_ids(writer: "subprocess.Popen[str]") -> list[str]:
    # Logs come on the same stream where nobody has configured them, as in these writers.
    lines = writer.communicate(timeout=300)[0].splitlines()
    return [line for line in lines if re.fullmatch(r"mem-[0-9a-f]{16}", line)]


def _release(writer: "subprocess.Popen[str]") -> None:
    assert writer.stdin is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()


async def test_three_processes_that_create_and_fill_one_store_lose_nothing(
    start_writer: Writer, minilm: MiniLm, tmp_path: Path
) -> None:
    # Thirty writes each: the store is created by whoever is first, and every process compacts on the way.
    writers = [start_writer(name, 30) for name in ("one", "two", "three")]
    assert [_read_line(writer) for writer in writers] == ["ready"] * 3
    for writer in writers:
        _release(writer)
    acknowledged: set[str] = set()
    for writer in writers:
        acknowledged |= set(_read_ids(writer))
        assert writer.returncode == 0
    assert len(acknowledged) == 90
    memory = Memory.open(str(tmp_path / "memory"), minilm, WallClock())
    assert await memory.count(agent="shared") == 90
    for name in ("one", "two", "three"):
        best = (await memory.search(f"{name} wrote 29", agent="shared", k=1))[0]
        assert best.text == f"{name} wrote 29"
        assert best.memory_id in acknowledged
    for memory_id in acknowledged:
        assert (await memory.get(memory_id, agent="shared")).memory_id == memory_id


async def test_a_writer_killed_in_the_middle_leaves_every_acknowledged_memory(
    start_writer: Writer, minilm: MiniLm, tmp_path: Path
) -> None:
    writer = start_writer("doomed", 1_000)
    assert _read_line(writer) == "ready"
    _release(writer)
    acknowledged = [_read_line(writer) for _ in range(15)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += _read_ids(writer)
    memory = Memory.open(str(tmp_path / "memory"), minilm, WallClock())
    for memory_id in acknowledged:
        assert (await memory.get(memory_id, agent="shared")).text.startswith("doomed wrote")
    # At most the one write that was under way may be there without its acknowledgement.
    assert await memory.count(agent="shared") - len(acknowledged) in (0, 1)
    after = await memory.write("note", "life goes on", agent="shared")
    assert (await memory.search("life goes on", agent="shared", k=1))[0].memory_id == after.memory_id


async def _whole(folder: Path, name: str = "words", dimension: int = 32) -> set[str]:
    """Reads every row, each of which must match its hash and be there once; returns their ids."""
    memory = Memory.open(str(folder / "memory"), WordEmbedder(name, dimension), WallClock())
    rows = [each async for each in memory.read_all()]
    for stored in rows:
        stored.record.verify(stored.content_hash)
    assert len({stored.record.memory_id for stored in rows}) == len(rows)
    assert await memory.count(agent="shared") == len(rows)
    return {stored.record.memory_id for stored in rows}


@pytest.mark.slow
async def test_four_processes_that_compact_and_index_at_every_turn_lose_nothing(
    start_busy: Writer, tmp_path: Path
) -> None:
    writers = [start_busy(name, 25) for name in ("one", "two", "three", "four")]
    assert [_read_line(writer) for writer in writers] == ["ready"] * 4
    for writer in writers:
        _release(writer)
    acknowledged: set[str] = set()
    for writer in writers:
        acknowledged |= set(_read_ids(writer))
        assert writer.returncode == 0
    assert len(acknowledged) == 100
    assert await _whole(tmp_path) == acknowledged
    memory = Memory.open(str(tmp_path / "memory"), WordEmbedder(), WallClock())
    for name in ("one", "two", "three", "four"):
        assert (await memory.search(f"{name} wrote 24", agent="shared", k=1))[0].text == f"{name} wrote 24"


@pytest.mark.slow
async def test_eight_kills_in_the_middle_of_writes_and_upkeep_lose_nothing_and_show_nothing_half(
    start_busy: Writer, tmp_path: Path
) -> None:
    chance = random.Random(8)  # noqa: S311
    acknowledged: set[str] = set()
    for kill in range(8):
        writer = start_busy(f"doomed {kill}", 1_000)
        assert _read_line(writer) == "ready"
        _release(writer)
        for _ in range(chance.randrange(1, 15)):
            acknowledged |= {line for line in [_read_line(writer)] if line.startswith("mem-")}
        with contextlib.suppress(
            subprocess.TimeoutExpired
        ):  # at any point of the next writes or their upkeep
            writer.wait(chance.uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        acknowledged |= set(_read_ids(writer))
        found = await _whole(tmp_path)
        assert acknowledged <= found
        assert len(found - acknowledged) <= kill + 1  # the one write under way each time


@pytest.mark.slow
async def test_kills_in_the_middle_of_a_reindex_lose_nothing(start_busy: Writer, tmp_path: Path) -> None:
    filler = start_busy("filler", 60)
    _read_line(filler)
    _release(filler)
    written = set(_read_ids(filler))
    assert len(written) == 60
    for batches in (1, 3, 6, 12, 60):  # the last lets it come to its end, and is killed somewhere there
        running = start_busy("other", 0)
        assert _read_line(running) == "ready"
        assert running.stdin is not None
        running.stdin.write("go\n" * (batches + 1))  # one for the beginning, and one a batch
        running.stdin.flush()
        for _ in range(min(batches, 8)):
            _read_line(running)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        model = await embedder_at(str(tmp_path / "memory"))
        assert model is not None
        assert model == ("words", 32) or (batches == 60 and model == ("other", 16))
        assert await _whole(tmp_path, *model) == written
    last = start_busy("other", 0)
    assert _read_line(last) == "ready"
    last.communicate("go\n" * 100, timeout=300)
    assert last.returncode == 0
    assert await _whole(tmp_path, "other", 16) == written
