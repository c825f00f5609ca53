"""One embedder for the whole folder, since its weights take a while to read."""

import itertools
import json
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.memory import Memory
from neural_trader_memory.ranking import split_words


@pytest.fixture(scope="session")
def minilm() -> MiniLm:
    return MiniLm()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2012, 1, 3, 21, 0, tzinfo=UTC))


@pytest.fixture
def open_memory(minilm: MiniLm, clock: SimulatedClock, tmp_path: Path) -> Callable[[], Memory]:
    return lambda: Memory.open(str(tmp_path / "memory"), minilm, clock)


@pytest.fixture
def memory(open_memory: Callable[[], Memory]) -> Memory:
    return open_memory()


@pytest.fixture(scope="session")
def notes() -> list[dict[str, str]]:
    """Thirty trading notes, each with a paraphrase and a query of its own bare words."""
    return json.loads((Path(__file__).parent / "notes.json").read_text())


class WordEmbedder:
    """A vector of hashed words: as cheap as a test of everything but meaning needs it."""

    def __init__(self, name: str = "words", dimension: int = 32) -> None:
        self.name = name
        self.dimension = dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in split_words(text):
                vectors[row, zlib.crc32(word.encode()) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def plain(clock: SimulatedClock, tmp_path: Path) -> Memory:
    """A memory whose embedder costs nothing, with ids that count from 1."""
    numbers = itertools.count(1)
    return Memory.open(str(tmp_path / "plain"), WordEmbedder(), clock, lambda: f"mem-{next(numbers)}")
