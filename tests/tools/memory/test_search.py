from datetime import timedelta
from typing import Any

import pytest
from tests.tools.memory.calls import memory_search, memory_write

from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory.memory import Memory

pytestmark = pytest.mark.anyio

ANSWER_LIMIT = 8_000
QUERY: dict[str, Any] = {"query": "x"}


async def test_what_was_written_is_found_by_a_paraphrase_with_its_provenance(
    memory: Memory, store: Store, caller: Caller
) -> None:
    await memory_write(memory, store, caller, kind="note", text="Banana bread needs ripe bananas.")
    written = await memory_write(
        memory,
        store,
        caller,
        kind="outcome",
        text="The protective stop was triggered after the earnings gap.",
        symbols=["TSLA"],
        data={"loss_usd": "412.50"},
    )
    found = await memory_search(memory, caller, query="stopped out when results moved the price")
    best = found.hits[0]
    assert (best.memory_id, best.kind, best.symbols) == (written.memory_id, "outcome", ["TSLA"])
    assert (best.data, best.truncated) == ({"loss_usd": "412.50"}, False)
    assert best.provenance.audit_seq == written.audit_seq
    assert best.provenance.content_hash == written.content_hash
    assert (best.provenance.embedder, best.provenance.dimension) == ("all-MiniLM-L6-v2", 384)


async def test_an_agent_finds_only_its_own(memory: Memory, store: Store, caller: Caller) -> None:
    await memory_write(memory, store, caller, kind="note", text="Alice buys AAPL.")
    for other in (Caller("ann", "bob"), Caller("ann", ""), Caller("ann", "' OR '1'='1")):
        assert (await memory_search(memory, other, query="AAPL")).hits == []


async def test_as_of_hides_what_came_later(
    memory: Memory, store: Store, caller: Caller, clock: SimulatedClock
) -> None:
    await memory_write(memory, store, caller, kind="note", text="early")
    clock.advance(timedelta(days=1))
    await memory_write(memory, store, caller, kind="note", text="late")
    found = await memory_search(memory, caller, query="early or late", as_of="2012-01-04")
    assert [hit.text for hit in found.hits] == ["early"]


@pytest.mark.parametrize("text", ["x" * 4000, "é😀" * 2000, "x" + "\n" * 3999])
@pytest.mark.parametrize("k", [1, 5, 10])
async def test_an_answer_stays_small_and_says_what_it_cut(
    memory: Memory, store: Store, caller: Caller, text: str, k: int
) -> None:
    data: Any = {"rows": "y" * 15_000}
    for number in range(k):
        data["number"] = number
        await memory_write(memory, store, caller, kind="note", text=text, data=data, symbols=["AAPL"] * 16)
    found = await memory_search(memory, caller, query="x", k=k)
    assert len(found.hits) == k
    assert len(found.model_dump_json()) <= ANSWER_LIMIT
    assert all(hit.truncated and hit.data is None for hit in found.hits)


async def test_the_whole_text_comes_with_k_of_one(memory: Memory, store: Store, caller: Caller) -> None:
    await memory_write(memory, store, caller, kind="note", text="word " * 800)
    (hit,) = (await memory_search(memory, caller, query="word", k=1)).hits
    assert (hit.text, hit.truncated) == ("word " * 800, False)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"query": ""}, "empty_text"),
        ({"k": 0}, "invalid_k"),
        ({"k": 11}, "invalid_k"),
        ({"kind": "notes"}, "unknown_kind: .*did you mean 'note'"),
        ({"symbols": ["aapl"]}, "invalid_symbol"),
        ({"as_of": "soon"}, "invalid_time"),
    ],
)
async def test_a_malformed_search_says_what_to_change(
    memory: Memory, caller: Caller, fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError, match=code):
        await memory_search(memory, caller, **{**QUERY, **fields})
