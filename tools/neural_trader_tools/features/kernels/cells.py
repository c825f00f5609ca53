"""Cells: the small pieces of rolling state that kernels are made of.

A cell keeps its numbers in `state` from the index `at` on and takes one value a bar. It returns NaN until
its window is full; a value that is not finite empties it, so that no gap is ever bridged. How many slots a
cell takes is said with it. All are O(1) a bar (`highest` amortised: once a window it costs a window).
"""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit

REFRESH = 1024
"""Sliding sums are summed anew this often, so that rounding never accumulates."""

SHORT = 64
"""Windows up to this are quicker searched than kept in order."""

STEP = 16
"""So many values at a time, which are divided in vectors."""

SMOOTH = 3
WILDER = 2
SLIDING = 3
"""Slots of a cell, without its ring of `window` values."""


@jit
def smooth(state: Floats, at: int, x: float, window: int) -> float:
    """Exponential average, 2 / (window + 1), from the first window's mean; `SMOOTH` slots."""
    if not math.isfinite(x):
        state[at] = 0.0
        state[at + 1] = 0.0
        return np.nan
    run = state[at] + 1.0
    state[at] = run
    if run <= window:
        state[at + 1] += x
        average = state[at + 1] / window
    else:
        average = state[at + 2] + (x - state[at + 2]) * (2.0 / (window + 1))
    state[at + 2] = average
    return average if run >= window else np.nan


@jit
def wilder(state: Floats, at: int, x: float, window: int) -> float:
    """Wilder's average, 1 / window, from the first window's mean; `WILDER` slots."""
    if not math.isfinite(x):
        state[at] = 0.0
        state[at + 1] = 0.0
        return np.nan
    run = state[at] + 1.0
    state[at] = run
    if run <= window:
        state[at + 1] += x / window
    else:
        state[at + 1] = (state[at + 1] * (window - 1) + x) / window
    return state[at + 1] if run >= window else np.nan


@jit
def mean(state: Floats, at: int, x: float, window: int) -> float:
    """Mean of the last `window` values; `SLIDING + window` slots (run, total, place, ring)."""
    if not math.isfinite(x):
        state[at] = 0.0
        state[at + 1] = 0.0
        state[at + 2] = 0.0
        return np.nan
    run = int(state[at]) + 1
    place = int(state[at + 2])
    total = state[at + 1] + x
    ring = at + 3
    if run > window:
        total -= state[ring + place]
    state[ring + place] = x
    place = place + 1 if place + 1 < window else 0
    if run > window and run % REFRESH == 0:
        total = 0.0
        for j in range(place, window):
            total += state[ring + j]
        for j in range(place):
            total += state[ring + j]
    state[at] = run
    state[at + 1] = total
    state[at + 2] = place
    return total / window if run >= window else np.nan


@jit
def mean_and_its_mean(
    values: Floats, count: int, state: Floats, at: int, window: int, out: Floats, other: int,
    other_window: int, other_out: Floats,
) -> None:  # fmt: skip
    """`mean` of several values in a row, and the `mean` of that, in registers where none is missing.

    The two sums slide a few values at a time in turn, so that a processor need not wait for the last addition
    of one before it begins with the other.
    """
    i = 0
    while i < count:
        run = int(state[at])
        other_run = int(state[other])
        if run >= window and i >= window and other_run >= other_window:
            # Up to the bar before the next fresh sum, and to the next gap.
            end = min(count, i + REFRESH - 1 - max(run % REFRESH, other_run % REFRESH))
            total = state[at + 1]
            other_total = state[other + 1]
            begin = i
            while i + STEP <= end and is_finite(values, i, i + STEP):
                for j in range(i, i + STEP):
                    total = total + values[j] - values[j - window]
                    out[j] = total
                for j in range(i, i + STEP):
                    out[j] = out[j] / window
                for j in range(i, i + STEP):
                    other_total = other_total + out[j] - out[j - other_window]
                    other_out[j] = other_total
                for j in range(i, i + STEP):
                    other_out[j] = other_out[j] / other_window
                i += STEP
            if i > begin:
                _settle(state, at, total, run + i - begin, window, values, i)
                _settle(state, other, other_total, other_run + i - begin, other_window, out, i)
        if i < count:
            out[i] = mean(state, at, values[i], window)
            other_out[i] = mean(state, other, out[i], other_window)
            i += 1


@jit
def _settle(state: Floats, at: int, total: float, run: int, window: int, values: Floats, i: int) -> None:
    """Leaves in a cell of sliding sums what it would have after the values before `i`."""
    place = run % window
    state[at] = run
    state[at + 1] = total
    state[at + 2] = place
    for j in range(window):
        state[at + 3 + (place + j) % window] = values[i - window + j]


