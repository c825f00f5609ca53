"""White's reality check, Hansen's SPA and StepM against arch, and against what they promise."""

from typing import Any, cast

import numpy as np
import pytest
from arch.bootstrap import SPA, StepM

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
