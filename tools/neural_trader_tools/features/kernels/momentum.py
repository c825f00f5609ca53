"""Momentum: which way prices push, and how strongly, from moves of bars rather than of closes alone."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats
from neural_trader_tools.features.kernels.cells import SLIDING, SMOOTH, mean, smooth, true_range


def intraday_momentum(
    start: int,
    stop: int,
    size: int,
    opening: Floats,
    close: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Share of rising bodies among all bodies of the window, 0 … 100; NaN where there was no body."""
    window = int(params[0])
    other = SLIDING + window
    still = int(state[2 * other])
    for i in range(start, stop):
        body = close[i] - opening[i]
        up = mean(state, 0, max(body, 0.0) + 0.0 * body, window)
        down = mean(state, other, max(-body, 0.0) + 0.0 * body, window)
        # Counted, because a sum that slides may not return to 0 exactly.
        still = still + 1 if body == 0.0 else 0
        out[i] = 100.0 * up / (up + down) if still < window and up + down > 0.0 else np.nan
    state[2 * other] = still


def awesome_oscillator(
    start: int, stop: int, size: int, high: Floats, low: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """A fast less a slow mean of the bars' middles."""
    fast = int(params[0])
    slow = int(params[1])
    for i in range(start, stop):
        middle = (high[i] + low[i]) / 2.0
        out[i] = mean(state, 0, middle, fast) - mean(state, SLIDING + fast, middle, slow)


def true_strength(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Blau's index, -100 … 100: changes smoothed twice over their sizes smoothed twice; NaN if all are 0."""
    slow = int(params[0])
    fast = int(params[1])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        change = price[i] - price[i - 1] if run > 1 else np.nan
        moved = smooth(state, 1 + SMOOTH, smooth(state, 1, change, slow), fast)
        size_moved = smooth(state, 1 + 3 * SMOOTH, smooth(state, 1 + 2 * SMOOTH, abs(change), slow), fast)
        out[i] = 100.0 * moved / size_moved if size_moved > 0.0 else np.nan
    state[0] = run


def elder_ray(
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
    """Bull power and bear power: high and low less the closes' exponential average."""
    window = int(params[0])
    for i in range(start, stop):
        average = smooth(state, 0, close[i] + 0.0 * (high[i] + low[i]), window)
        out[i] = high[i] - average
        out[size + i] = low[i] - average


def force_index(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Exponential average of the close's change times volume."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(close[i] + volume[i]) else 0
        force = (close[i] - close[i - 1]) * volume[i] if run > 1 else np.nan
        out[i] = smooth(state, 1, force, window)
    state[0] = run


def directional_movement(
    start: int, stop: int, size: int, high: Floats, low: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Wilder's sums of rises and falls beyond the bar's before, as `adx` has them."""
    window = int(params[0])
    run = int(state[0])
    plus = state[1]
    minus = state[2]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) else 0
        if run <= 1:
            plus = 0.0
            minus = 0.0
        else:
            keep = 1.0 - 1.0 / window if run > window else 1.0
            rise = high[i] - high[i - 1]
            fall = low[i - 1] - low[i]
            plus = plus * keep + (rise if rise > 0.0 and rise > fall else 0.0)
            minus = minus * keep + (fall if fall > 0.0 and fall > rise else 0.0)
        out[i] = plus if run >= window else np.nan
        out[size + i] = minus if run >= window else np.nan
    state[0] = run
    state[1] = plus
    state[2] = minus


def vortex(
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
    """+VI and -VI: ways from lows to highs, and from highs to lows, over true ranges; NaN without any."""
    window = int(params[0])
    second = 1 + SLIDING + window
    third = second + SLIDING + window
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
        up = abs(high[i] - low[i - 1]) if run > 1 else np.nan
        down = abs(low[i] - high[i - 1]) if run > 1 else np.nan
        reach = true_range(high[i], low[i], close[i - 1]) if run > 1 else np.nan
        risen = mean(state, 1, up, window)
        fallen = mean(state, second, down, window)
        moved = mean(state, third, reach, window)
        out[i] = risen / moved if moved > 0.0 else np.nan
        out[size + i] = fallen / moved if moved > 0.0 else np.nan
    state[0] = run