@jit
def is_finite(values: Floats, start: int, stop: int) -> bool:
    """Whether all values are finite: a value minus itself is 0 only then."""
    found = 0
    for i in range(stop - start):
        found |= values[start + i] - values[start + i] != 0.0
    return found == 0


@jit
def two_sums(
    values: Floats, others: Floats, count: int, state: Floats, at: int, other: int, window: int, out: Floats,
    other_out: Floats,
) -> None:  # fmt: skip
    """The sums of two full `mean`s over a block without gaps; before it lie `window` values more."""
    run = int(state[at])
    total = state[at + 1]
    other_total = state[other + 1]
    i = 0
    while i < count:
        end = min(count, i + REFRESH - run % REFRESH)
        for j in range(i, end):
            total += values[j]
            total -= values[j - window]
            other_total += others[j]
            other_total -= others[j - window]
            out[j] = total
            other_out[j] = other_total
        run += end - i
        i = end
        if run % REFRESH == 0:
            total = 0.0
            other_total = 0.0
            for j in range(i - window, i):
                total += values[j]
                other_total += others[j]
            out[i - 1] = total
            other_out[i - 1] = other_total
    place = run % window
    for cell, row, end_total in ((at, values, total), (other, others, other_total)):
        state[cell] = run
        state[cell + 1] = end_total
        state[cell + 2] = place
        for j in range(window):
            state[cell + 3 + (place + j) % window] = row[count - window + j]


@jit
def weighted(state: Floats, at: int, x: float, window: int) -> float:
    """Linearly weighted mean, the newest weighing `window`; `SLIDING + 1 + window` slots."""
    if not math.isfinite(x):
        for slot in range(4):
            state[at + slot] = 0.0
        return np.nan
    run = int(state[at]) + 1
    place = int(state[at + 2])
    total = state[at + 1]
    rising = state[at + 3]
    ring = at + 4
    if run <= window:
        rising += run * x
        total += x
    else:
        rising += window * x - total
        total += x - state[ring + place]
    state[ring + place] = x
    place = place + 1 if place + 1 < window else 0
    if run > window and run % REFRESH == 0:
        total = 0.0
        rising = 0.0
        for j in range(window):
            old = state[ring + (place + j) % window]
            total += old
            rising += (j + 1) * old
    state[at] = run
    state[at + 1] = total
    state[at + 2] = place
    state[at + 3] = rising
    return rising / (0.5 * window * (window + 1)) if run >= window else np.nan


@jit
def before(state: Floats, at: int, x: float, window: int) -> float:
    """The value `window` bars back; `SLIDING + window` slots."""
    if not math.isfinite(x):
        state[at] = 0.0
        return np.nan
    run = int(state[at]) + 1
    slot = at + 1 + (run - 1) % window
    old = state[slot] if run > window else np.nan
    state[slot] = x
    state[at] = run
    return old


@jit
def highest(state: Floats, at: int, x: float, window: int) -> float:
    """Maximum of the last `window` values; `SLIDING + window` slots.

    van Herk's and Gil's and Werman's blocks: the maximum of a window is that of the tail of one block of
    `window` values and of the head of the next. Tails are known when a block ends, heads as it goes.
    """
    if not math.isfinite(x):
        state[at] = 0.0
        return np.nan
    run = int(state[at])
    place = int(state[at + 2]) if run > 0 else 0
    ring = at + 3
    head = x if place == 0 or x > state[at + 1] else state[at + 1]
    state[at + 1] = head
    state[ring + place] = x
    if place + 1 < window:
        tail = state[ring + place + 1]
        result = tail if run >= window and tail > head else head
        state[at + 2] = place + 1
    else:
        result = head
        for j in range(window - 2, -1, -1):
            if state[ring + j + 1] > state[ring + j]:
                state[ring + j] = state[ring + j + 1]
        state[at + 2] = 0.0
    state[at] = run + 1
    return result if run + 1 >= window else np.nan


@jit
def highest_age(state: Floats, at: int, x: float, window: int) -> float:
    """How many bars ago the last `window` values had their (latest) maximum; `SLIDING + 1 + 2 window`."""
    if not math.isfinite(x):
        state[at] = 0.0
        return np.nan
    run = int(state[at])
    place = run % window
    tops = at + 4
    times = tops + window
    if place == 0 or x >= state[at + 1]:
        state[at + 1] = x
        state[at + 2] = run
    state[tops + place] = x
    state[times + place] = run
    born = state[at + 2]
    if place + 1 < window:
        if run >= window and state[tops + place + 1] > state[at + 1]:
            born = state[times + place + 1]
    else:
        for j in range(window - 2, -1, -1):
            if state[tops + j + 1] >= state[tops + j]:
                state[tops + j] = state[tops + j + 1]
                state[times + j] = state[times + j + 1]
    state[at] = run + 1
    return run - born if run + 1 >= window else np.nan


