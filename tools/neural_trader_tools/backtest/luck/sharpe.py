"""The Sharpe ratio as an estimate: how sure it is, after how many tries, and from how many bars.

Everything here is per bar and takes the four moments of the returns, so that a published example can be
computed from what its paper prints.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.errors import InputError

Floats = NDArray[np.float64]
CONFIDENCE: Final = 0.95
FLAT: Final = 1e-15
"""Standard deviation of returns that is rounding error and no risk: ratios over it are undefined."""
_EULER_MASCHERONI: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()


class Moments(NamedTuple):
    """What the estimators need to know of a series of returns.

    Attributes:
        bars: Returns.
        sharpe: Mean over standard deviation (n - 1), per bar.
        skew: Third standardised moment; 0 for a normal distribution.
        kurtosis: Fourth standardised moment, not the excess; 3 for a normal distribution.
    """

    bars: int
    sharpe: float
    skew: float = 0.0
    kurtosis: float = 3.0

    @classmethod
    def of(cls, returns: Floats) -> "Moments | None":
        """Returns the moments of a series; None where it is too short, flat, or not finite."""
        if len(returns) < 2:
            return None
        mean = float(returns.mean())
        if not math.isfinite(mean):
            return None
        centred = returns - mean
        squares = centred * centred
        variance = float(squares.mean())
        count = len(returns)
        deviation = math.sqrt(variance * count / (count - 1)) if math.isfinite(variance) else 0.0
        if deviation <= FLAT:
            return None
        skew = float((squares * centred).mean()) / variance**1.5
        kurtosis = float((squares * squares).mean()) / variance**2
        if not (math.isfinite(skew) and math.isfinite(kurtosis)):
            return None
        return cls(count, mean / deviation, skew, kurtosis)


def sharpe_error(moments: Moments) -> float | None:
    """Returns the standard error of the Sharpe ratio, of normal returns or not.

    Mertens (2002), as used by Bailey & Lopez de Prado (2012), eq. 8:
    sqrt((1 - skew SR + (kurtosis - 1) / 4 SR^2) / (n - 1)). None where that is no number above 0.
    """
    inner = _spread(moments)
    return math.sqrt(inner / (moments.bars - 1)) if inner > 0.0 and moments.bars > 1 else None


def probabilistic_sharpe(moments: Moments, benchmark: float = 0.0) -> float | None:
    """Returns the probability that the true Sharpe ratio exceeds a benchmark.

    Bailey & Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier, eq. 9.
    """
    score = sharpe_score(moments, benchmark)
    return None if score is None else _NORMAL.cdf(score)


def sharpe_score(moments: Moments, benchmark: float = 0.0) -> float | None:
    """Returns by how many standard errors the Sharpe ratio exceeds a benchmark: `probabilistic_sharpe` is
    the normal distribution at this, and no longer tells the best ones apart.
    """  # noqa: D205  # one sentence, two halves
    error = sharpe_error(moments)
    return None if error is None else (moments.sharpe - benchmark) / error


def expected_best_sharpe(trial_sharpes: Sequence[float | None], trials: int | None = None) -> float:
    """Returns the best Sharpe ratio that N tries without any skill would be expected to show.

    Bailey & Lopez de Prado (2014), The Deflated Sharpe Ratio, eq. 1: sqrt(V) ((1 - g) Phi^-1(1 - 1/N)
    + g Phi^-1(1 - 1/(N e))), V the variance of the tried Sharpe ratios, g the Euler-Mascheroni constant.

    Args:
        trial_sharpes: Of every try, the chosen one included; None, where it was undefined, is a try too.
        trials: N, where it is not the length of `trial_sharpes`.
    """
    known = [sharpe for sharpe in trial_sharpes if sharpe is not None]
    if len(known) < 2:
        return 0.0
    return expected_best_of(len(trial_sharpes) if trials is None else trials, float(np.var(known, ddof=1)))


def expected_best_of(trials: int, variance: float) -> float:
    """Returns the same from the count of tries and the variance of their Sharpe ratios."""
    if trials < 2:
        return 0.0
    return math.sqrt(variance) * (
        (1.0 - _EULER_MASCHERONI) * _NORMAL.inv_cdf(1.0 - 1.0 / trials)
        + _EULER_MASCHERONI * _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    )


def deflated_sharpe(moments: Moments, trial_sharpes: Sequence[float | None]) -> float | None:
    """Returns the probability that the true Sharpe ratio exceeds `expected_best_sharpe` of the tries.

    Args:
        moments: Of the chosen try.
        trial_sharpes: Of every try, the chosen one included.
    """
    return probabilistic_sharpe(moments, expected_best_sharpe(trial_sharpes))


def track_record_bars(
    moments: Moments, benchmark: float = 0.0, confidence: float = CONFIDENCE
) -> float | None:
    """Returns the minimum track record length: returns needed until the Sharpe ratio beats the benchmark.

    Bailey & Lopez de Prado (2012), eq. 11: 1 + (1 - skew SR + (kurtosis - 1) / 4 SR^2) (z / (SR - SR*))^2.
    None where it does not exceed the benchmark, so that no record is long enough.

    Raises:
        InputError: the confidence is not between 0.5 and 1.
    """
    if not 0.5 < confidence < 1.0:
        raise InputError(
            "invalid_confidence", f"confidence {confidence} is out of range", "give 0.5 … 1, such as 0.95"
        )
    inner = _spread(moments)
    if moments.sharpe <= benchmark or inner <= 0.0:
        return None
    bars = 1.0 + inner * (_NORMAL.inv_cdf(confidence) / (moments.sharpe - benchmark)) ** 2
    return bars if math.isfinite(bars) else None


def sharpe_interval(
    moments: Moments, periods: float, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Returns the two-sided interval of the yearly Sharpe ratio by its standard error."""
    error = sharpe_error(moments)
    if error is None:
        return None
    reach = _NORMAL.inv_cdf(0.5 + confidence / 2.0) * error
    root = math.sqrt(periods)
    return (moments.sharpe - reach) * root, (moments.sharpe + reach) * root


def _spread(moments: Moments) -> float:
    """Returns the variance of the estimated Sharpe ratio, times n - 1."""
    _, sharpe, skew, kurtosis = moments
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
