"""Pruning: the nearest windows of many, without measuring those that are certain to be farther away.

Windows are measured in the order of their lower bounds, in batches that double, until no bound that is left
is within the last one that would be shown. The exclusion zone makes this more than a running minimum: a
window that is found late may be nearer than two that were taken, exclude both, and let a farther one in. So
the limit may rise again, and windows that were given up at an earlier one are then measured once more.
"""

from collections.abc import Callable

import numpy as np

from neural_trader_tools.market.patterns.shape import Floats, Integers

FIRST_BATCH = 256

Pick = Callable[[Integers, Floats], Integers]
"""Of (places, their distances): the places of the windows that are shown, nearest first."""
Measure = Callable[[Integers, float], Floats]
"""Of (places, a limit): their distances, infinity where one exceeds the limit."""


def nearest_bounded(
    bounds: Floats, measure: Measure, pick: Pick, top: int, first_batch: int = FIRST_BATCH
) -> tuple[Integers, Floats, int]:
    """Returns the windows that `pick` chooses, as if the distances of all were known.

    Args:
        bounds: One per window, never above its distance; NaN is no candidate.
        measure: Measures windows.
        pick: Greedy, nearest first, so that what is far away has no say about what is near.
        top: How many it chooses at most.
        first_batch: How many windows are measured before there is a limit.

    Returns:
        Places, nearest first; their distances; how many windows were measured.
    """
    bounds = bounds.copy()
    order = np.argsort(bounds, kind="stable")
    order = order[: np.count_nonzero(np.isfinite(bounds))]
    distances = np.full(bounds.size, np.inf)
    chosen = np.empty(0, np.int64)
    limit, done, measured, batch = np.inf, 0, 0, first_batch
    while True:
        behind = order[:done][~np.isfinite(distances[order[:done]])]
        again = behind[bounds[behind] <= limit]
        ahead = order[done : done + batch]
        ahead = ahead[bounds[ahead] <= limit]
        if not (again.size or ahead.size):
            return chosen, distances[chosen], measured
        work = np.concatenate((again, ahead))
        distances[work] = measure(work, limit)
        given_up = work[~np.isfinite(distances[work])]
        bounds[given_up] = np.nextafter(limit, np.inf) if limit < np.inf else np.nan
        done, measured, batch = done + ahead.size, measured + work.size, batch * 2
        known = np.sort(order[:done][np.isfinite(distances[order[:done]])])
        chosen = pick(known, distances[known])
        limit = float(distances[chosen[-1]]) if chosen.size == top else np.inf
