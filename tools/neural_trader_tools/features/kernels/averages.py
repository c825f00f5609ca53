"""Moving averages. Recursive ones start from the plain mean of their first window, as TA-Lib's do."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import (
    REFRESH,
    SLIDING,
    SMOOTH,
    is_finite,
    mean,
    smooth,
    weighted,
    wilder,
)
from neural_trader_tools.features.kernels.lanes import LANES, slide


def sma(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Simple moving average."""
    window = int(params[0])
    run = int(state[0])
    total = state[1]
    i = start
    while i < stop:
        if (run + 1) % REFRESH == 0 and run >= window:  # the sum begins anew on this bar
            while i + LANES * REFRESH <= stop and is_finite(price, i, i + LANES * REFRESH):
                total = means_in_lanes(price, i, window, out)
                run += LANES * REFRESH
                i += LANES * REFRESH
            if i == stop:
                break
        if not math.isfinite(price[i]):
            run = 0
            total = 0.0
            out[i] = np.nan
            i += 1
            continue
        total += price[i]
        run += 1
        if run > window:
            total -= price[i - window]
            if run % REFRESH == 0:
                total = 0.0
                for j in range(i - window + 1, i + 1):
                    total += price[j]
        out[i] = total / window if run >= window else np.nan
        i += 1
    state[0] = run
    state[1] = total


@jit
def means_in_lanes(price: Floats, i: int, window: int, out: Floats) -> float:
    """Means of `LANES` x `REFRESH` bars from `i` on, where a sum begins anew; returns the sum at the last."""
    sums = np.empty(LANES)
    for lane in range(LANES):
        first = i + lane * REFRESH
        total = 0.0
        for j in range(first - window + 1, first + 1):
            total += price[j]
        out[first] = total / window
        for j in range(first + 1, first + LANES):
            total = total + price[j] - price[j - window]
            out[j] = total / window
        sums[lane] = total
    for place in range(i + LANES, i + REFRESH, LANES):
        slide(price, out, place, REFRESH, window, float(window), sums)
    return sums[LANES - 1]


