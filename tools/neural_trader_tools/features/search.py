"""The tool `features_search`."""

import difflib
from typing import Annotated

from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.term import Term
from neural_trader_tools.features.definition import Definition
from neural_trader_tools.features.definitions import DEFINITIONS, USUAL
from neural_trader_tools.market.windows import checked_limit

QUERY_LENGTH_MAX = 100
LIMIT_MAX = 200
SCORE_MIN = 0.6


class FeatureEntry(Term):
    """One feature of the catalogue."""

    name: str
    title: str
    example: str = Field(description="Expression with the default parameters")
    params: dict[str, str] = Field(description="Default and bounds of each parameter, in order")
    inputs: list[str]
    outputs: list[str] = Field(description="More than one: choose with a dot, as in macd(12,26,9).signal")
    lookback_bars: int = Field(description="Bars before the first value, with the defaults")
    formula: str
    source: str


class FeaturesResult(Term):
    """Features, best match first."""

    features: list[FeatureEntry]
    note: str | None = None


async def features_search(
    *,
    query: Annotated[str, Field(description="Name or words such as volatility; empty lists all")] = "",
    limit: Annotated[int, Field(description="How many entries, 1-200; the others are named in note")] = 20,
) -> FeaturesResult:
    """Lists technical features that features_compute and strategies can use: parameters, formula, source."""
    if len(query) > QUERY_LENGTH_MAX:
        raise InputError("query_too_long", f"the query has {len(query)} characters", "give at most 100")
    limit = checked_limit(limit, LIMIT_MAX)
    wanted = query.casefold().strip()
    scored = [(_score(wanted, definition), definition) for definition in DEFINITIONS.values()]
    hits = sorted((hit for hit in scored if hit[0] >= SCORE_MIN), key=lambda hit: -hit[0])
    if not wanted:
        hits.sort(key=lambda hit: hit[1].name not in USUAL)
    note = None if hits else f"nothing matches; there are {', '.join(DEFINITIONS)}"
    if more := [definition.name for _, definition in hits[limit:]]:
        note = f"{len(more)} more: {', '.join(more)}; query a name, or raise limit"
    return FeaturesResult(features=[_entry(definition) for _, definition in hits[:limit]], note=note)


def _score(wanted: str, definition: Definition) -> float:
    if not wanted or wanted == definition.name:
        return 3.0
    text = f"{definition.name} {definition.title} {definition.family} {definition.formula}".casefold()
    text = f"{text} {definition.convention}".casefold()
    if wanted in text:
        return 2.0
    words = [definition.name, *definition.title.casefold().replace(",", " ").split()]
    return max(difflib.SequenceMatcher(None, wanted, word).ratio() for word in words)


def _entry(definition: Definition) -> FeatureEntry:
    return FeatureEntry(
        name=definition.name,
        title=definition.title,
        example=definition.example,
        params={one.name: f"{one.default:g} ({one.low:g} to {one.high:g})" for one in definition.params},
        inputs=list(definition.inputs),
        outputs=list(definition.outputs),
        lookback_bars=definition.lookback_bars(),
        formula=definition.formula,
        source=f"{definition.source}; TA-Lib: {definition.convention}"
        if definition.convention
        else definition.source,
    )
