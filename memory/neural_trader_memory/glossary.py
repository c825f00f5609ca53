"""What traders' words mean in plain ones: "KO" is a soft drink company, "contango" a cost of rolling.

A small embedder knows little jargon, and a search for "the drinks maker" shares no word with a note on KO. So
a note is embedded, and its words are counted, together with the glosses of `glossary.tsv` (ours, written
from common knowledge of markets; a term, or several joined by "|", a tab, its gloss). What is stored, hashed
and shown is the note alone, and questions are taken as they are.
"""

import functools
import re
from collections.abc import Mapping
from importlib import resources
from typing import Final

from neural_trader_memory.stemming import stem

Term = tuple[str, ...]
"""A term's words: capitals stay, so that IT is no "it"; all others are lower-case stems."""

_WORD: Final = re.compile(r"[A-Za-z0-9&.\-'/=]*[A-Za-z0-9&=]", re.ASCII)


def explain(text: str) -> str:
    """Returns the text with the glosses of its terms in brackets behind it; without any, the text itself.

    Of terms that overlap the longest counts, and each gloss is given once, in the order of the text.
    """
    found = dict.fromkeys(_find(split_term(text)))
    return f"{text} ({'; '.join(found)})" if found else text


def split_term(text: str) -> Term:
    """Returns the words of a text as the glossary compares them."""
    return tuple(_normal(word) for word in _WORD.findall(text))


@functools.cache
def glosses() -> Mapping[Term, str]:
    """Returns each term's gloss, read once.

    Raises:
        ValueError: a line of the file is not a term and its gloss, or a term stands there twice.
    """
    found: dict[Term, str] = {}
    source = resources.files("neural_trader_memory").joinpath("glossary.tsv").read_text(encoding="utf-8")
    for number, line in enumerate(source.splitlines(), 1):
        terms, _, gloss = line.partition("\t")
        for term in terms.split("|"):
            key = split_term(term)
            if not key or not gloss or key in found:
                raise ValueError(f"glossary.tsv, line {number}: {term!r} is bare or there twice")
            found[key] = gloss
    return found


@functools.cache
def _longest() -> int:
    return max(map(len, glosses()))


def _find(words: Term) -> list[str]:
    known, found, at = glosses(), list[str](), 0
    while at < len(words):
        for length in range(_longest(), 0, -1):
            if (gloss := known.get(words[at : at + length])) is not None:
                found.append(gloss)
                at += length
                break
        else:
            at += 1
    return found


@functools.lru_cache(maxsize=50_000)
def _normal(word: str) -> str:
    return word if word.isupper() else stem(word.lower())
