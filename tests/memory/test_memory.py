from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests.tools.market.loopback.s3 import Bucket, serving

from neural_trader_governance.errors import ConfigurationError, InputError, IntegrityError, StorageError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_memory import table
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.memory import Hit, Memory
from neural_trader_memory.records import KINDS

pytestmark = pytest.mark.anyio

NAIVE = datetime(2012, 1, 1)  # noqa: DTZ001 - the mistake that is tested
INJECTIONS = [
    "' OR '1'='1",
    "x' OR agent <> '",
    "'; DROP TABLE memories; --",
    "\\' OR 1=1 --",
    "' UNION SELECT * FROM memories --",
    "alice' --",
    "alice/*",
    "''",
    "%",
    "al_ce",
    "alice\u2019",
]


WRITE: dict[str, Any] = {"kind": "note", "text": "fine", "agent": "a"}
SEARCH: dict[str, Any] = {"query": "fine", "agent": "a"}


class OtherEmbedder:
    """Another model with vectors of its own: what a store must not mix with."""

    def __init__(self, name: str, dimension: int) -> None:
        self.name = name
        self.dimension = dimension

    async def embed(self, texts: Any) -> Vectors:
        return np.eye(len(texts), self.dimension, dtype=np.float32)


async def test_a_memory_is_found_by_a_paraphrase_with_all_that_was_written(
    memory: Memory, clock: SimulatedClock
) -> None:
    await memory.write("note", "Banana bread needs ripe bananas and little sugar.", agent="alice")
    written = await memory.write(
        "outcome",
        "The protective stop was triggered after the earnings gap.",
        agent="alice",
        symbols=["TSLA", "AAPL", "TSLA"],
        data={"loss_usd": "412.50", "bars": [1, 2]},
        event_time=clock.now() - timedelta(days=1),
        audit_seq=7,
        audit_hash="ab" * 32,
        about_seq=3,
    )
    best = (await memory.search("stopped out when results made the price jump", agent="alice"))[0]
    assert best.memory_id == written.memory_id
    assert best.kind == "outcome"
    assert best.text == "The protective stop was triggered after the earnings gap."
    assert best.symbols == ("AAPL", "TSLA")
    assert best.data == {"loss_usd": "412.50", "bars": [1, 2]}
    assert best.event_time == clock.now() - timedelta(days=1)
    assert best.known_time == written.known_time == clock.now()
    assert 0 < best.score <= 1
    assert asdict(best.provenance) == {
        "source": "agent",
        "trust": "asserted",
        "agent": "alice",
        "audit_seq": 7,
        "audit_hash": "ab" * 32,
        "about_seq": 3,
        "content_hash": written.content_hash,
        "embedder": "all-MiniLM-L6-v2",
        "dimension": 384,
        "origin": "",
        "prev_hash": "",
    }
    assert (await memory.get(written.memory_id, agent="alice")).text == best.text
    status = await memory.status()
    assert (status.backend, status.embedder, status.dimension, status.rows) == (
        "lancedb",
        "all-MiniLM-L6-v2",
        384,
        2,
    )


async def test_the_profile_is_known_without_opening_the_store(memory: Memory) -> None:
    assert (memory.profile.backend, memory.profile.dimension, memory.profile.rows) == ("lancedb", 384, None)


async def test_what_the_desk_saw_is_verified_and_what_was_imported_is_not_trusted(memory: Memory) -> None:
    await memory.write("trade", "Sold 10 AAPL at 421.", agent="a", source="desk")
    await memory.write("note", "A newsletter says buy.", agent="a", source="import", origin="a letter")
    trust = {hit.kind: hit.provenance.trust for hit in await memory.search("AAPL", agent="a")}
    assert trust == {"trade": "verified", "note": "untrusted"}


async def test_a_memory_outlives_the_process_that_wrote_it(open_memory: Callable[[], Memory]) -> None:
    written = await open_memory().write("note", "Reopened stores remember.", agent="a")
    assert (await open_memory().search("remember", agent="a"))[0].memory_id == written.memory_id


