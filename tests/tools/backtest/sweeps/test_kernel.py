"""The sweep's kernel makes what the whole engine makes, without its curves."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_tools.backtest.metrics import compute_metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.backtest.sweeps import kernel as k
from neural_trader_tools.backtest.sweeps.answer import Decisions
from neural_trader_tools.backtest.sweeps.figures import figures, range_objective
from neural_trader_tools.backtest.sweeps.ground import Ground, commands, measure
from neural_trader_tools.backtest.sweeps.ranges import Ranges, range_extremes

Floats = NDArray[np.float64]
DAY = 86_400_000_000


def walk(bars: int, seed: int, daily: float = 0.02) -> Prices:
    """Prices that go anywhere."""
    chance = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(chance.normal(0.0, daily, bars)))
    open_ = close * np.exp(chance.normal(0.0, daily / 4, bars))
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    times = np.arange(bars, dtype=np.int64) * DAY
    return Prices("X", times, open_, high, low, close, np.ones(bars))


def changes(targets: list[list[float]], bars: int, seed: int) -> Decisions:
    """Puts each list of targets on bars drawn at random, in order."""
    chance = np.random.default_rng(seed)
    rows, offsets = [np.empty((0, 2))], [0]
    for each in targets:
        places = np.sort(chance.choice(bars, size=min(len(each), bars), replace=False))
        rows.append(np.column_stack([places.astype(np.float64), each[: len(places)]]))
        offsets.append(offsets[-1] + len(places))
    return Decisions("signals", np.array(offsets), np.concatenate(rows), [None] * len(targets))


def held_against_the_engine(prices: Prices, decisions: Decisions, rules: Settings, cells: int) -> None:
    edges = np.unique(np.linspace(0, len(prices), cells + 1).astype(np.int64))
    ground = Ground([prices], rules, edges)
    assert ground.is_compiled
    outcomes = ground.play([decisions])
    for number in range(len(decisions)):
        replay = ground.replay([("orders", commands(decisions, number))])
        totals, parts = measure(replay, edges)
        # a sum of returns may nearly cancel: its error is measured by what was added up
        size = np.sqrt(totals[k.SUM_2] * max(totals[k.RETURNS], 1.0)) + 1e-300
        for column in range(k.TOTALS_SIZE):
            bound = 1e-12 * max(abs(totals[column]), size if k.SUM_1 <= column <= k.SUM_DOWN else 1e-3)
            assert abs(outcomes.totals[number, column] - totals[column]) <= bound, k.TOTALS[column]
        assert np.allclose(outcomes.cells[number][:, :2], parts[:, :2], rtol=1e-12, atol=1e-12 * size)
        assert np.allclose(outcomes.cells[number][:, 2], parts[:, 2], rtol=1e-12, atol=0.0)


TARGETS = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, 1.0, 0.0, -1.0, 0.5, -0.3]), max_size=30), min_size=1, max_size=6
)


@settings(max_examples=40, deadline=None)
@given(
    targets=TARGETS,
    seed=st.integers(0, 10_000),
    bars=st.integers(2, 300),
    fill=st.sampled_from(["next_open", "close"]),
    lots=st.sampled_from(["fractional", "whole"]),
    costs=st.sampled_from([(0.0, 0.0, 0.0), (10.0, 5.0, 0.0), (100.0, 0.0, 20.0)]),
    fixed=st.sampled_from([0, 1]),
    daily=st.sampled_from([0.02, 0.5]),  # the second one ruins shorts
)
def test_changes_come_to_what_the_engine_makes_of_them(
    targets: list[list[float]],
    seed: int,
    bars: int,
    fill: Any,
    lots: Any,
    costs: tuple[float, float, float],
    fixed: int,
    daily: float,
) -> None:
    commission, slippage, spread = costs
    rules = Settings(
        fill=fill, lots=lots, commission_bps=commission, slippage_bps=slippage, spread_bps=spread,
        commission_min=Decimal(fixed),
    )  # fmt: skip
    held_against_the_engine(walk(bars, seed, daily), changes(targets, bars, seed), rules, cells=min(bars, 5))


def test_a_ruined_short_ends_as_in_the_engine() -> None:
    prices = walk(40, 3)
    close = np.concatenate([np.full(10, 50.0), np.full(30, 500.0)])
    jumped = Prices("X", prices.times, close, close, close, close, prices.volume)
    decisions = Decisions("signals", np.array([0, 2]), np.array([[1.0, -1.0], [20.0, 1.0]]), [None])
    held_against_the_engine(jumped, decisions, Settings(commission_bps=10.0), cells=4)


def test_figures_are_the_metrics_of_a_single_backtest() -> None:
    prices = walk(500, 7)
    decisions = changes([[1.0, 0.0] * 20], 500, 1)
    ground = Ground([prices], Settings(commission_bps=5.0), np.array([0, 500]))
    row = figures(ground.play([decisions]).totals, 100_000.0, 500, 252.0).row(0, named=True)
    metrics = compute_metrics(ground.replay([("orders", commands(decisions, 0))]), 252.0).model_dump()
    for name in (
        "return_total", "cagr", "sharpe_ratio", "sortino_ratio", "calmar_ratio", "volatility_annual",
        "max_drawdown", "trade_count", "exposure_time", "commission_total",
    ):  # fmt: skip
        assert row[name] == pytest.approx(metrics[name], rel=1e-10), name


def test_a_steady_return_has_no_sharpe_ratio_of_rounding_errors() -> None:
    close = np.asarray(100.0 * 1.001 ** np.arange(300), dtype=np.float64)
    prices = Prices("X", np.arange(300) * DAY, close, close, close, close, np.ones(300))
    decisions = Decisions("signals", np.array([0, 1]), np.array([[0.0, 1.0]]), [None])
    ground = Ground([prices], Settings(fill="close"), np.array([0, 300]))
    row = figures(ground.play([decisions]).totals, 100_000.0, 300, 252.0).row(0, named=True)
    metrics = compute_metrics(ground.replay([("orders", commands(decisions, 0))]), 252.0)
    assert row["sharpe_ratio"] is None or row["sharpe_ratio"] == pytest.approx(metrics.sharpe_ratio, rel=0.5)


def test_rules_that_only_the_engine_knows_take_its_path() -> None:
    prices = walk(200, 2)
    rules = Settings(borrow_bps_annual=500.0)
    ground = Ground([prices], rules, np.array([0, 100, 200]))
    assert not ground.is_compiled
    decisions = changes([[-1.0, 0.0, -0.5]], 200, 5)
    totals, _ = measure(ground.replay([("orders", commands(decisions, 0))]), ground.edges)
    assert ground.play([decisions]).totals[0] == pytest.approx(totals, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), bars=st.integers(2, 400), ends=st.tuples(st.floats(0, 1), st.floats(0, 1))
)
def test_extremes_of_any_range_are_those_of_its_bars(seed: int, bars: int, ends: tuple[float, float]) -> None:
    close = walk(bars, seed).close
    first, last = sorted(int(end * (bars - 1)) for end in ends)
    ranges = Ranges.of(close)
    high, low, fall = range_extremes(first, last, close, ranges.ahead, ranges.behind, ranges.blocks)
    part = close[first : last + 1]
    assert (high, low) == (part.max(), part.min())
    assert fall == pytest.approx((1.0 - part / np.maximum.accumulate(part)).max(), rel=1e-14, abs=1e-15)


def test_an_objective_of_a_range_reads_its_cells_only() -> None:
    prices = walk(120, 4)
    edges = np.array([0, 40, 80, 120])
    ground = Ground([prices], Settings(), edges)
    decisions = Decisions("signals", np.array([0, 1]), np.array([[0.0, 1.0]]), [None])
    cells = ground.play([decisions]).cells
    equity = ground.replay([("orders", commands(decisions, 0))]).equity
    grown = range_objective(cells, edges, ((40, 80),), "return_total", 100_000.0)[0]
    assert grown == pytest.approx(equity[79] / equity[39] - 1.0, rel=1e-12)
    returns = (equity[1:] / equity[:-1] - 1.0)[[*range(0, 39), *range(79, 119)]]  # the first bar has none
    sharpe = range_objective(cells, edges, ((0, 40), (80, 120)), "sharpe_ratio", 100_000.0)[0]
    assert sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-10)
