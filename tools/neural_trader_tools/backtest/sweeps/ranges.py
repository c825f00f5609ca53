"""Ranges: what a fully invested position goes through between two bars, answered without visiting the bars.

While all equity is in one long position, its returns are the closes' returns. So sums of powers of
returns come from prefix sums, and the drawdown of any range of bars from three numbers that combine:
highest close, lowest close, deepest fall inside. Ten thousand combinations share these tables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.compiled import compiled, compiled_within

Floats = NDArray[np.float64]
BLOCK = 32
_HIGH, _LOW, _FALL = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """Tables over the closes of one symbol.

    Attributes:
        sums: (bars + 1, 5): sums over the bars before an index of r, r^2, r^3, r^4 and min(r, 0)^2, r being
            the close's return; the first bar has none.
        ahead: (bars, 3): highest, lowest, deepest fall from a bar to the end of its block.
        behind: (bars, 3): the same from the begin of its block to the bar.
        blocks: (levels, blocks, 3): the same over whole blocks, as a disjoint sparse table.
    """

    sums: Floats
    ahead: Floats
    behind: Floats
    blocks: Floats

    @classmethod
    def of(cls, close: Floats) -> "Ranges":
        """Builds the tables; linear in the bars."""
        count = -(-len(close) // BLOCK)
        levels = max(1, (max(count, 2) - 1).bit_length())
        ranges = cls(
            sums=np.zeros((len(close) + 1, 5)),
            ahead=np.empty((len(close), 3)),
            behind=np.empty((len(close), 3)),
            blocks=np.zeros((levels, count, 3)),
        )
        _fill_sums(close, ranges.sums)
        _fill_blocks(close, ranges.ahead, ranges.behind, ranges.blocks)
        return ranges


@compiled
def _fill_sums(close: Floats, sums: Floats) -> None:
    """Writes prefix sums, compensated (Neumaier): differences of two are exact to the last digits."""
    total = np.zeros(5)
    lost = np.zeros(5)
    term = np.zeros(5)
    for bar in range(1, close.shape[0]):
        r = close[bar] / close[bar - 1] - 1.0
        down = min(r, 0.0)
        term[0], term[1], term[2], term[3], term[4] = r, r * r, r * r * r, r * r * r * r, down * down
        for power in range(5):
            new = total[power] + term[power]
            if abs(total[power]) >= abs(term[power]):
                lost[power] += (total[power] - new) + term[power]
            else:
                lost[power] += (term[power] - new) + total[power]
            total[power] = new
            sums[bar + 1, power] = new + lost[power]


@compiled
def _fill_blocks(close: Floats, ahead: Floats, behind: Floats, blocks: Floats) -> None:
    size = close.shape[0]
    count = blocks.shape[1]
    whole = np.empty((count, 3))
    for block in range(count):
        first, last = block * BLOCK, min(size, (block + 1) * BLOCK) - 1
        high, low, fall = close[first], close[first], 0.0
        for bar in range(first, last + 1):
            high, low = max(high, close[bar]), min(low, close[bar])
            fall = max(fall, 1.0 - close[bar] / high)
            behind[bar, _HIGH], behind[bar, _LOW], behind[bar, _FALL] = high, low, fall
        whole[block, _HIGH], whole[block, _LOW], whole[block, _FALL] = high, low, fall
        high, low, fall = close[last], close[last], 0.0
        for step in range(last - first + 1):
            bar = last - step
            high, low = max(high, close[bar]), min(low, close[bar])
            fall = max(fall, 1.0 - low / close[bar])
            ahead[bar, _HIGH], ahead[bar, _LOW], ahead[bar, _FALL] = high, low, fall
    for level in range(blocks.shape[0]):
        # each block's range to the middle between two groups of 2^level blocks, on its own side
        group = 1 << level
        for middle in range(group, count, 2 * group):
            high, low, fall = -np.inf, np.inf, 0.0
            for block in range(middle, min(middle + group, count)):
                fall = max(fall, whole[block, _FALL], 1.0 - whole[block, _LOW] / max(high, 1e-300))
                high, low = max(high, whole[block, _HIGH]), min(low, whole[block, _LOW])
                blocks[level, block, _HIGH] = high
                blocks[level, block, _LOW] = low
                blocks[level, block, _FALL] = fall
            high, low, fall = -np.inf, np.inf, 0.0
            for step in range(1, group + 1):
                block = middle - step
                fall = max(fall, whole[block, _FALL], 1.0 - low / whole[block, _HIGH])
                high, low = max(high, whole[block, _HIGH]), min(low, whole[block, _LOW])
                blocks[level, block, _HIGH] = high
                blocks[level, block, _LOW] = low
                blocks[level, block, _FALL] = fall


@compiled_within
def range_extremes(
    first: int, last: int, close: Floats, ahead: Floats, behind: Floats, blocks: Floats
) -> tuple[float, float, float]:
    """Returns highest close, lowest close and deepest fall of the bars `first` to `last`, both included.

    The fall is the largest 1 - close / highest close before it, within these bars.
    """
    left, right = first // BLOCK, last // BLOCK
    if left == right:
        high, low, fall = close[first], close[first], 0.0
        for bar in range(first + 1, last + 1):
            if close[bar] > high:
                high = close[bar]
            elif close[bar] < low or 1.0 - close[bar] / high > fall:
                low = min(low, close[bar])
                fall = max(fall, 1.0 - close[bar] / high)
        return high, low, fall
    high, low, fall = ahead[first, _HIGH], ahead[first, _LOW], ahead[first, _FALL]
    left, right = left + 1, right - 1
    if left <= right:
        if left == right:  # a block alone: its last bar looks back over all of it
            end = (left + 1) * BLOCK - 1
            a_high, a_low, a_fall = behind[end, _HIGH], behind[end, _LOW], behind[end, _FALL]
            fall = max(fall, a_fall, 1.0 - a_low / high)
            high, low = max(high, a_high), min(low, a_low)
        else:
            level = 0
            while (left ^ right) >> (level + 1) != 0:
                level += 1
            for block in (left, right):
                fall = max(fall, blocks[level, block, _FALL], 1.0 - blocks[level, block, _LOW] / high)
                high = max(high, blocks[level, block, _HIGH])
                low = min(low, blocks[level, block, _LOW])
    fall = max(fall, behind[last, _FALL], 1.0 - behind[last, _LOW] / high)
    return max(high, behind[last, _HIGH]), min(low, behind[last, _LOW]), fall
