"""Strategies are kept under the digest of their source."""

import hashlib
import sqlite3
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import InputError, IntegrityError, NeuralTraderError, StrategyError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.strategies.registry import StrategyRegistry
from neural_trader_tools.strategies.save import strategy_save

ONE = "def signals(bars):\n    return bars['close'] * 0\n"
TWO = ONE + "# changed\n"
CALLER = Caller(principal="owner", agent="agent-1")


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC))


@pytest.fixture
def registry(tmp_path: Path, clock: SimulatedClock) -> StrategyRegistry:
    return StrategyRegistry(tmp_path / "research.db", clock)


@pytest.fixture
def store(tmp_path: Path, clock: SimulatedClock) -> Generator[Store]:
    key = SigningKey.generate("desk.test/log")
    with Store.open(tmp_path / "desk.db", origin="desk.test/log", signer=key, clock=clock) as opened:
        yield opened


def test_the_id_is_the_digest_and_versions_count_sources(
    registry: StrategyRegistry, clock: SimulatedClock
) -> None:
    first = registry.save("cross", ONE, "the first")
    assert first.strategy_id == hashlib.sha256(ONE.encode()).hexdigest()
    assert (first.version, registry.save("cross", ONE).version) == (1, 1)
    clock.advance(timedelta(seconds=1))
    assert registry.save("cross", TWO).version == 2
    other = registry.save("copy", ONE)
    assert (other.strategy_id, other.version) == (first.strategy_id, 1)
    assert {(s.name, s.version) for s in registry.list()} == {("cross", 1), ("cross", 2), ("copy", 1)}


def test_a_source_is_found_by_its_id_or_a_long_enough_prefix(registry: StrategyRegistry) -> None:
    saved = registry.save("cross", ONE)
    assert registry.get(saved.strategy_id).source == ONE
    assert registry.get(saved.strategy_id[:12]).source == ONE
    for unknown in (saved.strategy_id[:11], "0" * 64, "cross", "", "' OR 1=1 --"):
        with pytest.raises(InputError, match="unknown_strategy"):
            registry.get(unknown)


def test_it_survives_another_process(registry: StrategyRegistry, tmp_path: Path) -> None:
    saved = registry.save("cross", ONE)
    assert StrategyRegistry(tmp_path / "research.db").get(saved.strategy_id) == saved


def test_a_changed_source_is_noticed(registry: StrategyRegistry, tmp_path: Path) -> None:
    saved = registry.save("cross", ONE)
    connection = sqlite3.connect(tmp_path / "research.db")
    with connection:
        connection.execute("UPDATE strategy_sources SET source = source || '#'")
    connection.close()
    with pytest.raises(IntegrityError, match="strategy_changed"):
        registry.get(saved.strategy_id)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "source", "error", "code"),
    [
        ("x", "def signals(bars:\n", StrategyError, "syntax_error: line 1"),
        ("x", "a\0b", StrategyError, "syntax_error"),
        ("x", "(" * 5000, StrategyError, "syntax_error"),
        ("x", "\ud800", InputError, "source_not_utf8"),
        ("x", "", InputError, "source_empty"),
        ("x", "#" * (128 * 1024 + 1), InputError, "source_too_large"),
        ("", ONE, InputError, "invalid_name"),
        ("../x", ONE, InputError, "invalid_name"),
        ("ünï", ONE, InputError, "invalid_name"),
        ("x" * 81, ONE, InputError, "invalid_name"),
    ],
)
async def test_what_is_no_strategy_is_refused(
    registry: StrategyRegistry,
    store: Store,
    name: str,
    source: str,
    error: type[NeuralTraderError],
    code: str,
) -> None:
    with pytest.raises(error, match=code):
        await strategy_save(registry, store, CALLER, name=name, source=source)
    assert registry.list() == []
    assert store.head().size == 0


@pytest.mark.anyio
async def test_a_saved_strategy_is_on_the_record_by_its_digest(
    registry: StrategyRegistry, store: Store
) -> None:
    saved = await strategy_save(registry, store, CALLER, name="cross", source=ONE)
    with store.read() as connection:
        entry = read_entry(connection, 0)
    assert (entry.type, entry.agent) == (EntryType.STRATEGY_SAVE, CALLER.agent)
    assert entry.payload == {"strategy_id": saved.strategy_id, "name": "cross", "version": 1}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
def test_any_text_is_saved_exactly_or_refused(registry: StrategyRegistry, comment: str) -> None:
    source = f"x = {comment!r}\n"
    try:
        saved = registry.save("any", source)
    except NeuralTraderError:
        return
    assert registry.get(saved.strategy_id).source == source
