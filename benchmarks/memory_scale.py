"""Memory at 10,000, 100,000 and a million rows, beside hnswlib, faiss and sqlite-vec: `make bench-memory`.

    python benchmarks/memory_scale.py [--rows 10000 --rows 1000000] [--dimension 128] [--queries 200]

Our rows have all their columns, our policy of indices and our filters, and enter through `MemoryTable`. `all`
and `filtered` time one LanceDB query with our parameters, the second of an agent's tenth of the rows, because
that is what the peers do: they hold a number and a vector, hnswlib and faiss in the process's own memory.
`search` is all of `Memory.search` but the embedding. Each store is measured in a process of its own, for its
resident memory. Vectors are a mixture of 1,000 Gaussian clouds, since texts' embeddings lie in clouds.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, write_results

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_memory import indices, narrowing
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.memory import Memory
from neural_trader_memory.records import Record
from neural_trader_memory.revisions import Scope
from neural_trader_memory.rows import StoredRecord

K = 10
CLOUDS = 1_000
AGENTS = 10
WRITE = 10_000
START = datetime(2012, 1, 3, tzinfo=UTC)
WORDS = np.array(["gap", "stop", "trend", "volume", "halt", "squeeze", *map("term{}".format, range(2_000))])
Answers = list[list[int]]


class Given:
    """An embedder of one vector: what is measured is the store."""

    def __init__(self, dimension: int) -> None:
        self.name, self.dimension = "given", dimension
        self.next: Vectors | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        assert self.next is not None
        return np.array([self.next for _ in texts])


def make_vectors(rows: int, dimension: int, queries: int) -> tuple[Vectors, Vectors]:
    chance = np.random.default_rng(7)
    centres = chance.standard_normal((CLOUDS, dimension)).astype("f4")
    found: list[Vectors] = []
    for count in (rows, queries):
        made = centres[chance.integers(CLOUDS, size=count)]
        made = made + 0.7 * chance.standard_normal((count, dimension)).astype("f4")
        found.append(made / np.linalg.norm(made, axis=1, keepdims=True))
    return found[0], found[1]


def agent_of(rows: int) -> np.ndarray[Any, Any]:
    return np.arange(rows) % AGENTS


def exact(vectors: Vectors, queries: Vectors, allowed: np.ndarray[Any, Any] | None) -> Answers:
    places = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    answers: Answers = []
    for query in queries:
        scores = vectors[places] @ query if allowed is not None else vectors @ query
        top = np.argpartition(-scores, K)[:K]
        answers.append(places[top].tolist())
    return answers


def recall(found: Answers, right: Answers) -> float:
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, right, strict=True)]))


def rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def timed(ask: Callable[[Vectors], list[int]], queries: Vectors) -> tuple[Answers, list[float]]:
    """Returns the answers, and each query's better time of two, in ms: the machine is not ours alone."""
    for query in queries[:20]:
        ask(query)
    best = [np.inf] * len(queries)
    answers: Answers = []
    for _ in range(2):
        answers = []
        for place, query in enumerate(queries):
            started = time.perf_counter()
            answers.append(ask(query))
            best[place] = min(best[place], (time.perf_counter() - started) * 1e3)
    return answers, best


def figures(
    name: str,
    built_s: float,
    before_mb: float,
    rows: int,
    asks: dict[str, tuple[Answers, list[float]]],
    right: dict[str, Answers],
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "store": name,
        "inserts_per_s": rows / built_s,
        "rss_mb": rss_mb() - before_mb,
    }
    for case, (answers, taken) in asks.items():
        told[case] = {
            "p50_ms": float(np.percentile(taken, 50)),
            "p99_ms": float(np.percentile(taken, 99)),
            "recall": recall(answers, right[case.split(" ")[0]]),
        }
    return told


def ours(rows: int, dimension: int, count: int, right: dict[str, Answers], folder: str) -> dict[str, Any]:
    return anyio.run(_ours, rows, dimension, count, right, folder)


