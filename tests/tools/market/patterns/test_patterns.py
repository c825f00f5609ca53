"""Patterns: every kernel beside the plainest way to say the same, and windows that know no future."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.patterns.history import History, history
from neural_trader_tools.market.patterns.matches import nearest
from neural_trader_tools.market.patterns.outcomes import outcome
from neural_trader_tools.market.patterns.pruning import nearest_bounded
from neural_trader_tools.market.patterns.shape import Floats, Integers, moments, normalised, shape_distances
from neural_trader_tools.market.patterns.warping import (
    SLACK,
    envelope,
    lower_bounds,
    nearest_warped,
    warped_squares,
)
from neural_trader_tools.market.patterns.windows import windows_before

START = datetime(2020, 1, 1, tzinfo=UTC)
some = settings(max_examples=40, deadline=None)


def walk(seed: int, size: int, level: float) -> Floats:
    return level + np.cumsum(np.random.default_rng(seed).normal(0, 0.01, size))


walks = st.builds(walk, st.integers(0, 10_000), st.integers(40, 700), st.sampled_from([0.0, 4.6, -3.0, 1e3]))


def flat(window: Floats) -> Floats:
    return (window - window.mean()) / window.std()


def all_of(values: Floats, bars: int) -> tuple[Integers, Integers]:
    return np.array([[0, values.size - bars + 1]]), np.arange(values.size - bars + 1)


@some
@given(values=walks, bars=st.integers(2, 39), cut=st.integers(0, 1_000))
def test_shapes_are_compared_as_two_lines_of_numpy_would(values: Floats, bars: int, cut: int) -> None:
    count = values.size - bars + 1
    middle = cut % count
    runs = np.array([[0, middle], [middle, count]])
    query = flat(values[-bars:])
    mean, spread = moments(values, runs, bars)
    distances = shape_distances(values, runs, query, mean, spread)
    windows = np.lib.stride_tricks.sliding_window_view(values, bars)
    np.testing.assert_allclose(mean, windows.mean(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(spread, windows.std(axis=1), rtol=1e-9, atol=1e-9 * spread.max())
    expected = [np.linalg.norm(flat(window) - query) for window in windows]
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    np.testing.assert_allclose(distances[-1], 0, atol=1e-6)


def test_the_distance_is_that_of_the_correlation() -> None:
    """d² = 2 m (1 - r): Mueen et al.; a mirror image is √(4 m) away."""
    rng = np.random.default_rng(1)
    one, two = np.cumsum(rng.normal(size=50)), np.cumsum(rng.normal(size=50))
    query = normalised(one)
    assert query is not None
    runs = np.array([[0, 1], [50, 51], [100, 101]])
    values = np.concatenate([two, -3 * one + 7, 5 * one - 2])
    distances = shape_distances(values, runs, query, *moments(values, runs, 50))
    correlation = float(np.corrcoef(one, two)[0, 1])
    np.testing.assert_allclose(distances, [math.sqrt(100 * (1 - correlation)), math.sqrt(200), 0], atol=1e-9)


def test_a_window_that_never_moved_has_no_shape() -> None:
    values = np.concatenate([np.full(10, math.log(3.3)), np.arange(10.0)])
    assert normalised(values[:10]) is None
    values[1:10:2] = np.nextafter(values[0], 9)  # rounding is no movement either
    assert normalised(values[:10]) is None
    runs, _ = all_of(values, 6)
    mean, spread = moments(values, runs, 6)
    query = flat(values[-6:])
    distances = shape_distances(values, runs, query, mean, spread)
    assert np.isnan(distances[:5]).all()
    assert np.isfinite(distances[5:]).all()
    bounds = lower_bounds(values, runs, query, mean, spread, envelope(query, 1), envelope(values, 1))
    np.testing.assert_array_equal(np.isnan(bounds), np.isnan(distances))


def warped(one: Sequence[float], two: Sequence[float], band: int) -> float:
    """DTW², word for word."""
    size = len(one)
    cost = {(-1, -1): 0.0}
    for i in range(size):
        for j in range(max(0, i - band), min(size, i + band + 1)):
            before = min(cost.get(cell, math.inf) for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1)))
            cost[i, j] = before + (one[i] - two[j]) ** 2
    return cost[size - 1, size - 1]


def test_dtw_of_the_published_example() -> None:
    """From the documentation of dtaidistance: these two are 1.4142135623730951 apart."""
    one, two = np.array([0.0, 0, 1, 2, 1, 0, 1, 0, 0]), np.array([0.0, 1, 2, 0, 0, 0, 0, 0, 0])
    [square] = warped_squares(one, np.array([0]), two, np.zeros(1), np.ones(1), 8, np.inf)
    assert math.sqrt(square) == 1.4142135623730951


@some
@given(values=walks, bars=st.integers(2, 12), wide=st.floats(0, 1))
def test_warped_distances_are_those_of_the_definition(values: Floats, bars: int, wide: float) -> None:
    band = round(wide * (bars - 1))
    runs, starts = all_of(values, bars)
    mean, spread = moments(values, runs, bars)
    query = flat(values[-bars:])
    chosen = starts[::7]
    squares = warped_squares(values, chosen, query, mean[chosen], spread[chosen], band, np.inf)
    expected = [
        warped(((values[start : start + bars] - mean[start]) / spread[start]).tolist(), query.tolist(), band)
        for start in chosen
    ]
    np.testing.assert_allclose(squares, expected, rtol=1e-12, atol=1e-12)
    bounds = lower_bounds(values, runs, query, mean, spread, envelope(query, band), envelope(values, band))
    assert (bounds[chosen] <= squares * (1 + 1e-9) + 1e-15).all()
    if band == 0:
        straight = shape_distances(values, runs, query, mean, spread)[chosen]
        np.testing.assert_allclose(np.sqrt(squares), straight, atol=1e-9)
    limit = float(np.median(squares))
    cut = warped_squares(values, chosen, query, mean[chosen], spread[chosen], band, limit)
    np.testing.assert_array_equal(cut, np.where(squares <= limit, squares, np.inf))


def greedy(distances: Floats, starts: Integers, owners: Integers, top: int, apart: int) -> list[int]:
    left: list[int] = np.flatnonzero(~np.isnan(distances)).tolist()
    taken: list[int] = []
    while left and len(taken) < top:
        best = min(left, key=lambda place: (distances[place], place))
        taken.append(best)
        left = [
            place
            for place in left
            if owners[place] != owners[best] or abs(starts[place] - starts[best]) >= apart
        ]
    return taken


@some
@given(
    distances=st.lists(st.sampled_from([math.nan, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0]), max_size=120),
    split=st.integers(0, 120),
    top=st.integers(1, 8),
    apart=st.integers(1, 9),
)
def test_the_nearest_are_taken_one_by_one(distances: list[float], split: int, top: int, apart: int) -> None:
    values = np.array(distances, dtype=np.float64)
    owners = (np.arange(values.size) >= split).astype(np.int64)
    starts = np.arange(values.size)
    found = nearest(values, starts, owners, top, apart)
    assert found.tolist() == greedy(values, starts, owners, top, apart)


def test_every_window_that_could_be_taken_is_looked_at() -> None:
    distances = np.full(60, 9.0)
    for valley in (10, 30):  # nine windows each, all nearer than the third that can be taken
        distances[valley - 4 : valley + 5] = 1 + 0.1 * np.abs(np.arange(-4, 5))
    distances[50] = 5.0
    found = nearest(distances, np.arange(60), np.zeros(60, dtype=np.int64), 3, 5)
    assert found.tolist() == [10, 30, 50]


@some
@given(values=walks, bars=st.integers(3, 20), top=st.integers(1, 5), apart=st.integers(1, 20))
def test_bounds_save_work_and_change_nothing(values: Floats, bars: int, top: int, apart: int) -> None:
    band = max(1, bars // 9)
    runs, starts = all_of(values, bars)
    moved = moments(values, runs, bars)
    query, owners = flat(values[-bars:]), np.zeros(starts.size, dtype=np.int64)

    def pick(places: Integers, distances: Floats) -> Integers:
        return places[nearest(distances, starts[places], owners[places], top, apart)]

    found, distances, paths = nearest_warped(values, runs, starts, query, moved, band, pick, top)
    squares = warped_squares(values, starts, query, *moved, band, np.inf)
    assert found.tolist() == greedy(squares, starts, owners, top, apart)
    np.testing.assert_array_equal(distances, np.sqrt(squares[found]))
    assert paths >= found.size


@settings(max_examples=150, deadline=None)
@given(
    windows=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from([0.0, 0.5, 0.9, 1.0])), min_size=1, max_size=40
    ),
    top=st.integers(1, 4),
    apart=st.integers(1, 6),
)
def test_bounds_of_any_quality_lead_to_the_same_windows(
    windows: list[tuple[int, float]], top: int, apart: int
) -> None:
    distances = np.array([float(distance) for distance, _ in windows])
    starts, owners = np.arange(distances.size), np.zeros(distances.size, dtype=np.int64)

    def measure(places: Integers, limit: float) -> Floats:
        return np.where(distances[places] <= limit, distances[places], np.inf)

    def pick(places: Integers, far: Floats) -> Integers:
        return places[nearest(far, starts[places], owners[places], top, apart)]

    bounds = distances * np.array([share for _, share in windows])
    found, far, measured = nearest_bounded(bounds, measure, pick, top, first_batch=1)
    assert found.tolist() == greedy(distances, starts, owners, top, apart)
    np.testing.assert_array_equal(far, distances[found])
    assert measured >= found.size


def test_a_window_that_was_given_up_comes_back_when_a_nearer_one_clears_the_way() -> None:
    """0 and 4 are taken, 10 is too far then; 2 is nearer than both, excludes both, and 10 is the next."""
    windows = {0: (5, 0), 4: (5, 0.1), 1: (9, 0.2), 10: (8, 1), 9: (9, 2), 11: (9, 2), 12: (9, 2), 2: (4, 4)}
    starts = np.array(sorted(windows))
    distances, bounds = (np.array([float(windows[one][k]) for one in starts.tolist()]) for k in (0, 1))
    limits: list[float] = []

    def measure(places: Integers, limit: float) -> Floats:
        limits.append(limit)
        return np.where(distances[places] <= limit, distances[places], np.inf)

    def pick(places: Integers, far: Floats) -> Integers:
        return places[nearest(far, starts[places], np.zeros(places.size, dtype=np.int64), 2, 3)]

    found, far, _ = nearest_bounded(bounds, measure, pick, 2, first_batch=1)
    assert starts[found].tolist() == [2, 10]
    assert far.tolist() == [4, 8]
    assert limits == [np.inf, np.inf, 5, 5, np.inf]


def test_bounds_are_held_a_hair_below_the_distances() -> None:
    """With no band a bound is the distance itself, but for the order in which it is summed."""
    values = np.cumsum(np.random.default_rng(7).normal(size=3_000))
    runs, starts = all_of(values, 50)
    query = flat(values[-50:])
    moved = moments(values, runs, 50)
    exact = warped_squares(values, starts, query, *moved, 0, np.inf)
    bounds = lower_bounds(values, runs, query, *moved, envelope(query, 0), envelope(values, 0))
    assert (bounds > exact).any()
    assert (bounds * SLACK <= exact).all()


def test_most_windows_need_no_path() -> None:
    values = np.cumsum(np.random.default_rng(2).normal(size=20_000))
    runs, starts = all_of(values, 60)
    query, owners = flat(values[-60:]), np.zeros(starts.size, dtype=np.int64)
    *_, paths = nearest_warped(
        values,
        runs,
        starts,
        query,
        moments(values, runs, 60),
        3,
        lambda places, far: places[nearest(far, starts[places], owners[places], 5, 60)],
        5,
    )
    assert paths < starts.size / 4


def made(closes: Sequence[float | None], days: Sequence[int] | None = None, symbol: str = "A") -> History:
    opens = [START + timedelta(days=day) for day in (days or range(len(closes)))]
    bars = pl.DataFrame({"event_time": opens, "close": pl.Series(closes, dtype=pl.Float64)})
    return history(symbol, bars.with_columns(pl.col("event_time").cast(pl.Datetime("us", "UTC"))))


def test_windows_lie_before_the_query_and_across_no_hole() -> None:
    closes: list[float | None] = [1.0 + i % 5 for i in range(40)]
    closes[7] = None
    closes[12] = 0.0
    days = [*range(20), *range(40, 60)]  # bar 20 opens three weeks after bar 19
    windows = windows_before([made(closes, days)], 4, apart=4)
    assert windows.ends().tolist() == [3, 4, 5, 6, 11, *range(16, 20), *range(23, 36)]
    assert windows.left_out == 33 - windows.starts.size
    np.testing.assert_array_equal(windows.query, np.log(np.array(closes[-4:], dtype=np.float64)))
    nearer = windows_before([made(closes, days)], 4, apart=1)
    assert nearer.ends()[-1] == 38  # as wished: three of its bars are the query's
    later = windows_before([made(closes, days)], 4, apart=4, past=30)
    assert later.ends()[0] == 30


def test_windows_of_other_symbols_end_before_the_query_begins() -> None:
    days = range(0, 60, 2)
    windows = windows_before(
        [made([float(2 + i % 3) for i in range(30)], list(days)), made([1.0, 2.0] * 40, symbol="B")],
        5,
        apart=5,
    )
    asked = windows.histories[0].opened_us[-5]
    for owner, one in enumerate(windows.histories):
        ends = windows.ends()[windows.owners == owner]
        assert one.opened_us[ends].max() < asked <= one.opened_us[ends.max() + 1]


@pytest.mark.parametrize(
    ("closes", "days", "code"),
    [
        ([1.0, 2.0, 3.0], None, "too_few_bars"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], None, "nothing_to_compare"),
        ([1.0] * 18 + [None, 1.0], None, "gap_in_window"),
        ([1.0, 2.0] * 10, [*range(18), 90, 91], "gap_in_window"),
    ],
)
def test_what_cannot_be_asked_says_why(closes: list[float], days: list[int] | None, code: str) -> None:
    with pytest.raises(DataError) as refused:
        windows_before([made(closes, days)], 4, apart=4)
    assert refused.value.code == code
    assert refused.value.next_step


def test_outcomes_count_where_they_had_ended_and_across_no_hole() -> None:
    closes = [float(10 + i) for i in range(30)]
    days = [*range(15), *range(60, 75)]
    windows = windows_before([made(closes, days)], 4, apart=4)
    found = np.array([windows.ends().tolist().index(end) for end in (4, 9, 11, 24, 25)])
    one = outcome(windows, found, 5)
    np.testing.assert_allclose(one.returns, [19 / 14 - 1, 24 / 19 - 1, np.nan, 39 / 34 - 1, np.nan])
    ends: list[int] = [end for end in windows.ends().tolist() if end + 5 < 30 and (end >= 15 or end + 5 < 15)]
    assert one.usual_count == len(ends)
    usual = [closes[end + 5] / closes[end] - 1 for end in ends]
    np.testing.assert_allclose(one.usual, np.mean(usual))
    assert one.usual_share_up == 1.0
    assert one.independent == 3
    errors = (np.nanmean(one.returns) - np.mean(usual)) / (np.std(usual, ddof=1) / math.sqrt(3))
    np.testing.assert_allclose(one.standard_errors, errors)


def test_outcomes_of_one_time_count_once() -> None:
    asked = made([float(2 + i % 3) for i in range(60)])
    windows = windows_before([asked, made([float(3 + i % 4) for i in range(60)], symbol="B")], 4, apart=4)
    both = [np.flatnonzero((windows.owners == owner) & (windows.ends() == 20))[0] for owner in (0, 1)]
    assert outcome(windows, np.array(both), 5).independent == 1
    assert outcome(windows, np.array(both[:1]), 5).independent == 1
    late = outcome(windows, np.array([windows.starts.size - 1]), 50)
    assert (late.independent, np.isnan(late.returns).all()) == (0, True)
    assert np.isnan(late.standard_errors)


def test_distances_of_windows_do_not_depend_on_what_lies_around_them() -> None:
    values = np.cumsum(np.random.default_rng(3).normal(size=1_500))
    query = flat(values[500:540])
    runs = np.array([[0, 400]])
    for first, second in pairwise((600, 900, 1_500)):
        here, there = (
            shape_distances(values[:size].copy(), runs, query, *moments(values[:size].copy(), runs, 40))
            for size in (first, second)
        )
        assert here.tobytes() == there.tobytes()
