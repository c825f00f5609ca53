"""Volume: where money went, and prices weighed by it."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import REFRESH, SHORT, SLIDING, mean, two_sums
from neural_trader_tools.features.kernels.extremes import BARS_MIN, BLOCK, ROOM
from neural_trader_tools.features.kernels.words import pointer, shifted


def obv(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Granville's on-balance volume, from the first bar's volume on; it starts anew after a gap."""
    run = int(state[0])
    total = state[1]
    for i in range(start, stop):
        if not math.isfinite(close[i] + volume[i]):
            run = 0
            out[i] = np.nan
            continue
        run += 1
        if run == 1:
            total = volume[i]
        elif close[i] > close[i - 1]:
            total += volume[i]
        elif close[i] < close[i - 1]:
            total -= volume[i]
        out[i] = total
    state[0] = run
    state[1] = total


@jit
def _placed(high: float, low: float, close: float, volume: float) -> float:
    """Volume times where the close stands in the bar's range, -1 … 1; 0 in a bar without range."""
    reach = high - low
    return (
        ((close - low) - (high - close)) / reach * volume if reach > 0.0 else 0.0 * (reach + close + volume)
    )


def accumulation_distribution(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Chaikin's line: the running sum of placed volume; it starts anew after a gap."""
    total = state[0]
    for i in range(start, stop):
        flow = _placed(high[i], low[i], close[i], volume[i])
        is_gap = not math.isfinite(flow)
        total = 0.0 if is_gap else total + flow
        out[i] = np.nan if is_gap else total
    state[0] = total


def chaikin_oscillator(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """A fast less a slow exponential average of Chaikin's line, both from the line's first value on."""
    fast = int(params[0])
    slow = int(params[1])
    run = int(state[0])
    total = state[1]
    quick = state[2]
    sluggish = state[3]
    for i in range(start, stop):
        flow = _placed(high[i], low[i], close[i], volume[i])
        if not math.isfinite(flow):
            run = 0
            total = 0.0
            out[i] = np.nan
            continue
        run += 1
        total += flow
        if run == 1:
            quick = total
            sluggish = total
        else:
            quick += (total - quick) * (2.0 / (fast + 1))
            sluggish += (total - sluggish) * (2.0 / (slow + 1))
        out[i] = quick - sluggish if run >= slow else np.nan
    state[0] = run
    state[1] = total
    state[2] = quick
    state[3] = sluggish


def chaikin_money_flow(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Placed volume over volume, -1 … 1; NaN where nothing traded."""
    window = int(params[0])
    second = SLIDING + window
    idle = int(state[2 * second])
    for i in range(start, stop):
        flow = _placed(high[i], low[i], close[i], volume[i])
        placed = mean(state, 0, flow, window)
        traded = mean(state, second, volume[i] + 0.0 * flow, window)
        idle = 0 if volume[i] > 0.0 else idle + 1
        out[i] = placed / traded if idle < window and traded > 0.0 else np.nan
    state[2 * second] = idle


def mfi(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Money flow index, 0 … 100: an RSI of the money that moved; NaN where none did."""
    window = int(params[0])
    run = int(state[0])
    place = int(state[1])
    up = state[2]
    down = state[3]
    before = state[4]
    ring = 5
    for i in range(start, stop):
        typical = (high[i] + low[i] + close[i]) / 3.0
        flow = typical * volume[i]
        if not math.isfinite(flow):
            run = 0
            place = 0
            up = 0.0
            down = 0.0
            out[i] = np.nan
            continue
        run += 1
        if run > 1:
            signed = flow if typical > before else (-flow if typical < before else 0.0)
            if run > window + 1:
                old = state[ring + place]
                up -= max(old, 0.0)
                down -= max(-old, 0.0)
            state[ring + place] = signed
            place = place + 1 if place + 1 < window else 0
            up += max(signed, 0.0)
            down += max(-signed, 0.0)
            if run > window + 1 and run % REFRESH == 0:
                up = 0.0
                down = 0.0
                for j in range(window):
                    up += max(state[ring + j], 0.0)
                    down += max(-state[ring + j], 0.0)
        before = typical
        both = up + down
        out[i] = 100.0 * (up / both) if run > window and both > 0.0 else np.nan
    state[0] = run
    state[1] = place
    state[2] = up
    state[3] = down
    state[4] = before


@jit
def _vwap(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    window = int(params[0])
    second = SLIDING + window
    idle = int(state[2 * second])
    for i in range(start, stop):
        typical = (high[i] + low[i] + close[i]) / 3.0
        value = mean(state, 0, typical * volume[i], window)
        traded = mean(state, second, volume[i] + 0.0 * typical, window)
        # Counted, because a sum that slides over fractional volumes may not return to 0 exactly.
        idle = 0 if volume[i] > 0.0 else idle + 1
        out[i] = value / traded if idle < window and traded > 0.0 else np.nan
    state[2 * second] = idle


def vwap(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Volume-weighted typical price over a window; NaN where nothing traded."""
    window = int(params[0])
    if window > SHORT or stop - start < BARS_MIN:
        _vwap(start, stop, size, high, low, close, volume, params, state, out)
        return
    second = SLIDING + window
    room = np.empty(4 * ROOM)
    value = pointer(room.ctypes.data)
    traded = shifted(value, ROOM)
    sums = shifted(value, 2 * ROOM)
    others = shifted(value, 3 * ROOM)
    for i in range(start, stop, BLOCK):
        count = min(i + BLOCK, stop) - i
        good = 0
        if int(state[0]) >= window:
            for j in range(count + window):
                k = i - window + j
                value[j] = (high[k] + low[k] + close[k]) / 3.0 * volume[k]
                traded[j] = volume[k]
                is_good = volume[k] > 0.0 and abs(value[j]) <= 1e300
                good += 1 if is_good else 0
        if good < count + window:
            _vwap(i, i + count, size, high, low, close, volume, params, state, out)
            continue
        two_sums(
            shifted(value, window), shifted(traded, window), count, state, 0, second, window, sums, others
        )
        for j in range(count):
            out[i + j] = sums[j] / window / (others[j] / window)
        state[2 * second] = 0.0
    room[0] = 0.0  # it lives until here


def session_vwap(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    time: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Volume-weighted typical price since the session's first bar; a gap is left out of the sums."""
    session = state[0]
    value = state[1]
    traded = state[2]
    for i in range(start, stop):
        today = math.floor((time[i] + 3600.0 * params[0]) / 86400.0) + 1.0
        if today != session:
            session = today
            value = 0.0
            traded = 0.0
        typical = (high[i] + low[i] + close[i]) / 3.0
        flow = typical * volume[i]
        if not math.isfinite(flow):
            out[i] = np.nan
            continue
        value += flow
        traded += volume[i]
        out[i] = value / traded if traded > 0.0 else np.nan
    state[0] = session
    state[1] = value
    state[2] = traded


def relative_volume(
    start: int,
    stop: int,
    size: int,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Volume over its mean of the window's bars before; NaN where nothing traded in them."""
    window = int(params[0])
    former = state[0]
    is_known = state[1]
    idle = int(state[2])
    for i in range(start, stop):
        average = mean(state, 3, former if is_known > 0.0 else np.nan, window)
        out[i] = volume[i] / average if average > 0.0 and idle < window else np.nan
        idle = 0 if volume[i] > 0.0 else idle + 1
        is_known = 1.0 if math.isfinite(volume[i]) else 0.0
        former = volume[i] if is_known > 0.0 else 0.0
        if not math.isfinite(out[i]):
            out[i] = np.nan
    state[0] = former
    state[1] = is_known
    state[2] = idle
