"""PSR, DSR and minimum track record length against the examples that their papers print."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.luck import sharpe as s
from neural_trader_tools.backtest.luck.sharpe import Moments

# Bailey & Lopez de Prado (2014), section "A numerical example": T = 1250 days of 250 a year, SR = 2.5 a
# year, skewness -3, kurtosis 10, V[SR] = 1/2 a year.
FOUND = Moments(1250, 2.5 / math.sqrt(250), -3.0, 10.0)
TRIED = 0.5 / 250


@pytest.mark.parametrize(
    ("trials", "moments", "printed"),
    [(100, FOUND, 0.9004), (46, FOUND, 0.9505), (88, Moments(1250, FOUND.sharpe), 0.9505)],
    ids=["the example", "after 46 trials", "88 trials, normal returns"],
)
def test_the_deflated_sharpe_ratio_is_that_of_the_paper(
    trials: int, moments: Moments, printed: float
) -> None:
    benchmark = s.expected_best_of(trials, TRIED)
    assert s.probabilistic_sharpe(moments, benchmark) == pytest.approx(printed, abs=5e-5)


def test_the_expected_best_of_a_hundred_trials_is_that_of_the_paper() -> None:
    assert s.expected_best_of(100, TRIED) == pytest.approx(0.1132, abs=5e-5)
    unit = np.array([-1.0, 1.0] * 50)
    trials = [float(value) for value in unit / unit.std(ddof=1) * math.sqrt(TRIED)]
    assert s.expected_best_sharpe(trials) == pytest.approx(0.1132, abs=5e-5)


def test_the_probabilistic_sharpe_ratio_is_that_of_the_paper() -> None:
    # Bailey & Lopez de Prado (2012), section 4: 24 months, SR 0.458, skewness -2.448, kurtosis 10.164
    assert s.probabilistic_sharpe(Moments(24, 0.458)) == pytest.approx(0.982, abs=5e-4)
    assert s.probabilistic_sharpe(Moments(24, 0.458, -2.448, 10.164)) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(
    ("periods", "skew", "kurtosis", "years"),
    [(250, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
    ids=["daily", "weekly", "monthly", "monthly, hedge funds"],
)
def test_the_track_record_that_shows_two_to_exceed_one_is_that_of_the_paper(
    periods: int, skew: float, kurtosis: float, years: float
) -> None:
    root = math.sqrt(periods)
    bars = s.track_record_bars(Moments(999, 2 / root, skew, kurtosis), 1 / root)
    assert bars is not None
    assert bars / periods == pytest.approx(years, abs=5e-3)


@given(
    sharpe=st.floats(0.01, 0.5), skew=st.floats(-2, 1), kurtosis=st.floats(6, 20), level=st.floats(0.6, 0.99)
)
def test_with_its_track_record_a_strategy_is_just_sure_enough(
    sharpe: float, skew: float, kurtosis: float, level: float
) -> None:
    bars = s.track_record_bars(Moments(2, sharpe, skew, kurtosis), 0.0, level)
    assert bars is not None
    score = sharpe * math.sqrt(bars - 1) / math.sqrt(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    assert NormalDist().cdf(score) == pytest.approx(level, rel=1e-9)


def test_no_record_is_long_enough_for_what_does_not_exceed_the_benchmark() -> None:
    assert s.track_record_bars(Moments(100, 0.1), 0.1) is None
    assert s.track_record_bars(Moments(100, -0.1)) is None
    with pytest.raises(InputError, match="confidence"):
        s.track_record_bars(Moments(100, 0.1), confidence=1.0)


def test_moments_are_those_of_numpy_and_undefined_where_there_is_no_risk() -> None:
    returns = np.random.default_rng(1).standard_t(5, 500) * 0.01 + 0.001
    found = Moments.of(returns)
    assert found is not None
    z = (returns - returns.mean()) / returns.std()
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)
    assert (found.skew, found.kurtosis) == pytest.approx(((z**3).mean(), (z**4).mean()), rel=1e-12)
    for flat in (np.zeros(10), np.full(10, 0.01), np.array([0.1]), np.array([0.1, math.inf, 0.2])):
        assert Moments.of(flat) is None


def test_the_deflated_sharpe_ratio_falls_with_every_trial_also_one_without_a_ratio() -> None:
    others: list[float | None] = [0.03 * (-1) ** number for number in range(10)]
    few = s.deflated_sharpe(Moments(750, 0.1), [0.1, *others])
    more = s.deflated_sharpe(Moments(750, 0.1), [0.1, *others, *[None] * 90])
    assert few is not None
    assert more is not None
    assert 1.0 > few > more > 0.0
    assert s.deflated_sharpe(Moments(750, 0.1), [0.1]) == s.probabilistic_sharpe(Moments(750, 0.1))


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        moments = Moments.of(random.normal(0.0005, 0.01, 750))
        assert moments is not None
        interval = s.sharpe_interval(moments, 252.0)
        assert interval is not None
        hits += interval[0] <= 0.05 * math.sqrt(252) <= interval[1]
    assert 0.92 <= hits / 400 <= 0.98
