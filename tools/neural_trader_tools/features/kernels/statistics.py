"""Statistics of a sliding window: spread, standing, lines through it, and co-movement."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import REFRESH, settled, slide


def stddev(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Population standard deviation, times a width."""
    window = int(params[0])
    run = int(state[0])
    average = state[1]
    spread = state[2]
    peak = state[3]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        if run < window:
            out[i] = np.nan
            continue
        average, spread, peak = slide(price, i, window, run, average, spread, peak)
        out[i] = params[1] * math.sqrt(settled(average, spread, window) / window)
    state[0] = run
    state[1] = average
    state[2] = spread
    state[3] = peak


def variance(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Population variance."""
    window = int(params[0])
    run = int(state[0])
    average = state[1]
    spread = state[2]
    peak = state[3]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        if run < window:
            out[i] = np.nan
            continue
        average, spread, peak = slide(price, i, window, run, average, spread, peak)
        out[i] = settled(average, spread, window) / window
    state[0] = run
    state[1] = average
    state[2] = spread
    state[3] = peak


def zscore(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Distance from the window's mean in population deviations; NaN where nothing varies."""
    window = int(params[0])
    run = int(state[0])
    average = state[1]
    spread = state[2]
    peak = state[3]
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        if run < window:
            out[i] = np.nan
            continue
        average, spread, peak = slide(price, i, window, run, average, spread, peak)
        squares = settled(average, spread, window)
        out[i] = (price[i] - average) / math.sqrt(squares / window) if squares > 0.0 else np.nan
    state[0] = run
    state[1] = average
    state[2] = spread
    state[3] = peak


def percentile_rank(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Percentage of the window's former values that this one exceeds, ties counting half; O(window)."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        x = price[i]
        run = run + 1 if math.isfinite(x) else 0
        if run < window:
            out[i] = np.nan
            continue
        below = 0.0
        for j in range(i - window + 1, i):
            below += 1.0 if price[j] < x else (0.5 if price[j] == x else 0.0)
        out[i] = 100.0 * below / (window - 1)
    state[0] = run


def skewness(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Sample skewness of log returns (Fisher's, adjusted); NaN where nothing varies; O(window)."""
    window = int(params[0])
    run = int(state[0])
    ring = 1
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) and price[i] > 0.0 else 0
        if run > 1:
            state[ring + (run - 2) % window] = math.log(price[i] / price[i - 1])
        if run <= window:
            out[i] = np.nan
            continue
        average = 0.0
        for j in range(window):
            average += state[ring + j]
        average /= window
        second = 0.0
        third = 0.0
        for j in range(window):
            d = state[ring + j] - average
            second += d * d
            third += d * d * d
        second /= window
        if second <= 1e-28:
            out[i] = np.nan
        else:
            adjustment = math.sqrt(window * (window - 1.0)) / (window - 2.0)
            out[i] = adjustment * (third / window) / second**1.5
    state[0] = run


def kurtosis(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Sample excess kurtosis of log returns (adjusted); NaN where nothing varies; O(window)."""
    window = int(params[0])
    run = int(state[0])
    ring = 1
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) and price[i] > 0.0 else 0
        if run > 1:
            state[ring + (run - 2) % window] = math.log(price[i] / price[i - 1])
        if run <= window:
            out[i] = np.nan
            continue
        average = 0.0
        for j in range(window):
            average += state[ring + j]
        average /= window
        second = 0.0
        fourth = 0.0
        for j in range(window):
            d = (state[ring + j] - average) ** 2
            second += d
            fourth += d * d
        second /= window
        if second <= 1e-28:
            out[i] = np.nan
        else:
            plain = fourth / window / (second * second) - 3.0
            n = float(window)
            out[i] = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * plain + 6.0)
    state[0] = run


def rolling_sum(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Sum of the last `window` values."""
    window = int(params[0])
    run = int(state[0])
    total = state[1]
    for i in range(start, stop):
        if not math.isfinite(price[i]):
            run = 0
            total = 0.0
            out[i] = np.nan
            continue
        run += 1
        total += price[i]
        if run > window:
            total -= price[i - window]
            if run % REFRESH == 0:
                total = 0.0
                for j in range(i - window + 1, i + 1):
                    total += price[j]
        out[i] = total if run >= window else np.nan
    state[0] = run
    state[1] = total


def mean_deviation(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Mean distance from the window's mean; O(window)."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        out[i] = np.nan
        if run < window:
            continue
        average = 0.0
        for j in range(i - window + 1, i + 1):
            average += price[j]
        average /= window
        far = 0.0
        for j in range(i - window + 1, i + 1):
            far += abs(price[j] - average)
        out[i] = far / window
    state[0] = run


def linear_regression(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Least-squares line through the window: last value, slope a bar, first value, degrees, next value."""
    window = int(params[0])
    run = int(state[0])
    total = state[1]
    rising = state[2]
    n = float(window)
    middle = (n - 1.0) / 2.0
    squares = n * (n * n - 1.0) / 12.0
    for i in range(start, stop):
        x = price[i]
        if not math.isfinite(x):
            run = 0
            total = 0.0
            rising = 0.0
            for row in range(5):
                out[row * size + i] = np.nan
            continue
        run += 1
        if run <= window:
            total += x
            rising += (run - 1) * x
        else:
            rising += (n - 1.0) * x - (total - price[i - window])
            total += x - price[i - window]
            if run % REFRESH == 0:
                total = 0.0
                rising = 0.0
                for j in range(window):
                    total += price[i - window + 1 + j]
                    rising += j * price[i - window + 1 + j]
        if run < window:
            for row in range(5):
                out[row * size + i] = np.nan
            continue
        slope = (rising - middle * total) / squares
        first = total / n - slope * middle
        out[i] = first + slope * (n - 1.0)
        out[size + i] = slope
        out[2 * size + i] = first
        out[3 * size + i] = math.degrees(math.atan(slope))
        out[4 * size + i] = first + slope * n
    state[0] = run
    state[1] = total
    state[2] = rising


@jit
def _squares(left: Floats, right: Floats, i: int, window: int) -> tuple[float, float, float]:
    """Sums of squared deviations of both columns, and of their product, over the window that ends at i."""
    a = 0.0
    b = 0.0
    for j in range(i - window + 1, i + 1):
        a += left[j]
        b += right[j]
    a /= window
    b /= window
    aa = 0.0
    bb = 0.0
    ab = 0.0
    for j in range(i - window + 1, i + 1):
        aa += (left[j] - a) ** 2
        bb += (right[j] - b) ** 2
        ab += (left[j] - a) * (right[j] - b)
    return aa, bb, ab


def correlation(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Pearson's correlation of highs and lows; NaN where one of them does not vary; O(window)."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) else 0
        out[i] = np.nan
        if run >= window:
            aa, bb, ab = _squares(high, low, i, window)
            if aa > 1e-28 * high[i] ** 2 and bb > 1e-28 * low[i] ** 2:
                out[i] = min(1.0, max(-1.0, ab / math.sqrt(aa * bb)))
    state[0] = run


def price_volume_correlation(
    start: int,
    stop: int,
    size: int,
    close: Floats,
    volume: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Pearson's correlation of closes and volumes; NaN where one of them does not vary; O(window)."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(close[i] + volume[i]) else 0
        out[i] = np.nan
        if run >= window:
            aa, bb, ab = _squares(close, volume, i, window)
            if aa > 1e-28 * close[i] ** 2 and bb > 1e-28 * volume[i] ** 2:
                out[i] = min(1.0, max(-1.0, ab / math.sqrt(aa * bb)))
    state[0] = run


def beta(
    start: int,
    stop: int,
    size: int,
    high: Floats,
    low: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Slope of the lows' returns on the highs' over the window; NaN where those do not vary; O(window)."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(high[i] + low[i]) and high[i] > 0.0 and low[i] > 0.0 else 0
        out[i] = np.nan
        if run <= window:
            continue
        a = 0.0
        b = 0.0
        for j in range(i - window + 1, i + 1):
            a += high[j] / high[j - 1] - 1.0
            b += low[j] / low[j - 1] - 1.0
        a /= window
        b /= window
        aa = 0.0
        ab = 0.0
        for j in range(i - window + 1, i + 1):
            d = high[j] / high[j - 1] - 1.0 - a
            aa += d * d
            ab += d * (low[j] / low[j - 1] - 1.0 - b)
        if aa > 1e-28:
            out[i] = ab / aa
    state[0] = run


def autocorrelation(
    start: int,
    stop: int,
    size: int,
    price: Floats,
    params: Floats,
    state: Floats,
    out: Floats,
) -> None:
    """Correlation of log returns with those one bar before; NaN where nothing varies; O(window)."""
    window = int(params[0])
    run = int(state[0])
    ring = 1
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) and price[i] > 0.0 else 0
        if run > 1:
            state[ring + (run - 2) % (window + 1)] = math.log(price[i] / price[i - 1])
        if run <= window + 1:
            out[i] = np.nan
            continue
        oldest = (run - 1) % (window + 1)
        now = 0.0
        then = 0.0
        for j in range(window):
            then += state[ring + (oldest + j) % (window + 1)]
            now += state[ring + (oldest + j + 1) % (window + 1)]
        now /= window
        then /= window
        aa = 0.0
        bb = 0.0
        ab = 0.0
        for j in range(window):
            a = state[ring + (oldest + j) % (window + 1)] - then
            b = state[ring + (oldest + j + 1) % (window + 1)] - now
            aa += a * a
            bb += b * b
            ab += a * b
        out[i] = min(1.0, max(-1.0, ab / math.sqrt(aa * bb))) if aa > 1e-28 and bb > 1e-28 else np.nan
    state[0] = run