async def test_search_narrows_by_kind_and_by_any_of_the_symbols(memory: Memory) -> None:
    await memory.write("note", "gap up", agent="a", symbols=["AAPL"])
    await memory.write("note", "gap down", agent="a", symbols=["MSFT", "IBM"])
    await memory.write("skill", "trade the gap", agent="a", symbols=["IBM"])

    async def texts(**narrow: Any) -> set[str]:
        return {hit.text for hit in await memory.search("gap", agent="a", **narrow)}

    assert await texts(kind="note") == {"gap up", "gap down"}
    assert await texts(symbols=["AAPL", "IBM"]) == {"gap up", "gap down", "trade the gap"}
    assert await texts(kind="note", symbols=["IBM"]) == {"gap down"}
    assert await texts(symbols=["KO"]) == set()
    assert len(await memory.search("gap", agent="a", k=2)) == 2


async def test_an_empty_memory_answers_with_nothing(memory: Memory) -> None:
    assert await memory.search("anything at all", agent="a") == []
    assert await memory.count(agent="a") == 0


# Namespaces


@pytest.mark.parametrize("name", INJECTIONS)
async def test_no_agent_name_reaches_another_agents_memories(memory: Memory, name: str) -> None:
    secret = await memory.write("note", "Alice plans to buy AAPL at the close.", agent="alice")
    assert await memory.search("AAPL plans", agent=name) == []
    assert await memory.count(agent=name) == 0
    with pytest.raises(InputError, match="unknown_memory"):
        await memory.get(secret.memory_id, agent=name)
    own = await memory.write("note", "mine", agent=name)
    assert [hit.memory_id for hit in await memory.search("plans", agent=name)] == [own.memory_id]
    assert await memory.count(agent="alice") == 1


@pytest.mark.parametrize("text", INJECTIONS)
async def test_no_filter_or_id_widens_a_search(memory: Memory, text: str) -> None:
    await memory.write("note", "Alice plans to buy AAPL.", agent="alice")
    with pytest.raises(InputError, match="unknown_memory"):
        await memory.get(text, agent="bob")
    with pytest.raises(InputError, match="unknown_kind"):
        await memory.search("AAPL", agent="bob", kind=text)
    with pytest.raises(InputError, match="invalid_symbol"):
        await memory.search("AAPL", agent="bob", symbols=[text])
    assert await memory.search(text, agent="bob") == []


@pytest.mark.parametrize("agent", ["", "  ", "a\0b", "a\nb\x1b[2J", "a" * 201])
async def test_an_agent_without_a_proper_name_has_no_memory(memory: Memory, agent: str) -> None:
    with pytest.raises(InputError):
        await memory.search("AAPL", agent=agent)


