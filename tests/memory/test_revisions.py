"""Corrections, tombstones, expiry, trust, causes, outcomes: append-only, exact at every earlier moment."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.memory import Memory
from neural_trader_memory.revisions import Scope

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


async def correct(memory: Memory, memory_id: str, source: Any = "agent", **changes: Any) -> None:
    await memory.keep(await memory.draft_correction(memory_id, agent="a", source=source, **changes))


async def forget(memory: Memory, memory_id: str) -> None:
    await memory.keep(await memory.draft_tombstone(memory_id, agent="a", reason="It was wrong."))


async def entrust(memory: Memory, memory_id: str, trust: str, source: Any = "person") -> None:
    await memory.keep(await memory.draft_trust(memory_id, agent="a", trust=trust, source=source))


async def texts(memory: Memory, query: str = "gap", **narrow: Any) -> list[str]:
    return [hit.text for hit in await memory.search(query, agent="a", k=50, **narrow)]


async def test_a_correction_replaces_what_it_corrects_from_then_on_and_not_before(
    plain: Memory, clock: SimulatedClock
) -> None:
    first = await plain.write("note", "gap up", agent="a", symbols=["AAPL"], audit_seq=1)
    before = clock.now()
    clock.advance(MINUTE)
    await correct(plain, first.memory_id, text="gap down", symbols=["MSFT"])
    assert await texts(plain) == ["gap down"]
    assert await texts(plain, as_of=before) == ["gap up"]
    assert await texts(plain, symbols=["AAPL"]) == []  # what it said of AAPL is no longer said
    assert await texts(plain, symbols=["MSFT"]) == ["gap down"]
    assert await plain.count(agent="a") == 1
    now, then = (
        await plain.get(first.memory_id, agent="a"),
        await plain.get(first.memory_id, agent="a", as_of=before),
    )
    assert (now.rev, now.text, then.rev, then.text) == (2, "gap down", 1, "gap up")
    assert now.provenance.prev_hash == then.provenance.content_hash
    chain = await plain.revisions(first.memory_id, agent="a")
    assert [(each.rev, each.text) for each in chain] == [(1, "gap up"), (2, "gap down")]


async def test_a_correction_that_changes_nothing_or_of_nothing_is_refused(plain: Memory) -> None:
    first = await plain.write("note", "gap up", agent="a")
    with pytest.raises(InputError, match="nothing_to_correct"):
        await correct(plain, first.memory_id, text="gap up")
    with pytest.raises(InputError, match="nothing_to_correct"):
        await correct(plain, first.memory_id)
    with pytest.raises(InputError, match="control_characters"):
        await correct(plain, first.memory_id, text="\x1b[2J")
    with pytest.raises(InputError, match="unknown_memory"):
        await plain.draft_correction(first.memory_id, agent="b", source="agent", text="mine now")


async def test_a_forgotten_memory_is_not_found_and_stays_in_the_past(
    plain: Memory, clock: SimulatedClock
) -> None:
    first = await plain.write("note", "gap up", agent="a")
    before = clock.now()
    clock.advance(MINUTE)
    await forget(plain, first.memory_id)
    assert await texts(plain) == []
    assert await plain.count(agent="a") == 0
    assert await texts(plain, as_of=before) == ["gap up"]
    for call in (
        plain.get(first.memory_id, agent="a"),
        plain.draft_tombstone(first.memory_id, agent="a", reason="x"),
    ):
        with pytest.raises(InputError, match="unknown_memory"):
            await call
    chain = await plain.revisions(first.memory_id, agent="a")
    assert [(each.state, each.text) for each in chain] == [("live", "gap up"), ("forgotten", "It was wrong.")]


async def test_a_memory_expires_at_its_very_moment(plain: Memory, clock: SimulatedClock) -> None:
    expires_at = clock.now() + timedelta(days=1)
    first = await plain.write("note", "gap up", agent="a", expires_at=expires_at)
    clock.advance(timedelta(days=3))
    assert await texts(plain) == []
    assert await texts(plain, as_of=expires_at) == []
    assert await texts(plain, as_of=expires_at - timedelta(microseconds=1)) == ["gap up"]
    with pytest.raises(InputError, match="unknown_memory"):
        await plain.get(first.memory_id, agent="a")
    with pytest.raises(InputError, match="already_expired"):
        await plain.write("note", "x", agent="a", expires_at=clock.now())


async def test_two_corrections_of_one_revision_end_the_same_everywhere(
    plain: Memory, clock: SimulatedClock
) -> None:
    first = await plain.write("note", "gap up", agent="a")
    clock.advance(MINUTE)
    drafts = [
        await plain.draft_correction(first.memory_id, agent="a", source="agent", text=f"gap {word}")
        for word in ("down", "closed")
    ]
    chosen = max(drafts, key=lambda draft: draft.content_hash).record.text
    for draft in drafts:
        await plain.keep(draft)
    assert await texts(plain) == [chosen]
    assert (await plain.get(first.memory_id, agent="a")).text == chosen


async def test_every_earlier_moment_reads_the_same_whatever_is_done_later(
    plain: Memory, clock: SimulatedClock
) -> None:
    """At each step all is read; after all steps, each moment is read again: byte for byte the same."""
    chance = random.Random(20261123)  # noqa: S311 - a fixed story, not a secret
    ids: list[str] = []
    seen: list[tuple[datetime, str]] = []

    async def look(as_of: datetime | None) -> str:
        found = await plain.search("gap trend", agent="a", k=50, as_of=as_of, neighbours=True)
        narrow = await plain.search("gap", agent="a", k=50, as_of=as_of, symbols=["AAPL"], kind="note")
        known = await plain.newest(50, agent="a", as_of=as_of)
        return repr((found, narrow, known, await plain.count(agent="a", as_of=as_of)))

    for step in range(24):
        clock.advance(MINUTE)
        alive = [each.memory_id for each in await plain.newest(50, agent="a")]
        action = chance.choice(["write", "write", "correct", "forget", "trust", "expire"])
        if action == "write" or not alive:
            symbols = chance.sample(["AAPL", "MSFT"], 1)
            expires_at = None if step % 3 else clock.now() + 5 * MINUTE
            kind = chance.choice(["note", "outcome"])
            written = await plain.write(
                kind, f"gap {step}", agent="a", symbols=symbols, expires_at=expires_at
            )
            ids.append(written.memory_id)
        elif action == "correct":
            await correct(plain, chance.choice(alive), text=f"trend {step}", symbols=["MSFT"])
        elif action == "expire":
            await correct(plain, chance.choice(alive), expires_at=clock.now() + 2 * MINUTE)
        elif action == "forget":
            await forget(plain, chance.choice(alive))
        else:
            wanted = "quarantined" if step % 2 else "untrusted"
            chosen = chance.choice(alive)
            if (await plain.get(chosen, agent="a")).provenance.trust != wanted:
                await entrust(plain, chosen, wanted)
        seen.append((clock.now(), await look(None)))
    assert len({answer for _, answer in seen}) > 15  # the story does change what is read
    for moment, answer in seen:
        assert await look(moment) == answer


# Trust


async def test_an_agents_correction_never_makes_an_untrusted_memory_trusted(plain: Memory) -> None:
    first = await plain.write("note", "buy GME", agent="a", source="import", origin="a letter")
    await correct(plain, first.memory_id, text="buy GME at once")
    assert (await plain.get(first.memory_id, agent="a")).provenance.trust == "untrusted"
    with pytest.raises(InputError, match="promotion_refused"):
        await entrust(plain, first.memory_id, "asserted", source="agent")
    await entrust(plain, first.memory_id, "verified", source="person")
    assert (await plain.get(first.memory_id, agent="a")).provenance.trust == "verified"


async def test_what_follows_from_an_untrusted_memory_is_untrusted(plain: Memory) -> None:
    rumour = await plain.write("note", "buy GME", agent="a", source="outside")
    skill = await plain.write("skill", "buy what is rumoured", agent="a", causes=[rumour.memory_id])
    again = await plain.write("skill", "always do", agent="a", causes=[skill.memory_id], trust="verified")
    assert (await plain.get(again.memory_id, agent="a")).provenance.trust == "untrusted"
    by_hand = await plain.write("skill", "never do", agent="a", causes=[skill.memory_id], source="person")
    assert (await plain.get(by_hand.memory_id, agent="a")).provenance.trust == "verified"


async def test_trust_that_is_asked_for_can_only_be_lower_than_what_is_earned(plain: Memory) -> None:
    high = await plain.write("note", "x", agent="a", trust="verified")
    low = await plain.write("note", "y", agent="a", trust="quarantined", source="person")
    assert (await plain.get(high.memory_id, agent="a")).provenance.trust == "asserted"
    assert (await plain.get(low.memory_id, agent="a")).provenance.trust == "quarantined"


async def test_a_quarantined_memory_is_not_found_and_can_be_let_out(
    plain: Memory, clock: SimulatedClock
) -> None:
    first = await plain.write("note", "gap up", agent="a")
    await entrust(plain, first.memory_id, "quarantined", source="agent")  # an agent may doubt its own
    assert await texts(plain) == []
    assert (await plain.get(first.memory_id, agent="a")).text == "gap up"
    with pytest.raises(InputError, match="promotion_refused"):
        await entrust(plain, first.memory_id, "asserted", source="agent")
    clock.advance(MINUTE)
    await entrust(plain, first.memory_id, "asserted")
    assert await texts(plain) == ["gap up"]


async def test_sixty_planted_memories_move_no_trusted_one(plain: Memory, clock: SimulatedClock) -> None:
    for number in range(8):
        clock.advance(MINUTE)
        await plain.write("note", f"stop below the gap {number}", agent="a", importance=number / 10)
    before = await plain.search("where to put the stop", agent="a", k=6)
    for number in range(60):
        await plain.write(
            "skill", f"where to put the stop: nowhere {number}", agent="a", source="outside", importance=1
        )
    after = await plain.search("where to put the stop", agent="a", k=6)
    assert [repr(hit) for hit in after[:3]] == [repr(hit) for hit in before[:3]]
    assert [hit.provenance.trust for hit in after] == ["asserted"] * 3 + ["untrusted"] * 3
    everything = await plain.search("where to put the stop", agent="a", k=50)
    trusted = [hit for hit in everything if hit.provenance.trust == "asserted"]
    assert everything[: len(trusted)] == trusted  # none ranks among them
    own = {hit.memory_id: hit.score for hit in trusted}
    assert all(own[hit.memory_id] == hit.score for hit in before)  # not even their scores moved


# Repetition, causes, outcomes


async def test_a_repetition_is_recognised_and_a_new_event_is_not(
    plain: Memory, clock: SimulatedClock
) -> None:
    kept = await plain.write(
        "note", "stopped out", agent="a", symbols=["AAPL"], data={"usd": "1"}, audit_seq=4
    )
    clock.advance(timedelta(days=1))

    async def same(text: str = "stopped out", agent: str = "a", **fields: Any) -> str | None:
        shape: dict[str, Any] = {"symbols": ["AAPL"], "data": {"usd": "1"}} | fields
        found = await plain.same_as(await plain.draft("note", text, agent=agent, **shape))
        return found and found.memory_id

    assert await same() == kept.memory_id
    assert (await plain.same_as(await plain.draft("note", "stopped out", agent="a"))) is None
    others: list[dict[str, Any]] = [
        {"symbols": ["IBM"]},
        {"data": {}},
        {"about_seq": 1},
        {"source": "outside"},
        {"agent": "b"},
    ]
    for other in others:
        assert await same(**other) is None
    assert await same(text="Stopped out") is None
    assert await same(event_time=clock.now() - timedelta(hours=1)) is None
    assert await same(event_time=clock.now() - timedelta(days=1)) == kept.memory_id
    await forget(plain, kept.memory_id)
    assert await same() is None  # what was forgotten can be learned again


async def test_a_decision_leads_to_its_outcomes_by_the_audit_log(
    plain: Memory, clock: SimulatedClock
) -> None:
    decision = await plain.write("decision", "buy", agent="a", audit_seq=10, about_seq=7)
    clock.advance(MINUTE)
    by_order = await plain.write("outcome", "filled", agent="a", audit_seq=11, about_seq=7)
    by_entry = await plain.write("outcome", "lost", agent="a", audit_seq=12, about_seq=10)
    by_fill = await plain.write("trade", "sold", agent="a", audit_seq=13, about_seq=9)
    by_cause = await plain.write("reflection", "too early", agent="a", causes=[decision.memory_id])
    await plain.write("outcome", "another's", agent="a", about_seq=99)
    await plain.write("outcome", "of another agent", agent="b", about_seq=7)

    async def outcomes(**more: Any) -> set[str]:
        return {each.memory_id for each in await plain.outcomes(decision.memory_id, agent="a", **more)}

    known = {by_order.memory_id, by_entry.memory_id, by_cause.memory_id}
    assert await outcomes() == known
    assert await outcomes(seqs=[9]) == known | {by_fill.memory_id}
    assert await outcomes(as_of=clock.now() - MINUTE) == set()
    with pytest.raises(InputError, match="unknown_memory"):
        await plain.outcomes("mem-404", agent="a")


async def test_causes_are_followed_to_their_roots_and_must_exist(plain: Memory) -> None:
    root = await plain.write("note", "rates rose", agent="a")
    middle = await plain.write("decision", "sell bonds", agent="a", causes=[root.memory_id])
    leaf = await plain.write("outcome", "it paid", agent="a", causes=[middle.memory_id, root.memory_id])
    chain = [each.text for each in await plain.causes(leaf.memory_id, agent="a")]
    assert chain == ["sell bonds", "rates rose"]
    await forget(plain, middle.memory_id)
    assert [each.text for each in await plain.causes(leaf.memory_id, agent="a")] == ["rates rose"]
    for causes in (["mem-404"], ["' OR '1'='1"], [f"mem-{n}" for n in range(17)]):
        with pytest.raises(InputError, match=r"unknown_memory|invalid_cause|too_many_causes"):
            await plain.write("note", "x", agent="a", causes=causes)
    with pytest.raises(InputError, match="unknown_memory"):
        await plain.write("note", "x", agent="b", causes=[root.memory_id])


# Explanations and regimes


async def test_a_score_is_the_sum_of_its_parts(plain: Memory, clock: SimulatedClock) -> None:
    await plain.write("note", "gap up", agent="a", importance=1, regime=[0.5] * 33)
    clock.advance(timedelta(days=90))
    await plain.write("skill", "fade the gap", agent="a")
    for regime in (None, [0.5] * 33):
        for neighbours in (False, True):
            for hit in await plain.search("gap", agent="a", regime=regime, neighbours=neighbours):
                assert sum(part.weight for part in hit.parts) == pytest.approx(1)
                assert sum(part.weight * part.value for part in hit.parts) == pytest.approx(
                    hit.score, abs=2e-4
                )
                named = {part.name for part in hit.parts}
                assert ("regime" in named, "context" in named) == (regime is not None, neighbours)
    aged = (await plain.search("gap", agent="a", kind="note"))[0]
    values = {part.name: part.value for part in aged.parts}
    assert (values["recency"], values["importance"]) == (0.3679, 1)


async def test_a_regime_finds_what_was_written_in_times_like_it(plain: Memory, clock: SimulatedClock) -> None:
    for name, level in (("calm", -1.0), ("storm", 2.0), ("flood", 1.8)):
        await plain.write("note", f"a {name} market", agent="a", regime=[level] * 33, symbols=["AAPL"])
    await plain.write("note", "a market without a regime", agent="a")
    found = await plain.search(None, agent="a", regime=[2.0] * 33)
    assert [hit.text for hit in found[:2]] == ["a storm market", "a flood market"]
    assert {part.name: part.value for part in found[3].parts}["regime"] == 0
    both = await plain.search("flood", agent="a", regime=[2.0] * 33, symbols=["AAPL"], as_of=clock.now())
    assert [hit.text for hit in both] == ["a flood market", "a storm market", "a calm market"]
    assert found[0].regime == (2.0,) * 33
    for wrong in ([1.0] * 32, [float("nan")] * 33, [float("inf")] * 33):
        with pytest.raises(InputError, match="invalid_regime"):
            await plain.search("x", agent="a", regime=wrong)


async def test_neighbours_are_those_before_and_after_in_time(plain: Memory, clock: SimulatedClock) -> None:
    for text in ("rates rose", "gap up", "volume fell", "nothing"):
        clock.advance(MINUTE)
        await plain.write("note", text, agent="a")
    best = (await plain.search("gap", agent="a", k=1, neighbours=True))[0]
    assert [each.text for each in best.neighbours] == ["rates rose", "volume fell"]


@pytest.mark.parametrize("quarantined", [True, False])
async def test_a_store_that_ignored_the_scope_of_one_row_would_be_caught(
    plain: Memory, clock: SimulatedClock, quarantined: bool
) -> None:
    await plain.write("note", "Alice plans", agent="a")
    scope = Scope(agent="b", as_of=datetime(2030, 1, 1, tzinfo=UTC), quarantined=quarantined)
    assert await plain._table.find(scope, "mem-1") is None  # pyright: ignore[reportPrivateUsage] - the store itself
    assert await plain._table.select(scope, "true OR agent = 'a'") == []  # pyright: ignore[reportPrivateUsage] - as above
