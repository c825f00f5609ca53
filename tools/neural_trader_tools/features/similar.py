"""Similar windows: when did this market look as it does now, and what came next?

    regime   33 numbers on the newest bar's market (`regimes`): volatility, trend, returns, spectrum
    shape    the way of the closes, z-normalised (`market.patterns.shape`)
    dtw      the same, where one may run ahead or lag a little (`market.patterns.warping`)

The question is asked at a moment: windows, their corrections and what followed them count only as far as they
were known then.
"""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.term import Term
from neural_trader_tools.features.regime import BARS_MIN
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.patterns.history import known_histories
from neural_trader_tools.market.patterns.matches import nearest
from neural_trader_tools.market.patterns.outcomes import Outcome, outcome
from neural_trader_tools.market.patterns.shape import Floats, Integers, moments, normalised, shape_distances
from neural_trader_tools.market.patterns.warping import nearest_warped
from neural_trader_tools.market.patterns.windows import Windows, windows_before

By = Literal["regime", "shape", "dtw"]
WINDOW_MIN, WINDOW_MAX = 4, 2_000
TOP_MAX = 100
HORIZON_MAX = 2_000
HORIZONS_MAX = 8
CERTAIN = 3.0
"""Below so many standard errors nothing is worth a sentence, since several windows and horizons are tried."""


class Match(Term):
    """One window that is like the query."""

    symbol: str
    first: UtcTime = Field(description="Open of its first bar")
    last: UtcTime = Field(description="Open of its last bar")
    distance: float = Field(ge=0)
    returns: tuple[float | None, ...] = Field(
        description="Close to close, one per horizon; null: not over, or a hole"
    )


class Outlook(Term):
    """What followed the matches over one horizon, beside what usually follows."""

    horizon_bars: int
    count: int = Field(description="Matches whose outcome was known")
    independent: int = Field(description="Of those, how many overlap no other in time")
    mean: float | None
    lowest: float | None
    highest: float | None
    share_up: float | None
    usual_mean: float | None = Field(description="Over every window that was compared")
    usual_share_up: float | None
    standard_errors: float | None = Field(description="Of the mean from the usual one, by `independent`")


class Similar(Term):
    """An answer."""

    symbol: str
    interval: str
    by: By
    window_bars: int
    apart_bars: int
    band_bars: int | None = Field(default=None, description="dtw only")
    as_of: UtcTime | None = Field(description="Null: everything")
    first: UtcTime = Field(description="Open of the query's first bar")
    last: UtcTime = Field(description="Open of its last bar")
    searched: int = Field(description="Symbols")
    windows: int = Field(description="That were compared")
    left_out: int = Field(description="Windows across holes, or that never moved")
    matches: tuple[Match, ...]
    outlooks: tuple[Outlook, ...]
    notes: tuple[str, ...]


