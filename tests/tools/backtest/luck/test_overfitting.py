"""PBO by block sums against the definition, computed naively split by split."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.luck.overfitting import block_sums, overfitting, pbo


def naive(returns: Any, blocks: int) -> tuple[float, float, Any]:
    """Every split by itself, on the returns themselves."""
    starts = np.linspace(0, len(returns), blocks + 1).astype(int)
    parts = [returns[first:last] for first, last in itertools.pairwise(starts)]
    logits: list[float] = []
    losses: list[bool] = []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        seen = np.concatenate([parts[block] for block in chosen])
        unseen = np.concatenate([parts[block] for block in range(blocks) if block not in chosen])
        inside, outside = (half.mean(0) / half.std(0, ddof=1) for half in (seen, unseen))
        best = int(inside.argmax())
        rank = (outside < outside[best]).sum() + ((outside == outside[best]).sum() + 1) / 2
        relative = rank / (returns.shape[1] + 1)
        logits.append(float(np.log(relative / (1 - relative))))
        losses.append(bool(outside[best] < 0))
    return float((np.array(logits) <= 0).mean()), float(np.mean(losses)), np.sort(logits)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    trials=st.integers(2, 9),
    blocks=st.sampled_from([2, 4, 6, 8]),
    bars=st.integers(16, 400),
    drift=st.floats(-0.002, 0.002),
)
def test_block_sums_give_what_every_split_by_itself_gives(
    seed: int, trials: int, blocks: int, bars: int, drift: float
) -> None:
    returns = np.random.default_rng(seed).normal(drift, 0.01, (bars, trials))
    found = overfitting(returns, blocks)
    probability, losses, logits = naive(returns, blocks)
    assert (found.probability, found.loss_probability) == (probability, losses)
    np.testing.assert_allclose(np.sort(found.logits), logits, rtol=1e-12)


def test_sixteen_blocks_make_12870_splits() -> None:
    returns = np.random.default_rng(0).normal(0, 0.01, (640, 5))
    found = overfitting(returns)
    assert found.splits == 12_870
    assert (found.probability, found.loss_probability) == naive(returns, 16)[:2]


def test_skill_is_told_from_luck() -> None:
    random = np.random.default_rng(5)
    luck = [overfitting(random.normal(0, 0.01, (1000, 50))).probability for _ in range(5)]
    assert 0.3 < float(np.mean(luck)) < 0.8
    skilled = random.normal(0, 0.01, (1000, 50))
    skilled[:, 7] += 0.003
    found = overfitting(skilled)
    assert found.probability == 0.0
    assert found.loss_probability == 0.0


def test_a_trial_that_never_traded_has_the_ratio_zero_and_equal_trials_share_their_rank() -> None:
    returns = np.random.default_rng(2).normal(-0.005, 0.001, (64, 3))
    returns[:, 1] = 0.0
    found = overfitting(returns, 4)  # cash is the best of losers, in every split
    assert (found.probability, found.loss_probability) == (0.0, 0.0)
    same = np.repeat(returns[:, :1], 4, axis=1)
    assert overfitting(same, 4).logits == pytest.approx(0.0)  # the middle rank of four equals


def test_what_gains_in_one_half_only_what_it_loses_in_the_other_is_overfitting_for_sure() -> None:
    """Two trials, each the other's opposite, that end where they began: the best seen is the worst unseen."""
    returns = np.random.default_rng(3).normal(0, 0.01, 160)
    returns -= returns.mean()
    found = overfitting(np.column_stack([returns, -returns]))
    assert (found.splits, found.probability, found.loss_probability) == (12_870, 1.0, 1.0)
    assert -1.1 < (found.slope or 0.0) < -0.9
    assert found.logits == pytest.approx(np.log(1 / 2))  # rank 1 of 2: 1/3 against 2/3


@pytest.mark.parametrize(
    ("returns", "blocks", "code"),
    [
        (np.zeros((100, 1)), 4, "too_few_trials"),
        (np.zeros((100, 3)), 5, "invalid_blocks"),
        (np.zeros((7, 3)), 4, "too_few_bars"),
        (np.full((100, 3), np.nan), 4, "invalid_returns"),
    ],
)
def test_what_cannot_be_split_is_refused(returns: Any, blocks: int, code: str) -> None:
    with pytest.raises(InputError) as raised:
        overfitting(returns, blocks)
    assert raised.value.code == code


def test_sums_whose_shapes_do_not_fit_are_refused() -> None:
    sums, squares, counts = block_sums(np.random.default_rng(0).normal(size=(64, 3)), 4)
    for given_ in ((sums[:3], squares, counts), (sums, squares[:, :2], counts), (sums, squares, counts[:3])):
        with pytest.raises(InputError, match="blocks"):
            pbo(*given_)
