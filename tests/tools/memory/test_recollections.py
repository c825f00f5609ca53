from datetime import timedelta
from typing import Any

import pytest
from tests.tools.memory.calls import memory_search, memory_write

from neural_trader_governance import recalls
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.untrusted.readings import collecting
from neural_trader_memory.memory import Memory
from neural_trader_tools.memory import verification
from neural_trader_tools.memory.verification import verify_memory

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "WAITS_S", (0.0,))


async def shown(memory: Memory, store: Store, caller: Caller, query: str) -> list[str]:
    """Searches as an agent does, and returns what its orders will call what it was shown."""
    with collecting():
        found = await memory_search(memory, caller, store, query=query)
    return [f"{hit.memory_id}@1:{hit.provenance.content_hash[:16]}" for hit in found.hits]


def order(store: Store, caller: Caller, clock: SimulatedClock, **changes: Any) -> dict[str, Any]:
    """Puts an order on record as the desk does; what it lists can be forged."""
    with store.unit() as unit:
        listed: Any = recalls.listed(unit.connection, caller, clock.now())
        listed = {"recalled": {**listed["recalled"], **changes}} if listed and changes else listed or changes
        unit.append(AuditEntry.by(caller, EntryType.ORDER_INTENT, payload=listed))
    return listed


async def codes(memory: Memory, store: Store) -> list[str]:
    return sorted(each.code for each in (await verify_memory(memory, store)).problems)


async def test_an_order_lists_what_its_agent_recalled_and_nobody_elses(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock
) -> None:
    assert order(store, caller, clock) == {}
    await memory_write(memory, store, caller, kind="note", text="Gaps close.")
    await memory_write(memory, store, Caller("ann", "bob"), kind="note", text="They do not.")
    first = await shown(memory, store, caller, "do gaps close?")
    clock.advance(timedelta(minutes=1))
    again = await shown(memory, store, caller, "gaps")
    await shown(memory, store, Caller("ann", "bob"), "gaps")
    await memory_search(memory, caller, query="a person looks at the command line")
    told = order(store, caller, clock)["recalled"]
    assert first == again == told["memories"]
    assert told["queries"] == [recalls.digest_query(each)[:16] for each in ("do gaps close?", "gaps")]
    assert told["times"] == ["2012-01-03T21:00:00Z", "2012-01-03T21:01:00Z"]
    assert told["store_versions"] == [await memory.version()] * 2
    with store.read() as connection:
        entries = [read_entry(connection, seq) for seq in told["seqs"]]
    assert {(entry.type, entry.agent) for entry in entries} == {(EntryType.MEMORY_RECALL, "alice")}
    assert all("gaps" not in entry.model_dump_json() for entry in entries), "the words are not in the log"
    assert await codes(memory, store) == []


async def test_an_order_lists_the_newest_recalls_of_a_day_and_stays_small(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock
) -> None:
    for number in range(12):
        await memory_write(memory, store, caller, kind="note", text=f"Note {number}.")
    await shown(memory, store, caller, "yesterday's question")
    clock.advance(recalls.WINDOW + timedelta(seconds=1))
    assert order(store, caller, clock) == {}
    for number in range(recalls.LISTED_MAX + 3):
        await shown(memory, store, caller, f"note {number}")
    told = order(store, caller, clock)
    assert len(told["recalled"]["seqs"]) == recalls.LISTED_MAX
    assert len(told["recalled"]["memories"]) == len(set(told["recalled"]["memories"])) <= 12
    assert len(str(told)) < 4_000
    assert await codes(memory, store) == []


@pytest.mark.parametrize(
    ("forged", "found"),
    [
        ({"seqs": [], "memories": [], "queries": []}, ["recall_unlisted"]),
        ({"seqs": [1, 999]}, ["recall_unmade"]),
        ({"seqs": [1, 0]}, ["recall_unmade"]),
        ({"memories": ["mem-0000000000000000@1:0000000000000000"]}, ["recall_unmade"]),
        ({"queries": ["0" * 16]}, ["recall_unmade"]),
        ({"store_versions": [7_000]}, ["recall_unmade"]),
        ({"since": "2012-01-03T23:59:00Z"}, []),  # the entry's own time bounds it
    ],
)
async def test_an_order_that_lists_other_recalls_than_were_made_is_found(
    memory: Memory,
    store: Store,
    caller: Caller,
    clock: SimulatedClock,
    forged: dict[str, Any],
    found: list[str],
) -> None:
    await memory_write(memory, store, caller, kind="note", text="Gaps close.")
    await shown(memory, store, caller, "gaps")
    order(store, caller, clock, **forged)
    assert await codes(memory, store) == found


async def test_recalls_that_an_order_hides_are_found(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock
) -> None:
    await memory_write(memory, store, caller, kind="note", text="Gaps close.")
    await shown(memory, store, caller, "gaps")
    with store.unit() as unit:
        unit.connection.execute("DELETE FROM memory_recalls")
    order(store, caller, clock)
    assert await codes(memory, store) == ["recall_unlisted"]


async def test_a_recalled_memory_that_the_store_does_not_hold_is_found(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock
) -> None:
    await memory_write(memory, store, caller, kind="note", text="Gaps close.")
    (name,) = await shown(memory, store, caller, "gaps")
    order(store, caller, clock)
    rows: Any = memory._table._table  # pyright: ignore[reportPrivateUsage] - the attacker's hand on the file
    await rows.delete(f"memory_id = '{name.partition('@')[0]}'")
    assert await codes(memory, store) == ["missing_row", "recall_unknown"]
