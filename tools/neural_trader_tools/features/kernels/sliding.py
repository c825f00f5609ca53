"""Sums that slide, eight stretches of a column side by side; see `vectors`.

Kernels sum them anew every `REFRESH` bars. A stretch begins right after such a bar, where its state is known.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

from neural_trader_tools.features.compiled import Floats, jit
from neural_trader_tools.features.kernels.cells import REFRESH
from neural_trader_tools.features.kernels.lanes import LANES
from neural_trader_tools.features.kernels.vectors import Code, Vector, scan
from neural_trader_tools.features.kernels.words import pointer, shifted

SLOTS: Final = 4
FRESH: Final = SLOTS + 1
"""Mean, squares, their peak, and whether squares fell so far that the kernel would have summed anew there.
After them and the slot that tells of gaps: mean and squares at the last bar, summed anew."""

OUTPUTS: Final = {
    "bbands": (0, 1, 2, 3),
    "zscore": (4,),
    "stddev": (5,),
    "variance": (6,),
    "volatility": (7,),
}
"""Where the step leaves what, by the feature's name."""
ROWS: Final = FRESH + 2

WIDTH, SCALE, PERIODS = 1, 2, 3
SETTINGS: Final = {"bbands": WIDTH, "stddev": SCALE, "volatility": PERIODS}
"""Where, after the window, the step finds a feature's second parameter."""


def _slid(code: Code, count: Vector) -> Iterator[tuple[Vector, Vector, Vector]]:
    """At every bar its value, and the mean and the squares of its window; see cells.slide."""
    average_anew, spread_anew = code.state.entering(FRESH), code.state.entering(FRESH + 1)
    for x, old in code.bars(2):
        code.whole(x)
        former = code.state[0]
        average = former + (x - old) / count
        spread = code.state[1] + (x - old) * (x - average + old - former)
        peak = code.state[2].or_more(spread)
        fell = (peak * 1e-4).above(spread)
        code.state[3] = code.state[3].filled(1.0).where(fell, code.state[3])
        if code.bar == LANES - 1:
            average = average_anew.where(code.is_last, average)
            spread = spread_anew.where(code.is_last, spread)
            peak = spread_anew.where(code.is_last, peak)
        for slot, vector in enumerate((average, spread, peak)):
            code.state[slot] = vector
        least = average * 1e-14
        yield x, average, spread.where(spread.above(count * (least * least)), 0.0)


@scan(SLOTS)
def _moments(code: Code) -> None:
    count, width, scale = code.param(0), code.param(WIDTH), code.param(SCALE)
    for x, average, squares in _slid(code, count):
        code.out((0, 1, 2, 3), _bands, x, average, squares, count, width)
        code.out((4,), _score, x, average, squares, count)
        code.out((5,), _deviation, squares, count, scale)
        code.out((6,), _variance, squares, count)


@scan(SLOTS)
def _changes(code: Code) -> None:
    count, periods = code.param(0), code.param(PERIODS)
    less = count - 1.0
    for _, _, squares in _slid(code, count):
        code.out((7,), _volatility, squares, less, periods)


def _bands(x: Vector, average: Vector, squares: Vector, count: Vector, width: Vector) -> tuple[Vector, ...]:
    half = width * (squares / count).root()
    lower = average - half
    share = (x - lower) / (2.0 * half)
    return average + half, average, lower, share.where(half.above(0.0), math.nan)


def _score(x: Vector, average: Vector, squares: Vector, count: Vector) -> tuple[Vector]:
    return (((x - average) / (squares / count).root()).where(squares.above(0.0), math.nan),)


def _deviation(squares: Vector, count: Vector, scale: Vector) -> tuple[Vector]:
    return (scale * (squares / count).root(),)


def _variance(squares: Vector, count: Vector) -> tuple[Vector]:
    return (squares / count,)


def _volatility(squares: Vector, less: Vector, periods: Vector) -> tuple[Vector]:
    return ((squares / less * periods).root(),)


