"""Superiority: whether the best of several strategies beats a benchmark by more than a search would by luck.

White (2000), A Reality Check for Data Snooping; Hansen (2005), A Test for Superior Predictive Ability;
Romano & Wolf (2005), Stepwise Multiple Testing. All three compare the best mean difference with the best
one of resampled differences, whose true mean is zero.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.luck.resampling import (
    BARS_MIN,
    DRAWS_MAX,
    block_length,
    draw_weights,
    group_size,
    grouped,
)
from neural_trader_tools.backtest.luck.sharpe import FLAT

Floats = NDArray[np.float64]
DRAWS: Final = 1_000
SIZE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Superiority:
    """P-values of "none is better than the benchmark", and which ones are.

    Attributes:
        spa: Hansen's consistent p-value, of studentised differences: hopeless strategies do not count.
        spa_lower: His lower bound of it: none that did worse than the benchmark counts.
        spa_upper: His upper bound: all count as much as the best.
        reality_check: White's p-value: differences as they are, all count.
        superior: Strategies that StepM finds better, by column, at a family-wise error of `SIZE`.
        block_bars: Mean length of the resampled blocks.
        draws: How many resamples; no p-value is below 1 / (draws + 1).
    """

    spa: float
    spa_lower: float
    spa_upper: float
    reality_check: float
    superior: tuple[int, ...]
    block_bars: float
    draws: int


def superiority(
    differences: ArrayLike,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    block_bars: float | None = None,
    studentize: bool = True,
    size: float = SIZE,
) -> Superiority | None:
    """Tests strategies against a benchmark.

    Args:
        differences: Return of each strategy less the benchmark's, (bars, strategies), of the same bars.
        seed: Of the resamples.
        draws: How many of them, 100 … 100,000.
        block_bars: Their mean block length; by default the longest that Politis & White choose for any.
        studentize: Whether SPA and StepM divide by the standard error; `arch` does not.
        size: Chance of finding any strategy superior where none is.

    Returns:
        None below 20 bars, or where no strategy ever differs from the benchmark.

    Raises:
        InputError: draws are out of range, or a difference is no finite number.
    """
    if not 100 <= draws <= DRAWS_MAX:
        raise InputError("invalid_draws", f"{draws} draws", f"give 100 … {DRAWS_MAX:,}")
    matrix = np.asarray(differences, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InputError("invalid_returns", "a return is no finite number", "give (bars, strategies)")
    if len(matrix) < BARS_MIN:
        return None
    together = group_size(len(matrix))
    matrix = grouped(matrix, together)
    columns = np.flatnonzero(matrix.std(axis=0) > FLAT)
    if not len(columns):
        return None
    matrix = np.ascontiguousarray(matrix[:, columns])
    count = len(matrix)
    block = max(map(block_length, matrix.T)) if block_bars is None else max(1.0, block_bars / together)
    means = matrix.mean(axis=0)
    errors = np.sqrt(long_run_variance(matrix, block) / count)
    scale = errors if studentize else np.ones_like(errors)
    drawn = np.concatenate([weights @ matrix for weights in draw_weights(count, block, draws, seed)]) / count
    near = means >= -errors * math.sqrt(2.0 * math.log(math.log(count)))
    centres = {"lower": np.maximum(means, 0.0), "consistent": np.where(near, means, 0.0), "upper": means}
    best = max(float((means / scale).max()), 0.0)
    values = {
        name: _p_value(((drawn - centre) / scale).max(axis=1), best) for name, centre in centres.items()
    }
    found = _step(means / scale, (drawn - centres["consistent"]) / scale, size)
    return Superiority(
        spa=values["consistent"],
        spa_lower=values["lower"],
        spa_upper=values["upper"],
        reality_check=_p_value((drawn - means).max(axis=1), float(means.max())),
        superior=tuple(int(columns[column]) for column in found),
        block_bars=block * together,
        draws=draws,
    )


def long_run_variance(differences: Floats, block_bars: float) -> Floats:
    """Returns the variance of sqrt(bars) x the mean that the stationary bootstrap has, (strategies,).

    Politis & Romano (1994), eq. 8: the autocovariances, weighted by the chance that a block spans the lag.
    """
    count = len(differences)
    centred = differences - differences.mean(axis=0)
    spectrum = np.fft.rfft(centred, n=2 * count, axis=0)
    covariances = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:count] / count
    lag, stays = np.arange(1, count), 1.0 - 1.0 / block_bars
    weights = (1.0 - lag / count) * stays**lag + lag / count * stays ** (count - lag)
    variance = covariances[0] + 2.0 * (weights[:, None] * covariances[1:]).sum(axis=0)
    return np.maximum(variance, FLAT**2)


def _p_value(simulated: Floats, observed: float) -> float:
    """Returns the part of the worlds without skill that do as well, this one counted: never 0."""
    reached = int((np.maximum(simulated, 0.0) >= observed).sum()) if observed > 0.0 else len(simulated)
    return (1 + reached) / (1 + len(simulated))


def _step(observed: Floats, simulated: Floats, size: float) -> list[int]:
    """Returns the columns that beat the best of the others' luck, and then of the rest's, until none does."""
    left = np.ones(len(observed), dtype=np.bool_)
    while left.any():
        bound = max(float(np.quantile(simulated[:, left].max(axis=1), 1.0 - size)), 0.0)
        better = left & (observed > bound)
        if not better.any():
            break
        left &= ~better
    return [int(column) for column in np.flatnonzero(~left)]
