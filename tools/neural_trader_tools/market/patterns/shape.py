"""How alike two windows are in shape: the Euclidean distance of their z-normalised values.

A window's values less their mean, over their standard deviation: level and size do not matter, the way
does. d² = 2 m (1 - r) for windows of m values with correlation r, so 0 is the same shape, √(4 m) its mirror
image and √(2 m) unrelated (Mueen et al., MASS: the fastest similarity search algorithm, 2017). For the few
hundred values that a window has, the sum itself over blocks of windows that lie in the first-level cache is
ten times as fast as MASS's Fourier transforms, and two equal windows have distance 0, not 1e-7.

Each window's numbers depend on its own values only, so rows that are added to a series change none of them.
"""

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.compiled import vectorised

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BLOCK = 512
"""Windows at a time: two such rows of sums stay in the first-level cache."""
FLAT = 1e-13
"""A standard deviation below this share of the largest value is rounding: the window never moved."""


@vectorised
def moments(values: Floats, runs: Integers, window: int) -> tuple[Floats, Floats]:
    """Returns the mean and the standard deviation of every window.

    Args:
        values: The series.
        runs: (k, 2) first and last (exclusive) position of starts that follow one another.
        window: Values a window.

    Returns:
        Both one per start, in the order of `runs`; the deviation is 0 where the window never moved.
    """
    count = (runs[:, 1] - runs[:, 0]).sum()
    mean, spread = np.empty(count), np.empty(count)
    total, square = np.empty(BLOCK), np.empty(BLOCK)
    place = 0
    for run in range(runs.shape[0]):
        for base in range(runs[run, 0], runs[run, 1], BLOCK):
            size = min(BLOCK, runs[run, 1] - base)
            first = values[base : base + size]  # sums of differences from it lose no digits to the level
            total[:] = 0.0
            square[:] = 0.0
            for j in range(1, window):
                row = values[base + j : base + j + size]
                for i in range(size):
                    change = row[i] - first[i]
                    total[i] += change
                    square[i] += change * change
            for i in range(size):
                shift = total[i] / window
                variance = square[i] / window - shift * shift
                deviation = np.sqrt(max(variance, 0.0))
                mean[place + i] = first[i] + shift
                spread[place + i] = deviation if deviation > FLAT * abs(first[i]) else 0.0
            place += size
    return mean, spread


@vectorised
def shape_distances(values: Floats, runs: Integers, query: Floats, mean: Floats, spread: Floats) -> Floats:
    """Returns how far every window's shape is from that of the query.

    Args:
        values: The series.
        runs: As for `moments`.
        query: z-normalised, as `normalised` returns it.
        mean: Of every window.
        spread: Of every window.

    Returns:
        One per start, NaN where the window never moved or has a value that is not finite.
    """
    distances = np.empty(mean.size)
    scale, square = np.empty(BLOCK), np.empty(BLOCK)
    place = 0
    for run in range(runs.shape[0]):
        for base in range(runs[run, 0], runs[run, 1], BLOCK):
            size = min(BLOCK, runs[run, 1] - base)
            level = mean[place : place + size]
            for i in range(size):
                scale[i] = 1.0 / spread[place + i] if spread[place + i] > 0.0 else np.nan
                square[i] = 0.0
            for j in range(query.size):
                row, wanted = values[base + j : base + j + size], query[j]
                for i in range(size):
                    gap = (row[i] - level[i]) * scale[i] - wanted
                    square[i] += gap * gap
            for i in range(size):
                distances[place + i] = np.sqrt(square[i])
            place += size
    return distances


def normalised(window: Floats) -> Floats | None:
    """Returns a window's values in deviations from their mean, or None where it never moved."""
    first = np.array([[0, 1]])
    mean, spread = moments(np.ascontiguousarray(window), first, window.size)
    return (window - mean[0]) / spread[0] if spread[0] > 0 else None
