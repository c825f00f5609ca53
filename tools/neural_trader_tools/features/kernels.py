"""Feature kernels: float64 arrays in, float64 arrays of the same length out.

Rules that hold for every kernel:

- Causal: the value at i depends on bars 0 … i only. Ending the data at i gives the same value at i.
- NaN until warmed up (the catalogue states the look-back), and NaN where a definition has no value.
- A NaN or an infinity in an input gives NaN there and starts the warm-up anew after it: a gap is never
  bridged.
- Recursive averages start from the plain mean of their first window, as TA-Lib's do.

This module imports numpy and numba only: it also runs inside the sandbox.
"""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit, kernel


@jit
def _before(values: Floats, window: int) -> Floats:
    """The value `window` bars back, NaN where a gap lies between."""
    out = np.full(values.size, np.nan)
    run = 0
    for i in range(values.size):
        run = run + 1 if math.isfinite(values[i]) else 0
        if run > window:
            out[i] = values[i - window]
    return out


@kernel
def returns(price: Floats, window: int) -> Floats:
    """Simple return over `window` bars: p[i] / p[i - window] - 1; NaN where the price was 0."""
    out = _before(price, window)
    for i in range(price.size):
        out[i] = price[i] / out[i] - 1.0 if out[i] != 0.0 else np.nan
    return out


@kernel
def log_returns(price: Floats, window: int) -> Floats:
    """Log return over `window` bars: ln(p[i] / p[i - window]); NaN where a price is not positive."""
    out = _before(price, window)
    for i in range(price.size):
        out[i] = math.log(price[i] / out[i]) if price[i] > 0.0 and out[i] > 0.0 else np.nan
    return out


@kernel
def momentum(price: Floats, window: int) -> Floats:
    """Difference over `window` bars: p[i] - p[i - window]."""
    return price - _before(price, window)


@kernel
def roc(price: Floats, window: int) -> Floats:
    """Rate of change in percent: 100 (p[i] / p[i - window] - 1)."""
    out = _before(price, window)
    for i in range(price.size):
        out[i] = (price[i] / out[i] - 1.0) * 100.0 if out[i] != 0.0 else np.nan
    return out


@jit
def _mean(values: Floats, window: int) -> Floats:
    out = np.empty(values.size)
    total = 0.0
    run = 0
    for i in range(values.size):
        if not math.isfinite(values[i]):
            run = 0
            total = 0.0
            out[i] = np.nan
            continue
        total += values[i]
        run += 1
        if run > window:
            total -= values[i - window]
        if run > window and run % 1024 == 0:
            total = 0.0  # afresh, so that rounding never accumulates
            for j in range(i - window + 1, i + 1):
                total += values[j]
        out[i] = total / window if run >= window else np.nan
    return out


@kernel
def sma(values: Floats, window: int) -> Floats:
    """Simple moving average of the last `window` values."""
    return _mean(values, window)


@kernel
def ema(values: Floats, window: int) -> Floats:
    """Exponential moving average, smoothing 2 / (window + 1), started from the first window's mean."""
    out = np.empty(values.size)
    smoothing = 2.0 / (window + 1)
    total = 0.0
    average = 0.0
    run = 0
    for i in range(values.size):
        x = values[i]
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
    return out


