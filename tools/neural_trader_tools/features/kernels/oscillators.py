"""Oscillators: how strongly, and how far from its recent range, a price moved."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import (
    REFRESH,
    SHORT,
    SLIDING,
    SMOOTH,
    best,
    follow,
    follow_aged,
    highest,
    highest_age,
    mean,
    mean_and_its_mean,
    smooth,
    true_range,
)
from neural_trader_tools.features.kernels.extremes import BARS_MIN, BLOCK, ROOM, aged_tops, is_whole, tops
from neural_trader_tools.features.kernels.words import apart, pointer, shifted


@jit
def _gains(price: Floats, i: int, window: int, state: Floats) -> tuple[float, float]:
    """Wilder's averages of gains and losses, NaN until `window` changes are in; three slots of state."""
    if not math.isfinite(price[i]):
        state[0] = 0.0
        return np.nan, np.nan
    run = int(state[0]) + 1
    state[0] = run
    if run == 1:
        state[1] = 0.0
        state[2] = 0.0
        return np.nan, np.nan
    change = price[i] - price[i - 1]
    up = max(change, 0.0)
    down = max(-change, 0.0)
    if run <= window + 1:
        gain = state[1] + up / window
        loss = state[2] + down / window
    else:
        gain = (state[1] * (window - 1) + up) / window
        loss = (state[2] * (window - 1) + down) / window
    state[1] = gain
    state[2] = loss
    if run <= window:
        return np.nan, np.nan
    return gain, loss


