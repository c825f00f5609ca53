"""The curve: what a loop over its bars says of it, to the last bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_tools.backtest.curve import drawdowns, read_curve
from neural_trader_tools.backtest.luck.sharpe import Moments
from neural_trader_tools.backtest.metrics import bar_returns

CASH = 1e5


def curve_of(seed: int, count: int, drift: float, swing: float, kind: str) -> np.ndarray:
    draw = np.random.default_rng(seed)
    equity = CASH * np.exp(np.cumsum(draw.normal(drift, swing, count)))
    if kind == "steps":
        equity = np.round(np.repeat(equity, 10)[:count])
    if kind == "last digits":
        equity = CASH * draw.uniform(0.5, 1.0) * (1.0 + draw.integers(-3, 4, count) * 2.0**-52)
    if kind == "ruin":
        equity[draw.integers(count) :] -= 2.0 * CASH
    return equity


curves = st.builds(
    curve_of,
    seed=st.integers(0, 2**31),
    count=st.sampled_from([1, 2, 63, 255, 256, 257, 511, 513, 1_200]),
    drift=st.sampled_from([-1e-2, -1e-5, 0.0, 1e-5, 1e-2]),
    swing=st.sampled_from([0.0, 1e-7, 1e-3, 3e-2]),
    kind=st.sampled_from(["walk", "steps", "last digits", "ruin"]),
)


@settings(max_examples=150, deadline=None)
@given(equity=curves)
def test_the_falls_are_those_that_a_loop_over_the_bars_finds(equity: np.ndarray) -> None:
    peak = top = bottom = CASH
    at, longest = -1, 0
    for bar, value in enumerate(equity.tolist()):
        if value >= peak:
            longest, peak, at = max(longest, bar - 1 - at), value, bar
        elif value * top < bottom * peak:
            bottom, top = value, peak
    assert drawdowns(equity, CASH) == (1.0 - bottom / top, max(longest, len(equity) - 1 - at))


@settings(max_examples=60, deadline=None)
@given(equity=curves)
def test_the_moments_are_those_of_the_returns_up_to_ruin(equity: np.ndarray) -> None:
    curve, returns = read_curve(equity, CASH), bar_returns(equity)
    assert curve.returns == len(returns)
    expected = Moments.of(returns)
    if curve.moments is not None and expected is not None and expected.sharpe < 1e6:
        np.testing.assert_allclose(curve.mean, returns.mean(), rtol=1e-6, atol=1e-15)
        if abs(curve.deviation or 0.0) > 1e-8:  # else only the last digits differ from one another
            np.testing.assert_allclose(curve.moments, expected, rtol=1e-5, atol=1e-7)


def test_the_memory_that_a_curve_lies_in_changes_nothing_about_it() -> None:
    equity = curve_of(1, 5_000, 1e-5, 1e-3, "walk")
    cells = np.empty(5_008)
    read = set[str]()
    for begin in range(8):
        cells[begin : begin + 5_000] = equity
        read.add(repr(read_curve(cells[begin : begin + 5_000], CASH)))
    assert len(read) == 1
