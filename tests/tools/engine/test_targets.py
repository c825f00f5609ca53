"""Targets alone go past the book: the same as through it, to the last bit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tools.engine.conftest import DAY_US, Played

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import account as a
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.targets import target_changes

NAN = float("nan")


def bars_of(seed: int, count: int, swing: float) -> list[tuple[float, float, float, float]]:
    draw = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(draw.normal(0, swing, count)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(draw.normal(0, swing / 4, count))
    return [(o, max(o, c) * 1.001, min(o, c) * 0.999, c) for o, c in zip(open_, close, strict=True)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    swing=st.sampled_from([0.01, 0.2]),  # the wilder one calls margins and ruins
    keeps=st.sampled_from([0.0, 0.7, 0.97]),
    costs=st.fixed_dictionaries(
        {
            "commission": st.sampled_from([0.0, 0.002]),
            "per_unit": st.sampled_from([0.0, 0.03125]),
            "commission_min": st.sampled_from([0.0, 1.0, 900.0]),
            "slippage": st.sampled_from([0.0, 0.003]),
            "whole": st.booleans(),
            "margin": st.sampled_from([1.0, 0.25]),
        }
    ),
)
def test_targets_past_the_book_make_what_they_make_through_it(
    play: Callable[..., Played], seed: int, swing: float, keeps: float, costs: dict[str, Any]
) -> None:
    draw, count = np.random.default_rng(seed), 400
    most = 1.0 / costs["margin"]
    wanted = draw.choice([-most, -0.5, 0.0, 0.25, 1.0, most], count)
    wanted[draw.random(count) < keeps] = NAN
    bars = bars_of(seed, count, swing)
    past = play(bars, targets=wanted, **costs)
    # dividends of nothing change nothing, but each bar then has something to do before its open
    through = play(bars, targets=wanted, dividends=[0.0] * count, **costs)
    through.account[a.CAPACITY] = past.account[a.CAPACITY]  # nobody reads it without a cap
    for one, other in (
        (past.account, through.account),
        (past.fills, through.fills),
        (past.equity, through.equity),
        (past.positions, through.positions),
    ):
        assert one.tobytes() == other.tobytes()
    assert past.states == through.states


@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_positions_are_what_the_fills_left(play: Callable[..., Played], fill: Any) -> None:
    count = 300
    wanted = np.random.default_rng(1).choice([-1.0, 0.0, 0.5, NAN], count)
    bars = bars_of(3, count, 0.02)
    open_, high, low, close = (np.array(column) for column in zip(*bars, strict=True))
    times = np.arange(count, dtype=np.int64) * DAY_US
    prices = Prices("X", times, open_, high, low, close, np.full(count, 1e6))
    found = replay_symbol("signals", wanted, prices, Settings(fill=fill), 1_000.0)
    played = play(bars, targets=wanted, at_close=fill == "close")
    np.testing.assert_array_equal(found.positions, played.positions)
    np.testing.assert_array_equal(found.exposed, played.positions != 0.0)
    np.testing.assert_array_equal(found.equity, played.equity)
    assert 0 < found.exposed_bars == np.count_nonzero(found.exposed) < count


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.sampled_from([0, 1, 2, 63, 64, 65, 66, 128, 129, 130, 300]),
    length=st.integers(1, 40),
    undefined=st.booleans(),
)
def test_the_stream_of_targets_names_each_change_and_nothing_else(
    seed: int, count: int, length: int, undefined: bool
) -> None:
    draw = np.random.default_rng(seed)
    targets = np.repeat(draw.choice([0.0, -0.0, 1.0, -0.5, NAN], count), length)[:count]
    targets[: count // 2 if undefined else 0] = NAN
    expected: list[tuple[int, float]] = []
    for bar, target in enumerate(targets.tolist()):
        if target == target and target != (expected[-1][1] if expected else 0.0):
            expected.append((bar, target))
    stream = target_changes(targets)
    assert [(int(row[o.BAR]), float(row[o.SIZE])) for row in stream] == expected
    assert stream.shape == (len(expected), len(o.COLUMNS))
    assert (stream[:, o.ACTION] == o.TARGET).all()
