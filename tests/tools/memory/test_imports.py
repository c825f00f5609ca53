import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.tools.memory.calls import memory_write

from neural_trader_governance.errors import DataError, InputError, NeuralTraderError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.memory import Memory
from neural_trader_tools.memory.files import write_rows
from neural_trader_tools.memory.imports import import_memories
from neural_trader_tools.memory.verification import verify_memory

pytestmark = pytest.mark.anyio

PERSON = Caller(principal="ann", agent="")
FINE: dict[str, Any] = {"kind": "note", "text": "Gaps close."}


@pytest.fixture
def take_in(memory: Memory, store: Store, clock: SimulatedClock) -> Callable[..., Any]:
    async def run(path: Path, agent: str = "bob", origin: str = "desk of Eve") -> Any:
        return await import_memories(memory, store, PERSON, clock, path, agent=agent, origin=origin)

    return run


def lines(path: Path, *rows: object) -> Path:
    path.write_bytes(
        b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    )
    return path


@pytest.mark.parametrize("name", ["memories.jsonl", "memories.parquet"])
async def test_what_one_desk_exports_another_imports_as_a_strangers_words(
    memory: Memory, store: Store, clock: SimulatedClock, tmp_path: Path, take_in: Any, name: str
) -> None:
    caller = Caller(principal="ann", agent="alice")
    written = await memory_write(
        memory,
        store,
        caller,
        kind="decision",
        text="Buy é😀 the gap.",
        symbols=["AAPL"],
        data={"usd": "1.50", "n": [1]},
    )
    follow = await memory.write(
        "outcome", "It closed.", agent="alice", causes=[written.memory_id], regime=[0.1] * 33
    )
    event_time = clock.now()
    clock.advance(timedelta(hours=1))
    await memory.keep(
        await memory.draft_correction(
            written.memory_id, agent="alice", source="agent", text="Buy the gap, small."
        )
    )
    gone = await memory.write("note", "never mind", agent="alice", audit_seq=0)
    await memory.keep(await memory.draft_tombstone(gone.memory_id, agent="alice", reason="wrong"))
    await memory.write("note", "for a day", agent="alice", expires_at=clock.now() + timedelta(days=1))
    path = tmp_path / name
    assert write_rows(path, await memory.history(agent="alice")) == 6
    with pytest.raises(InputError, match="file_exists"):
        write_rows(path, [])
    clock.advance(timedelta(days=2))
    report = await take_in(path)
    assert (report.read, report.imported, report.known, report.skipped) == (6, 2, 0, 4)
    decision, outcome = sorted(await memory.newest(agent="bob"), key=lambda each: each.kind)
    assert (decision.text, decision.symbols, decision.data) == (
        "Buy the gap, small.",
        ("AAPL",),
        {"usd": "1.50", "n": [1]},
    )
    assert (decision.event_time, decision.known_time) == (event_time, clock.now())
    assert outcome.causes == (decision.memory_id,)
    assert outcome.regime == pytest.approx((0.1,) * 33)
    assert {decision.memory_id, outcome.memory_id}.isdisjoint({written.memory_id, follow.memory_id})
    for each in (decision, outcome):
        assert (each.provenance.source, each.provenance.trust) == ("import", "untrusted")
        assert each.provenance.origin.startswith(f"desk of Eve; {name} sha256 ")
        assert each.provenance.audit_seq is not None
    again = await take_in(path)
    assert (again.imported, again.known) == (0, 2)
    found = await verify_memory(memory, store)
    assert {(each.code, each.agent) for each in found.problems} <= {
        ("unaudited_row", "alice"),
        ("wrong_entry", "alice"),
    }


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({}, "line 2 .*kind: Field required"),
        ({"kind": "gossip", "text": "x"}, "line 2 .*gossip"),
        ({"kind": "note", "text": ""}, "line 2 .*empty"),
        ({"kind": "note", "text": "red \x1b[31malert"}, r"U\+001B"),
        ({"kind": "note", "text": "x", "symbols": ["aapl"]}, "is not a symbol"),
        ({"kind": "note", "text": "x", "data": [1]}, "line 2 .*data"),
        ({"kind": "note", "text": "x", "importance": 7}, "importance"),
        ({"kind": "note", "text": "x", "regime": [1, 2]}, "regime"),
        ({"kind": "note", "text": "x", "trusted": True}, "line 2 .*trusted"),
        ({"kind": "note", "text": "x", "event_time": "2012-01-01"}, "event_time"),
        ([1], "line 2"),
        (b"{nonsense\n", "line 2 .*JSON"),
        (b"[" * 100_000 + b"\n", "line 2 "),
        (b'{"kind": "note", "text": "' + b"x" * 300_000 + b'"}\n', "more than"),
        (b'{"kind": "note", "text": "\xff"}\n', "line 2 .*JSON"),
        (b'{"kind": "note", "text": "x", "importance": NaN}\n', "importance"),
    ],
)
async def test_one_wrong_line_refuses_the_whole_file_and_is_named(
    memory: Memory, store: Store, tmp_path: Path, take_in: Any, row: Any, code: str
) -> None:
    before = store.head().size
    with pytest.raises(DataError, match=code):
        await take_in(lines(tmp_path / "m.jsonl", FINE, row))
    assert (store.head().size, await memory.count(agent="bob")) == (before, 0)


