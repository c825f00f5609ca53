"""Searches of more rows than can each be scored: what narrows them, and what must not."""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.memory.conftest import WordEmbedder

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory import indices, narrowing
from neural_trader_memory.memory import Draft, Hit, Memory
from neural_trader_memory.records import Record, Trust

pytestmark = pytest.mark.anyio

WORDS = "gap stop trend volume earnings spread halt squeeze dividend split margin carry".split()  # noqa: SIM905
QUERIES = ("gap after earnings", "halt", "squeeze margin volume", "the carry of a split")
REGIME = tuple(np.linspace(-1, 1, 33).tolist())


class Live(SimulatedClock):
    """A clock whose present is the present: nothing is known later than it."""

    kind = "wall"


class Replay(SimulatedClock):
    kind = "replay"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred rows are many here, and sixty of a kind stay of them."""
    monkeypatch.setattr(narrowing, "WIDE", 200)
    monkeypatch.setattr(narrowing, "KEPT", 60)
    monkeypatch.setattr(narrowing, "SAMPLE", 100)
    monkeypatch.setattr(indices, "ROWS_MIN", 300)


@pytest.fixture
def replayed(clock: SimulatedClock, tmp_path: Path) -> Memory:
    return Memory.open(str(tmp_path / "many"), WordEmbedder(), Replay(clock.now()))


@pytest.fixture
def live(clock: SimulatedClock, tmp_path: Path) -> Memory:
    return Memory.open(str(tmp_path / "many"), WordEmbedder(), Live(clock.now()))


async def fill(
    memory: Memory, texts: Sequence[str], *, first: int, seed: int, trust: Trust = "asserted"
) -> None:
    """Adds a memory a minute, the first at minute `first` of a year ago, all in one commit."""
    start = memory._now() - timedelta(days=365)  # pyright: ignore[reportPrivateUsage] - the clock it was given
    chance = np.random.default_rng(seed)
    vectors = await memory.embedder.embed(texts)
    drafts: list[tuple[Draft, None, str]] = []
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        moment = start + timedelta(minutes=first + number)
        regime = tuple(chance.normal(size=33).astype("f4").tolist()) if number % 2 else None
        kind = "note" if number % 3 else "decision"
        symbols = ("AAPL",) if number % 4 else ("MSFT",)
        record = Record(
            memory_id=f"mem-{first + number:06d}-{seed}",
            rev=1,
            agent="a",
            kind=kind,
            text=text,
            symbols=symbols,
            data="",
            event_time=moment,
            known_time=moment,
            source="agent",
            trust=trust,
            about_seq=None,
            prev_hash="",
            regime=regime,
        )
        drafts.append((Draft(record, record.content_hash, vector), None, ""))
    await memory.keep_all(drafts)


def made_up(count: int, seed: int) -> list[str]:
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(WORDS, 4)) + f" {number % 97}" for number in range(count)]


async def ask(memory: Memory, minute: int | None) -> list[list[Hit]]:
    """Asks by words, by a regime, by both, with filters and with neighbours."""
    start = memory._now() - timedelta(days=365)  # pyright: ignore[reportPrivateUsage] - the clock it was given
    as_of = None if minute is None else start + timedelta(minutes=minute)
    more: list[dict[str, Any]] = [
        {"query": QUERIES[0]},
        {"query": QUERIES[2], "regime": REGIME},
        {"query": QUERIES[3], "symbols": ["AAPL"]},
        {"query": QUERIES[1], "kind": "note", "k": 50},
        {"query": QUERIES[2], "k": 50},
        {"query": QUERIES[3], "neighbours": True},
        {"query": None, "regime": REGIME},
    ]
    usual: dict[str, Any] = {"k": 10, "agent": "a", "as_of": as_of}
    return [await memory.search(**usual | each) for each in more]


async def test_thousands_of_later_rows_and_their_indices_change_no_byte_of_an_earlier_answer(
    replayed: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "KEPT", 10)  # so that an answer is all that was kept, to the last place
    await fill(replayed, made_up(600, 1), first=0, seed=1)
    await fill(replayed, made_up(300, 2), first=600, seed=2, trust="untrusted")
    await indices.ensure(replayed._table._table)  # pyright: ignore[reportPrivateUsage] - which must not be used
    before = await ask(replayed, 900)
    assert all(before)
    assert {hit.provenance.trust for hits in before for hit in hits} == {"asserted", "untrusted"}
    # The future repeats the questions, which turns the words' rarity over and moves the index's centres.
    await fill(replayed, [*QUERIES] * 300 + made_up(800, 3), first=901, seed=3)
    await fill(replayed, [*QUERIES] * 100, first=4_000, seed=4, trust="untrusted")
    await replayed._table._table.optimize()  # pyright: ignore[reportPrivateUsage] - the future enters the indices
    after = await ask(replayed, 900)
    assert [repr(hits) for hits in after] == [repr(hits) for hits in before]
    assert [repr(hits) for hits in await ask(replayed, None)] != [repr(hits) for hits in before]


async def test_a_scope_that_was_scored_whole_stays_so_when_the_table_grows(replayed: Memory) -> None:
    await fill(replayed, made_up(190, 1), first=0, seed=1)
    before = await ask(replayed, 190)
    await fill(replayed, made_up(2_000, 2), first=191, seed=2)
    assert [repr(hits) for hits in await ask(replayed, 190)] == [repr(hits) for hits in before]


async def test_what_narrows_by_scan_loses_no_best_answer(
    replayed: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(replayed, made_up(900, 5), first=0, seed=5)
    narrowed = await ask(replayed, 900)
    monkeypatch.setattr(narrowing, "WIDE", 10_000)
    whole = await ask(replayed, 900)
    kept = [
        len({hit.memory_id for hit in some} & {hit.memory_id for hit in all_}) / len(all_)
        for some, all_ in zip(narrowed, whole, strict=True)
    ]
    assert np.mean(kept) > 0.9
    assert all(
        x[0].score == pytest.approx(y[0].score, abs=0.03) for x, y in zip(narrowed, whole, strict=True)
    )


async def test_the_present_is_looked_up_and_finds_what_no_index_holds_yet(
    live: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(live, made_up(900, 6), first=0, seed=6)
    table = live._table._table  # pyright: ignore[reportPrivateUsage] - how it lies on the disk
    await indices.ensure(table)
    assert (await indices.inspect(table)).searchable
    now = live._now()  # pyright: ignore[reportPrivateUsage] - the clock it was given
    scanned = [await live.search(query, agent="a", as_of=now) for query in QUERIES]

    async def refuse(*_: object) -> list[str]:
        raise AssertionError("the whole scope was read")

    monkeypatch.setattr(narrowing, "scan", refuse)
    looked_up = [await live.search(query, agent="a") for query in QUERIES]
    for one, other in zip(looked_up, scanned, strict=True):
        assert [hit.score for hit in one] == [hit.score for hit in other]
    new = await live.write("note", "uptick rule", agent="a")
    assert (await live.search("uptick rule", agent="a", k=1))[0].memory_id == new.memory_id
    assert (await indices.inspect(table)).searchable
    corrected = await live.draft_correction(new.memory_id, agent="a", source="agent", text="downtick rule")
    await live.keep(corrected)
    found = await live.search("uptick rule", agent="a", k=50)
    assert [hit.rev for hit in found if hit.memory_id == new.memory_id] == [2]


@pytest.mark.parametrize("looked_up", [False, True])
async def test_a_crowd_of_planted_rows_pushes_no_trusted_one_out(live: Memory, *, looked_up: bool) -> None:
    await fill(live, made_up(600, 7), first=0, seed=7)
    as_of = None if looked_up else live._now()  # pyright: ignore[reportPrivateUsage] - the clock it was given
    await indices.ensure(live._table._table)  # pyright: ignore[reportPrivateUsage] - so that there is one
    before = [await live.search(query, agent="a", as_of=as_of, k=6) for query in QUERIES]
    await fill(live, [*QUERIES] * 150, first=700, seed=8, trust="untrusted")
    after = [await live.search(query, agent="a", as_of=as_of, k=12) for query in QUERIES]
    for one, other in zip(before, after, strict=True):
        assert [repr(hit) for hit in other if hit.provenance.trust == "asserted"] == [
            repr(hit) for hit in one
        ]
        assert sum(hit.provenance.trust == "untrusted" for hit in other) == 6


async def test_indices_come_with_size_and_are_trained_anew_with_growth(live: Memory) -> None:
    async def made() -> set[str]:
        return {each.name for each in await live._table._table.list_indices()}  # pyright: ignore[reportPrivateUsage] - how it lies on the disk

    await fill(live, made_up(299, 9), first=0, seed=9)
    assert await made() == set()
    await fill(live, made_up(1, 10), first=300, seed=10)
    first = await made()
    assert {"agent_idx", "symbols_idx", "text_idx", "vector_parts_at_300"} <= first
    await fill(live, made_up(299, 11), first=400, seed=11)
    assert await made() == first
    await fill(live, made_up(2, 12), first=1_400, seed=12)
    assert await made() == {*first, "vector_parts_at_601"} - {"vector_parts_at_300"}
    assert await live.count(agent="a") == 601


async def test_parts_stay_small_when_rows_enter_the_index(
    live: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a query among a million looks at all of them, see `indices.ROWS_A_PART`."""
    monkeypatch.setattr(indices, "ROWS_A_PART", 16)
    await fill(live, made_up(900, 13), first=0, seed=13)
    table = live._table._table  # pyright: ignore[reportPrivateUsage] - how it lies on the disk

    async def parts() -> float:
        query = table.query().nearest_to(await live.embedder.embed(["halt"])).distance_type(indices.DISTANCE)
        plan = await query.nprobes(4).limit(3).analyze_plan()
        return float(re.findall(r"partitions_ranked=([0-9.]+)", plan)[0])

    await indices.ensure(table)
    assert await parts() > 20
    for step in range(3):
        await fill(live, made_up(40, 14 + step), first=1_000 + 100 * step, seed=14 + step)
        await table.optimize()
    assert await parts() > 20
