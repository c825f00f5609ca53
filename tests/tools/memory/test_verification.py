from typing import Any

import pytest
from tests.tools.memory.calls import memory_write

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_memory.memory import Memory
from neural_trader_tools.memory import verification
from neural_trader_tools.memory.recording import keep
from neural_trader_tools.memory.verification import verify_memory

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "WAITS_S", (0.0,))


async def fill(memory: Memory, store: Store, caller: Caller) -> str:
    """Two memories, one of them corrected and then forgotten; returns the other."""
    kept = await memory_write(memory, store, caller, kind="note", text="Gaps close.")
    other = await memory_write(memory, store, Caller("ann", "bob"), kind="note", text="They do not.")
    correction = await memory.draft_correction(other.memory_id, agent="bob", source="agent", text="Some do.")
    await keep(memory, store, caller, [correction])
    await keep(
        memory, store, caller, [await memory.draft_tombstone(other.memory_id, agent="bob", reason="wrong")]
    )
    return kept.memory_id


async def codes(memory: Memory, store: Store) -> list[str]:
    found = await verify_memory(memory, store)
    assert found.ok == (not found.problems)
    return sorted(each.code for each in found.problems)


async def test_a_store_and_its_log_agree_through_every_revision(
    memory: Memory, store: Store, caller: Caller
) -> None:
    await fill(memory, store, caller)
    found = await verify_memory(memory, store)
    assert (found.ok, found.rows, found.entries, found.problem_count) == (True, 4, 4, 0)


async def test_whatever_is_done_to_the_folder_is_found(memory: Memory, store: Store, caller: Caller) -> None:
    name = await fill(memory, store, caller)
    rows: Any = memory._table._table  # pyright: ignore[reportPrivateUsage] - the attacker's hand on the file
    where = f"memory_id = '{name}'"
    row = (await rows.query().where(where).to_arrow()).to_pylist()[0]

    async def tamper(**changes: Any) -> list[str]:
        await rows.update(changes, where=where)
        found = await codes(memory, store)
        await rows.update({column: row[column] for column in changes}, where=where)
        assert await codes(memory, store) == []
        return found

    assert await tamper(text="Gaps never close.") == ["altered_row"]
    assert await tamper(agent="bob") == ["altered_row", "missing_row", "wrong_entry"]
    assert await tamper(content_hash="00") == ["altered_row", "missing_row", "wrong_entry"]
    assert await tamper(audit_hash="00") == ["wrong_leaf"]
    assert await tamper(audit_seq=10**6) == ["missing_row", "wrong_entry"]
    assert await tamper(embedder="another") == ["foreign_vector"]
    await rows.add(await rows.query().where(where).to_arrow())
    assert await codes(memory, store) == ["double_row"]
    await rows.delete(where)
    assert await codes(memory, store) == ["missing_row"]


async def test_a_missing_revision_breaks_the_chain(memory: Memory, store: Store, caller: Caller) -> None:
    await fill(memory, store, caller)
    await memory._table._table.delete("rev = 2")  # pyright: ignore[reportPrivateUsage] - as above
    assert await codes(memory, store) == ["broken_chain", "missing_row"]


async def test_a_row_that_nothing_audited_and_one_with_another_entry_are_found(
    memory: Memory, store: Store, caller: Caller
) -> None:
    await memory.write("note", "by the back door", agent="alice")
    with store.unit() as unit:
        seq = unit.append(AuditEntry.by(caller, EntryType.TOOLS_MANIFEST))
    await memory.write("note", "with a borrowed entry", agent="alice", audit_seq=seq)
    assert await codes(memory, store) == ["unaudited_row", "wrong_entry"]


async def test_an_entry_whose_memory_a_crash_took_is_found(
    memory: Memory, store: Store, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "keep_all", crash)
        with pytest.raises(KeyboardInterrupt):
            await memory_write(memory, store, caller, kind="note", text="lost")
    assert await codes(memory, store) == ["missing_row"]
    await memory_write(memory, store, caller, kind="note", text="lost")  # said again, it is kept
    assert await codes(memory, store) == ["missing_row"]