async def test_a_text_that_was_changed_on_the_way_is_known_for_it(
    memory: Memory, tmp_path: Path, take_in: Any
) -> None:
    await memory.write("note", "Buy below 100.", agent="alice")
    write_rows(tmp_path / "m.jsonl", await memory.newest(agent="alice"))
    row = json.loads((tmp_path / "m.jsonl").read_text())
    with pytest.raises(DataError, match="altered_memory: line 1"):
        await take_in(lines(tmp_path / "n.jsonl", row | {"text": "Buy below 900."}))
    assert (await take_in(lines(tmp_path / "o.jsonl", row))).imported == 1


async def test_a_file_without_a_source_or_a_format_is_refused(tmp_path: Path, take_in: Any) -> None:
    path = lines(tmp_path / "m.jsonl", FINE, FINE)
    cases: list[tuple[Path, str, str]] = [
        (path, " ", "origin_missing"),
        (path, "x" * 201, "text_too_long"),
        (path, "\x1b", "control_characters"),
        (lines(tmp_path / "m.txt", FINE), "Eve", "unknown_format"),
        (tmp_path / "none.jsonl", "Eve", "file_unreadable"),
        (lines(tmp_path / "m.parquet", b"PAR1 no"), "Eve", "invalid_file"),
    ]
    for file, origin, code in cases:
        with pytest.raises(NeuralTraderError, match=code):
            await take_in(file, origin=origin)
    assert (await take_in(path)).known == 1  # the same line twice is one memory


async def test_a_parquet_file_of_others_needs_two_columns_only(
    memory: Memory, tmp_path: Path, take_in: Any
) -> None:
    pl.DataFrame({"kind": ["note", "skill"], "text": ["a", "b"], "data": ['{"x": 1}', None]}).write_parquet(
        tmp_path / "m.parquet"
    )
    assert (await take_in(tmp_path / "m.parquet")).imported == 2
    assert {each.text: each.data for each in await memory.newest(agent="bob")} == {"a": {"x": 1}, "b": {}}
    pl.DataFrame({"kind": ["note"], "text": ["a"], "data": ["{"]}).write_parquet(tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"line 1 .*data is not JSON"):
        await take_in(tmp_path / "n.parquet")


async def test_causes_come_before_what_follows_from_them_and_circles_end(
    memory: Memory, tmp_path: Path, take_in: Any
) -> None:
    rows = [
        FINE | {"text": name, "memory_id": name, "causes": list(causes)}
        for name, causes in (("a", "b"), ("b", "c"), ("c", ""), ("x", "y"), ("y", "x"))
    ]
    assert (await take_in(lines(tmp_path / "m.jsonl", *rows))).imported == 5
    kept = {each.text: each for each in await memory.newest(agent="bob")}
    assert kept["a"].causes == (kept["b"].memory_id,)
    assert kept["b"].causes == (kept["c"].memory_id,)
    assert sorted(len(kept[name].causes) for name in "xy") == [0, 1]
