"""Matches: the nearest windows, and of those that share most of their bars only one.

Windows that start a bar apart are nearly the same window, so without an exclusion zone the ten nearest would
be one episode ten times (Yeh et al., Matrix profile I, 2016, call them trivial matches).
"""

import numpy as np

from neural_trader_tools.market.patterns.shape import Floats, Integers


def nearest(distances: Floats, starts: Integers, owners: Integers, top: int, apart: int) -> Integers:
    """Returns the places of the nearest windows, by distance, then by place.

    Args:
        distances: One per window; NaN is no candidate.
        starts: Where each starts, ascending within its series.
        owners: Which series each is of; windows of different series exclude one another in no case.
        top: How many at most.
        apart: Windows of one series start at least so many bars apart; at least 1.

    Returns:
        Places in `distances`: each time the nearest window that no nearer one excludes.
    """
    places = np.flatnonzero(~np.isnan(distances))
    # One that is taken excludes at most so many, itself included: beyond these nobody is looked at.
    most = top * (2 * apart - 1)
    if places.size > most:
        known = distances[places]
        places = places[known <= np.partition(known, most - 1)[most - 1]]
    order = places[np.argsort(distances[places], kind="stable")]
    taken: list[int] = []
    by_owner: dict[int, list[int]] = {}
    for place, start, owner in zip(
        order.tolist(), starts[order].tolist(), owners[order].tolist(), strict=True
    ):
        before = by_owner.setdefault(owner, [])
        if all(abs(start - other) >= apart for other in before):
            before.append(start)
            taken.append(place)
            if len(taken) == top:
                break
    return np.array(taken, dtype=np.int64)
