"""Trend: direction, its strength, and the stops and clouds that follow it."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import SLIDING, before, highest, true_range, wilder


@jit
def _directed(
    high: Floats, low: Floats, close: Floats, i: int, window: int, state: Floats
) -> tuple[float, float, float, float]:
    """ADX, +DI, -DI and DX of a bar; five slots of state."""
    run = int(state[0]) + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
    state[0] = run
    if run <= 1:
        state[1] = 0.0
        state[2] = 0.0
        state[3] = 0.0
        state[4] = 0.0
        return np.nan, np.nan, np.nan, np.nan
    keep = 1.0 - 1.0 / window if run > window else 1.0
    rise = high[i] - high[i - 1]
    fall = low[i - 1] - low[i]
    plus = state[1] * keep + (rise if rise > 0.0 and rise > fall else 0.0)
    minus = state[2] * keep + (fall if fall > 0.0 and fall > rise else 0.0)
    reach = state[3] * keep + true_range(high[i], low[i], close[i - 1])
    state[1] = plus
    state[2] = minus
    state[3] = reach
    if run <= window or reach <= 0.0:
        return np.nan, np.nan, np.nan, np.nan
    both = plus + minus
    directed = 100.0 * abs(plus - minus) / both if both > 0.0 else np.nan
    average = state[4]
    if run <= 2 * window:
        average += directed / window if both > 0.0 else 0.0
    elif both > 0.0:
        average = (average * (window - 1) + directed) / window
    state[4] = average
    shown = average if run >= 2 * window else np.nan
    return shown, 100.0 * plus / reach, 100.0 * minus / reach, directed


def adx(
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
    """Wilder's directional movement: ADX, +DI, -DI, DX, in TA-Lib's sums.

    The sums start from the first window - 1 movements; ADX from the mean of the first `window` DX. A bar
    without any movement leaves ADX as it is and has no DX.
    """
    window = int(params[0])
    for i in range(start, stop):
        average, plus, minus, directed = _directed(high, low, close, i, window, state)
        out[i] = average
        out[size + i] = plus
        out[2 * size + i] = minus
        out[3 * size + i] = directed


def adxr(
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
    """Mean of ADX and of what it was window - 1 bars before."""
    window = int(params[0])
    back = max(window - 1, 1)
    for i in range(start, stop):
        value, _, _, _ = _directed(high, low, close, i, window, state)
        former = before(state, 5, value, back)
        out[i] = (value + former) / 2.0 if window > 1 else value


def sar(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Wilder's parabolic stop and reverse, from the second bar on; a gap starts a new one."""
    step = params[0]
    limit = params[1]
    run = int(state[0])
    is_long = state[1] > 0.0
    value = state[2]
    extreme = state[3]
    factor = state[4]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) else 0
        if run <= 1:
            out[i] = np.nan
            continue
        old_low = low[i - 1]
        old_high = high[i - 1]
        if run == 2:
            rise = high[i] - old_high
            fall = old_low - low[i]
            is_long = not (fall > 0.0 and rise < fall)
            factor = step
            extreme = high[i] if is_long else low[i]
            value = old_low if is_long else old_high
            old_low = low[i]
            old_high = high[i]
        if is_long:
            if low[i] <= value:
                is_long = False
                value = max(extreme, max(old_high, high[i]))
                out[i] = value
                factor = step
                extreme = low[i]
                value = max(value + factor * (extreme - value), max(old_high, high[i]))
            else:
                out[i] = value
                if high[i] > extreme:
                    extreme = high[i]
                    factor = min(factor + step, limit)
                value = min(value + factor * (extreme - value), min(old_low, low[i]))
        elif high[i] >= value:
            is_long = True
            value = min(extreme, min(old_low, low[i]))
            out[i] = value
            factor = step
            extreme = high[i]
            value = min(value + factor * (extreme - value), min(old_low, low[i]))
        else:
            out[i] = value
            if low[i] < extreme:
                extreme = low[i]
                factor = min(factor + step, limit)
            value = max(value + factor * (extreme - value), max(old_high, high[i]))
    state[0] = run
    state[1] = 1.0 if is_long else 0.0
    state[2] = value
    state[3] = extreme
    state[4] = factor


def supertrend(
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
    """Line and direction (1 up, -1 down): a stop `width` average true ranges from the bar's middle."""
    window = int(params[0])
    width = params[1]
    run = int(state[0])
    upper = state[1]
    lower = state[2]
    direction = state[3]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
        reach = true_range(high[i], low[i], close[i - 1]) if run > 1 else np.nan
        average = wilder(state, 4, reach, window)
        if not math.isfinite(average):
            direction = 0.0
            out[i] = np.nan
            out[size + i] = np.nan
            continue
        middle = (high[i] + low[i]) / 2.0
        top = middle + width * average
        bottom = middle - width * average
        if direction == 0.0:
            upper = top
            lower = bottom
            direction = 1.0 if close[i] >= middle else -1.0
        else:
            upper = top if top < upper or close[i - 1] > upper else upper
            lower = bottom if bottom > lower or close[i - 1] < lower else lower
            if direction > 0.0 and close[i] < lower:
                direction = -1.0
            elif direction < 0.0 and close[i] > upper:
                direction = 1.0
        out[i] = lower if direction > 0.0 else upper
        out[size + i] = direction
    state[0] = run
    state[1] = upper
    state[2] = lower
    state[3] = direction


def ichimoku(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Hosoda's lines as they are known at each bar: nothing is shifted forward or back."""
    conversion = int(params[0])
    base = int(params[1])
    span = int(params[2])
    s2 = SLIDING + conversion
    s3 = s2 + SLIDING + conversion
    s4 = s3 + SLIDING + base
    s5 = s4 + SLIDING + base
    s6 = s5 + SLIDING + span
    for i in range(start, stop):
        top = high[i] + 0.0 * low[i]
        bottom = low[i] + 0.0 * high[i]
        quick = (highest(state, 0, top, conversion) - highest(state, s2, -bottom, conversion)) / 2.0
        slow = (highest(state, s3, top, base) - highest(state, s4, -bottom, base)) / 2.0
        out[i] = quick
        out[size + i] = slow
        out[2 * size + i] = (quick + slow) / 2.0
        out[3 * size + i] = (highest(state, s5, top, span) - highest(state, s6, -bottom, span)) / 2.0
