"""Prices: one number for each bar."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit


@jit
def _known(number: float) -> float:
    return number if math.isfinite(number) else np.nan


def average_price(
    start: int,
    stop: int,
    size: int,
    opening: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Mean of the four prices."""
    for i in range(start, stop):
        out[i] = _known((opening[i] + high[i] + low[i] + close[i]) / 4.0)


def median_price(
    start: int, stop: int, size: int, high: Floats, low: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Middle of the bar's range."""
    for i in range(start, stop):
        out[i] = _known((high[i] + low[i]) / 2.0)


def typical_price(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Mean of high, low and close."""
    for i in range(start, stop):
        out[i] = _known((high[i] + low[i] + close[i]) / 3.0)


def weighted_close(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Mean of high, low and twice the close."""
    for i in range(start, stop):
        out[i] = _known((high[i] + low[i] + close[i] * 2.0) / 4.0)