def ema(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Exponential moving average, smoothing 2 / (window + 1)."""
    window = int(params[0])
    smoothing = 2.0 / (window + 1)
    run = int(state[0])
    total = state[1]
    average = state[2]
    for i in range(start, stop):
        x = price[i]
        if not math.isfinite(x):
            run = 0
            total = 0.0
            out[i] = np.nan
            continue
        run += 1
        if run <= window:
            total += x
            average = total / window
        else:
            average += (x - average) * smoothing
        out[i] = average if run >= window else np.nan
    state[0] = run
    state[1] = total
    state[2] = average


def wma(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Linearly weighted moving average, the newest bar weighing `window`."""
    window = int(params[0])
    run = int(state[0])
    total = state[1]
    rising = state[2]
    weights = 0.5 * window * (window + 1)
    for i in range(start, stop):
        x = price[i]
        if not math.isfinite(x):
            run = 0
            total = 0.0
            rising = 0.0
            out[i] = np.nan
            continue
        run += 1
        if run <= window:
            rising += run * x
            total += x
        else:
            rising += window * x - total
            total += x - price[i - window]
            if run % REFRESH == 0:
                total = 0.0
                rising = 0.0
                for j in range(window):
                    total += price[i - window + 1 + j]
                    rising += (j + 1) * price[i - window + 1 + j]
        out[i] = rising / weights if run >= window else np.nan
    state[0] = run
    state[1] = total
    state[2] = rising


def dema(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Double exponential average: 2 e1 - e2."""
    window = int(params[0])
    for i in range(start, stop):
        once = smooth(state, 0, price[i], window)
        out[i] = 2.0 * once - smooth(state, SMOOTH, once, window)


def tema(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Triple exponential average: 3 e1 - 3 e2 + e3."""
    window = int(params[0])
    for i in range(start, stop):
        once = smooth(state, 0, price[i], window)
        twice = smooth(state, SMOOTH, once, window)
        out[i] = 3.0 * once - 3.0 * twice + smooth(state, 2 * SMOOTH, twice, window)


def t3(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Tillson's T3: six averages in a row, weighed by the volume factor."""
    window = int(params[0])
    v = params[1]
    for i in range(start, stop):
        x1 = smooth(state, 0, price[i], window)
        x2 = smooth(state, SMOOTH, x1, window)
        x3 = smooth(state, 2 * SMOOTH, x2, window)
        x4 = smooth(state, 3 * SMOOTH, x3, window)
        x5 = smooth(state, 4 * SMOOTH, x4, window)
        x6 = smooth(state, 5 * SMOOTH, x5, window)
        out[i] = (
            -(v**3) * x6
            + (3.0 * v**2 + 3.0 * v**3) * x5
            - (6.0 * v**2 + 3.0 * v + 3.0 * v**3) * x4
            + (1.0 + 3.0 * v + v**3 + 3.0 * v**2) * x3
        )


def trima(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Triangular average: a mean of means, the middle of the window weighing most."""
    window = int(params[0])
    first = (window + 1) // 2
    second = window // 2 + 1
    for i in range(start, stop):
        out[i] = mean(state, SLIDING + first, mean(state, 0, price[i], first), second)


def hma(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Hull's average: WMA(2 WMA(window / 2) - WMA(window)) over sqrt(window) bars, both rounded down."""
    window = int(params[0])
    half = max(window // 2, 1)
    root = max(int(math.sqrt(window)), 1)
    second = SLIDING + 1 + half
    third = second + SLIDING + 1 + window
    for i in range(start, stop):
        fast = weighted(state, 0, price[i], half)
        slow = weighted(state, second, price[i], window)
        out[i] = weighted(state, third, 2.0 * fast - slow, root)


def wilder_average(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Wilder's average, smoothing 1 / window."""
    window = int(params[0])
    for i in range(start, stop):
        out[i] = wilder(state, 0, price[i], window)


def zlema(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Exponential average of the price and of what it gained since half a window ago."""
    window = int(params[0])
    lag = (window - 1) // 2
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        ahead = 2.0 * price[i] - price[i - lag] if run > lag else np.nan
        out[i] = smooth(state, 1, ahead, window)
    state[0] = run


def kama(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Kaufman's adaptive average: quick where prices go one way, slow where they waver."""
    window = int(params[0])
    quick = 2.0 / (params[1] + 1.0)
    slow = 2.0 / (params[2] + 1.0)
    run = int(state[0])
    way = state[1]
    average = state[2]
    for i in range(start, stop):
        x = price[i]
        if not math.isfinite(x):
            run = 0
            way = 0.0
            out[i] = np.nan
            continue
        run += 1
        if run > 1:
            way += abs(x - price[i - 1])
        if run > window + 1:
            way -= abs(price[i - window] - price[i - window - 1])
            if run % REFRESH == 0:
                way = 0.0
                for j in range(i - window + 1, i + 1):
                    way += abs(price[j] - price[j - 1])
        if run <= window:
            average = x
            out[i] = np.nan
            continue
        net = abs(x - price[i - window])
        ratio = net / way if way > net else 1.0
        factor = ratio * (quick - slow) + slow
        average += (x - average) * factor * factor
        out[i] = average
    state[0] = run
    state[1] = way
    state[2] = average


def vwma(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Volume-weighted mean of closes; NaN where nothing traded."""
    window = int(params[0])
    idle = int(state[2 * (SLIDING + window)])
    for i in range(start, stop):
        value = mean(state, 0, close[i] * volume[i], window)
        traded = mean(state, SLIDING + window, volume[i] + 0.0 * close[i], window)
        idle = 0 if volume[i] > 0.0 else idle + 1
        out[i] = value / traded if idle < window and traded > 0.0 else np.nan
    state[2 * (SLIDING + window)] = idle