def rsi(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Wilder's relative strength index, 0 … 100; 50 where the price stood still over all its history."""
    window = int(params[0])
    run = int(state[0])
    gain = state[1]
    loss = state[2]
    for i in range(start, stop):
        if not math.isfinite(price[i]):
            run = 0
            out[i] = np.nan
            continue
        run += 1
        if run == 1:
            gain = 0.0
            loss = 0.0
            out[i] = np.nan
            continue
        change = price[i] - price[i - 1]
        up = max(change, 0.0)
        down = max(-change, 0.0)
        if run <= window + 1:
            gain += up / window
            loss += down / window
        else:
            gain = (gain * (window - 1) + up) / window
            loss = (loss * (window - 1) + down) / window
        both = gain + loss
        if run <= window:
            out[i] = np.nan
        else:
            out[i] = 50.0 if both == 0.0 else 100.0 * gain / both
    state[0] = run
    state[1] = gain
    state[2] = loss


def cmo(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Chande's momentum oscillator with Wilder's averages, -100 … 100; 0 where the price stood still."""
    window = int(params[0])
    for i in range(start, stop):
        gain, loss = _gains(price, i, window, state)
        both = gain + loss
        out[i] = 0.0 if both == 0.0 else 100.0 * (gain - loss) / both


def macd(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Line, signal and histogram, all from the same bar on.

    Both averages start where the slow one has its first window, the fast one from the mean of the last
    `fast` prices there (TA-Lib's rule).
    """
    fast = int(params[0])
    slow = int(params[1])
    signal = int(params[2])
    run = int(state[0])
    quick = state[1]
    sluggish = state[2]
    average = state[3]
    total = state[4]
    for i in range(start, stop):
        x = price[i]
        out[i] = np.nan
        out[size + i] = np.nan
        out[2 * size + i] = np.nan
        if not math.isfinite(x):
            run = 0
            continue
        run += 1
        if run < slow:
            continue
        if run == slow:
            sluggish = 0.0
            quick = 0.0
            total = 0.0
            for j in range(i - slow + 1, i + 1):
                sluggish += price[j]
            for j in range(i - fast + 1, i + 1):
                quick += price[j]
            sluggish /= slow
            quick /= fast
        else:
            quick += (x - quick) * 2.0 / (fast + 1)
            sluggish += (x - sluggish) * 2.0 / (slow + 1)
        difference = quick - sluggish
        if run < slow + signal:
            total += difference
            average = total / signal
        else:
            average += (difference - average) * 2.0 / (signal + 1)
        if run >= slow + signal - 1:
            out[i] = difference
            out[size + i] = average
            out[2 * size + i] = difference - average
    state[0] = run
    state[1] = quick
    state[2] = sluggish
    state[3] = average
    state[4] = total


def apo(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Difference of a fast and a slow exponential average."""
    fast = int(params[0])
    slow = int(params[1])
    for i in range(start, stop):
        out[i] = smooth(state, 0, price[i], fast) - smooth(state, SMOOTH, price[i], slow)


def ppo(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Difference of the two averages in percent of the slow one; NaN where that is 0."""
    fast = int(params[0])
    slow = int(params[1])
    for i in range(start, stop):
        quick = smooth(state, 0, price[i], fast)
        sluggish = smooth(state, SMOOTH, price[i], slow)
        out[i] = 100.0 * (quick - sluggish) / sluggish if sluggish != 0.0 else np.nan


def trix(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Change in percent of a triple exponential average."""
    window = int(params[0])
    for i in range(start, stop):
        once = smooth(state, 0, price[i], window)
        twice = smooth(state, SMOOTH, once, window)
        former = state[2 * SMOOTH + 2]
        counted = state[2 * SMOOTH]
        thrice = smooth(state, 2 * SMOOTH, twice, window)
        out[i] = (thrice / former - 1.0) * 100.0 if counted >= window and former != 0.0 else np.nan


@jit
def _stochastic(
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
    window = int(params[0])
    smoothing = int(params[1])
    signal = int(params[2])
    tops = 5
    bottoms = tops + SLIDING + window
    smoothed = bottoms + SLIDING + window
    signalled = smoothed + SLIDING + smoothing
    run = int(state[0])
    upper = state[1]
    lower = state[2]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) else 0
        if window > SHORT:
            upper = highest(state, tops, high[i] + 0.0 * low[i], window)
            lower = highest(state, bottoms, -low[i] + 0.0 * high[i], window)
        elif run > 0:
            upper = follow(high, 1.0, i, window, run, upper)
            lower = follow(low, -1.0, i, window, run, lower)
        reach = upper + lower  # the lowest low is kept as the highest of -low
        raw = 100.0 * (close[i] + lower) / reach if run >= window and reach > 0.0 else np.nan
        k = mean(state, smoothed, raw, smoothing)
        out[i] = k
        out[size + i] = mean(state, signalled, k, signal)
    state[0] = run
    state[1] = upper
    state[2] = lower


def stochastic(
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
    """Lane's slow stochastic: %K, smoothed, and its average %D; NaN where the range is empty."""
    window = int(params[0])
    smoothing = int(params[1])
    signal = int(params[2])
    if window > SHORT or stop - start < BARS_MIN:
        _stochastic(start, stop, size, high, low, close, params, state, out)
        return
    room = np.empty(5 * ROOM)
    rows = pointer(room.ctypes.data)
    raw = shifted(rows, 4 * ROOM)
    smoothed = 5 + 2 * (SLIDING + window)
    signalled = smoothed + SLIDING + smoothing
    for i in range(start, stop, BLOCK):
        end = min(i + BLOCK, stop)
        count = end - i
        if not is_whole(high, low, i, end, int(state[0]), window):
            _stochastic(i, end, size, high, low, close, params, state, out)
            continue
        upper = tops(high, 1.0, i, count, window, rows, shifted(rows, ROOM))
        lower = tops(low, -1.0, i, count, window, shifted(rows, 2 * ROOM), shifted(rows, 3 * ROOM))
        for j in range(count):
            reach = upper[j] + lower[j]
            value = 100.0 * (close[i + j] + lower[j]) / reach
            raw[j] = value if reach > 0.0 else np.nan
        state[0] += count
        state[1] = upper[count - 1]
        state[2] = lower[count - 1]
        k, d = shifted(out, i), shifted(out, size + i)
        mean_and_its_mean(raw, count, state, smoothed, smoothing, k, signalled, signal, d)
    room[0] = 0.0  # it lives until here


def stochastic_fast(
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
    """Lane's fast stochastic: %K unsmoothed, and its average %D."""
    window = int(params[0])
    signal = int(params[1])
    second = SLIDING + window
    third = second + SLIDING + window
    for i in range(start, stop):
        upper = best(high, 1.0, i, window, state, 0)
        lower = -best(low, -1.0, i, window, state, second)
        raw = 100.0 * (close[i] - lower) / (upper - lower) if upper > lower else np.nan
        out[i] = raw + 0.0
        out[size + i] = mean(state, third, raw, signal)


def stochastic_rsi(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Where the RSI stands in its own range (%K), and its average %D; NaN where that range is empty."""
    window = int(params[0])
    reach = int(params[1])
    signal = int(params[2])
    first = 3
    second = first + SLIDING + reach
    third = second + SLIDING + reach
    for i in range(start, stop):
        gain, loss = _gains(price, i, window, state)
        both = gain + loss
        strength = 50.0 if both == 0.0 else 100.0 * gain / both
        upper = highest(state, first, strength, reach)
        lower = -highest(state, second, -strength, reach)
        raw = 100.0 * (strength - lower) / (upper - lower) if upper > lower else np.nan
        out[i] = raw
        out[size + i] = mean(state, third, raw, signal)


@jit
def _williams_r(
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
    window = int(params[0])
    run = int(state[0])
    upper = state[1]
    lower = state[2]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) else 0
        if window > SHORT:
            upper = highest(state, 5, high[i] + 0.0 * low[i], window)
            lower = highest(state, 5 + SLIDING + window, -low[i] + 0.0 * high[i], window)
        elif run > 0:
            upper = follow(high, 1.0, i, window, run, upper)
            lower = follow(low, -1.0, i, window, run, lower)
        reach = upper + lower  # the lowest low is kept as the highest of -low
        out[i] = -100.0 * (upper - close[i]) / reach if run >= window and reach > 0.0 else np.nan
    state[0] = run
    state[1] = upper
    state[2] = lower


def williams_r(
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
    """Williams' %R, -100 … 0; NaN where the range is empty."""
    window = int(params[0])
    if window > SHORT or stop - start < BARS_MIN:
        _williams_r(start, stop, size, high, low, close, params, state, out)
        return
    room = np.empty(4 * ROOM)
    rows = pointer(room.ctypes.data)
    for i in range(start, stop, BLOCK):
        end = min(i + BLOCK, stop)
        if not is_whole(high, low, i, end, int(state[0]), window):
            _williams_r(i, end, size, high, low, close, params, state, out)
            continue
        upper = tops(high, 1.0, i, end - i, window, rows, shifted(rows, ROOM))
        lower = tops(low, -1.0, i, end - i, window, shifted(rows, 2 * ROOM), shifted(rows, 3 * ROOM))
        for j in range(end - i):
            reach = upper[j] + lower[j]
            value = -100.0 * (upper[j] - close[i + j]) / reach
            out[i + j] = value if reach > 0.0 else np.nan
        state[0] += end - i
        state[1] = upper[end - i - 1]
        state[2] = lower[end - i - 1]
    room[0] = 0.0  # it lives until here


@jit
def _cci(
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
    window = int(params[0])
    ring = 3
    run = int(state[0])
    place = int(state[1])
    total = state[2]
    whole = window - window % 4
    part = 1.0 / window
    for i in range(start, stop):
        typical = (high[i] + low[i] + close[i]) / 3.0
        if not math.isfinite(typical):
            run = 0
            place = 0
            total = 0.0
            out[i] = np.nan
            continue
        run += 1
        total += typical
        if run > window:
            total -= state[ring + place]
        state[ring + place] = typical
        place = place + 1 if place + 1 < window else 0
        if run < window:
            out[i] = np.nan
            continue
        if run % REFRESH == 0:
            total = 0.0
            for j in range(window):
                total += state[ring + j]
        average = total * part
        s0 = s1 = s2 = s3 = 0.0
        for j in range(0, whole, 4):
            s0 += abs(state[ring + j] - average)
            s1 += abs(state[ring + j + 1] - average)
            s2 += abs(state[ring + j + 2] - average)
            s3 += abs(state[ring + j + 3] - average)
        for j in range(whole, window):
            s0 += abs(state[ring + j] - average)
        deviation = (s0 + s1 + s2 + s3) * part
        out[i] = (typical - average) / (0.015 * deviation) if deviation > 1e-14 * abs(average) else np.nan
    state[0] = run
    state[1] = place
    state[2] = total


def cci(
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
    """Lambert's commodity channel index; NaN where nothing varies. It costs a window a bar by nature."""
    window = int(params[0])
    if window > SHORT or stop - start < BARS_MIN:
        _cci(start, stop, size, high, low, close, params, state, out)
        return
    ring = 3
    whole = window - window % 4
    part = 1.0 / window
    room = np.empty(ROOM)
    typical = pointer(room.ctypes.data)
    for i in range(start, stop, BLOCK):
        end = min(i + BLOCK, stop)
        run = int(state[0])
        first = i - 2 * window
        good = 0
        if run >= 2 * window:
            for j in range(end - first):
                typical[j] = (high[first + j] + low[first + j] + close[first + j]) / 3.0
                good += 1 if abs(typical[j]) <= 1e300 else 0
        if good == 0 or good < end - first:
            _cci(i, end, size, high, low, close, params, state, out)
            continue
        # The places of the kernel's ring, in its order: those up to this bar's hold this round's values,
        # the others the last round's.
        place = int(state[1])
        total = state[2]
        for j in range(2 * window, end - first):
            run += 1
            place += 1
            fresh = j - place + 1
            old = fresh - window
            total += typical[j]
            total -= typical[j - window]
            if run % REFRESH == 0:
                total = 0.0
                for k in range(window):
                    total += typical[fresh + k if k < place else old + k]
            average = total * part
            s0, s1, s2, s3 = apart(shifted(typical, fresh), shifted(typical, old), place, whole, average)
            for k in range(whole, window):
                s0 += abs(typical[fresh + k if k < place else old + k] - average)
            deviation = (s0 + s1 + s2 + s3) * part
            value = (typical[j] - average) / (0.015 * deviation)
            out[first + j] = value if deviation > 1e-14 * abs(average) else np.nan
            place = place if place < window else 0
        state[0] = run
        state[1] = place
        state[2] = total
        for k in range(window):
            j = end - first - place + k
            state[ring + k] = typical[j if k < place else j - window]
    room[0] = 0.0  # it lives until here


def ultimate_oscillator(
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
    """Williams' ultimate oscillator over three windows, 0 … 100; NaN where there was no range."""
    w1 = int(params[0])
    w2 = int(params[1])
    w3 = int(params[2])
    run = int(state[0])
    a1 = 1
    a2 = a1 + SLIDING + w1
    a3 = a2 + SLIDING + w2
    b1 = a3 + SLIDING + w3
    b2 = b1 + SLIDING + w1
    b3 = b2 + SLIDING + w2
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i] + close[i]) else 0
        pressure = np.nan
        reach = np.nan
        if run > 1:
            pressure = close[i] - min(low[i], close[i - 1])
            reach = true_range(high[i], low[i], close[i - 1])
        p1 = mean(state, a1, pressure, w1)
        p2 = mean(state, a2, pressure, w2)
        p3 = mean(state, a3, pressure, w3)
        r1 = mean(state, b1, reach, w1)
        r2 = mean(state, b2, reach, w2)
        r3 = mean(state, b3, reach, w3)
        if r1 > 0.0 and r2 > 0.0 and r3 > 0.0:
            out[i] = 100.0 * (4.0 * p1 / r1 + 2.0 * p2 / r2 + p3 / r3) / 7.0
        else:
            out[i] = np.nan
    state[0] = run


def balance_of_power(
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
    """(close - open) / (high - low) of each bar; NaN where the bar has no range."""
    for i in range(start, stop):
        reach = high[i] - low[i]
        value = (close[i] - opening[i]) / reach if reach > 0.0 else np.nan
        out[i] = value if math.isfinite(value) else np.nan


@jit
def _aroon(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    window = int(params[0])
    tops = 5
    bottoms = tops + SLIDING + 1 + 2 * (window + 1)
    run = int(state[0])
    upper = state[1]
    rising = int(state[2])
    lower = state[3]
    falling = int(state[4])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) else 0
        if window >= SHORT:
            since_high = highest_age(state, tops, high[i] + 0.0 * low[i], window + 1)
            since_low = highest_age(state, bottoms, -low[i] + 0.0 * high[i], window + 1)
            rising = int(since_high) if run > window else 0
            falling = int(since_low) if run > window else 0
        elif run > 0:
            upper, rising = follow_aged(high, 1.0, i, window + 1, run, upper, rising)
            lower, falling = follow_aged(low, -1.0, i, window + 1, run, lower, falling)
        up = 100.0 * (window - rising) / window if run > window else np.nan
        down = 100.0 * (window - falling) / window if run > window else np.nan
        out[i] = up
        out[size + i] = down
        out[2 * size + i] = up - down
    state[0] = run
    state[1] = upper
    state[2] = rising
    state[3] = lower
    state[4] = falling


def aroon(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Chande's Aroon: how recent the highest high and the lowest low of window + 1 bars are."""
    window = int(params[0])
    if window >= SHORT or stop - start < BARS_MIN:
        _aroon(start, stop, size, high, low, params, state, out)
        return
    room = np.empty(8 * ROOM)
    rows = pointer(room.ctypes.data)
    for i in range(start, stop, BLOCK):
        end = min(i + BLOCK, stop)
        count = end - i
        if not is_whole(high, low, i, end, int(state[0]), window + 1):
            _aroon(i, end, size, high, low, params, state, out)
            continue
        upper, rising = aged_tops(
            high,
            1.0,
            i,
            count,
            window + 1,
            rows,
            shifted(rows, ROOM),
            shifted(rows, 2 * ROOM),
            shifted(rows, 3 * ROOM),
        )
        lower, falling = aged_tops(
            low,
            -1.0,
            i,
            count,
            window + 1,
            shifted(rows, 4 * ROOM),
            shifted(rows, 5 * ROOM),
            shifted(rows, 6 * ROOM),
            shifted(rows, 7 * ROOM),
        )
        whole = float(window)
        for j in range(count):
            up = 100.0 * (whole - rising[j]) / whole
            down = 100.0 * (whole - falling[j]) / whole
            out[i + j] = up
            out[size + i + j] = down
            out[2 * size + i + j] = up - down
        state[0] += count
        state[1] = upper[count - 1]
        state[2] = rising[count - 1]
        state[3] = lower[count - 1]
        state[4] = falling[count - 1]
    room[0] = 0.0  # it lives until here
