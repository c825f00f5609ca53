"""Exposure: how long anything is held."""

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.compiled import vectorised
from neural_trader_tools.engine.orders import FILL_BAR, FILL_POSITION


@vectorised
def bars_held(fills: NDArray[np.float64], bars: int) -> int:
    """Returns at how many closes anything is held.

    Args:
        fills: Shape (fills, 7), as the kernel writes them, in order.
        bars: How many bars there are.
    """
    held = 0
    for fill in range(fills.shape[0]):
        if fills[fill, FILL_POSITION] != 0.0:
            until = int(fills[fill + 1, FILL_BAR]) if fill + 1 < fills.shape[0] else bars
            held += until - int(fills[fill, FILL_BAR])
    return held
