"""Highest and lowest values of sliding windows, a block of bars at a time.

The maximum of eight bars is that of two fours, which are each that of two twos: so a window costs as many
steps as its length has doublings, and every step goes through a whole block, which compilers make vectors of.
Only the plain comparison of numbers: blocks with gaps, and windows longer than `SHORT`, go bar by bar.
"""

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import SHORT
from neural_trader_tools.features.kernels.words import clear

BLOCK = 1024
ROOM = BLOCK + 2 * SHORT
"""A row: a block, the window before it, and what keeps rows from lying a page apart."""

BARS_MIN = 256
"""Columns shorter than this are not worth the memory that a block borrows."""


@jit
def tops(
    values: Floats, sign: float, start: int, count: int, window: int, one: Floats, other: Floats
) -> Floats:
    """The maxima of sign x values over the windows that end at `count` bars from `start` on."""
    first = start - window + 1
    size = count + window - 1
    for j in range(size):
        one[j] = sign * values[first + j]
    width = 1
    while width < window:
        step = min(width, window - width)
        size -= step
        for j in range(size):
            left = one[j]
            right = one[j + step]
            other[j] = left if left > right else right
        width += step
        one, other = other, one
    return one


@jit
def aged_tops(
    values: Floats, sign: float, start: int, count: int, window: int, one: Floats, other: Floats,
    ages: Floats, other_ages: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """The same, and how many bars ago each maximum was, the latest where there are several."""
    first = start - window + 1
    size = count + window - 1
    for j in range(size):
        one[j] = sign * values[first + j]
    width = 1
    for j in range(size):
        ages[j] = 0.0
    while width < window:
        step = min(width, window - width)
        size -= step
        older = float(step)
        for j in range(size):
            left = one[j]
            right = one[j + step]
            other[j] = right if right >= left else left
            other_ages[j] = ages[j + step] if right >= left else ages[j] + older
        width += step
        one, other = other, one
        ages, other_ages = other_ages, ages
    return one, ages


@jit
def is_whole(high: Floats, low: Floats, start: int, stop: int, run: int, window: int) -> bool:
    """Whether all windows of a block lie in bars without a gap."""
    return run >= window and stop - start >= 64 and clear(high, start, clear(low, start, stop)) == stop
