"""The curve: everything that the metrics need of an equity curve, read once."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.luck.sharpe import FLAT, Moments
from neural_trader_tools.engine.compiled import vectorised

Floats = NDArray[np.float64]


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


def read_curve(equity: Floats, cash: float) -> Curve:
    """Reads an equity curve.

    Args:
        equity: At each close, finite.
        cash: At the start, above zero.
    """
    living = equity
    if float(equity.min()) <= 0.0:
        living = equity[: int((equity <= 0.0).argmax()) + 1]
    count = len(living) - 1
    # Powers are summed about the mean growth, which is near the mean return: no digits cancel.
    growth = float(living[-1] / living[0])
    shift = math.expm1(math.log(growth) / count) if count > 0 and growth > 0.0 else 0.0
    middle = count // 2
    halves, drawdown, bars, mean_equity = _read(equity, cash, middle + 1, len(living), shift)
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
        drawdown=drawdown,
        drawdown_bars=bars,
        mean_equity=mean_equity,
    )


def drawdowns(equity: Floats, cash: float) -> tuple[float, int]:
    """Returns the largest fall from a peak, as a fraction, and the longest time below one, in bars."""
    curve = np.ascontiguousarray(equity, dtype=np.float64)
    _, depth, bars, _ = _read(curve, cash, 0, 0, 0.0)
    return depth, bars


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
def _read(
    equity: Floats, cash: float, middle: int, living: int, shift: float
) -> tuple[Floats, float, int, float]:
    """Reads every bar once.

    Args:
        equity: At each close.
        cash: The first peak.
        middle: First bar of the second half.
        living: Bars whose returns count; falls are followed beyond.
        shift: What the powers of returns are about.

    Returns:
        Sums of the first four powers of return - shift, and of the squares of the losses, (halves, 5); the
        largest fall from a peak, the longest time below one, the mean equity.
    """
    sums = np.zeros((2, 5))
    peak, top, bottom = cash, cash, cash
    peak_bar, longest, total = -1, 0, 0.0
    before = equity[0]
    for part in range(3):
        begin = 0 if part == 0 else middle if part == 1 else living
        end = middle if part == 0 else living if part == 1 else len(equity)
        one, two, three, four, losses = 0.0, 0.0, 0.0, 0.0, 0.0
        for bar in range(begin, end):
            value = equity[bar]
            gain = value / before - 1.0
            before = value
            off = gain - shift if bar > 0 else 0.0
            square = off * off
            loss = min(gain, 0.0)
            one += off
            two += square
            three += square * off
            four += square * square
            losses += loss * loss
            total += value
            if value >= peak:
                peak = value
                peak_bar = bar
            else:
                if bar - peak_bar > longest:
                    longest = bar - peak_bar
                if value * top < bottom * peak:  # value / peak < bottom / top, without dividing
                    bottom = value
                    top = peak
        if part < 2:
            sums[part, :] = one, two, three, four, losses
    return sums, 1.0 - bottom / top, longest, total / len(equity)
