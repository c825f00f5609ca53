"""Which bars choose and which bars judge: Lopez de Prado's definitions, held against skfolio's."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.sweeps.splits import (
    Split,
    cell_edges,
    combinatorial,
    paths,
    read_validation,
    walk_forward,
)


def bars_of(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    return [bar for first, last in ranges for bar in range(first, last)]


@pytest.mark.parametrize(
    ("bars", "folds", "tested", "purge", "embargo"), [(102, 6, 2, 3, 4), (120, 5, 3, 2, 0)]
)
def test_combinatorial_splits_and_paths_are_those_of_skfolio(
    bars: int, folds: int, tested: int, purge: int, embargo: int
) -> None:
    selection: Any = pytest.importorskip("skfolio.model_selection")
    theirs = selection.CombinatorialPurgedCV(
        n_folds=folds, n_test_folds=tested, purged_size=purge, embargo_size=embargo
    )
    ours = combinatorial(bars, folds, tested, purge, embargo)
    for split, (train, test) in zip(ours, theirs.split(np.zeros((bars, 1))), strict=True):
        assert bars_of(split.train) == list(train)
        assert bars_of(split.test) == sorted(int(bar) for part in test for bar in part)
    assert len(paths(folds, tested)) == theirs.n_test_paths


@given(
    bars=st.integers(60, 400), folds=st.integers(2, 8), tested=st.integers(1, 7), purge=st.integers(0, 5),
    embargo=st.integers(0, 5),
)  # fmt: skip
def test_every_bar_trains_that_is_not_near_a_test_range_and_no_other(
    bars: int, folds: int, tested: int, purge: int, embargo: int
) -> None:
    for split in combinatorial(bars, folds, min(tested, folds - 1), purge, embargo):
        far = [
            bar
            for bar in range(bars)
            if all(bar < first - purge or bar >= last + purge + embargo for first, last in split.test)
        ]
        assert bars_of(split.train) == far


def test_k_fold_tests_every_bar_once() -> None:
    splits = combinatorial(103, 5)
    assert sorted(bar for split in splits for bar in bars_of(split.test)) == list(range(103))


@given(folds=st.integers(2, 7), tested=st.integers(1, 6))
def test_every_path_judges_every_part_by_a_split_that_tests_it(folds: int, tested: int) -> None:
    tested = min(tested, folds - 1)
    from itertools import combinations

    splits = list(combinations(range(folds), tested))
    found = paths(folds, tested)
    assert len(found) == math.comb(folds - 1, tested - 1)
    used = [(fold, split) for path in found for fold, split in enumerate(path)]
    assert all(fold in splits[split] for fold, split in used)
    assert len(set(used)) == len(used) == folds * len(found)


@given(bars=st.integers(40, 500), folds=st.integers(1, 6), purge=st.integers(0, 3), anchored=st.booleans())
def test_walking_forward_trains_only_on_the_past(bars: int, folds: int, purge: int, anchored: bool) -> None:
    splits = walk_forward(bars, folds, anchored=anchored, purge_bars=purge)
    ends = [split.test[0] for split in splits]
    assert [first for first, _ in ends[1:]] == [last for _, last in ends[:-1]]
    assert ends[-1][1] == bars
    for split in splits:
        assert split.train[-1][1] == split.test[0][0] - purge
        assert not anchored or split.train[0][0] == 0


def test_cells_are_borders_of_every_range_and_block() -> None:
    splits = [Split(train=((0, 10), (30, 47)), test=((10, 30),))]
    edges = cell_edges(64, splits, 4)
    assert {0, 10, 16, 30, 32, 47, 48, 64} == set(edges)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("roling", "did you mean 'rolling'"),
        ("rolling,fold=5", "did you mean 'folds'"),
        ("anchored,train=5", "anchored takes no train"),
        ("combinatorial,folds=6,test=6", "test at least one fold"),
        ("combinatorial,folds=30,test=10", "at most 1,000"),
        ("rolling,folds=0", "use 1 to 100"),
        ("rolling,folds=-1", "no number of bars"),
    ],
)
def test_a_scheme_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_validation(text)


def test_a_period_that_is_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="too_few_bars"):
        read_validation("combinatorial,folds=6,test=2,purge=20").splits(60)
    with pytest.raises(InputError, match="too_few_bars"):
        walk_forward(10, 8)
