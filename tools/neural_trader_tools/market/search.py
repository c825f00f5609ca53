"""The tool `market_search`."""

import difflib
import unicodedata
from typing import Annotated

import anyio.to_thread
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive, ListedInstrument
from neural_trader_tools.market.windows import checked_limit

QUERY_LENGTH_MAX = 100
LIMIT_MAX = 100
SCORE_MIN = 0.6
"""Similarity (difflib's ratio, 0 … 1) below which a name is no match: one typo in five letters passes."""


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
    """Returns the instruments that match, best first; all of them, by symbol, for an empty query."""
    wanted = _plain(query)
    if not wanted:
        return instruments
    scored = [(_score(wanted, instrument), instrument) for instrument in instruments]
    hits = [(score, instrument) for score, instrument in scored if score >= SCORE_MIN]
    return [instrument for _, instrument in sorted(hits, key=lambda hit: (-hit[0], hit[1].symbol))]


def _score(wanted: str, instrument: ListedInstrument) -> float:
    """Scores exact symbols over prefixes over contained text over similar spelling."""
    symbol, name = _plain(instrument.symbol), _plain(instrument.name)
    bare = symbol.lstrip("^")
    if wanted in {symbol, bare}:
        return 4.0
    if bare.startswith(wanted):
        return 3.0
    if name.startswith(wanted):
        return 2.5
    if wanted in name or wanted in symbol:
        return 2.0
    spellings = [bare, name, *name.split()]
    return max(difflib.SequenceMatcher(None, wanted, spelling).ratio() for spelling in spellings)


def _plain(text: str) -> str:
    """Returns the text without accents, case or surrounding space, so that they do not matter."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold().strip()