@jit
def _moments(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Mean and sum of squared deviations of the last `window` values.

    Both slide by Welford's update. Where the rounding of former, larger sums could show (the sum fell to
    a ten-thousandth of its peak, or 1,024 bars have passed), the window itself is summed anew. A
    deviation below what a double resolves is 0.
    """
    mean = np.full(values.size, np.nan)
    squares = np.full(values.size, np.nan)
    average = 0.0
    spread = 0.0
    peak = 0.0
    run = 0
    for i in range(values.size):
        x = values[i]
        if not math.isfinite(x):
            run = 0
            continue
        run += 1
        if run < window:
            continue
        if run > window:
            old = values[i - window]
            former = average
            average += (x - old) / window
            spread += (x - old) * (x - average + old - former)
            peak = max(peak, spread)
        if run == window or run % 1024 == 0 or spread < 1e-4 * peak:
            average = 0.0
            for j in range(i - window + 1, i + 1):
                average += values[j]
            average /= window
            spread = 0.0
            for j in range(i - window + 1, i + 1):
                spread += (values[j] - average) ** 2
            peak = spread
        mean[i] = average
        squares[i] = spread if spread > window * (1e-14 * average) ** 2 else 0.0
    return mean, squares


@kernel
def zscore(values: Floats, window: int) -> Floats:
    """Distance from the window's mean in population standard deviations; NaN where nothing varies."""
    mean, squares = _moments(values, window)
    out = np.full(values.size, np.nan)
    for i in range(values.size):
        if squares[i] > 0.0:
            out[i] = (values[i] - mean[i]) / math.sqrt(squares[i] / window)
    return out