async def test_a_store_that_ignored_the_filter_would_be_caught(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory.write("note", "Alice plans to buy AAPL.", agent="alice")
    monkeypatch.setattr(table.Scope, "where", property(lambda _: "true"))
    with pytest.raises(IntegrityError, match="memory_scope_broken"):
        await memory.search("AAPL", agent="bob")


# Point in time


async def _fill(memory: Memory, clock: SimulatedClock, notes: list[dict[str, str]]) -> None:
    for note in notes:
        clock.advance(timedelta(minutes=1))
        await memory.write("note", note["text"], agent="a")


async def test_future_rows_change_nothing_of_an_earlier_search(
    memory: Memory, clock: SimulatedClock, notes: list[dict[str, str]]
) -> None:
    await _fill(memory, clock, notes[:15])
    as_of = clock.now()
    queries = [note["query"] for note in notes[:12]] + [note["words"] for note in notes[8:20]]
    before = [await memory.search(query, agent="a", k=10, as_of=as_of) for query in queries]
    # The future holds the very words of the queries, which would turn their rarity over.
    for query in queries:
        clock.advance(timedelta(seconds=1))
        await memory.write("note", query, agent="a")
    after = [await memory.search(query, agent="a", k=10, as_of=as_of) for query in queries]
    assert [repr(hits) for hits in after] == [repr(hits) for hits in before]
    now = [await memory.search(query, agent="a", k=1) for query in queries]
    assert all(hits[0].text == query for hits, query in zip(now, queries, strict=True))


async def test_a_search_ends_at_the_very_microsecond(memory: Memory, clock: SimulatedClock) -> None:
    written = await memory.write("note", "known from here on", agent="a")
    clock.advance(timedelta(days=1))
    instant = timedelta(microseconds=1)
    assert await memory.search("known", agent="a", as_of=written.known_time - instant) == []
    assert await memory.count(agent="a", as_of=written.known_time - instant) == 0
    with pytest.raises(InputError, match="unknown_memory"):
        await memory.get(written.memory_id, agent="a", as_of=written.known_time - instant)
    assert len(await memory.search("known", agent="a", as_of=written.known_time)) == 1


async def test_as_of_is_capped_by_the_clock(
    memory: Memory, minilm: MiniLm, clock: SimulatedClock, open_memory: Callable[[], Memory]
) -> None:
    past = SimulatedClock(clock.now() - timedelta(days=365))
    await memory.write("note", "written a year later", agent="a")
    replaying = Memory(table.MemoryTable(memory._table.uri, minilm.name, 384), minilm, past)  # pyright: ignore[reportPrivateUsage] - the same store under another clock
    assert await replaying.search("written", agent="a", as_of=datetime(2099, 1, 1, tzinfo=UTC)) == []
    assert await replaying.search("written", agent="a") == []


async def test_of_equal_scores_the_newer_comes_first(memory: Memory, clock: SimulatedClock) -> None:
    ids: list[str] = []
    for _ in range(4):
        clock.advance(timedelta(minutes=1))
        ids.append((await memory.write("note", "the same words", agent="a")).memory_id)
    assert [hit.memory_id for hit in await memory.search("same words", agent="a")] == ids[::-1]


# Validation


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "decison"}, "unknown_kind: .*did you mean 'decision'"),
        ({"kind": ""}, "unknown_kind"),
        ({"text": ""}, "empty_text"),
        ({"text": " \n"}, "empty_text"),
        ({"text": "x" * 4001}, "text_too_long"),
        ({"text": "red \x1b[31malert"}, r"control_characters: text holds U\+001B at position 4"),
        ({"text": "abc\u202edef"}, "control_characters"),
        ({"text": "lone \ud800"}, "control_characters"),
        ({"symbols": ["aapl"]}, "invalid_symbol"),
        ({"symbols": ["\uff21APL"]}, "invalid_symbol"),
        ({"symbols": ["AAPL\n"]}, "invalid_symbol"),
        ({"symbols": [f"S{at}" for at in range(17)]}, "too_many_symbols"),
        ({"data": {"x": float("nan")}}, "invalid_data"),
        ({"data": {"x": object()}}, "invalid_data"),
        ({"data": {"x": "y" * 16_000}}, "data_too_large"),
        ({"data": {"x": ["\x1b[2J"]}}, "control_characters"),
        ({"data": {"\x00": 1}}, "control_characters"),
        ({"data": {"x": "\ud800"}}, "invalid_data"),
        ({"event_time": datetime(2012, 1, 3, 21, 0, 1, tzinfo=UTC)}, "event_in_future"),
        ({"event_time": NAIVE}, "naive_time"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_and_nothing_is_kept(
    memory: Memory, fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError, match=code):
        await memory.write(**{**WRITE, **fields})
    assert (await memory.status()).rows == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_at_the_edges_of_its_limits_is_kept(memory: Memory, kind: str) -> None:
    text = "é😀\n\t'\"" + "x" * 3994
    data: Any = {"ключ": "'; --", "deep": [{"a": None, "b": [1.5, True]}], "pad": "p" * 15_000}
    written = await memory.write(kind, text, agent="a", data=data, symbols=["BRK.B", "BTC/USD", "^GSPC"])
    kept = await memory.get(written.memory_id, agent="a")
    assert (kept.text, kept.data, kept.symbols) == (text, data, ("BRK.B", "BTC/USD", "^GSPC"))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"query": ""}, "empty_text"),
        ({"query": "x" * 1001}, "text_too_long"),
        ({"query": "\x1b]0;title\x07"}, "control_characters"),
        ({"k": 0}, "invalid_k"),
        ({"k": 51}, "invalid_k"),
        ({"as_of": NAIVE}, "naive_time"),
    ],
)
async def test_a_malformed_search_says_what_to_change(
    memory: Memory, fields: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError, match=code):
        await memory.search(**{**SEARCH, **fields})


# The store


@pytest.mark.parametrize(("name", "dimension"), [("other-model", 384), ("all-MiniLM-L6-v2", 256)])
async def test_a_store_refuses_the_vectors_of_another_embedder(
    memory: Memory, clock: SimulatedClock, name: str, dimension: int
) -> None:
    await memory.write("note", "measured by MiniLM", agent="a")
    other = Memory.open(memory._table.uri, OtherEmbedder(name, dimension), clock)  # pyright: ignore[reportPrivateUsage] - the same folder
    for call in (
        other.write("note", "x", agent="a"),
        other.search("x", agent="a"),
        other.status(),
    ):
        with pytest.raises(ConfigurationError, match=r"embedder_mismatch: .*all-MiniLM-L6-v2 \(384"):
            await call
    assert (await memory.status()).rows == 1


