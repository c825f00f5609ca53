"""White's reality check, Hansen's SPA and StepM against arch, and against what they promise."""

from typing import Any, cast

import numpy as np
import pytest
from arch.bootstrap import SPA, StationaryBootstrap, StepM

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.luck.superiority import long_run_variance, superiority


def strategies(seed: int, *drifts: float, bars: int = 400) -> Any:
    return np.random.default_rng(seed).normal(0, 0.01, (bars, len(drifts))) + np.array(drifts)


@pytest.mark.parametrize("seed", range(4))
def test_p_values_are_those_of_arch_to_the_last_resample(seed: int) -> None:
    excess = strategies(seed, 0.0003, 0.0008, -0.002, 0.0, -0.0001)
    theirs = SPA(np.zeros(len(excess)), -excess, block_size=5, reps=400, seed=seed)
    theirs.compute()
    ours = superiority(excess, seed=seed, draws=400, block_bars=5.0, studentize=False)
    assert ours is not None
    counted = [
        round(value * 401) - 1 for value in (ours.spa_lower, ours.spa, ours.spa_upper, ours.reality_check)
    ]
    lower, consistent, upper = (round(float(value) * 400) for value in cast(Any, theirs.pvalues))
    assert counted == [lower, consistent, upper, upper]


@pytest.mark.parametrize("seed", range(4))
def test_the_superior_ones_are_those_of_arch(seed: int) -> None:
    excess = strategies(seed, 0.0005, 0.003, -0.002, 0.0012, 0.0016)
    theirs = StepM(np.zeros(len(excess)), -excess, size=0.1, block_size=5, reps=400, seed=seed)
    theirs.compute()
    ours = superiority(excess, seed=seed, draws=400, block_bars=5.0, studentize=False, size=0.1)
    assert ours is not None
    assert list(ours.superior) == cast(Any, theirs).superior_models


def test_the_long_run_variance_is_that_of_arch() -> None:
    excess = strategies(1, 0.001, 0.0, -0.001)
    theirs: Any = SPA(np.zeros(len(excess)), -excess, block_size=6, reps=100, seed=1)
    theirs.compute()
    np.testing.assert_allclose(long_run_variance(excess, 6.0), theirs._loss_diff_var, rtol=1e-10)


def by_hand(excess: Any, block: float, draws: int, seed: int) -> dict[str, float]:
    """Hansen (2005) and White (2000) as they are written, one resample and one strategy after the other."""
    count, strategies_ = int(excess.shape[0]), int(excess.shape[1])
    means = [sum(column) / count for column in excess.T.tolist()]
    stays, deviations = 1 - 1 / block, list[float]()
    for column in range(
        strategies_
    ):  # Hansen's w^2: autocovariances by the chance that a block spans the lag
        moved = excess[:, column] - means[column]
        variance = float(moved @ moved) / count
        for lag in range(1, count):
            weight = (count - lag) / count * stays**lag + lag / count * stays ** (count - lag)
            variance += 2 * weight * float(moved[lag:] @ moved[:-lag]) / count
        deviations.append(variance**0.5)
    observed = max(0.0, *(count**0.5 * mean / w for mean, w in zip(means, deviations, strict=True)))
    bound = (2 * np.log(np.log(count))) ** 0.5
    centres = {
        "spa_lower": [max(mean, 0.0) for mean in means],
        "spa": [m if count**0.5 * m / w >= -bound else 0.0 for m, w in zip(means, deviations, strict=True)],
        "spa_upper": means,
    }
    reached = dict.fromkeys([*centres, "reality_check"], 0)
    resamples: Any = StationaryBootstrap(cast(Any, block), np.arange(count), seed=seed)
    for (places,), _ in resamples.bootstrap(draws):
        drawn = [float(excess[places, column].mean()) for column in range(strategies_)]
        for name, centre in centres.items():
            scaled = [count**0.5 * (d - c) / w for d, c, w in zip(drawn, centre, deviations, strict=True)]
            reached[name] += observed <= 0 or max(0.0, *scaled) >= observed
        gains = [d - m for d, m in zip(drawn, means, strict=True)]
        reached["reality_check"] += max(means) <= 0 or max(0.0, *gains) >= max(means)
    return {name: (1 + found) / (1 + draws) for name, found in reached.items()}


@pytest.mark.parametrize("seed", range(3))
def test_studentised_p_values_are_those_of_the_papers_by_hand(seed: int) -> None:
    """arch does not divide by the standard errors, so its figures cannot say this."""
    excess = strategies(seed, 0.0006, 0.0011, -0.004, -0.0003, bars=150) * np.array([1.0, 1.0, 1.0, 6.0])
    ours = superiority(excess, seed=seed, draws=200, block_bars=4.0)
    assert ours is not None
    expected = by_hand(excess, 4.0, 200, seed)
    assert {name: getattr(ours, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    assert 0.01 < ours.spa < 0.9


def test_studentising_keeps_a_wild_strategy_from_hiding_a_good_one() -> None:
    """Hansen's reason for it; arch 8 takes the argument `studentize` and does not divide."""
    excess = strategies(3, 0.002, -0.001)
    excess[:, 1] = (excess[:, 1] - excess[:, 1].mean()) * 40 - 0.001
    divided, plain = (superiority(excess, studentize=choice) for choice in (True, False))
    assert divided is not None
    assert plain is not None
    assert divided.spa < 0.01 < 0.2 < plain.spa
    assert divided.superior == (0,)
    assert plain.superior == ()
    wild = SPA(np.zeros(len(excess)), -excess, block_size=5, reps=400, seed=0, studentize=True)
    wild.compute()
    assert float(cast(Any, wild.pvalues)["consistent"]) > 0.2


def test_luck_is_seldom_taken_for_skill_and_the_reality_check_is_the_more_cautious() -> None:
    found = [superiority(strategies(seed, *[0.0] * 10, bars=250), draws=200) for seed in range(60)]
    alarms = sum(result is not None and result.spa <= 0.05 for result in found)
    assert alarms <= 8  # 3 expected
    hopeless = superiority(strategies(2, 0.0007, *[-0.004] * 20))
    assert hopeless is not None
    assert hopeless.spa_lower <= hopeless.spa <= hopeless.spa_upper


def test_a_p_value_is_never_zero_and_is_one_where_nothing_is_better() -> None:
    sure = superiority(strategies(1, 0.01), draws=200)
    assert sure is not None
    assert sure.spa == pytest.approx(1 / 201)
    worse = superiority(strategies(1, -0.01, -0.02))
    assert worse is not None
    assert (worse.spa, worse.reality_check, worse.superior) == (1.0, 1.0, ())


def test_columns_that_equal_the_benchmark_are_left_out_and_nothing_else_changes() -> None:
    excess = strategies(6, 0.0015, 0.0)
    alone = superiority(excess)
    padded = superiority(np.column_stack([np.zeros(len(excess)), excess]))
    assert alone is not None
    assert padded is not None
    assert (padded.spa, padded.superior) == (alone.spa, tuple(column + 1 for column in alone.superior))
    assert superiority(np.zeros((100, 3))) is None
    assert superiority(strategies(1, 0.0, bars=19)) is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        superiority(np.full((100, 2), np.nan))
    with pytest.raises(InputError, match="draws"):
        superiority(strategies(1, 0.0), draws=10)