@kernel
def bbands(values: Floats, window: int, width: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Bollinger bands: upper, middle, lower, and %b, where the value stands between them (0 … 1).

    The bands lie `width` population standard deviations from the mean; %b is NaN where they coincide.
    """
    mean, squares = _moments(values, window)
    upper = np.empty(values.size)
    lower = np.empty(values.size)
    percent_b = np.full(values.size, np.nan)
    for i in range(values.size):
        half = width * math.sqrt(squares[i] / window)
        upper[i] = mean[i] + half
        lower[i] = mean[i] - half
        if half > 0.0:
            percent_b[i] = (values[i] - lower[i]) / (2.0 * half)
    return upper, mean, lower, percent_b


@kernel
def volatility(price: Floats, window: int, periods: float) -> Floats:
    """Annualised volatility: sample deviation of `window` log returns times sqrt(periods a year).

    NaN for a window of 1, which has no sample deviation.
    """
    change = np.full(price.size, np.nan)
    for i in range(1, price.size):
        if price[i] > 0.0 and price[i - 1] > 0.0:
            change[i] = math.log(price[i] / price[i - 1])
    out = np.full(price.size, np.nan)
    if window > 1:
        _, squares = _moments(change, window)
        for i in range(price.size):
            out[i] = math.sqrt(squares[i] / (window - 1) * periods)
    return out


@kernel
def rsi(price: Floats, window: int) -> Floats:
    """Wilder's relative strength index, 0 … 100; 50 where price stood still over all its history."""
    out = np.full(price.size, np.nan)
    gain = 0.0
    loss = 0.0
    run = 0
    for i in range(price.size):
        if not math.isfinite(price[i]):
            run = 0
            gain = 0.0
            loss = 0.0
            continue
        run += 1
        if run == 1:
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
        if run > window:
            both = gain + loss
            out[i] = 100.0 * gain / both if both > 0.0 else 50.0
    return out


@kernel
def macd(price: Floats, fast: int, slow: int, signal: int) -> tuple[Floats, Floats, Floats]:
    """Moving average convergence/divergence: line, signal and histogram, all from the same bar on.

    Both averages start where the slow one has its first window, the fast one from the mean of the last
    `fast` prices there (TA-Lib's rule). NaN where `fast` is not below `slow`.
    """
    line = np.full(price.size, np.nan)
    trigger = np.full(price.size, np.nan)
    histogram = np.full(price.size, np.nan)
    if fast >= slow:
        return line, trigger, histogram
    quick = 0.0
    sluggish = 0.0
    average = 0.0
    total = 0.0
    run = 0
    for i in range(price.size):
        x = price[i]
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
            line[i] = difference
            trigger[i] = average
            histogram[i] = difference - average
    return line, trigger, histogram


@kernel
def atr(high: Floats, low: Floats, close: Floats, window: int) -> Floats:
    """Wilder's average true range, in price units; the first bar has no true range."""
    out = np.full(close.size, np.nan)
    average = 0.0
    run = 0
    for i in range(close.size):
        if not math.isfinite(high[i] + low[i] + close[i]):
            run = 0
            average = 0.0
            continue
        run += 1
        if run == 1:
            continue
        before = close[i - 1]
        reach = max(high[i] - low[i], max(abs(high[i] - before), abs(low[i] - before)))
        if run <= window + 1:
            average += reach / window
        else:
            average = (average * (window - 1) + reach) / window
        if run > window:
            out[i] = average
    return out


@jit
def _highest(values: Floats, window: int) -> Floats:
    """Maximum of the last `window` values, by a queue of falling candidates: O(1) a bar."""
    out = np.full(values.size, np.nan)
    queue = np.empty(window, np.int64)
    first = 0
    held = 0
    run = 0
    for i in range(values.size):
        x = values[i]
        if not math.isfinite(x):
            run = 0
            held = 0
            continue
        run += 1
        if held > 0 and queue[first] <= i - window:
            first = (first + 1) % window
            held -= 1
        while held > 0 and values[queue[(first + held - 1) % window]] <= x:
            held -= 1
        queue[(first + held) % window] = i
        held += 1
        if run >= window:
            out[i] = values[queue[first]]
    return out


@kernel
def rolling_max(values: Floats, window: int) -> Floats:
    """Maximum of the last `window` values."""
    return _highest(values, window)


@kernel
def rolling_min(values: Floats, window: int) -> Floats:
    """Minimum of the last `window` values."""
    return -_highest(-values, window)


@kernel
def donchian(high: Floats, low: Floats, window: int) -> tuple[Floats, Floats, Floats]:
    """Donchian channel of the last `window` bars, this one included: upper, middle, lower."""
    upper = _highest(high, window)
    lower = -_highest(-low, window)
    return upper, (upper + lower) / 2.0, lower


@kernel
def stochastic(
    high: Floats, low: Floats, close: Floats, window: int, smooth: int, signal: int
) -> tuple[Floats, Floats]:
    """Lane's slow stochastic: %K, where the close stands in the window's range, and its average %D.

    %K is smoothed over `smooth` bars and %D over `signal` more; NaN where the range is empty.
    """
    upper = _highest(high, window)
    lower = -_highest(-low, window)
    raw = np.full(close.size, np.nan)
    for i in range(close.size):
        if upper[i] > lower[i]:
            raw[i] = 100.0 * (close[i] - lower[i]) / (upper[i] - lower[i])
    k = _mean(raw, smooth)
    return k, _mean(k, signal)


@kernel
def obv(close: Floats, volume: Floats) -> Floats:
    """Granville's on-balance volume, from the first bar's volume on; it starts anew after a NaN."""
    out = np.empty(close.size)
    total = 0.0
    run = 0
    for i in range(close.size):
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
    return out


@kernel
def vwap(high: Floats, low: Floats, close: Floats, volume: Floats, window: int) -> Floats:
    """Volume-weighted average of the typical price (high + low + close) / 3 over `window` bars.

    NaN where nothing traded.
    """
    typical = (high + low + close) / 3.0
    value = _mean(typical * volume, window)
    traded = _mean(volume + 0.0 * typical, window)
    out = np.full(close.size, np.nan)
    idle = 0
    for i in range(close.size):
        # Counted, because a sum that slides over fractional volumes may not return to 0 exactly.
        idle = 0 if volume[i] > 0.0 else idle + 1
        if idle < window and traded[i] > 0.0:
            out[i] = value[i] / traded[i]
    return out


def warm_up() -> None:
    """Calls each kernel once, so that its machine code is loaded (or compiled and cached)."""
    x = np.array([1.0, 2.0, 1.5, 2.5, 2.0])
    for over_window in (returns, log_returns, momentum, roc, sma, ema, zscore, rsi, rolling_max, rolling_min):
        over_window(x, 2)
    bbands(x, 2, 2.0)
    volatility(x, 2, 252.0)
    macd(x, 1, 2, 2)
    atr(x, x, x, 2)
    donchian(x, x, 2)
    stochastic(x, x, x, 2, 1, 1)
    obv(x, x)
    vwap(x, x, x, x, 2)
