"""Features made of the highest highs and the lowest lows of one window, from one look at them.

See `extremes`. The window is at most `SHORT` and lies before the first bar; each feature's values are those
of the kernel of its name.
"""

import math
from typing import Any, Final

import numpy as np

from neural_trader_tools.features.compiled import Floats
from neural_trader_tools.features.kernels.cells import SLIDING, mean_and_its_mean
from neural_trader_tools.features.kernels.extremes import BLOCK, ROOM, tops
from neural_trader_tools.features.kernels.words import clear, pointer, shifted

OUTPUTS: Final = {
    "williams_r": (0,),
    "stochastic": (1, 2),
    "donchian": (3, 4, 5),
    "midprice": (6,),
}
"""Where which outputs' addresses are, by the feature's name; 0 where a feature is not asked for."""

ROWS: Final = 5 * ROOM
"""Numbers of room."""


def channels(
    first: int, count: int, _: int, params: Floats, state: Floats, columns: Any, outs: Any, room: Floats
) -> None:
    """Goes through `count` bars, or to the block that has a gap.

    The columns are high, low and close; the parameters the window and the stochastic's others, whose state is
    given. Leaves in `room` how many bars it went, and the last highest high and lowest low (times -1).
    """
    window = int(params[0])
    smoothing = int(params[1])
    smoothed = 5 + 2 * (SLIDING + window)
    high, low, close = pointer(columns[0]), pointer(columns[1]), pointer(columns[2])
    raw = shifted(room, 4 * ROOM)
    done = 0
    top = math.nan
    bottom = math.nan
    while done < count:
        i = first + done
        n = min(BLOCK, count - done)
        if clear(high, i, clear(low, i, i + n)) < i + n:
            break
        upper = tops(high, 1.0, i, n, window, room, shifted(room, ROOM))
        lower = tops(low, -1.0, i, n, window, shifted(room, 2 * ROOM), shifted(room, 3 * ROOM))
        if outs[0] != 0:
            out = pointer(outs[0])
            for j in range(n):
                reach = upper[j] + lower[j]
                value = -100.0 * (upper[j] - close[i + j]) / reach
                out[i + j] = value if reach > 0.0 else np.nan
        if outs[1] != 0:
            for j in range(n):
                reach = upper[j] + lower[j]
                value = 100.0 * (close[i + j] + lower[j]) / reach
                raw[j] = value if reach > 0.0 else np.nan
            k, d = shifted(pointer(outs[1]), i), shifted(pointer(outs[2]), i)
            signalled = smoothed + SLIDING + smoothing
            mean_and_its_mean(raw, n, state, smoothed, smoothing, k, signalled, int(params[2]), d)
        if outs[3] != 0:
            out, middle, bottoms = pointer(outs[3]), pointer(outs[4]), pointer(outs[5])
            for j in range(n):
                out[i + j] = upper[j]
            for j in range(n):
                middle[i + j] = (upper[j] - lower[j]) / 2.0
            for j in range(n):
                bottoms[i + j] = -lower[j]
        if outs[6] != 0:
            out = pointer(outs[6])
            for j in range(n):
                out[i + j] = (upper[j] - lower[j]) / 2.0
        top = upper[n - 1]
        bottom = lower[n - 1]
        done += n
    room[0] = done
    room[1] = top
    room[2] = bottom
