"""Volatility estimators, annualised by the square root of the periods a year.

All work on logarithms: a price that is not positive is a gap.
"""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats
from neural_trader_tools.features.kernels.cells import REFRESH, mean, moments, settled


def volatility(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Close to close: sample deviation of log returns."""
    window = int(params[0])
    ring = 6
    run = int(state[0])
    place = int(state[1])
    average = state[2]
    spread = state[3]
    peak = state[4]
    former = state[5]
    for i in range(start, stop):
        # The count of changes; before the first one of a run there is a price, and no change.
        is_price = math.isfinite(price[i]) and price[i] > 0.0
        if not is_price or former <= 0.0:
            former = price[i] if is_price else 0.0
            run = 0
            place = 0
            out[i] = np.nan
            continue
        x = math.log(price[i] / former)
        former = price[i]
        run += 1
        old = state[ring + place]
        state[ring + place] = x
        place = place + 1 if place + 1 < window else 0
        if run > window:
            was = average
            average += (x - old) / window
            spread += (x - old) * (x - average + old - was)
            peak = max(peak, spread)
        if run == window or (run > window and (run % REFRESH == 0 or spread < 1e-4 * peak)):
            average = 0.0
            for j in range(place, window):
                average += state[ring + j]
            for j in range(place):
                average += state[ring + j]
            average /= window
            spread = 0.0
            for j in range(place, window):
                spread += (state[ring + j] - average) ** 2
            for j in range(place):
                spread += (state[ring + j] - average) ** 2
            peak = spread
        if run < window:
            out[i] = np.nan
        else:
            out[i] = math.sqrt(settled(average, spread, window) / (window - 1) * params[1])
    state[0] = run
    state[1] = place
    state[2] = average
    state[3] = spread
    state[4] = peak
    state[5] = former


def parkinson(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """From the range: sqrt(mean(ln(h/l)^2) / (4 ln 2))."""
    window = int(params[0])
    for i in range(start, stop):
        part = np.nan
        if low[i] > 0.0 and high[i] >= low[i]:
            part = math.log(high[i] / low[i]) ** 2
        average = mean(state, 0, part, window)
        out[i] = (
            math.sqrt(max(average, 0.0) / (4.0 * math.log(2.0)) * params[1]) if average == average else np.nan
        )


def garman_klass(
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
    """From range and body: sqrt(mean(ln(h/l)^2 / 2 - (2 ln 2 - 1) ln(c/o)^2))."""
    window = int(params[0])
    for i in range(start, stop):
        part = np.nan
        if low[i] > 0.0 and high[i] > 0.0 and opening[i] > 0.0 and close[i] > 0.0:
            body = math.log(close[i] / opening[i])
            part = 0.5 * math.log(high[i] / low[i]) ** 2 - (2.0 * math.log(2.0) - 1.0) * body**2
        average = mean(state, 0, part, window)
        out[i] = math.sqrt(max(average, 0.0) * params[1]) if average == average else np.nan


def rogers_satchell(
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
    """Free of drift: sqrt(mean(ln(h/c) ln(h/o) + ln(l/c) ln(l/o)))."""
    window = int(params[0])
    for i in range(start, stop):
        part = np.nan
        if low[i] > 0.0 and high[i] > 0.0 and opening[i] > 0.0 and close[i] > 0.0:
            part = math.log(high[i] / close[i]) * math.log(high[i] / opening[i])
            part += math.log(low[i] / close[i]) * math.log(low[i] / opening[i])
        average = mean(state, 0, part, window)
        out[i] = math.sqrt(max(average, 0.0) * params[1]) if average == average else np.nan


def yang_zhang(
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
    """Free of drift and aware of overnight jumps: three variances, the weight k of the least error."""
    window = int(params[0])
    run = int(state[0])
    second = 1 + 5 + window
    third = second + 5 + window
    weight = 0.34 / (1.34 + (window + 1.0) / (window - 1.0))
    for i in range(start, stop):
        ok = low[i] > 0.0 and high[i] > 0.0 and opening[i] > 0.0 and close[i] > 0.0
        run = run + 1 if ok and math.isfinite(opening[i] + high[i] + low[i] + close[i]) else 0
        jump = np.nan
        body = np.nan
        part = np.nan
        if run > 1:
            jump = math.log(opening[i] / close[i - 1])
            body = math.log(close[i] / opening[i])
            part = math.log(high[i] / close[i]) * math.log(high[i] / opening[i])
            part += math.log(low[i] / close[i]) * math.log(low[i] / opening[i])
        _, jumps = moments(state, 1, jump, window)
        _, bodies = moments(state, second, body, window)
        drift_free = mean(state, third, part, window)
        square = (jumps + weight * bodies) / (window - 1.0) + (1.0 - weight) * drift_free
        out[i] = math.sqrt(max(square, 0.0) * params[1]) if square == square else np.nan
    state[0] = run


def ewma_volatility(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """RiskMetrics: squared log returns, each weighing `decay` of the next, from the first mean."""
    decay = params[0]
    window = int(params[1])
    run = int(state[0])
    square = state[1]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) and price[i] > 0.0 else 0
        if run <= 1:
            square = 0.0
            out[i] = np.nan
            continue
        change = math.log(price[i] / price[i - 1])
        if run <= window + 1:
            square += change * change / window
        else:
            square = decay * square + (1.0 - decay) * change * change
        out[i] = math.sqrt(square * params[2]) if run > window else np.nan
    state[0] = run
    state[1] = square
