from datetime import timedelta
from typing import Any

import pytest
from tests.tools.memory.calls import memory_write

from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.errors import HostError, InputError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.embedders import minilm as weights
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.memory import Memory

pytestmark = pytest.mark.anyio

FINE: dict[str, Any] = {"kind": "note", "text": "fine"}


def read_entries(store: Store) -> list[LoggedEntry]:
    with store.read() as connection:
        rows = connection.execute("SELECT entry FROM audit_entries ORDER BY seq").fetchall()
    return [LoggedEntry.decode(row[0]) for row in rows]


async def test_a_write_is_on_the_audit_log_under_the_hash_that_the_row_carries(
    memory: Memory, store: Store, caller: Caller
) -> None:
    result = await memory_write(
        memory,
        store,
        caller,
        kind="decision",
        text="Buy the breakout; the stop lies under the base.",
        symbols=["AAPL"],
        data={"price": 1.5},
        event_time="2012-01-03T20:00:00Z",
    )
    entry = read_entries(store)[result.audit_seq]
    assert entry.type is EntryType.MEMORY_WRITE
    assert (entry.principal, entry.agent, entry.symbol) == ("ann", "alice", "AAPL")
    kept = await memory.get(result.memory_id, agent="alice")
    assert entry.payload["content_hash"] == result.content_hash == kept.provenance.content_hash
    assert entry.payload["memory_id"] == result.memory_id
    assert kept.provenance.audit_seq == result.audit_seq
    assert kept.provenance.audit_hash == store.receipt(result.audit_seq).leaf_hash
    assert (result.embedder, result.dimension) == ("all-MiniLM-L6-v2", 384)


async def test_the_same_words_again_are_no_second_memory_and_no_second_entry(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock
) -> None:
    first = await memory_write(memory, store, caller, **FINE)
    clock.advance(timedelta(days=1))
    size = store.head().size
    assert await memory_write(memory, store, caller, **FINE) == first
    assert store.head().size == size
    other = await memory_write(memory, store, Caller("ann", "bob"), **FINE)
    assert other.memory_id != first.memory_id


async def test_a_memory_may_speak_of_an_audit_entry_that_exists(
    memory: Memory, store: Store, caller: Caller
) -> None:
    first = await memory_write(memory, store, caller, **FINE)
    second = await memory_write(memory, store, caller, **FINE, audit_seq=first.audit_seq)
    kept = await memory.get(second.memory_id, agent="alice")
    assert kept.provenance.about_seq == first.audit_seq
    assert second.audit_seq == first.audit_seq + 1
    for missing in (-1, second.audit_seq + 1, 2**63):
        with pytest.raises(InputError, match="unknown_entry"):
            await memory_write(memory, store, caller, **FINE, audit_seq=missing)


async def test_a_person_writes_to_their_own_memory(memory: Memory, store: Store) -> None:
    person = Caller(principal="ann", agent="")
    result = await memory_write(memory, store, person, **FINE)
    kept = await memory.get(result.memory_id, agent="person:ann")
    assert (kept.provenance.source, kept.provenance.trust) == ("person", "verified")
    assert await memory.count(agent="alice") == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "thought"}, "unknown_kind"),
        ({"text": ""}, "empty_text"),
        ({"text": "\x1b[31m"}, "control_characters"),
        ({"symbols": ["Ünicode"]}, "invalid_symbol"),
        ({"data": {"x": float("inf")}}, "invalid_data"),
        ({"event_time": "yesterday"}, "invalid_time"),
        ({"event_time": "2099-01-01"}, "event_in_future"),
    ],
)
async def test_a_refused_write_leaves_neither_a_row_nor_an_entry(
    memory: Memory, store: Store, caller: Caller, fields: dict[str, Any], code: str
) -> None:
    before = store.head().size
    with pytest.raises(InputError, match=code):
        await memory_write(memory, store, caller, **{**FINE, **fields})
    assert store.head().size == before
    assert (await memory.status()).rows == 0


async def test_without_its_embedder_a_write_stops_before_the_log(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.head().size
    monkeypatch.setattr(weights, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    bare = Memory(memory._table, MiniLm(), clock)  # pyright: ignore[reportPrivateUsage] - the same store
    with pytest.raises(HostError, match="embedder_missing"):
        await memory_write(bare, store, caller, **FINE)
    assert store.head().size == before


async def test_without_its_log_nothing_is_remembered(memory: Memory, store: Store, caller: Caller) -> None:
    store.close()
    with pytest.raises(StorageError):
        await memory_write(memory, store, caller, **FINE)
    assert (await memory.status()).rows == 0
