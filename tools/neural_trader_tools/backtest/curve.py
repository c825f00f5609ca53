"""The curve: everything that the metrics need of an equity curve, read once."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.luck.sharpe import FLAT, Moments
from neural_trader_tools.features.compiled import jit

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
    first = _power_sums(living[: middle + 1], shift)
    second = _power_sums(living[middle:], shift)
    sums = tuple(one + other for one, other in zip(first, second, strict=True))
    mean, deviation, moments = _moments(sums, count, shift)
    drawdown, bars, mean_equity = _drawdown(equity, cash)
    return Curve(
        returns=count,
        mean=mean,
        deviation=deviation,
        downside=math.sqrt(sums[4] / count) if count > 0 else 0.0,
        moments=moments,
        first=_moments(first, middle, shift)[2],
        second=_moments(second, count - middle, shift)[2],
        drawdown=drawdown,
        drawdown_bars=bars,
        mean_equity=mean_equity,
    )


def drawdowns(equity: Floats, cash: float) -> tuple[float, int]:
    """Returns the largest fall from a peak, as a fraction, and the longest time below one, in bars."""
    depth, bars, _ = _drawdown(np.ascontiguousarray(equity, dtype=np.float64), cash)
    return depth, bars


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


@jit
def _power_sums(equity: Floats, shift: float) -> tuple[float, float, float, float, float]:
    """Returns the sums of the first four powers of return - shift, and of the squares of the losses."""
    one, two, three, four, losses = 0.0, 0.0, 0.0, 0.0, 0.0
    for bar in range(1, len(equity)):
        gain = equity[bar] / equity[bar - 1] - 1.0
        off = gain - shift
        square = off * off
        one += off
        two += square
        three += square * off
        four += square * square
        loss = min(gain, 0.0)
        losses += loss * loss
    return one, two, three, four, losses


@jit
def _drawdown(equity: Floats, cash: float) -> tuple[float, int, float]:
    """Returns the largest fall from a peak, the longest time below one, and the mean."""
    peak, top, bottom = cash, cash, cash
    peak_bar, longest, total = -1, 0, 0.0
    for bar in range(len(equity)):
        value = equity[bar]
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
    return 1.0 - bottom / top, longest, total / len(equity)
