"""Microstructure on bars: what trading costs and who pushes, as far as bars can tell."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import SLIDING, mean, moments


def amihud(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Illiquidity: mean of |return| per million of traded value; a bar without trades is a gap."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(close[i]) and close[i] > 0.0 else 0
        part = np.nan
        if run > 1 and volume[i] > 0.0:
            part = 1e6 * abs(close[i] / close[i - 1] - 1.0) / (close[i] * volume[i])
        out[i] = mean(state, 1, part, window)
    state[0] = run


def roll_spread(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Roll's spread, 2 sqrt(-cov) of successive log returns; NaN where that is not negative."""
    window = int(params[0])
    run = int(state[0])
    former = state[1]
    second = 2 + SLIDING + window
    third = second + SLIDING + window
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) and price[i] > 0.0 else 0
        change = math.log(price[i] / price[i - 1]) if run > 1 else np.nan
        before = former if run > 2 else np.nan
        product = mean(state, 2, change * before, window)
        now = mean(state, second, change + 0.0 * before, window)
        then = mean(state, third, before, window)
        covariance = product - now * then
        out[i] = 2.0 * math.sqrt(-covariance) if covariance < 0.0 else np.nan
        former = change if run > 1 else 0.0
    state[0] = run
    state[1] = former


def corwin_schultz(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Spread from the ranges of two bars beside that of both, negative ones set to 0, averaged."""
    window = int(params[0])
    run = int(state[0])
    root = 3.0 - 2.0 * math.sqrt(2.0)
    for i in range(start, stop):
        ok = low[i] > 0.0 and high[i] >= low[i] and math.isfinite(high[i])
        run = run + 1 if ok else 0
        part = np.nan
        if run > 1:
            b = math.log(high[i] / low[i]) ** 2 + math.log(high[i - 1] / low[i - 1]) ** 2
            g = math.log(max(high[i], high[i - 1]) / min(low[i], low[i - 1])) ** 2
            a = (math.sqrt(2.0 * b) - math.sqrt(b)) / root - math.sqrt(g / root)
            part = max(2.0 * (math.exp(a) - 1.0) / (1.0 + math.exp(a)), 0.0)
        average = mean(state, 1, part, window)
        out[i] = max(average, 0.0) if run > window else np.nan
    state[0] = run


@jit
def _normal(x: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def kyle_lambda(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Price impact: slope of the change on volume with the change's sign; NaN where nothing traded."""
    window = int(params[0])
    run = int(state[0])
    ring = 1
    other = ring + window
    for i in range(start, stop):
        run = run + 1 if math.isfinite(close[i] + volume[i]) else 0
        if run > 1:
            change = close[i] - close[i - 1]
            place = (run - 2) % window
            state[ring + place] = change
            state[other + place] = volume[i] if change > 0.0 else (-volume[i] if change < 0.0 else 0.0)
        if run <= window:
            out[i] = np.nan
            continue
        a = 0.0
        b = 0.0
        for j in range(window):
            a += state[other + j]
            b += state[ring + j]
        a /= window
        b /= window
        aa = 0.0
        ab = 0.0
        for j in range(window):
            aa += (state[other + j] - a) ** 2
            ab += (state[other + j] - a) * (state[ring + j] - b)
        out[i] = ab / aa if aa > 0.0 else np.nan
    state[0] = run


def volume_imbalance(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Bulk volume classification: bought less sold over traded volume, -1 … 1.

    The part of a bar's volume that was bought is the normal distribution at its change over the changes'
    deviation; where prices stood still, half. NaN where nothing traded.
    """
    window = int(params[0])
    run = int(state[0])
    idle = int(state[1])
    first = 2
    second = first + 5 + window
    third = second + SLIDING + window
    for i in range(start, stop):
        run = run + 1 if math.isfinite(close[i] + volume[i]) else 0
        change = close[i] - close[i - 1] if run > 1 else np.nan
        _, squares = moments(state, first, change, window)
        part = np.nan
        if squares == squares:
            deviation = math.sqrt(squares / (window - 1.0))
            part = volume[i] * (2.0 * _normal(change / deviation) - 1.0) if deviation > 0.0 else 0.0
        signed = mean(state, second, part, window)
        traded = mean(state, third, volume[i] + 0.0 * part, window)
        idle = 0 if volume[i] > 0.0 else idle + 1
        out[i] = signed / traded if idle < window and traded > 0.0 else np.nan
    state[0] = run
    state[1] = idle
