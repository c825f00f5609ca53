"""Averages that decay, eight stretches of a column side by side; see `vectors`.

Each step does the operations of the kernel of its name, in the same order, from where the kernel has had its
first windows. What a stretch starts from is a guess, some bars earlier, until rounding has swallowed it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neural_trader_tools.features.compiled import jit
from neural_trader_tools.features.kernels.cells import REFRESH
from neural_trader_tools.features.kernels.lanes import LANES
from neural_trader_tools.features.kernels.vectors import Code, Vector, scan
from neural_trader_tools.features.kernels.words import pointer

Floats = Sequence[float]


@dataclass(frozen=True, slots=True)
class Decay:
    """How a kernel's column is computed in stretches by the function of its name.

    Attributes:
        slots: Which numbers of the kernel's state the step's slots are.
        former: The columns whose values of the bar before are the slots that follow.
        windows: From the parameters, the bars of an average with the smoothing 1 / windows.
        counts: Which numbers of the kernel's state count bars.
        is_seeded: Whether a guess starts from the first column's value, not from 0.
        others: How many slots come after those, which the function fills itself.
        unit: What stretches are a multiple of; `REFRESH`: they begin right after a bar that sums anew.
        is_behind: Whether the first column comes once more, a window of bars behind.
    """

    slots: tuple[int, ...]
    former: tuple[int, ...]
    windows: Callable[[Floats], float]
    counts: tuple[int, ...] = (0,)
    is_seeded: bool = False
    others: int = 0
    unit: int = LANES
    is_behind: bool = False


@scan(1)
def _ema(code: Code) -> None:
    smoothing = 2.0 / (code.param(0) + 1.0)
    for (price,) in code.bars(1):
        code.whole(price)
        code.state[0] += (price - code.state[0]) * smoothing
        code.out((0,), _as_is, code.state[0])


@scan(3)
def _rsi(code: Code) -> None:
    window = code.param(0)
    less = window - 1.0
    for (price,) in code.bars(1):
        code.whole(price)
        change = price - code.state[2]
        code.state[2] = price
        code.state[0] = (code.state[0] * less + change.or_more(0.0)) / window
        code.state[1] = (code.state[1] * less + (-change).or_more(0.0)) / window
        code.out((0,), _strength, code.state[0], code.state[1])


@scan(3)
def _macd(code: Code) -> None:
    fast, slow, signal = (code.param(place) + 1.0 for place in range(3))
    for (price,) in code.bars(1):
        code.whole(price)
        code.state[0] += (price - code.state[0]) * 2.0 / fast
        code.state[1] += (price - code.state[1]) * 2.0 / slow
        line = code.state[0] - code.state[1]
        code.state[2] += (line - code.state[2]) * 2.0 / signal
        code.out((0,), _as_is, line)
        code.out((1,), _as_is, code.state[2])
        code.out((2,), _difference, line, code.state[2])


@scan(3)
def _trix(code: Code) -> None:
    smoothing = 2.0 / (code.param(0) + 1.0)
    for (price,) in code.bars(1):
        code.whole(price)
        former = code.state[2]
        code.state[0] += (price - code.state[0]) * smoothing
        code.state[1] += (code.state[0] - code.state[1]) * smoothing
        code.state[2] += (code.state[1] - code.state[2]) * smoothing
        code.out((0,), _change, code.state[2], former)


@scan(4)
def _kama(code: Code) -> None:
    quick, slow = (2.0 / (code.param(place) + 1.0) for place in (1, 2))
    way_anew = code.state.entering(KAMA_ANEW)
    for price, old in code.bars(2):
        code.whole(price)
        way = code.state[1] + abs(price - code.state[2]) - abs(old - code.state[3])
        if code.bar == LANES - 1:
            way = way_anew.where(code.is_last, way)
        net = abs(price - old)
        ratio = (net / way).where(way.above(net), 1.0)
        factor = ratio * (quick - slow) + slow
        code.state[0] += (price - code.state[0]) * factor * factor
        for slot, vector in enumerate((way, price, old), start=1):
            code.state[slot] = vector
        code.out((0,), _as_is, code.state[0])


KAMA_ANEW: Final = 5
"""Where the step finds the way of the last bar's window, summed anew."""

KAMA_WINDOWS: Final = 40
"""Enough where prices do not waver for long: then the average is slow and its guess is often done again."""


@scan(2)
def _atr(code: Code) -> None:
    window = code.param(0)
    less = window - 1.0
    for high, low, close in code.bars(3):
        code.whole(high + low + close)
        code.state[0] = (code.state[0] * less + _reach(high, low, code.state[1])) / window
        code.state[1] = close
        code.out((0,), _as_is, code.state[0])


