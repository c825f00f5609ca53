"""What remembering costs: one embedding, one write, one search among a thousand memories.

The peers do less, and are named for what they do: a numpy dot over vectors held in memory has no disk, no
namespace, no time and no words; a SQLite insert has no vector index to feed.
"""

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

# One thread a matrix product. On a busy machine OpenBLAS's threads wait for each other: an
# embedding took 12 to 25 times as long with two of them (on 2 cores at a load of 9).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import anyio
import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, time_ms, write_results

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.embedders import minilm as module
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.memory import Memory

ROWS = 1_000
QUERY = "stopped out when the results made the price jump"
NOTES = Path(__file__).parents[1] / "tests" / "memory" / "notes.json"


def compare_embedding(embedder: MiniLm) -> Case:
    def embed() -> object:
        return anyio.run(embedder.embed, [QUERY])

    ours = time_ms(embed, rounds=30)
    own = module.erf
    module.erf = special.erf
    try:
        peer = time_ms(embed, rounds=30)
    finally:
        module.erf = own
    return Case("embed one text", ours, peer, "the same with scipy's erf", "ms")


class Prepared:
    """Vectors that were computed in batches beforehand, so that filling the store takes seconds."""

    name = MiniLm.name
    dimension = MiniLm.dimension

    def __init__(self, texts: list[str], vectors: Vectors) -> None:
        self._by_text = dict(zip(texts, vectors, strict=True))

    async def embed(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._by_text[text] for text in texts])


def compare_store(embedder: MiniLm, folder: Path) -> list[Case]:
    notes = [note["text"] for note in json.loads(NOTES.read_text())]
    clock = SimulatedClock(datetime(2012, 1, 3, tzinfo=UTC))
    texts = [f"{notes[number % len(notes)]} ({number})" for number in range(ROWS)]
    matrix = anyio.run(embedder.embed, texts)
    filled = Memory.open(str(folder / "memory"), Prepared(texts, matrix), clock)
    memory = Memory.open(str(folder / "memory"), embedder, clock)
    database = sqlite3.connect(folder / "peer.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE memories (id TEXT PRIMARY KEY, text TEXT, vector BLOB)")

    async def fill() -> tuple[list[float], list[float]]:
        ours: list[float] = []
        peer: list[float] = []
        for text in texts:
            clock.advance(timedelta(minutes=1))
            draft = await filled.draft("note", text, agent="bench")
            started = anyio.current_time()
            await filled.keep(draft)
            ours.append((anyio.current_time() - started) * 1e3)
            started = anyio.current_time()
            row = (draft.record.memory_id, draft.record.text, draft.vector.tobytes())
            database.execute("INSERT INTO memories VALUES (?, ?, ?)", row)
            peer.append((anyio.current_time() - started) * 1e3)
        return ours, peer

    wrote, inserted = anyio.run(fill)
    database.close()

    async def measure_search() -> list[float]:
        taken: list[float] = []
        for _ in range(40):
            started = anyio.current_time()
            await memory.search(QUERY, agent="bench")
            taken.append((anyio.current_time() - started) * 1e3)
        return taken

    async def measure_dot() -> list[float]:
        taken: list[float] = []
        for _ in range(40):
            started = anyio.current_time()
            asked = (await embedder.embed([QUERY]))[0]
            np.argsort(-(matrix @ asked))[:5]
            taken.append((anyio.current_time() - started) * 1e3)
        return taken

    searched, dotted = anyio.run(measure_search), anyio.run(measure_dot)
    plain = "SQLite insert, synced"
    brute = "embedding and numpy dot in memory, no filters, no words"
    return [
        Case(
            "write one of 1,000, embedding apart, p50",
            float(np.median(wrote)),
            float(np.median(inserted)),
            plain,
            "ms",
        ),
        Case(
            "write, p99 (compaction included)",
            *np.percentile([wrote, inserted], 99, axis=1).tolist(),
            plain,
            "ms",
        ),
        Case(
            "search 1,000 rows, embedding included, p50",
            float(np.median(searched)),
            float(np.median(dotted)),
            brute,
            "ms",
        ),
    ]


def main() -> None:
    embedder = MiniLm()
    with tempfile.TemporaryDirectory() as folder:
        write_results("memory", [compare_embedding(embedder), *compare_store(embedder, Path(folder))])


if __name__ == "__main__":
    main()
