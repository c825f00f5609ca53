"""Resampling: what else could have happened, by the stationary bootstrap of Politis & Romano (1994).

Blocks of random length, drawn with replacement, keep what neighbouring returns have to do with each other.
A resample is kept as the number of times that each bar was drawn: sums over it are one matrix product.
"""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.luck.sharpe import CONFIDENCE, FLAT
from neural_trader_tools.engine.compiled import vectorised

Floats = NDArray[np.float64]
DRAWS: Final = 2_000
DRAWS_MAX: Final = 100_000
BARS_MIN: Final = 20
BARS_MAX: Final = 10_000
"""Longer series are added up in groups: their means and the blocks of their dependence stay."""
_CELLS: Final = 2_000_000  # of one batch of draws: 16 MB


class Intervals(NamedTuple):
    """What a result would have been in other orders of the same returns.

    Attributes:
        sharpe: Percentile interval of the yearly Sharpe ratio.
        cagr: Percentile interval of the yearly growth; None after a total loss.
        block_bars: Mean length of the resampled blocks.
        draws: How many resamples.
    """

    sharpe: tuple[float, float]
    cagr: tuple[float, float] | None
    block_bars: float
    draws: int


def intervals(
    returns: Floats, periods: float, *, seed: int = 0, draws: int = DRAWS, confidence: float = CONFIDENCE
) -> Intervals | None:
    """Returns intervals of the Sharpe ratio and of the growth by the stationary bootstrap.

    Args:
        returns: Simple returns per bar.
        periods: Bars a year.
        seed: Of the draws; the same one gives the same intervals.
        draws: How many resamples, 100 … 100,000.
        confidence: Part of the resamples inside the interval.

    Returns:
        None below 20 returns, or where they are flat or not finite.

    Raises:
        InputError: draws or confidence are out of range.
    """
    _check(draws, confidence)
    if len(returns) < BARS_MIN or not np.isfinite(returns).all():
        return None
    size = group_size(len(returns))
    summed, yearly = grouped(returns, size), periods / size
    if float(summed.std(ddof=1)) <= FLAT:
        return None
    lost = bool((returns <= -1.0).any())
    logs = np.zeros(len(summed)) if lost else grouped(np.log1p(returns), size)
    table = np.column_stack([summed, summed * summed, logs])
    block, count = block_length(summed), len(summed)
    sums = np.concatenate([weights @ table for weights in draw_weights(count, block, draws, seed)])
    means = sums / count
    variances = np.maximum(means[:, 1] - means[:, 0] ** 2, 0.0) * count / (count - 1)
    risky = variances > FLAT**2
    ratios = np.where(risky, means[:, 0] / np.sqrt(np.where(risky, variances, 1.0)), 0.0) * math.sqrt(yearly)
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    low, high = np.quantile(ratios, tails)
    growth: tuple[float, float] | None = None
    if not lost:
        least, most = np.expm1(np.minimum(np.quantile(means[:, 2] * yearly, tails), 700.0))
        growth = float(least), float(most)
    return Intervals((float(low), float(high)), growth, block * size, draws)


def draw_weights(bars: int, block_bars: float, draws: int, seed: int) -> Iterator[Floats]:
    """Yields batches of resamples, (some draws, bars): how often each bar was drawn.

    The draws of one seed are those that `arch.bootstrap.StationaryBootstrap` makes of it.
    """
    random = np.random.default_rng(seed)
    batch = max(1, _CELLS // bars)
    for first in range(0, draws, batch):
        weights = np.zeros((min(batch, draws - first), bars))
        for row in weights:
            starts = random.integers(bars, size=bars)
            _walk(starts, random.random(bars), 1.0 / block_bars, row)
        yield weights


def block_length(returns: Floats) -> float:
    """Returns the best mean block length for the stationary bootstrap, at least 1 bar.

    Politis & White (2004), corrected by Patton, Politis & White (2009).
    """
    count = len(returns)
    centred = returns - returns.mean()
    run = max(5, int(math.log10(count)))
    lags = min(math.ceil(math.sqrt(count)) + run, count - 2)
    covariances, correlations = np.zeros(lags + 1), np.zeros(lags + 1)
    for lag in range(lags + 1):
        product = float(centred[lag:] @ centred[: count - lag])
        after, before = centred[lag + 1 :], centred[: count - lag - 1]
        scale = math.sqrt(float(after @ after) * float(before @ before))
        covariances[lag] = product / count
        correlations[lag] = abs(product) / scale if scale > 0.0 else 0.0
    bound = 2.0 * math.sqrt(math.log10(count) / count)
    quiet = next(
        (lag - run for lag in range(run, lags + 1) if (correlations[lag - run : lag] < bound).all()), None
    )
    reach = lags if quiet is None else min(2 * max(quiet, 1), lags)
    lag = np.arange(1, reach + 1)
    taper = np.minimum(1.0, 2.0 * (1.0 - lag / reach))
    bend = float(2.0 * (taper * lag * covariances[1 : reach + 1]).sum())
    spectrum = float(covariances[0] + 2.0 * (taper * covariances[1 : reach + 1]).sum())
    if spectrum == 0.0:
        return 1.0
    best = (bend**2 / spectrum**2 * count) ** (1.0 / 3.0)
    return float(max(1.0, min(best, math.ceil(min(3.0 * math.sqrt(count), count / 3.0)))))


def group_size(bars: int) -> int:
    """Returns how many bars are added up so that at most 10,000 remain."""
    return -(-bars // BARS_MAX)


def grouped(values: Floats, size: int) -> Floats:
    """Returns sums over consecutive groups of rows; the oldest ones that fill no group are left out."""
    if size == 1:
        return values
    kept = values[len(values) % size :]
    return kept.reshape(-1, size, *values.shape[1:]).sum(axis=1)


def _check(draws: int, confidence: float) -> None:
    if not 100 <= draws <= DRAWS_MAX:
        raise InputError("invalid_draws", f"{draws} draws", f"give 100 … {DRAWS_MAX:,}")
    if not 0.5 <= confidence < 1.0:
        raise InputError("invalid_confidence", f"confidence {confidence}", "give 0.5 … 1, such as 0.95")


@vectorised
def _walk(starts: NDArray[np.int64], chances: Floats, ends: float, weights: Floats) -> None:
    """Counts the bars of one resample: each step goes on to the next bar, or with chance `ends` jumps."""
    bars = len(weights)
    bar = starts[0]
    weights[bar] += 1.0
    for step in range(1, bars):
        if chances[step] > ends:
            bar += 1
            if bar == bars:
                bar = 0
        else:
            bar = starts[step]
        weights[bar] += 1.0