@jit
def follow(values: Floats, sign: float, i: int, window: int, run: int, best: float) -> float:
    """Moves the maximum of sign x values over `window` bars to the bar i.

    It is looked for anew only where it leaves the window: quick while windows are short (up to `SHORT`), at
    worst a window a bar; long ones are for `highest`. `run` counts the values since the last gap, this one
    included.
    """
    x = sign * values[i]
    if run == 1 or x >= best:
        return x
    if run > window and sign * values[i - window] >= best:
        best = x
        for j in range(i - window + 1, i):
            y = sign * values[j]
            best = y if y > best else best
    return best


@jit
def follow_aged(
    values: Floats, sign: float, i: int, window: int, run: int, best: float, age: int
) -> tuple[float, int]:
    """Moves the maximum, and its age (the latest counts), to the bar i; see `follow`."""
    x = sign * values[i]
    if run == 1 or x >= best:
        return x, 0
    if age + 1 < window:
        return best, age + 1
    best = x
    for j in range(i - window + 1, i):
        y = sign * values[j]
        best = y if y > best else best
    place = i
    while sign * values[place] != best:
        place -= 1
    return best, i - place


@jit
def best(values: Floats, sign: float, i: int, window: int, state: Floats, at: int) -> float:
    """Maximum of the last `window` of sign x values, the quicker way; `SLIDING + window` slots."""
    if window <= SHORT:
        if not math.isfinite(values[i]):
            state[at] = 0.0
            return np.nan
        run = int(state[at]) + 1
        state[at] = run
        state[at + 1] = follow(values, sign, i, window, run, state[at + 1])
        return state[at + 1] if run >= window else np.nan
    return highest(state, at, sign * values[i], window)


@jit
def moments(state: Floats, at: int, x: float, window: int) -> tuple[float, float]:
    """Mean and sum of squared deviations of the last `window` values; `5 + window` slots.

    See `slide`, which does the same over a column.
    """
    if not math.isfinite(x):
        state[at] = 0.0
        return np.nan, np.nan
    run = int(state[at]) + 1
    ring = at + 5
    place = int(state[at + 4]) if run > 1 else 0
    state[at + 4] = place + 1 if place + 1 < window else 0
    old = state[ring + place]
    state[ring + place] = x
    state[at] = run
    if run < window:
        return np.nan, np.nan
    average = state[at + 1]
    spread = state[at + 2]
    peak = state[at + 3]
    if run > window:
        former = average
        average += (x - old) / window
        spread += (x - old) * (x - average + old - former)
        peak = max(peak, spread)
    if run == window or run % REFRESH == 0 or spread < 1e-4 * peak:
        average = 0.0
        for j in range(place + 1, window):
            average += state[ring + j]
        for j in range(place + 1):
            average += state[ring + j]
        average /= window
        spread = 0.0
        for j in range(place + 1, window):
            spread += (state[ring + j] - average) ** 2
        for j in range(place + 1):
            spread += (state[ring + j] - average) ** 2
        peak = spread
    state[at + 1] = average
    state[at + 2] = spread
    state[at + 3] = peak
    return average, spread if spread > window * (1e-14 * average) ** 2 else 0.0


@jit
def slide(
    values: Floats, i: int, window: int, run: int, average: float, spread: float, peak: float
) -> tuple[float, float, float]:
    """Moves the mean and the sum of squared deviations of a window to the bar `i`.

    Both slide by Welford's update. Where the rounding of former, larger sums could show (the sum fell to
    a ten-thousandth of its peak, or 1,024 bars have passed), the window itself is summed anew.
    """
    if run > window:
        x = values[i]
        old = values[i - window]
        former = average
        average += (x - old) / window
        spread += (x - old) * (x - average + old - former)
        peak = max(peak, spread)
    if run == window or run % REFRESH == 0 or spread < 1e-4 * peak:
        average = 0.0
        for j in range(i - window + 1, i + 1):
            average += values[j]
        average /= window
        spread = 0.0
        for j in range(i - window + 1, i + 1):
            spread += (values[j] - average) ** 2
        peak = spread
    return average, spread, peak


@jit
def settled(average: float, spread: float, window: int) -> float:
    """The sum of squared deviations, 0 where it is below what a double resolves."""
    return spread if spread > window * (1e-14 * average) ** 2 else 0.0


@jit
def true_range(high: float, low: float, before: float) -> float:
    """Wilder's true range of a bar, given the former close."""
    return max(high - low, max(abs(high - before), abs(low - before)))
