"""The curve: everything that the metrics need of an equity curve."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.luck.sharpe import FLAT, Moments
from neural_trader_tools.engine.compiled import vectorised

Floats = NDArray[np.float64]
_LANES: Final = 256
_PADDED: Final = 264
"""Cells from one row of lanes to the next: at 256 all five would contend for one place of the cache."""
_STRETCH: Final = 256


class Falls(NamedTuple):
    """What one pass over an equity curve finds.

    Attributes:
        drawdown: Largest fall from a peak, a fraction; the first peak is the cash.
        bars: Longest time below a former peak.
        ruined: The first bar at which equity is zero or below, -1 where it never is.
        total: Sum of the equity, in lanes; not finite where a value or the sum is not.
    """

    drawdown: float
    bars: int
    ruined: int
    total: float


class Curve(NamedTuple):
    """An equity curve in numbers; returns are simple, per bar, without the first bar.

    Attributes:
        returns: How many there are; none after equity is zero or below.
        mean: Of the returns.
        deviation: Standard deviation (n - 1); None where undefined or only rounding error.
        downside: sqrt(mean(min(return, 0)^2)).
        moments: For the estimators of `luck.sharpe`; None where the deviation is.
        first: Moments of the first half of the returns.
        second: Moments of the second half.
        drawdown: Largest fall from a peak, a fraction; the first peak is the cash.
        drawdown_bars: Longest time below a former peak.
        mean_equity: Over all bars.
    """

    returns: int
    mean: float
    deviation: float | None
    downside: float
    moments: Moments | None
    first: Moments | None
    second: Moments | None
    drawdown: float
    drawdown_bars: int
    mean_equity: float


def read_curve(equity: Floats, cash: float, falls: Falls | None = None) -> Curve:
    """Reads an equity curve.

    Args:
        equity: At each close, finite.
        cash: At the start, above zero.
        falls: What `read_falls` says of the same, where somebody asked already.
    """
    falls = read_falls(equity, cash) if falls is None else falls
    living = equity if falls.ruined < 0 else equity[: falls.ruined + 1]
    count = len(living) - 1
    # Powers are summed about the mean growth, which is near the mean return: no digits cancel.
    growth = float(living[-1] / living[0])
    shift = math.expm1(math.log(growth) / count) if count > 0 and growth > 0.0 else 0.0
    middle = count // 2
    halves = (
        _powers(living[1 : middle + 1], living[:middle], shift),
        _powers(living[middle + 1 :], living[middle:-1], shift),
    )
    first, second = _sums(halves[0]), _sums(halves[1])
    mean, deviation, moments = _moments(_sums(halves[0] + halves[1]), count, shift)
    return Curve(
        returns=count,
        mean=mean,
        deviation=deviation,
        downside=math.sqrt((first[4] + second[4]) / count) if count > 0 else 0.0,
        moments=moments,
        first=_moments(first, middle, shift)[2],
        second=_moments(second, count - middle, shift)[2],
        drawdown=falls.drawdown,
        drawdown_bars=falls.bars,
        mean_equity=falls.total / len(equity),
    )


def read_falls(equity: Floats, cash: float) -> Falls:
    """Returns the falls and the sum of an equity curve, which may hold what is no number.

    Args:
        equity: At each close, contiguous.
        cash: At the start, above zero.
    """
    return Falls(*_falls(equity, cash))


def drawdowns(equity: Floats, cash: float) -> tuple[float, int]:
    """Returns the largest fall from a peak, as a fraction, and the longest time below one, in bars."""
    curve = np.ascontiguousarray(equity, dtype=np.float64)
    falls = read_falls(curve, cash)
    return falls.drawdown, falls.bars


def _sums(row: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in row)


def _moments(sums: tuple[float, ...], count: int, shift: float) -> tuple[float, float | None, Moments | None]:
    """Returns mean, deviation and moments from the sums of powers about `shift`."""
    if count < 1:
        return 0.0, None, None
    one, two, three, four = (total / count for total in sums[:4])
    mean, variance = shift + one, two - one * one
    if count < 2 or not math.isfinite(four) or variance <= 0.0:
        return mean, None, None
    deviation = math.sqrt(variance * count / (count - 1))
    if deviation <= FLAT:
        return mean, None, None
    skew = (three - 3.0 * one * two + 2.0 * one**3) / variance**1.5
    kurtosis = (four - 4.0 * one * three + 6.0 * one**2 * two - 3.0 * one**4) / variance**2
    return mean, deviation, Moments(count, mean / deviation, skew, kurtosis)


@vectorised
def _powers(now: Floats, before: Floats, shift: float) -> Floats:
    """Returns the sums of the first four powers of return - shift, and of the squares of the losses.

    In lanes, which are added up at the end: each is a sum of its own, so that the additions need not wait for
    one another and become vector instructions, in an order that no machine may change.

    Args:
        now: Equity at closes.
        before: Equity at the closes before them.
        shift: What the powers are about.
    """
    cells = np.zeros(5 * _PADDED + 8)
    begin = (-cells.ctypes.data >> 3) & 7  # where a line of the cache begins
    lanes = cells[begin : begin + 5 * _PADDED].reshape((5, _PADDED))
    one, two, three, four, losses = lanes[0], lanes[1], lanes[2], lanes[3], lanes[4]
    for first in range(0, now.shape[0], _LANES):
        last = min(first + _LANES, now.shape[0])
        values, bases = now[first:last], before[first:last]
        for lane in range(values.shape[0]):
            gain = values[lane] / bases[lane] - 1.0
            off = gain - shift
            square = off * off
            loss = min(gain, 0.0)
            one[lane] += off
            two[lane] += square
            three[lane] += square * off
            four[lane] += square * square
            losses[lane] += loss * loss
    sums = np.zeros(5)
    for power in range(5):
        for lane in range(_LANES):
            sums[power] += lanes[power, lane]
    return sums


@vectorised
def _falls(equity: Floats, cash: float) -> tuple[float, int, int, float]:
    """Reads the falls of a curve; a stretch without a new peak is passed over at once.

    Falls are compared without dividing: value / peak < bottom / top. Since the last peak, bottom and top are
    of the same fall, and of equal products the first counts; which value it was is looked up only when
    somebody asks.

    Returns:
        As `Falls` has them.
    """
    peak, top, bottom, total = cash, cash, cash, 0.0
    peak_bar, longest, ruined, deepest = -1, 0, -1, -1
    lows, highs, sums = np.empty(64), np.empty(64), np.zeros(64)
    for first in range(0, equity.shape[0], _STRETCH):
        values = equity[first : min(first + _STRETCH, equity.shape[0])]
        if values.shape[0] < _STRETCH:
            for value in values:
                total += value
        low, high = _extremes(values, lows, highs, sums)
        if high < peak and low > 0.0:
            if not low * top < bottom * peak:
                continue
            if top == peak:
                bottom, deepest = low, first
                continue
        if deepest >= 0:
            bottom, deepest = _first_of(equity[deepest : deepest + _STRETCH], bottom, top), -1
        for place in range(values.shape[0]):
            value = values[place]
            if value >= peak:
                longest = max(longest, first + place - 1 - peak_bar)
                peak = value
                peak_bar = first + place
            elif value * top < bottom * peak:
                bottom = value
                top = peak
                if ruined < 0 and value <= 0.0:
                    ruined = first + place
    if deepest >= 0:
        bottom = _first_of(equity[deepest : deepest + _STRETCH], bottom, top)
    for lane in range(64):
        total += sums[lane]
    return 1.0 - bottom / top, max(longest, equity.shape[0] - 1 - peak_bar), ruined, total


@vectorised
def _extremes(values: Floats, lows: Floats, highs: Floats, sums: Floats) -> tuple[float, float]:
    """Returns the lowest and the highest value of a stretch, and adds a whole one to the sums of its lanes.

    The first two of the others are places to work at.
    """
    low, high = values[0], values[0]
    if values.shape[0] < _STRETCH:
        for value in values:
            low, high = min(low, value), max(high, value)
        return low, high
    _fold(values[:64], values[64:128], values[128:192], values[192:], lows, highs, sums)
    for place in range(16):
        lows[place] = min(min(lows[place], lows[16 + place]), min(lows[32 + place], lows[48 + place]))
        highs[place] = max(max(highs[place], highs[16 + place]), max(highs[32 + place], highs[48 + place]))
    for place in range(16):
        low, high = min(low, lows[place]), max(high, highs[place])
    return low, high


@vectorised
def _fold(a: Floats, b: Floats, c: Floats, d: Floats, lows: Floats, highs: Floats, sums: Floats) -> None:
    for place in range(64):  # four at a time, place by place: vector instructions
        lows[place] = min(min(a[place], b[place]), min(c[place], d[place]))
        highs[place] = max(max(a[place], b[place]), max(c[place], d[place]))
        sums[place] += (a[place] + b[place]) + (c[place] + d[place])


@vectorised
def _first_of(values: Floats, bottom: float, top: float) -> float:
    """Returns the first of the values that is as deep below `top` as `bottom`, which is one of them."""
    for value in values:
        if value * top == bottom * top:
            return value
    return bottom
