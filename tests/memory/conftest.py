"""One embedder for the whole folder, since its weights take a while to read."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.memory import Memory


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