async def _ours(
    rows: int, dimension: int, count: int, right: dict[str, Answers], folder: str
) -> dict[str, Any]:
    vectors, queries = make_vectors(rows, dimension, count)
    chance = np.random.default_rng(3)
    embedder = Given(dimension)
    memory = Memory.open(folder, embedder, WallClock())
    table = memory._table  # pyright: ignore[reportPrivateUsage] - the store itself is measured
    await table.count()  # LanceDB is imported and the table made
    before_mb, spent_s, longest_s = 0.0, 0.0, 0.0
    for first in range(0, rows, WRITE):
        made: list[tuple[StoredRecord, Vectors]] = []
        texts = chance.choice(WORDS, (WRITE, 12))
        for number in range(first, min(first + WRITE, rows)):
            moment = START + timedelta(minutes=number)
            record = Record(
                memory_id=f"mem-{number:016x}", rev=1, agent=f"agent-{number % AGENTS}", kind="note",
                text=" ".join(texts[number - first]), symbols=("AAPL",) if number % 2 else ("MSFT",), data="",
                event_time=moment, known_time=moment, source="agent", trust="asserted", about_seq=None,
                prev_hash="",
            )  # fmt: skip
            stored = StoredRecord(record, record.content_hash, number, "", embedder.name, dimension)
            made.append((stored, vectors[number]))
        before_mb = before_mb or rss_mb()
        started = time.perf_counter()
        await table.append(made)
        spent_s += time.perf_counter() - started
        longest_s = max(longest_s, time.perf_counter() - started)
    lance: Any = table._table  # pyright: ignore[reportPrivateUsage] - as above
    searchable = (await indices.inspect(lance)).searchable

    async def near(query: Vectors, where: str | None, exactly: bool) -> list[int]:
        asked = lance.query().nearest_to(query).distance_type(indices.DISTANCE)
        asked = (
            asked.bypass_vector_index()
            if exactly
            else asked.nprobes(indices.NPROBES).refine_factor(indices.REFINE)
        )
        asked = asked if where is None else asked.where(where)
        found = await asked.select(["memory_id", "_distance"]).limit(K).to_arrow()
        return [int(name[4:], 16) for name in found.column("memory_id").to_pylist()]

    async def search(query: Vectors, agent: str, as_of: datetime | None) -> list[int]:
        embedder.next = query
        found = await memory.search("halt squeeze term7", agent=agent, k=K, as_of=as_of)
        return [int(hit.memory_id[4:], 16) for hit in found]

    async def rounds(ask: Callable[[Vectors], Any], some: Vectors) -> tuple[Answers, list[float]]:
        best = [np.inf] * len(some)
        answers: Answers = []
        for query in some[:10]:
            await ask(query)
        for _ in range(2):
            answers = []
            for place, query in enumerate(some):
                begun = time.perf_counter()
                answers.append(await ask(query))
                best[place] = min(best[place], (time.perf_counter() - begun) * 1e3)
        return answers, best

    # What a search of the present filters by: the agent and the trust; the rest is tested on what is left.
    scope = narrowing.Wide(Scope("agent-3", datetime.now(UTC)), rows, 0, present=True).halves[0]
    few = queries[: max(count // 10, 5)]
    asks = {
        "all": await rounds(lambda query: near(query, None, not searchable), queries),
        "filtered": await rounds(lambda query: near(query, scope, not searchable), queries),
    }
    told = figures("our store", spent_s, before_mb, rows, asks, right)
    told["longest_write_s"] = longest_s
    moment = START + timedelta(minutes=rows)
    exactly = {
        "filtered exact": await rounds(lambda query: near(query, scope, True), few),
        "filtered search now": await rounds(lambda query: search(query, "agent-3", None), few),
        "filtered search as_of": await rounds(lambda query: search(query, "agent-3", moment), few[:5]),
    }
    for case, (answers, taken) in exactly.items():
        told[case] = {"p50_ms": float(np.median(taken)), "p99_ms": float(np.percentile(taken, 99))}
        if case == "filtered exact":
            told[case]["recall"] = recall(answers, right["filtered"][: len(few)])
    singles: list[float] = []
    for number in range(60):
        embedder.next = queries[number % count]
        draft = await memory.draft("note", f"one more {number}", agent="agent-3")
        started = time.perf_counter()
        await memory.keep(draft)
        singles.append((time.perf_counter() - started) * 1e3)
    told |= {
        "store": "our store",
        "rss_mb": rss_mb() - before_mb,
        "inserts_per_s": rows / (spent_s),
    }
    told["write"] = {"p50_ms": float(np.median(singles)), "p99_ms": float(np.percentile(singles, 99))}
    return told


def hnswlib(rows: int, dimension: int, count: int, right: dict[str, Answers], folder: str) -> dict[str, Any]:
    import hnswlib as library

    vectors, queries = make_vectors(rows, dimension, count)
    before_mb, started = rss_mb(), time.perf_counter()
    index = library.Index(space="cosine", dim=dimension)
    index.init_index(max_elements=rows, ef_construction=200, M=16, random_seed=1)
    for first in range(0, rows, WRITE):
        index.add_items(vectors[first : first + WRITE], np.arange(first, min(first + WRITE, rows)))
    built_s = time.perf_counter() - started
    index.set_ef(200)
    index.set_num_threads(1)
    asks = {"all": timed(lambda query: index.knn_query(query, k=K)[0][0].tolist(), queries)}
    wanted = 3

    def filtered(query: Vectors) -> list[int]:
        return index.knn_query(query, k=K, filter=lambda label: label % AGENTS == wanted)[0][0].tolist()

    asks["filtered"] = timed(filtered, queries)
    return figures("hnswlib", built_s, before_mb, rows, asks, right)


def faiss(rows: int, dimension: int, count: int, right: dict[str, Answers], folder: str) -> dict[str, Any]:
    import faiss as library

    vectors, queries = make_vectors(rows, dimension, count)
    before_mb, started = rss_mb(), time.perf_counter()
    lists = int(max(16, 4 * np.sqrt(rows)))
    quantizer = library.IndexFlatIP(dimension)
    index = library.IndexIVFScalarQuantizer(
        quantizer, dimension, lists, library.ScalarQuantizer.QT_8bit, library.METRIC_INNER_PRODUCT
    )
    index.train(vectors[np.random.default_rng(1).permutation(rows)[: 64 * lists]])
    for first in range(0, rows, WRITE):
        index.add(vectors[first : first + WRITE])
    built_s = time.perf_counter() - started
    # Like ours: scalars of 8 bits, then the exact vectors of twice as many; faiss keeps those in memory.
    chosen = np.flatnonzero(agent_of(rows) == 3)

    def ask(query: Vectors, **more: Any) -> list[int]:
        parameters = library.SearchParametersIVF(nprobe=128, **more)
        places = index.search(query[None], 2 * K, params=parameters)[1][0]
        places = places[places >= 0]
        return places[np.argsort(-(vectors[places] @ query))[:K]].tolist()

    selector = library.IDSelectorBatch(chosen)
    asks = {
        "all": timed(ask, queries),
        "filtered": timed(lambda query: ask(query, sel=selector), queries),
    }
    return figures("faiss", built_s, before_mb - vectors.nbytes / 2**20, rows, asks, right)


def sqlite_vec(
    rows: int, dimension: int, count: int, right: dict[str, Answers], folder: str
) -> dict[str, Any]:
    import apsw  # the sqlite3 of a usual Python cannot load extensions
    import sqlite_vec as library

    vectors, queries = make_vectors(rows, dimension, count)
    before_mb, started = rss_mb(), time.perf_counter()
    database = apsw.Connection(str(Path(folder) / "peer.db"))
    database.enable_load_extension(True)
    database.load_extension(library.loadable_path())
    database.execute(
        f"CREATE VIRTUAL TABLE rows USING vec0(vector float[{dimension}] distance_metric=cosine, agent int)"
    )
    for first in range(0, rows, WRITE):
        with database:
            database.executemany(
                "INSERT INTO rows (rowid, vector, agent) VALUES (?, ?, ?)",
                ((at, vectors[at].tobytes(), at % AGENTS) for at in range(first, min(first + WRITE, rows))),
            )
    built_s = time.perf_counter() - started
    few = queries[: max(5, min(count, 3_000_000 // rows))]  # it looks at every row: 0.2 s at a million

    def ask(query: Vectors, more: str = "") -> list[int]:
        asked = f"SELECT rowid FROM rows WHERE vector MATCH ? AND k = {K}{more}"
        return [row[0] for row in database.execute(asked, (query.tobytes(),))]

    asks = {
        "all": timed(ask, few),
        "filtered": timed(lambda query: ask(query, " AND agent = 3"), few),
    }
    right = {case: each[: len(few)] for case, each in right.items()}
    return figures("sqlite-vec", built_s, before_mb, rows, asks, right)


PEERS = {"our store": ours, "hnswlib": hnswlib, "faiss": faiss, "sqlite-vec": sqlite_vec}


def measure(name: str, rows: int, dimension: int, count: int, right: dict[str, Answers]) -> dict[str, Any]:
    """Runs one store in a process of its own, so that its resident memory is its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        return pool.apply(PEERS[name], (rows, dimension, count, right, folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="again for several")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--store", action="append", choices=list(PEERS), help="only these")
    asked = parser.parse_args()
    cases: list[Case] = []
    for rows in asked.rows or [10_000, 100_000, 1_000_000]:
        vectors, queries = make_vectors(rows, asked.dimension, asked.queries)
        right = {
            "all": exact(vectors, queries, None),
            "filtered": exact(vectors, queries, agent_of(rows) == 3),
        }
        del vectors
        told: dict[str, dict[str, Any]] = {}
        for name in asked.store or PEERS:
            told[name] = measure(name, rows, asked.dimension, asked.queries, right)
            print(json.dumps({"rows": rows, "dimension": asked.dimension, **told[name]}), flush=True)
        if "our store" in told:
            mine = told.pop("our store")
            size = f"{rows:,} x {asked.dimension}"
            for name, peer in told.items():
                for case in ("all", "filtered"):
                    found = f"recall {mine[case]['recall']:.3f}, peer's {peer[case]['recall']:.3f}"
                    title = f"{size}, {case}, {found}"
                    for part in ("p50_ms", "p99_ms"):
                        pair = (mine[case][part], peer[case][part])
                        cases.append(Case(f"{title}, {part[:3]}", *pair, name, "ms"))
                pair = (1e6 / mine["inserts_per_s"], 1e6 / peer["inserts_per_s"])
                cases.append(Case(f"{size}, a row in", *pair, name, "us"))
                cases.append(Case(f"{size}, resident", mine["rss_mb"], peer["rss_mb"], name, "MB"))
    if cases:
        write_results("memory_scale", cases)


if __name__ == "__main__":
    main()
