"""Regime vectors: what `regime.regime_vector` says at one bar, for all bars of a history at once.

Features are computed over the whole history instead of the last three years, so numbers that remember for
ever (Wilder's averages) differ from `regime_vector`'s in the eighth digit. A bar's vector depends on that bar
and earlier ones only: rows that are added later change none.
"""

import numpy as np
import polars as pl

from neural_trader_tools.engine.compiled import vectorised
from neural_trader_tools.features.catalogue import Floats
from neural_trader_tools.features.frames import evaluate_all
from neural_trader_tools.features.regime import (
    BANDS,
    BARS_MIN,
    FEATURES,
    NAMES,
    PAST_BARS,
    QUANTILES,
    RETURNS,
    STANDARD_MAX,
)

CHUNK = 16_384
"""Bars whose returns are sorted and transformed at a time: 8 MB of them."""
_ANCHOR = 256


def regime_vectors(bars: pl.DataFrame) -> Floats:
    """Returns the regime vector at every bar.

    Args:
        bars: As for `regime_vector`, of any number.

    Returns:
        (bars, 33), in the order of `NAMES`; NaN for the first 251 bars, and where one of the last
        65 closes is missing or not positive.
    """
    vectors = np.full((bars.height, len(NAMES)), np.nan)
    if bars.height < BARS_MIN:
        return vectors
    for column, values in enumerate(evaluate_all(FEATURES, bars).values()):
        vectors[:, column] = standardised(np.ascontiguousarray(values), PAST_BARS)
    close = bars.get_column("close").cast(pl.Float64).fill_null(np.nan).to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.where(close > 0, np.log(close), np.nan)
    returns = np.lib.stride_tricks.sliding_window_view(np.diff(level), RETURNS)  # row k ends at bar k + 64
    for first in range(0, returns.shape[0], CHUNK):
        some = returns[first : first + CHUNK]
        vectors[first + RETURNS : first + RETURNS + some.shape[0], len(FEATURES) :] = _shapes(some)
    vectors[: BARS_MIN - 1] = np.nan
    vectors[~np.isfinite(vectors[:, -1])] = np.nan
    return vectors


def _shapes(returns: Floats) -> Floats:
    """Quantiles and spectrum of rows of returns."""
    spread = returns.std(axis=1)
    moved = spread > 1e-14
    ranks = np.sort(returns, axis=1)
    place = np.array(QUANTILES) * (RETURNS - 1)
    low = place.astype(np.int64)
    quantiles = ranks[:, low] + (ranks[:, low + 1] - ranks[:, low]) * (place - low)
    power = np.abs(np.fft.rfft(returns - returns.mean(axis=1, keepdims=True), axis=1))[:, 1:] ** 2
    bands = power.reshape(len(returns), BANDS, -1).sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = bands / power.sum(axis=1, keepdims=True)
        made = np.hstack((quantiles / spread[:, None], np.log(share * BANDS + 1e-6)))
    made[~moved & ~np.isnan(spread)] = 0.0
    return made


@vectorised
def standardised(values: Floats, past: int) -> Floats:
    """Returns each value in deviations from the mean of the newest `past` that are defined, at most 8.

    0 where it has no value, has fewer than two to compare with, or never varied. Sums are carried from bar to
    bar, and begun anew every 256 bars and wherever most of their digits cancel.
    """
    out = np.zeros(values.size)
    count, total, square, anchor = 0, 0.0, 0.0, 0.0
    for i in range(values.size):
        first = max(0, i - past + 1)
        if i % _ANCHOR:
            if np.isfinite(values[i]):
                change = values[i] - anchor
                count, total, square = count + 1, total + change, square + change * change
            if first and np.isfinite(values[first - 1]):
                change = values[first - 1] - anchor
                count, total, square = count - 1, total - change, square - change * change
        stale = count > 0 and square / count - (total / count) ** 2 <= 1e-6 * (square / count)
        if i % _ANCHOR == 0 or stale:
            count, anchor = 0, 0.0
            for j in range(first, i + 1):
                if np.isfinite(values[j]):
                    count += 1
                    anchor += values[j]
            anchor = anchor / count if count else 0.0
            total, square = 0.0, 0.0
            for j in range(first, i + 1):
                if np.isfinite(values[j]):
                    total += values[j] - anchor
                    square += (values[j] - anchor) ** 2
        if count < 2 or not np.isfinite(values[i]):
            continue
        mean = anchor + total / count
        spread = np.sqrt(max(square / count - (total / count) ** 2, 0.0))
        if spread <= 1e-14 * max(abs(mean), abs(values[i])):
            continue
        out[i] = min(max((values[i] - mean) / spread, -STANDARD_MAX), STANDARD_MAX)
    return out
