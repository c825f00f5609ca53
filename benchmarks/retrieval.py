"""Does a paraphrase find its note? Words, vectors, their fusion, and that with neighbours, on labelled sets.

    python benchmarks/retrieval.py                  our 205 trading notes (benchmarks/memory/, tests/memory/)
    python benchmarks/retrieval.py --locomo PATH    evidence recall on a file in LoCoMo's format, or on a
                                                    folder of one such conversation a file

Each of our queries was written to share hardly a word with its note, and all notes compete. `also.tsv` names
the notes that answer a query as well as the one it was written for; `--one` leaves them out. `heldout.txt`
has the queries that the glossary's author had not read when the glossary was frozen: they are told apart,
because only they say what it is worth on other texts. Notes, queries and glossary are by one author all the
same, so this compares methods; it is no promise. LoCoMo's data is not ours to ship.

The embedder is the one that NEURAL_TRADER_EMBEDDER and its companions choose (docs/memory.md).
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from locomo import LocomoError, read_locomo
from results import Case, write_results

from neural_trader_memory import ranking
from neural_trader_memory.embedders.port import Embedder, Vectors
from neural_trader_memory.glossary import explain
from neural_trader_memory.ranking import WEIGHTS, Scores
from neural_trader_server.embedding import make_embedder
from neural_trader_server.settings import Settings

HERE = Path(__file__).parent
NOTES = HERE / "memory" / "notes.tsv"
ALSO = HERE / "memory" / "also.tsv"
HELD_OUT = HERE / "memory" / "heldout.txt"
FIRST = HERE.parent / "tests" / "memory" / "notes.json"
PLAIN: Final = "vector, no glossary"
FUSION: Final = "fusion"
CONTEXT: Final = "fusion + context"
Ranks = list[list[int]]
"""For each query the places, from 0, of the texts that answer it."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts in the order of their writing, and for each query the positions that answer it.

    Attributes:
        ordered: Whether texts that stand beside each other belong together.
    """

    texts: list[str]
    queries: list[str]
    answers: list[set[int]]
    ordered: bool = True


def read_notes(*, one: bool = False) -> Corpus:
    """Returns our set; with `one`, only the note that each query was written for answers it."""
    pairs = [line.split("\t") for line in NOTES.read_text(encoding="utf-8").splitlines()]
    pairs += [[note["text"], note["query"]] for note in json.loads(FIRST.read_text(encoding="utf-8"))]
    texts, queries = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    answers = [{at} for at in range(len(pairs))]
    for line in [] if one else ALSO.read_text(encoding="utf-8").splitlines():
        query, text = line.split("\t")
        answers[queries.index(query)].add(texts.index(text))
    return Corpus(texts, queries, answers, ordered=False)


def score(query: str, asked: Vectors, corpus: Corpus, vectors: Vectors) -> Mapping[str, Scores]:
    """Returns what each method that the memory uses says of each text."""
    relevance = ranking.relevance(query, asked, corpus.texts, vectors)
    parts = ranking.share(relevance, ranking.measure_best(relevance))
    fused = ranking.fuse(parts, WEIGHTS)
    told = {"words": parts["words"], "vector": parts["vector"], FUSION: fused}
    if corpus.ordered:
        beside = ranking.score_context(fused, np.arange(len(corpus.texts)))
        told[CONTEXT] = ranking.fuse(dict(parts) | {"context": beside}, WEIGHTS)
    return told


def rank_all(embedder: Embedder, corpora: Sequence[Corpus]) -> dict[str, Ranks]:
    """Returns for each method and query the places of the texts that answer."""
    ranks: dict[str, Ranks] = {}
    for number, corpus in enumerate(corpora, 1):
        print(f"corpus {number} of {len(corpora)}", file=sys.stderr, flush=True)
        plain = anyio.run(embedder.embed, corpus.texts)
        vectors = anyio.run(embedder.embed, [explain(text) for text in corpus.texts])
        questions = anyio.run(embedder.embed, corpus.queries)
        for query, asked, answer in zip(corpus.queries, questions, corpus.answers, strict=True):
            bare = ranking.score_vectors(asked, plain)
            for name, scores in {PLAIN: bare, **score(query, asked, corpus, vectors)}.items():
                places = np.empty(len(scores), np.int64)
                places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
                ranks.setdefault(name, []).append([int(places[at]) for at in sorted(answer)])
    return ranks


def measure(ranks: Ranks) -> dict[str, float]:
    """hit@k: a query with any answer among the first k; recall@k: the share of its answers there."""
    told = {f"hit@{k}": float(np.mean([min(each) < k for each in ranks])) for k in (1, 5, 10)}
    for k in (5, 10, 20):
        told[f"recall@{k}"] = float(np.mean([np.mean([at < k for at in each]) for each in ranks]))
    told["mrr"] = float(np.mean([1 / (1 + min(each)) for each in ranks]))
    return told


def show(
    title: str, ranks: Mapping[str, Ranks], rows: Iterable[int] | None = None
) -> dict[str, dict[str, float]]:
    """Prints what each method reached, on some of the queries or on all; returns it."""
    chosen = None if rows is None else list(rows)
    measured = {
        name: measure(each if chosen is None else [each[at] for at in chosen]) for name, each in ranks.items()
    }
    table = Table(title=title)
    for column in ("method", *measured[FUSION]):
        table.add_column(column, no_wrap=True)
    for name, figures in measured.items():
        table.add_row(name, *(f"{value:.3f}" for value in figures.values()))
    Console(width=110).print(table)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--locomo", type=Path, help="a file in LoCoMo's format, or a folder of them")
    parser.add_argument("--one", action="store_true", help="our set: one note answers each query")
    options = parser.parse_args()
    if options.locomo is None:
        corpora = [read_notes(one=options.one)]
    else:
        try:
            corpora = [Corpus(one.texts, one.queries, one.answers) for one in read_locomo(options.locomo)]
        except LocomoError as error:
            sys.exit(str(error))
    embedder = make_embedder(Settings(), HERE / "config.toml")
    ranks = rank_all(embedder, corpora)
    queries = sum(len(each.queries) for each in corpora)
    title = f"{queries} queries, {sum(len(each.texts) for each in corpora)} texts"
    measured = show(f"{title}, {embedder.name}", ranks)
    best = FUSION if options.locomo is None else CONTEXT
    if options.locomo is None:
        kept = set(HELD_OUT.read_text(encoding="utf-8").splitlines())
        out = [at for at, query in enumerate(corpora[0].queries) if query in kept]
        rest = [at for at, query in enumerate(corpora[0].queries) if query not in kept]
        show(f"the {len(rest)} of them that the glossary's author had read", ranks, rest)
        measured = show(f"the {len(out)} held out", ranks, out)
        title = f"{len(out)} held-out queries"
    # As shares missed, so that smaller is better as in every result; nothing missed would have no ratio.
    missed = {
        name: {k: max(1 - figures[f"hit@{k}"], 1e-6) for k in (1, 5, 10)}
        for name, figures in measured.items()
    }
    write_results(
        "retrieval" if options.locomo is None else "retrieval-locomo",
        [
            Case(f"{title}: not within {k}", missed[best][k], missed[peer][k], peer, "share")
            for k in (1, 5, 10)
            for peer in missed
            if peer != best
        ],
    )


if __name__ == "__main__":
    main()