async def test_a_row_that_was_changed_in_the_store_is_not_served(memory: Memory) -> None:
    written = await memory.write("note", "buy only below 100", agent="a")
    rows = memory._table._table  # pyright: ignore[reportPrivateUsage] - the attacker's hand on the file
    await rows.update({"text": "buy only below 900"}, where=f"memory_id = '{written.memory_id}'")
    with pytest.raises(IntegrityError, match="memory_altered"):
        await memory.search("buy", agent="a")


async def test_the_content_hash_covers_every_field(memory: Memory, clock: SimulatedClock) -> None:
    record = (await memory.draft("note", "hashed", agent="a", symbols=["AAPL"])).record
    changes: dict[str, Any] = {
        "memory_id": "mem-0",
        "rev": 2,
        "agent": "b",
        "kind": "skill",
        "text": "hashed ",
        "symbols": (),
        "data": "{}",
        "event_time": clock.now() - timedelta(microseconds=1),
        "known_time": clock.now() + timedelta(microseconds=1),
        "source": "desk",
        "trust": "verified",
        "about_seq": 0,
        "prev_hash": "00",
        "importance": 0.0,
        "expires_at": clock.now() + timedelta(days=1),
        "causes": ("mem-1",),
        "origin": "a letter",
        "state": "forgotten",
        "regime": (0.0,) * 33,
    }
    assert set(changes) == set(record.__slots__)
    hashes = {replace(record, **{name: value}).content_hash for name, value in changes.items()}
    assert len(hashes | {record.content_hash}) == len(changes) + 1


async def test_a_folder_that_cannot_be_written_is_reported(minilm: MiniLm, clock: SimulatedClock) -> None:
    with pytest.raises(StorageError, match="memory_unavailable"):
        await Memory.open("/proc/nowhere", minilm, clock).write("note", "x", agent="a")


async def test_a_hosted_database_is_refused(minilm: MiniLm, clock: SimulatedClock) -> None:
    with pytest.raises(ConfigurationError, match="memory_uri_unsupported"):
        Memory.open("db://somewhere", minilm, clock)


async def test_compaction_keeps_every_row_and_few_fragments(memory: Memory, clock: SimulatedClock) -> None:
    written: list[str] = []
    for number in range(45):
        clock.advance(timedelta(seconds=1))
        written.append((await memory.write("note", f"entry {number}", agent="a")).memory_id)
    stats = await memory._table._table.stats()  # pyright: ignore[reportPrivateUsage] - how it lies on the disk
    assert stats["fragment_stats"]["num_fragments"] < table.FRAGMENTS_MAX
    hits = await memory.search("entry", agent="a", k=45)
    assert {hit.memory_id for hit in hits} == set(written)


# Retrieval: a sanity check on thirty notes of our own, not a benchmark


async def test_paraphrases_and_bare_words_find_their_notes(
    memory: Memory, clock: SimulatedClock, notes: list[dict[str, str]]
) -> None:
    await _fill(memory, clock, notes)

    async def place(query: str, text: str) -> int:
        hits: list[Hit] = await memory.search(query, agent="a", k=30)
        return [hit.text for hit in hits].index(text)

    paraphrased = [await place(note["query"], note["text"]) for note in notes]
    assert sum(at < 5 for at in paraphrased) / len(notes) >= 0.7
    worded = [await place(note["words"], note["text"]) for note in notes]
    assert sum(at < 1 for at in worded) / len(notes) >= 0.95


@pytest.mark.parametrize("refused", [True, False])
async def test_an_object_store_that_refuses_or_is_not_there_says_what_to_check(
    minilm: MiniLm, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    bucket = Bucket()
    bucket.refuse = 403
    with serving(bucket) as host:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://{host if refused else '127.0.0.1:9'}")
        for name, value in {"ALLOW_HTTP": "true", "REGION": "us-east-1", "MAX_RETRIES": "0"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-indeed")
        monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "0")
        with pytest.raises(StorageError, match=r"memory_unavailable.*AWS_SECRET_ACCESS_KEY") as caught:
            await Memory.open("s3://desk/memory", minilm, clock).count(agent="a")
    assert "very-secret-indeed" not in str(caught.value)
    assert bool(bucket.requests) == refused
    assert len(str(caught.value)) < 900