@scan(7)
def _adx(code: Code) -> None:
    window = code.param(0)
    less = window - 1.0
    keeping = 1.0 - 1.0 / window
    for high, low, close in code.bars(3):
        code.whole(high + low + close)
        rise = high - code.state[4]
        fall = code.state[5] - low
        up = rise.where(rise.above(fall), 0.0).or_more(0.0)
        down = fall.where(fall.above(rise), 0.0).or_more(0.0)
        plus = code.state[0] * keeping + up
        minus = code.state[1] * keeping + down
        reach = code.state[2] * keeping + _reach(high, low, code.state[6])
        directed = _directed(plus, minus, reach)
        average = (code.state[3] * less + directed) / window
        average = average.where(average.equals(average), code.state[3])  # not moved: as it was
        for slot, vector in enumerate((plus, minus, reach, average, high, low, close)):
            code.state[slot] = vector
        code.out((0,), _known, average, reach)
        code.out((1,), _part, plus, reach)
        code.out((2,), _part, minus, reach)
        code.out((3,), _as_is, directed)


def _as_is(number: Vector) -> tuple[Vector]:
    return (number,)


def _difference(left: Vector, right: Vector) -> tuple[Vector]:
    return (left - right,)


def _strength(gain: Vector, loss: Vector) -> tuple[Vector]:
    both = gain + loss
    return (both.filled(50.0).where(both.equals(0.0), 100.0 * gain / both),)


def _change(now: Vector, before: Vector) -> tuple[Vector]:
    change = (now / before - 1.0) * 100.0
    return (before.filled(math.nan).where(before.equals(0.0), change),)


def _reach(high: Vector, low: Vector, before: Vector) -> Vector:
    """The true range."""
    far = abs(high - before).or_more(abs(low - before))
    return (high - low).or_more(far)


def _directed(plus: Vector, minus: Vector, reach: Vector) -> Vector:
    """DX, NaN where nothing moved."""
    both = plus + minus
    directed = 100.0 * abs(plus - minus) / both
    return directed.where(both.above(0.0), math.nan).where(reach.above(0.0), math.nan)


def _known(number: Vector, reach: Vector) -> tuple[Vector]:
    return (number.where(reach.above(0.0), math.nan),)


def _part(moved: Vector, reach: Vector) -> tuple[Vector]:
    return ((100.0 * moved / reach).where(reach.above(0.0), math.nan),)


def ema(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:  # fmt: skip
    """Goes through `blocks` times eight bars of every lane."""
    _ema(first, blocks, stretch, params, states, columns, outs, first, stretch)


def rsi(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:  # fmt: skip
    """Goes through `blocks` times eight bars of every lane."""
    _rsi(first, blocks, stretch, params, states, columns, outs, first, stretch)


def macd(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:  # fmt: skip
    """Goes through `blocks` times eight bars of every lane."""
    _macd(first, blocks, stretch, params, states, columns, outs, first, stretch)


def kama(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:
    """As the others, but `REFRESH` bars a time; the way is summed anew at the last."""
    window = int(params[0])
    price = pointer(columns[0])
    for lane in range(LANES):
        last = first + lane * stretch - 1
        states[LANES + lane] = _way(price, last, window)
        states[2 * LANES + lane] = price[last]
        states[3 * LANES + lane] = price[last - window]
    for place in range(first, first + blocks * LANES, REFRESH):
        for lane in range(LANES):
            states[KAMA_ANEW * LANES + lane] = _way(price, place + lane * stretch + REFRESH - 1, window)
        _kama(place, REFRESH // LANES, stretch, params, states, columns, outs, place, stretch)


@jit
def _way(price: Any, last: int, window: int) -> float:
    """How far prices went in the window that ends at a bar."""
    way = 0.0
    for j in range(last - window + 1, last + 1):
        way += abs(price[j] - price[j - 1])
    return way


def trix(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:  # fmt: skip
    """Goes through `blocks` times eight bars of every lane."""
    _trix(first, blocks, stretch, params, states, columns, outs, first, stretch)


def atr(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:  # fmt: skip
    """Goes through `blocks` times eight bars of every lane."""
    _atr(first, blocks, stretch, params, states, columns, outs, first, stretch)


def adx(
    first: int, blocks: int, stretch: int, params: Any, states: Any, columns: Any, outs: Any, room: Any
) -> None:  # fmt: skip
    """Goes through `blocks` times eight bars of every lane."""
    _adx(first, blocks, stretch, params, states, columns, outs, first, stretch)


DECAYS: Final = {
    "kama": Decay((2, 1), (), lambda _: KAMA_WINDOWS, is_seeded=True, others=2, unit=REFRESH, is_behind=True),
    "ema": Decay((2,), (), lambda params: (params[0] + 1) / 2, is_seeded=True),
    "rsi": Decay((1, 2), (0,), lambda params: params[0]),
    "macd": Decay((1, 2, 3), (), lambda params: (max(params) + 1) / 2, is_seeded=True),
    "trix": Decay((2, 5, 8), (), lambda params: (params[0] + 1) / 2, (0, 3, 6), is_seeded=True),
    "atr": Decay((1,), (2,), lambda params: params[0]),
    "adx": Decay((1, 2, 3, 4), (0, 1, 2), lambda params: params[0]),
}
"""By the feature's name."""