@jit
def _anew(states: Floats, slot: int, lane: int, values: Floats, last: int, window: int) -> None:
    """Mean and sum of squared deviations of the window that ends at a bar, into a slot and the next."""
    average = 0.0
    for j in range(last - window + 1, last + 1):
        average += values[j]
    average /= window
    spread = 0.0
    for j in range(last - window + 1, last + 1):
        spread += (values[j] - average) ** 2
    states[slot * LANES + lane] = average
    states[(slot + 1) * LANES + lane] = spread


@jit
def _start(states: Floats, lane: int, values: Floats, last: int, window: int) -> None:
    """The state of a lane right after a bar on which the kernel sums anew."""
    _anew(states, 0, lane, values, last, window)
    states[2 * LANES + lane] = states[LANES + lane]


@jit
def _noted(states: Floats, place: int, stretch: int, again: Floats) -> bool:
    """Notes where squares fell and a lane is to be done again; false if there was a gap."""
    for lane in range(LANES):
        if not math.isfinite(states[SLOTS * LANES + lane]):
            again[0] = -1.0
            return False
        if states[3 * LANES + lane] > 0.0:
            again[0] += 1.0
            again[int(again[0])] = float(place + lane * stretch)
            states[3 * LANES + lane] = 0.0
    return True


@jit
def _logarithms(prices: Floats, logs: Floats) -> bool:
    """The logarithms of `REFRESH` changes; false if a price is not positive."""
    good = 0
    for j in range(-1, REFRESH):
        good += 1 if prices[j] > 0.0 else 0
    for j in range(REFRESH):
        logs[j] = prices[j] / prices[j - 1]
    if good <= REFRESH:
        return False
    for j in range(REFRESH):
        logs[j] = math.log(logs[j])
    return True


def moments(
    first: int, blocks: int, stretch: int, params: Floats, states: Floats, columns: Any, outs: Any,
    again: Floats,
) -> None:  # fmt: skip
    """Goes through `blocks` times `REFRESH` bars of every lane.

    The columns are the price, and the same `window` bars before. Leaves in `again` how many ranges of
    `REFRESH` bars are to be done again, and where each begins; -1: there was a gap.
    """
    window = int(params[0])
    price = pointer(columns[0])
    for lane in range(LANES):
        _start(states, lane, price, first + lane * stretch - 1, window)
    for block in range(blocks):
        place = first + block * REFRESH
        for lane in range(LANES):
            _anew(states, FRESH, lane, price, place + lane * stretch + REFRESH - 1, window)
        _moments(place, REFRESH // LANES, stretch, params, states, columns, outs, place, stretch)
        if not _noted(states, place, stretch, again):
            return


def changes(
    first: int, blocks: int, stretch: int, params: Floats, states: Floats, columns: Any, outs: Any,
    again: Floats,
) -> None:  # fmt: skip
    """As `moments`, of the logarithms of the price's changes.

    The first column is the price. The others are the room for them, for each lane the window's and then
    `REFRESH` more: where the latter begin, and where the former do.
    """
    window = int(params[0])
    price = pointer(columns[0])
    logs = pointer(columns[2])
    reach = window + REFRESH
    for lane in range(LANES):
        prices = shifted(price, first + lane * stretch - window)
        for j in range(window):
            logs[lane * reach + j] = math.log(prices[j] / prices[j - 1])
        _start(states, lane, logs, lane * reach + window - 1, window)
    for block in range(blocks):
        place = first + block * REFRESH
        for lane in range(LANES):
            fresh = shifted(logs, lane * reach + window)
            if block > 0:
                for j in range(window):
                    fresh[j - window] = fresh[j - window + REFRESH]
            if not _logarithms(shifted(price, place + lane * stretch), fresh):
                again[0] = -1.0
                return
            _anew(states, FRESH, lane, logs, lane * reach + reach - 1, window)
        _changes(0, REFRESH // LANES, reach, params, states, shifted(columns, 1), outs, place, stretch)
        if not _noted(states, place, stretch, again):
            return
