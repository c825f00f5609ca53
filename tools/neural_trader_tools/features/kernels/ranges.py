"""Ranges: how far prices reach, and the bands and channels around them."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats
from neural_trader_tools.features.kernels.cells import (
    SLIDING,
    SMOOTH,
    best,
    mean,
    settled,
    slide,
    smooth,
    wilder,
)
from neural_trader_tools.features.kernels.cells import true_range as reach_of


def true_range(
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
    """Wilder's true range; the first bar has none."""
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
        out[i] = reach_of(high[i], low[i], close[i - 1]) if run > 1 else np.nan
    state[0] = run


def atr(
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
    """Wilder's average true range, in price units."""
    window = int(params[0])
    run = int(state[0])
    average = state[1]
    for i in range(start, stop):
        if not math.isfinite(high[i] + low[i] + close[i]):
            run = 0
            average = 0.0
            out[i] = np.nan
            continue
        run += 1
        if run == 1:
            out[i] = np.nan
            continue
        reach = reach_of(high[i], low[i], close[i - 1])
        if run <= window + 1:
            average += reach / window
        else:
            average = (average * (window - 1) + reach) / window
        out[i] = average if run > window else np.nan
    state[0] = run
    state[1] = average


def natr(
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
    """Average true range in percent of the close; NaN where that is 0."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
        reach = reach_of(high[i], low[i], close[i - 1]) if run > 1 else np.nan
        average = wilder(state, 1, reach, window)
        out[i] = 100.0 * average / close[i] if close[i] != 0.0 else np.nan
    state[0] = run


def bbands(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Upper, middle, lower band, and %b, where the value stands between them; NaN where they coincide."""
    window = int(params[0])
    width = params[1]
    run = int(state[0])
    average = state[1]
    spread = state[2]
    peak = state[3]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        if run < window:
            out[i] = np.nan
            out[size + i] = np.nan
            out[2 * size + i] = np.nan
            out[3 * size + i] = np.nan
            continue
        average, spread, peak = slide(price, i, window, run, average, spread, peak)
        half = width * math.sqrt(settled(average, spread, window) / window)
        lower = average - half
        out[i] = average + half
        out[size + i] = average
        out[2 * size + i] = lower
        out[3 * size + i] = (price[i] - lower) / (2.0 * half) if half > 0.0 else np.nan
    state[0] = run
    state[1] = average
    state[2] = spread
    state[3] = peak


def rolling_max(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Maximum of the last `window` values."""
    window = int(params[0])
    for i in range(start, stop):
        out[i] = best(price, 1.0, i, window, state, 0)


def rolling_min(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Minimum of the last `window` values."""
    window = int(params[0])
    for i in range(start, stop):
        out[i] = -best(price, -1.0, i, window, state, 0)


def midpoint(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Middle of the highest and the lowest value of the window."""
    window = int(params[0])
    for i in range(start, stop):
        upper = best(price, 1.0, i, window, state, 0)
        out[i] = (upper - best(price, -1.0, i, window, state, SLIDING + window)) / 2.0


def midprice(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Middle of the highest high and the lowest low of the window."""
    window = int(params[0])
    for i in range(start, stop):
        upper = best(high, 1.0, i, window, state, 0)
        out[i] = (upper - best(low, -1.0, i, window, state, SLIDING + window)) / 2.0


def donchian(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Channel of the last `window` bars, this one included: upper, middle, lower."""
    window = int(params[0])
    for i in range(start, stop):
        upper = best(high, 1.0, i, window, state, 0)
        lower = -best(low, -1.0, i, window, state, SLIDING + window)
        out[i] = upper
        out[size + i] = (upper + lower) / 2.0
        out[2 * size + i] = lower


def acceleration_bands(
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
    """Headley's bands: means of highs and lows pushed out by four times the bar's share of range."""
    window = int(params[0])
    second = SLIDING + window
    for i in range(start, stop):
        total = high[i] + low[i]
        width = 4.0 * (high[i] - low[i]) / total if total != 0.0 else 0.0
        whole = 0.0 * (total + close[i])
        upper = mean(state, 0, high[i] * (1.0 + width) + whole, window)
        middle = mean(state, second, close[i] + whole, window)
        lower = mean(state, 2 * second, low[i] * (1.0 - width) + whole, window)
        out[i] = upper
        out[size + i] = middle
        out[2 * size + i] = lower


def keltner(
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
    """An exponential average of closes, and bands `width` average true ranges from it."""
    window = int(params[0])
    reach_window = int(params[1])
    width = params[2]
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
        middle = smooth(state, 1, close[i] if run > 0 else np.nan, window)
        reach = reach_of(high[i], low[i], close[i - 1]) if run > 1 else np.nan
        half = width * wilder(state, 1 + SMOOTH, reach, reach_window)
        out[i] = middle + half
        out[size + i] = middle + 0.0 * half
        out[2 * size + i] = middle - half
    state[0] = run
