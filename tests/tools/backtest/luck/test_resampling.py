"""The stationary bootstrap against arch, and its intervals against what they promise."""

import math
from typing import Any, cast

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.luck.resampling import (
    BARS_MAX,
    block_length,
    draw_weights,
    group_size,
    grouped,
    intervals,
)


def autoregressive(seed: int, bars: int, memory: float) -> Any:
    noise = np.random.default_rng(seed).normal(0.0005, 0.01, bars)
    for bar in range(1, bars):
        noise[bar] += memory * noise[bar - 1]
    return noise


@pytest.mark.parametrize("memory", [-0.3, 0.0, 0.2, 0.9])
@pytest.mark.parametrize("bars", [30, 600, 3000])
def test_the_block_length_is_that_of_arch(memory: float, bars: int) -> None:
    returns = autoregressive(bars, bars, memory)
    theirs = float(cast(Any, optimal_block_length(returns))["stationary"].iloc[0])
    assert block_length(returns) == pytest.approx(max(theirs, 1.0), rel=1e-9)


def test_the_draws_of_a_seed_are_those_of_arch() -> None:
    bars, draws = 200, 50
    theirs = StationaryBootstrap(7, np.arange(bars), seed=3)
    expected = [np.bincount(data[0][0], minlength=bars) for data in theirs.bootstrap(draws)]
    ours = np.concatenate(list(draw_weights(bars, 7.0, draws, 3)))
    np.testing.assert_array_equal(ours, np.array(expected))


def test_the_interval_is_the_percentile_interval_of_arch_draw_by_draw() -> None:
    returns = autoregressive(2, 300, 0.2)

    def ratio(drawn: Any) -> Any:
        return drawn.mean() / drawn.std(ddof=1) * math.sqrt(252)

    ours = intervals(returns, 252.0, seed=5, draws=300)
    assert ours is not None
    theirs: Any = StationaryBootstrap(cast(Any, ours.block_bars), returns, seed=5)
    np.testing.assert_allclose(
        ours.sharpe, theirs.conf_int(ratio, 300, method="percentile").ravel(), rtol=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "least"), [(-0.2, 0.92), (0.0, 0.91), (0.3, 0.89), (0.6, 0.85)])
def test_returns_that_remember_are_within_their_interval_about_as_often_as_it_says(
    memory: float, least: float
) -> None:
    """AR(1): mean m / (1 - a), deviation s / sqrt(1 - a^2). What is missing to 95 % shrinks with the bars."""
    true = 0.0005 / (1 - memory) / (0.01 / math.sqrt(1 - memory**2)) * math.sqrt(252)
    hits = 0
    for seed in range(500):
        found = intervals(autoregressive(seed, 1500, memory)[500:], 252.0, seed=seed, draws=500)
        assert found is not None
        hits += found.sharpe[0] <= true <= found.sharpe[1]
    assert least <= hits / 500 <= 0.98


def test_an_interval_is_the_same_for_the_same_seed_and_surrounds_the_estimate() -> None:
    returns = autoregressive(1, 750, 0.1)
    first, again, other = (intervals(returns, 252.0, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first is not None
    assert first.cagr is not None
    own = returns.mean() / returns.std(ddof=1) * math.sqrt(252)
    assert first.sharpe[0] < own < first.sharpe[1]
    assert first.cagr[0] < float(np.exp(np.log1p(returns).mean() * 252)) - 1 < first.cagr[1]


def test_the_interval_holds_the_true_ratio_nearly_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(100):
        found = intervals(np.random.default_rng(seed).normal(0.0005, 0.01, 500), 252.0, draws=300)
        assert found is not None
        hits += found.sharpe[0] <= 0.05 * math.sqrt(252) <= found.sharpe[1]
    assert hits >= 88


def test_what_depends_on_its_past_is_less_sure() -> None:
    def width(memory: float) -> float:
        found = intervals(autoregressive(4, 2000, memory), 252.0)
        assert found is not None
        return found.sharpe[1] - found.sharpe[0]

    assert width(0.5) > 1.3 * width(0.0)


def test_long_series_are_added_up_in_groups_that_keep_their_ratio() -> None:
    returns = np.random.default_rng(9).normal(0.0005, 0.01, 3 * BARS_MAX + 2)
    assert group_size(len(returns)) == 4
    assert grouped(returns, 4).sum() == pytest.approx(returns[2:].sum())
    found = intervals(returns, 252.0, draws=500)
    assert found is not None
    assert found.sharpe[0] < returns.mean() / returns.std() * math.sqrt(252) < found.sharpe[1]


def test_what_has_no_interval_has_none() -> None:
    assert intervals(np.zeros(500), 252.0) is None
    assert intervals(np.random.default_rng(0).normal(size=19) / 100, 252.0) is None
    assert intervals(np.append(np.zeros(100), np.nan), 252.0) is None
    ruined = intervals(np.append(np.random.default_rng(0).normal(0, 0.01, 100), -1.0), 252.0)
    assert ruined is not None
    assert ruined.cagr is None
    with pytest.raises(InputError, match="draws"):
        intervals(np.zeros(100), 252.0, draws=1)
