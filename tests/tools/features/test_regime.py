"""The regime vector: finite, causal, and alike for alike markets."""

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.features.regime import BARS_MIN, NAMES, PAST_BARS, regime_vector


def _market(volatility: float, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 800)))
    close = np.concatenate([close, close[-1] * np.exp(np.cumsum(rng.normal(0, volatility, 100)))])
    spread = close * np.concatenate([np.full(800, 0.01), np.full(100, volatility)])
    return pl.DataFrame(
        {"open": close, "high": close + spread, "low": close - spread, "close": close, "volume": 1e6}
    )


def test_it_has_33_finite_numbers_on_real_prices(apple: pl.DataFrame) -> None:
    for last in (BARS_MIN, 1000, apple.height):
        vector = regime_vector(apple.head(last))
        assert vector.shape == (len(NAMES),) == (33,)
        assert np.isfinite(vector).all()


def test_it_depends_on_the_bars_that_it_says_and_on_none_after(apple: pl.DataFrame) -> None:
    whole = regime_vector(apple.head(2000))
    np.testing.assert_array_equal(regime_vector(apple.head(2000).tail(PAST_BARS + BARS_MIN)), whole)
    assert not np.array_equal(regime_vector(apple.head(2001)), whole)


def test_markets_of_one_regime_are_nearer_than_those_of_another() -> None:
    calm, calm_too = regime_vector(_market(0.005, 1)), regime_vector(_market(0.005, 2))
    wild = regime_vector(_market(0.04, 3))
    assert np.linalg.norm(calm - calm_too) < np.linalg.norm(calm - wild)
    assert wild[NAMES.index("volatility(20,252)")] > 2 > calm[NAMES.index("volatility(20,252)")]


def test_a_market_that_stands_still_is_usual(apple: pl.DataFrame) -> None:
    still = apple.with_columns(open=100.0, high=100.0, low=100.0, close=100.0, volume=5.0)
    np.testing.assert_array_equal(regime_vector(still), np.zeros(33))


def test_too_little_and_impossible_data_are_refused(apple: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="too_few_bars: 251"):
        regime_vector(apple.head(251))
    for price in (None, 0.0, -1.0):
        bars = apple.head(300).with_columns(
            pl.when(pl.int_range(pl.len()) == 299).then(price).otherwise("close").alias("close")
        )
        with pytest.raises(ValueError, match="invalid_price"):
            regime_vector(bars)
