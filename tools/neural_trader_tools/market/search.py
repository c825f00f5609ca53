"""The tool `market_search`."""

import unicodedata
from functools import lru_cache
from typing import Annotated

import anyio.to_thread
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive, ListedInstrument
from neural_trader_tools.market.spelling import distance, forgiven, letters, may_be_near
from neural_trader_tools.market.windows import checked_limit

QUERY_LENGTH_MAX = 100
LIMIT_MAX = 100


class SearchResult(Term):
    """Instruments, best match first."""

    instruments: list[ListedInstrument]
    matched: int = Field(description="Shown or not")
    note: str | None = None


async def market_search(
    archive: Archive,
    *,
    query: Annotated[str, Field(description="Symbol or name, typos allowed; empty lists everything")] = "",
    limit: Annotated[int, Field(description="1-100")] = 10,
) -> SearchResult:
    """Finds instruments by symbol or name, with the span and intervals of their bars."""
    checked_limit(limit, LIMIT_MAX)
    if len(query) > QUERY_LENGTH_MAX:
        raise InputError("query_too_long", f"the query has {len(query)} characters", "give at most 100")
    listed = await anyio.to_thread.run_sync(archive.instruments)
    found = ranked(query, listed)
    note = None
    if not listed:
        note = "the archive is empty: run `neural-trader data fetch sample` or `neural-trader data import`"
    elif not found:
        note = f"nothing matches; an empty query lists all {len(listed)} instruments"
    return SearchResult(instruments=found[:limit], matched=len(found), note=note)


def ranked(query: str, instruments: list[ListedInstrument]) -> list[ListedInstrument]:
    """Returns the instruments that match, best first; all of them, by symbol, for an empty query.

    Exact symbols come before prefixes, contained text and typing errors, fewest first.
    """
    wanted = _plain(query)
    if not wanted:
        return instruments
    errors_max = forgiven(wanted)
    spelled = letters(wanted)
    hits: list[tuple[float, str, ListedInstrument]] = []
    for instrument in instruments:
        symbol, name = _plain(instrument.symbol), _plain(instrument.name)
        score = _score(wanted, symbol, name)
        if score is None and errors_max:
            errors = _errors(wanted, spelled, errors_max, symbol, name)
            score = 5.0 + errors if errors <= errors_max else None
        if score is not None:
            hits.append((score, instrument.symbol, instrument))
    return [instrument for _, _, instrument in sorted(hits, key=lambda hit: hit[:2])]


def _score(wanted: str, symbol: str, name: str) -> float | None:
    """Ranks what is spelled right: exact symbols over prefixes over contained text; None for the rest."""
    bare = symbol.lstrip("^")
    if wanted in {symbol, bare}:
        return 0.0
    if bare.startswith(wanted):
        return 1.0
    if name.startswith(wanted):
        return 2.0
    if any(word.startswith(wanted) for word in name.split()):
        return 3.0
    return 4.0 if wanted in name or wanted in symbol else None


def _errors(wanted: str, spelled: int, errors_max: int, symbol: str, name: str) -> int:
    """Returns the fewest typing errors between the query and the symbol, the name or words of it."""
    fewest = errors_max + 1
    for one in (symbol.lstrip("^"), *_phrases(name, wanted.count(" ") + 1)):
        near = abs(len(one) - len(wanted)) < fewest and may_be_near(spelled, letters(one), fewest - 1)
        if near:
            fewest = min(fewest, distance(wanted, one, fewest - 1))
    return fewest


@lru_cache(maxsize=100_000)
def _phrases(name: str, words: int) -> tuple[str, ...]:
    """Returns a name and every run of so many words in it."""
    each = name.split()
    runs = [" ".join(each[at : at + words]) for at in range(len(each))]
    return tuple(dict.fromkeys([name, *runs]))


@lru_cache(maxsize=100_000)
def _plain(text: str) -> str:
    """Returns the text without accents, case or surrounding space, so that they do not matter."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold().strip()
