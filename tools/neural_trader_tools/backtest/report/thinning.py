"""Thinning: a curve with as many points as a screen has columns, and still with every peak and trough.

A million bars on 900 columns are a thousand bars a column; what can be seen of them is where the curve enters
the column, its highest and lowest point, and where it leaves.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COLUMNS: Final = 900


def thin(values: Floats, columns: int = COLUMNS) -> NDArray[np.int64]:
    """Returns which points to draw: of each column of bars the first, lowest, highest and last, ascending.

    Args:
        values: One a bar, evenly spaced on the screen; NaN is left out where a column has anything else.
        columns: Of the screen.
    """
    count = len(values)
    if count <= 4 * columns:
        return np.arange(count, dtype=np.int64)
    borders = np.linspace(0, count, columns + 1).astype(np.int64)
    starts, lasts = borders[:-1], borders[1:] - 1
    column = np.repeat(np.arange(columns), np.diff(borders))
    order = np.lexsort((np.nan_to_num(values, nan=np.inf), column))
    lows = order[starts]
    order = np.lexsort((np.nan_to_num(values, nan=-np.inf), column))
    highs = order[lasts]
    return np.unique(np.concatenate([starts, lows, highs, lasts])).astype(np.int64)


def spread_out(positions: NDArray[np.int64], count: int, columns: int = COLUMNS) -> NDArray[np.int64]:
    """Returns which of some marks to draw: the first in each column of the screen, ascending.

    Args:
        positions: Bar of each mark, ascending.
        count: Bars on the screen.
        columns: Of the screen.
    """
    column = positions * columns // max(count, 1)
    return np.unique(column, return_index=True)[1].astype(np.int64)
