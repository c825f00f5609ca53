"""Several processes on one store, and one that dies in the middle of a write."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.memory import Memory

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

Writer = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def start_writer(tmp_path: Path) -> Writer:
    def start(name: str, count: int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "memory"), name, str(count)],
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
    lines = writer.communicate(timeout=60)[0].splitlines()
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