def find_similar(
    archive: Archive,
    symbol: str,
    *,
    interval: str = "1d",
    by: str = "shape",
    window: int = 60,
    top: int = 10,
    horizons: Sequence[int] = (5, 20),
    among: Sequence[str] = (),
    everything: bool = False,
    as_of: datetime | None = None,
    apart: int | None = None,
    band: int | None = None,
    told: Callable[[float], None] | None = None,
) -> Similar:
    """Finds the windows that are most like the newest one.

    Args:
        archive: Where the bars are.
        symbol: Whose newest window is the query.
        interval: Of the bars.
        by: `regime`, `shape` or `dtw`.
        window: Bars of a window, 4 to 2,000.
        top: How many are wanted, 1 to 100.
        horizons: Bars after a window over which its return is told.
        among: Other symbols to search.
        everything: Search every symbol that is listed; those without such bars are passed over.
        as_of: What was known later is unseen; None sees everything.
        apart: How many bars two windows start apart at least, and from the query; `window` by default, so
            that no two share a bar.
        band: How many bars one may lag, by dtw; a tenth of the window by default.
        told: Hears how far the work is, 0 to 1.

    Raises:
        InputError: an argument is out of its bounds.
        DataError: too few bars, a hole in the query, a query that never moved.
    """
    if by not in get_args(By):
        raise InputError("unknown_measure", f"{by!r:.40} is no measure", "use regime, shape or dtw")
    _within("window", window, WINDOW_MIN, WINDOW_MAX)
    _within("top", top, 1, TOP_MAX)
    _within("number of horizons", len(horizons), 1, HORIZONS_MAX)
    for each in horizons:
        _within("horizon", each, 1, HORIZON_MAX)
    apart = window if apart is None else apart
    _within("apart", apart, 1, window)
    band = max(1, window // 10) if band is None else band
    _within("band", band, 0, window - 1)
    named = list(dict.fromkeys((symbol, *among)))
    listed = [one.symbol for one in archive.instruments()] if everything else []
    histories = known_histories(
        archive, list(dict.fromkeys((*named, *listed))), interval, as_of, told or (lambda _: None)
    )
    windows = windows_before(histories, window, apart=apart, past=BARS_MIN if by == "regime" else 0)
    found, distances, flat = _found(windows, by, top, apart, band)
    outcomes = [outcome(windows, found, each) for each in horizons]
    return Similar(
        symbol=symbol,
        interval=interval,
        by=by,  # pyright: ignore[reportArgumentType] (checked against the literal above)
        window_bars=window,
        apart_bars=apart,
        band_bars=band if by == "dtw" else None,
        as_of=as_of,
        first=histories[0].bars.item(-window, "event_time"),
        last=histories[0].bars.item(-1, "event_time"),
        searched=len(histories),
        windows=int(windows.starts.size) - flat,
        left_out=windows.left_out + flat,
        matches=tuple(_matches(windows, found, distances, outcomes)),
        outlooks=tuple(_outlook(one) for one in outcomes),
        notes=tuple(_notes(windows, found, top, outcomes, named)),
    )


def _found(windows: Windows, by: str, top: int, apart: int, band: int) -> tuple[Integers, Floats, int]:
    """Places of the nearest windows, their distances, and how many windows have none."""
    starts, owners = windows.starts, windows.owners

    def pick(places: Integers, distances: Floats) -> Integers:
        return places[nearest(distances, starts[places], owners[places], top, apart)]

    if by == "regime":
        distances = _regime_distances(windows)
    else:
        query = normalised(windows.query)
        if query is None:
            raise DataError(
                "flat_window",
                f"the newest {windows.bars} closes of {windows.histories[0].symbol} are all the same",
                "take a longer --window or a later --as-of",
            )
        moved = moments(windows.values, windows.runs, windows.bars)
        if by == "dtw":
            found, distances, _ = nearest_warped(
                windows.values, windows.runs, starts, query, moved, band, pick, top
            )
            return found, distances, int(np.count_nonzero(moved[1] == 0))
        distances = shape_distances(windows.values, windows.runs, query, *moved)
    found = pick(np.arange(starts.size), distances)
    return found, distances[found], int(np.count_nonzero(np.isnan(distances)))


def _regime_distances(windows: Windows) -> Floats:
    from neural_trader_tools.features.regimes import regime_vectors

    query, distances = np.empty(0), np.empty(windows.starts.size)
    ends = windows.ends()
    for owner, one in enumerate(windows.histories):
        vectors = regime_vectors(one.bars)
        if owner == 0:
            query = vectors[-1]
            if np.isnan(query).any():
                raise DataError(
                    "invalid_price",
                    f"one of the newest closes of {one.symbol} is missing or not positive",
                    "take another --as-of, or import the bar again",
                )
        mine = windows.owners == owner
        distances[mine] = np.sqrt(np.square(vectors[ends[mine]] - query).sum(axis=1))
    return distances


def _matches(
    windows: Windows, found: Integers, distances: Floats, outcomes: Sequence[Outcome]
) -> list[Match]:
    ends = windows.ends()
    rows: list[Match] = []
    for rank, place in enumerate(found.tolist()):
        one = windows.histories[windows.owners[place]]
        end = int(ends[place])
        rows.append(
            Match(
                symbol=one.symbol,
                first=one.bars.item(end - windows.bars + 1, "event_time"),
                last=one.bars.item(end, "event_time"),
                distance=float(distances[rank]),
                returns=tuple(_number(float(each.returns[rank])) for each in outcomes),
            )
        )
    return rows


def _outlook(one: Outcome) -> Outlook:
    known = one.returns[~np.isnan(one.returns)]
    has = known.size > 0
    return Outlook(
        horizon_bars=one.horizon,
        count=int(known.size),
        independent=one.independent,
        mean=float(known.mean()) if has else None,
        lowest=float(known.min()) if has else None,
        highest=float(known.max()) if has else None,
        share_up=float((known > 0).mean()) if has else None,
        usual_mean=_number(one.usual),
        usual_share_up=_number(one.usual_share_up),
        standard_errors=_number(one.standard_errors),
    )


def _notes(
    windows: Windows, found: Integers, top: int, outcomes: Sequence[Outcome], named: Sequence[str]
) -> list[str]:
    notes: list[str] = []
    if found.size < top:
        notes.append(f"only {found.size} windows lie far enough apart; {top} were asked for")
    if absent := [one for one in named if one not in {each.symbol for each in windows.histories}]:
        notes.append(f"no such bars of its own that were known: {', '.join(absent)[:500]}")
    strong = [
        one.horizon
        for one in outcomes
        if not math.isnan(one.standard_errors) and abs(one.standard_errors) >= CERTAIN
    ]
    if not strong:
        notes.append(
            f"what followed is no evidence: no mean lies {CERTAIN:.0f} standard errors from what usually"
            " follows"
        )
    else:
        notes.append(
            "a mean this far from the usual one can still be chance: several windows, measures and horizons"
            " are tried; hold it against data that were not searched"
        )
    return notes


def _within(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not low <= value <= high:
        raise InputError(
            "invalid_argument",
            f"{name} {value!r:.20} is not from {low} to {high}",
            "give a number in that range",
        )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
