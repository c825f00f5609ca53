"""A real memory, a real audit log, and somebody who calls."""

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
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
def memory(minilm: MiniLm, clock: SimulatedClock, tmp_path: Path) -> Memory:
    return Memory.open(str(tmp_path / "memory"), minilm, clock)


@pytest.fixture
def store(clock: SimulatedClock, tmp_path: Path) -> Generator[Store, None, None]:
    key = SigningKey.generate("desk.test/log")
    with Store.open(tmp_path / "desk.db", origin="desk.test/log", signer=key, clock=clock) as opened:
        yield opened


@pytest.fixture
def caller() -> Caller:
    return Caller(principal="ann", agent="alice")
