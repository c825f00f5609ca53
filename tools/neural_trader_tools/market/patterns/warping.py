"""Dynamic time warping within a band: how alike two shapes are if one may run ahead or lag a little.

DTW² is the least sum of squared differences along a path from (0, 0) to (m - 1, m - 1) that moves on by at
most one in each window and strays at most `band` from the diagonal (Sakoe and Chiba 1978). Both windows are
z-normalised first. Most windows need no path: what lies outside the envelope of the query, and what of the
query lies outside the window's own, is a lower bound (LB_Keogh: Keogh and Ratanamahatana 2005; used both ways
as in the UCR suite, Rakthanmanon et al. 2012). The bounds only save work: results are those of comparing all.
"""

import numpy as np

from neural_trader_tools.engine.compiled import vectorised
from neural_trader_tools.market.patterns.pruning import Pick, nearest_bounded
from neural_trader_tools.market.patterns.shape import BLOCK, Floats, Integers

SLACK = 1.0 - 1e-9
"""A bound is a sum too: it must not exceed, by rounding, what it bounds."""


def envelope(values: Floats, band: int) -> tuple[Floats, Floats]:
    """Returns the least and the greatest of the values at most `band` away, for each value."""
    padded = np.pad(values, band, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * band + 1)
    return around.min(axis=1), around.max(axis=1)


@vectorised
def lower_bounds(
    values: Floats,
    runs: Integers,
    query: Floats,
    mean: Floats,
    spread: Floats,
    inside: tuple[Floats, Floats],
    around: tuple[Floats, Floats],
) -> Floats:
    """Returns LB_Keogh², the greater of both ways, of every window.

    Args:
        values: The series.
        runs: As for `shape.moments`.
        query: z-normalised.
        mean: Of every window.
        spread: Of every window.
        inside: The query's envelope.
        around: The series's envelope: at a window's ends wider than the window's own, so a bound too.

    Returns:
        One per start; NaN where the window has no shape.
    """
    bounds = np.empty(mean.size)
    scale, out, back = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    place, last = 0, query.size - 1
    for run in range(runs.shape[0]):
        for base in range(runs[run, 0], runs[run, 1], BLOCK):
            size = min(BLOCK, runs[run, 1] - base)
            level = mean[place : place + size]
            for i in range(size):
                scale[i] = 1.0 / spread[place + i] if spread[place + i] > 0.0 else np.nan
                # A path meets both corners, whatever the band: the ends are compared with each other.
                start = (values[base + i] - level[i]) * scale[i] - query[0]
                end = (values[base + last + i] - level[i]) * scale[i] - query[last]
                out[i] = back[i] = start * start + end * end
            for j in range(1, last):
                at = base + j
                row, low_row, high_row = (
                    values[at : at + size],
                    around[0][at : at + size],
                    around[1][at : at + size],
                )
                low, high, wanted = inside[0][j], inside[1][j], query[j]
                for i in range(size):
                    value = (row[i] - level[i]) * scale[i]
                    over, under = value - high, low - value  # no branch: these become vector instructions
                    over = over if over > under else under
                    over = over if over > 0.0 else 0.0
                    out[i] += over * over
                    top, bottom = (high_row[i] - level[i]) * scale[i], (low_row[i] - level[i]) * scale[i]
                    over, under = wanted - top, bottom - wanted
                    over = over if over > under else under
                    over = over if over > 0.0 else 0.0
                    back[i] += over * over
            for i in range(size):
                bounds[place + i] = max(out[i], back[i])
            place += size
    return bounds


@vectorised
def warped_squares(
    values: Floats, starts: Integers, query: Floats, mean: Floats, spread: Floats, band: int, enough: float
) -> Floats:
    """Returns DTW² of the query and each window.

    Args:
        values: The series.
        starts: Where the windows start.
        query: z-normalised.
        mean: Of these windows.
        spread: Of these windows, above 0.
        band: How far a path may stray from the diagonal.
        enough: A window is given up once it is certain to exceed this.

    Returns:
        One per start; infinity where it exceeds `enough`.
    """
    window = query.size
    squares = np.empty(starts.size)
    # Row i holds the cells (i, i - band … i + band) between two walls.
    before, row = np.empty(2 * band + 3), np.empty(2 * band + 3)
    for k in range(starts.size):
        level, scale = mean[k], 1.0 / spread[k]
        before[:] = np.inf
        least = np.inf
        before[band + 1] = 0.0  # the corner before (0, 0), seen from row 0 as its upper left
        for i in range(window):
            value = (values[starts[k] + i] - level) * scale
            row[:] = np.inf
            least = np.inf
            first, stop = max(0, band - i), min(2 * band + 1, window + band - i)
            left = np.inf
            for c in range(first, stop):
                gap = value - query[i + c - band]
                best = before[c + 1]  # diagonal: one row up, in the same column of the band
                if before[c + 2] < best:
                    best = before[c + 2]
                if left < best:
                    best = left
                left = best + gap * gap
                row[c + 1] = left
                if left < least:
                    least = left
            if not least <= enough:
                break
            before, row = row, before
        squares[k] = before[band + 1] if least <= enough and before[band + 1] <= enough else np.inf
    return squares


def nearest_warped(
    values: Floats,
    runs: Integers,
    starts: Integers,
    query: Floats,
    moved: tuple[Floats, Floats],
    band: int,
    pick: Pick,
    top: int,
) -> tuple[Integers, Floats, int]:
    """Returns the windows that `pick` chooses by DTW, as if the distances of all were known.

    Args:
        values: The series.
        runs: As for `shape.moments`.
        starts: The same starts, one by one.
        query: z-normalised.
        moved: Mean and standard deviation of every window.
        band: As for `warped_squares`.
        pick: See `pruning.nearest_bounded`.
        top: How many it chooses at most.

    Returns:
        Places in `starts`, nearest first; their distances; how many windows needed a path.
    """
    mean, spread = moved
    around = envelope(values, band)
    bounds = lower_bounds(values, runs, query, mean, spread, envelope(query, band), around) * SLACK

    def measure(places: Integers, limit: float) -> Floats:
        return warped_squares(values, starts[places], query, mean[places], spread[places], band, limit)

    found, squares, measured = nearest_bounded(bounds, measure, pick, top)
    return found, np.sqrt(squares), measured
