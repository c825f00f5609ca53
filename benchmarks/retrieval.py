"""Does a paraphrase find its note? Words, vectors, their fusion, and that with neighbours, on labelled sets.

    python benchmarks/retrieval.py                  our 205 trading notes (benchmarks/memory/, tests/memory/)
    python benchmarks/retrieval.py --locomo FILE    evidence recall on a file in LoCoMo's format

Each of our queries was written to share hardly a word with its note; exactly one note answers it, and all
notes compete. Notes and queries are by one author, and the fusion's one weight was chosen on thirty of them,
so this compares methods; it is no promise for other texts. LoCoMo's data is not ours to ship.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, write_results

from neural_trader_memory import ranking
from neural_trader_memory.embedders.minilm import MiniLm
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.glossary import explain
from neural_trader_memory.ranking import WEIGHTS, Scores

HERE = Path(__file__).parent
NOTES = HERE / "memory" / "notes.tsv"
TUNED = HERE.parent / "tests" / "memory" / "notes.json"
METHODS = ("words", "vector", "fusion", "fusion + context")
CATEGORIES = (1, 2, 3, 4)  # LoCoMo's fifth asks what cannot be answered


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts in the order of their writing, and for each query the positions that answer it."""

    texts: list[str]
    queries: list[str]
    answers: list[set[int]]


def read_notes() -> Corpus:
    pairs = [line.split("\t") for line in NOTES.read_text(encoding="utf-8").splitlines()]
    pairs += [[note["text"], note["query"]] for note in json.loads(TUNED.read_text(encoding="utf-8"))]
    return Corpus(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs], [{at} for at in range(len(pairs))]
    )


def read_locomo(path: Path) -> list[Corpus]:
    """Returns a corpus a conversation; questions whose evidence is not in it are left out."""
    corpora: list[Corpus] = []
    for sample in json.loads(path.read_text(encoding="utf-8")):
        texts: list[str] = []
        places: dict[str, int] = {}
        conversation: dict[str, Any] = sample["conversation"]
        sessions = [name for name in conversation if name.startswith("session_") and name[8:].isdigit()]
        for session in sorted(sessions, key=lambda name: int(name[8:])):
            for turn in conversation[session]:
                places[turn["dia_id"]] = len(texts)
                texts.append(f"{turn['speaker']}: {turn['text']}")
        asked = [each for each in sample["qa"] if each["category"] in CATEGORIES]
        found = [
            (each["question"], {places[name] for name in each.get("evidence", ()) if name in places})
            for each in asked
        ]
        found = [(question, answer) for question, answer in found if answer]
        corpora.append(Corpus(texts, [each[0] for each in found], [each[1] for each in found]))
    return corpora


def score(query: str, asked: Vectors, corpus: Corpus, vectors: Vectors) -> Mapping[str, Scores]:
    parts = ranking.relevance(query, asked, corpus.texts, vectors)
    fused = ranking.fuse(parts, WEIGHTS)
    beside = ranking.score_context(fused, np.arange(len(corpus.texts)))
    return {
        "words": parts["words"],
        "vector": parts["vector"],
        "fusion": fused,
        "fusion + context": ranking.fuse(dict(parts) | {"context": beside}, WEIGHTS),
    }


def rank_all(embedder: MiniLm, corpora: Sequence[Corpus]) -> dict[str, list[tuple[list[int], set[int]]]]:
    """Returns for each method and query the order of the texts, and the ones that answer."""
    ranked: dict[str, list[tuple[list[int], set[int]]]] = {name: [] for name in METHODS}
    for corpus in corpora:
        vectors = anyio.run(embedder.embed, [explain(text) for text in corpus.texts])
        for query, answer in zip(corpus.queries, corpus.answers, strict=True):
            asked = anyio.run(embedder.embed, [query])[0]
            for name, scores in score(query, asked, corpus, vectors).items():
                ranked[name].append((np.argsort(-scores, kind="stable").tolist(), answer))
    return ranked


def measure(ranked: list[tuple[list[int], set[int]]]) -> dict[str, float]:
    """hit@k: a query with any answer among the first k; recall@k: the share of its answers there."""
    places = [[order.index(at) for at in answer] for order, answer in ranked]
    told = {f"hit@{k}": float(np.mean([min(each) < k for each in places])) for k in (1, 5, 10)}
    for k in (5, 10, 20):
        told[f"recall@{k}"] = float(np.mean([np.mean([at < k for at in each]) for each in places]))
    told["mrr"] = float(np.mean([1 / (1 + min(each)) for each in places]))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--locomo", type=Path, help="a file in LoCoMo's format")
    options = parser.parse_args()
    corpora = [read_notes()] if options.locomo is None else read_locomo(options.locomo)
    ranked = rank_all(MiniLm(), corpora)
    measured = {name: measure(orders) for name, orders in ranked.items()}
    queries = sum(len(each.queries) for each in corpora)
    texts = sum(len(each.texts) for each in corpora)
    title = f"{queries} queries, {texts} texts"
    table = Table(title=title)
    for column in ("method", *measured["fusion"]):
        table.add_column(column)
    for name, figures in measured.items():
        table.add_row(name, *(f"{value:.3f}" for value in figures.values()))
    Console().print(table)
    # As shares missed, so that smaller is better as in every result; nothing missed would have no ratio.
    missed = {
        name: {k: max(1 - figures[f"hit@{k}"], 1e-6) for k in (1, 5, 10)}
        for name, figures in measured.items()
    }
    write_results(
        "retrieval" if options.locomo is None else "retrieval-locomo",
        [
            Case(f"{title}: not within {k}", missed["fusion"][k], missed[peer][k], peer, "share")
            for k in (1, 5, 10)
            for peer in METHODS
            if peer != "fusion"
        ],
    )


if __name__ == "__main__":
    main()
