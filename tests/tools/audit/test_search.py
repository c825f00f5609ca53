import sqlite3
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_tools.audit.search import audit_search, search_query

pytestmark = pytest.mark.anyio

BOT = Caller("alice", "bot")


@pytest.mark.parametrize(
    ("arguments", "seqs"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"type": "broker.fill"}, [3, 2]),
        ({"symbol": "AAPL"}, [2, 1, 0]),
        ({"agent": "other"}, [4, 3]),
        ({"since": "2013-03-01T15:03:00Z"}, [4, 3]),
        ({"since": "2013-03-01T15:02:59.999999Z", "type": "broker.fill"}, [3]),
        ({"symbol": "AAPL", "agent": "other"}, []),
        ({"limit": 2}, [4, 3]),
    ],
)
async def test_entries_are_found_newest_first(
    store: Store, arguments: dict[str, Any], seqs: list[int]
) -> None:
    result = await audit_search(store, BOT, **arguments)
    assert [entry.seq for entry in result.entries] == seqs
    assert result.more == (arguments.get("limit") == 2)


async def test_a_summary_says_who_did_what_in_one_short_line(store: Store) -> None:
    result = await audit_search(store, BOT)
    said = {entry.seq: entry.summary for entry in result.entries}
    assert said[0] == "bot: buy 100 AAPL market"
    assert said[1] == "bot: AAPL decision=deny rules=halted"
    assert said[2] == "bot: AAPL quantity=100 price=40"
    assert len(said[4]) == 120
    assert result.entries[-1].leaf_hash == store.receipt(0).leaf_hash
    assert result.entries[-1].time == "2013-03-01T15:00:00Z"


async def test_a_hundred_long_entries_stay_within_eight_kilobytes(store: Store) -> None:
    with store.unit() as unit:
        for _ in range(100):
            caller = Caller("alice", "a" * 80)
            unit.append(AuditEntry.by(caller, EntryType.RECON, payload={"reason": "é" * 500}))
    result = await audit_search(store, BOT, limit=100)
    assert len(result.model_dump_json()) <= 8_000
    assert result.more


async def test_a_damaged_entry_is_shown_as_damaged_beside_the_others(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "desk.db") as connection:
        connection.execute("UPDATE audit_entries SET entry = x'7b7d' WHERE seq = 2")
    connection.close()
    result = await audit_search(store, BOT)
    assert len(result.entries) == 5
    assert result.entries[2].type == "damaged"
    assert "DAMAGED" in result.entries[2].summary


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"type": "broker.fil"}, "did you mean broker.fill"),
        ({"type": "'; DROP TABLE audit_entries"}, "unknown_entry_type"),
        ({"limit": 0}, "invalid_limit"),
        ({"limit": 201}, "invalid_limit"),
        ({"since": "yesterday"}, "invalid_time"),
        ({"symbol": ""}, "invalid_symbol"),
        ({"symbol": "\ud800"}, "invalid_symbol"),
        ({"agent": "a" * 81}, "invalid_agent"),
    ],
)
async def test_a_malformed_search_says_what_to_change(
    store: Store, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        await audit_search(store, BOT, **arguments)


@pytest.mark.parametrize(
    "clauses",
    [
        [],
        ["time_us >= ?"],
        *(
            [*(f"{column} = ?" for column in chosen), *bounds]
            for chosen in (
                ("type",),
                ("symbol",),
                ("agent",),
                ("type", "symbol"),
                ("type", "agent"),
                ("symbol", "agent"),
                ("type", "symbol", "agent"),
            )
            for bounds in ((), ("time_us >= ?",), ("time_us >= ?", "time_us < ?"))
        ),
    ],
)
async def test_a_search_by_any_combination_reads_an_index_and_never_sorts(
    store: Store, clauses: list[str]
) -> None:
    with store.read() as connection:
        query = f"EXPLAIN QUERY PLAN {search_query(clauses)}"
        plan = connection.execute(query, [1] * (len(clauses) + 1)).fetchall()
    (step,) = (row[3] for row in plan)
    if clauses and clauses != ["time_us >= ?"]:
        assert step.startswith("SEARCH audit_entries USING INDEX audit_by_")
    assert "INDEX" in step
    if "time_us >= ?" in clauses:
        assert "time_us>?" in step, "the range is sought in the index too"


async def test_a_search_ends_where_it_is_told_to(store: Store) -> None:
    found = await audit_search(store, BOT, until="2013-03-01T15:02:00Z")
    assert [entry.seq for entry in found.entries] == [1, 0]
    found = await audit_search(store, BOT, since="2013-03-01T15:01:00Z", until="2013-03-01T15:02:00Z")
    assert [entry.seq for entry in found.entries] == [1]
