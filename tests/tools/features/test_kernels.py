"""Kernels against independent definitions, published examples, truncation, and gaps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from neural_trader_tools.features import catalogue
from neural_trader_tools.features import functions as kernels
from neural_trader_tools.features.compiled import machine
from neural_trader_tools.features.definitions import DEFINITIONS

Floats = NDArray[np.float64]
EVERY_OUTPUT = [
    f"{one.name}.{output}" if len(one.outputs) > 1 else one.name
    for one in DEFINITIONS.values()
    for output in one.outputs
]

SUMS = {"obv", "accumulation_distribution", "chaikin_oscillator"}
"""They start from 0 with the first bar, and anew after a gap."""
UNEVEN = {"roll_spread"}
"""Undefined on some real bars."""
UNBROKEN = {"session_vwap"} | {name for name, one in DEFINITIONS.items() if one.family == "calendar"}
"""A gap is left out, or cannot be."""

WILDER_PRICES = """
44.34 44.09 44.15 43.61 44.33 44.83 45.10 45.42 45.84 46.08 45.89 46.03 45.61 46.28 46.28 46.00 46.03
46.41 46.22 45.64 46.21 46.25 45.71 46.45 45.78 45.35 44.03 44.18 44.22 44.57 43.42 42.66 43.13"""
WILDER_RSI = """
70.53 66.32 66.55 69.41 66.36 57.97 62.93 63.26 56.06 62.38 54.71 50.42 39.99 41.46 41.87 45.46 37.30
33.08 37.77"""
"""StockCharts ChartSchool's worked example of the 14-day RSI; its prices are printed rounded to cents."""


def _windows(values: Floats, window: int, of: Callable[..., Floats]) -> Floats:
    """A rolling statistic by its definition: every window anew."""
    out = np.full(values.size, np.nan)
    out[window - 1 :] = of(sliding_window_view(values, window), axis=1)
    return out


def _ema(values: Floats, window: int) -> Floats:
    """By polars' recursion, from the mean of the first window."""
    seeded = np.concatenate([[values[:window].mean()], values[window:]])
    tail = pl.Series(seeded).ewm_mean(span=window, adjust=False).to_numpy()
    return np.concatenate([np.full(window - 1, np.nan), tail])


def _wilder(values: Floats, window: int) -> Floats:
    seeded = np.concatenate([[values[:window].mean()], values[window:]])
    tail = pl.Series(seeded).ewm_mean(alpha=1 / window, adjust=False).to_numpy()
    return np.concatenate([np.full(window - 1, np.nan), tail])


def _equal(ours: Floats, other: Floats) -> None:
    np.testing.assert_allclose(ours, other, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="session")
def close(apple: pl.DataFrame) -> Floats:
    return apple["close"].to_numpy()


@pytest.mark.parametrize("window", [2, 5, 20, 200])
def test_rolling_statistics_equal_their_definitions(close: Floats, window: int) -> None:
    mean, deviation = _windows(close, window, np.mean), _windows(close, window, np.std)
    _equal(kernels.sma(close, window), mean)
    _equal(kernels.rolling_max(close, window), _windows(close, window, np.max))
    _equal(kernels.rolling_min(close, window), _windows(close, window, np.min))
    upper, middle, lower, percent_b = kernels.bbands(close, window, 2.0)
    _equal(upper, mean + 2 * deviation)
    _equal(middle, mean)
    _equal(lower, mean - 2 * deviation)
    flat = deviation < 1e-9
    defined = ~flat & ~np.isnan(deviation)
    _equal(percent_b[defined], (close - lower)[defined] / (upper - lower)[defined])
    _equal(kernels.zscore(close, window)[defined], (close - mean)[defined] / deviation[defined])
    assert np.isnan(kernels.zscore(close, window)[~defined]).all()


@pytest.mark.parametrize("window", [1, 10])
def test_changes_equal_their_definitions(close: Floats, window: int) -> None:
    before = np.concatenate([np.full(window, np.nan), close[:-window]])
    _equal(kernels.returns(close, window), close / before - 1)
    _equal(kernels.log_returns(close, window), np.log(close / before))
    _equal(kernels.momentum(close, window), close - before)
    _equal(kernels.roc(close, window), 100 * (close / before - 1))


def test_volatility_is_the_sample_deviation_of_log_returns(close: Floats) -> None:
    change = np.diff(np.log(close))
    out = np.full(close.size, np.nan)
    out[20:] = sliding_window_view(change, 20).std(axis=1, ddof=1) * np.sqrt(252)
    _equal(kernels.volatility(close, 20, 252.0), out)


@pytest.mark.parametrize("window", [1, 12, 50])
def test_the_exponential_average_equals_polars(close: Floats, window: int) -> None:
    _equal(kernels.ema(close, window), _ema(close, window))


def test_macd_equals_its_definition_with_the_fast_average_started_late(close: Floats) -> None:
    line, signal, histogram = kernels.macd(close, 12, 26, 9)
    slow = _ema(close, 26)[25:]
    fast = _ema(close[14:], 12)[11:]
    expected = fast - slow
    trigger = _ema(expected, 9)
    _equal(line[33:], expected[8:])
    _equal(signal[33:], trigger[8:])
    _equal(histogram[33:], (expected - trigger)[8:])
    assert np.isnan(line[:33]).all()


def test_rsi_equals_wilders_averages(close: Floats) -> None:
    change = np.diff(close)
    gain, loss = (_wilder(np.maximum(sign * change, 0), 14) for sign in (1, -1))
    _equal(kernels.rsi(close, 14)[1:], 100 - 100 / (1 + gain / loss))


def test_rsi_gives_the_published_example() -> None:
    prices = np.array(WILDER_PRICES.split(), dtype=np.float64)
    published = np.array(WILDER_RSI.split(), dtype=np.float64)
    np.testing.assert_allclose(kernels.rsi(prices, 14)[14:], published, atol=0.1)


def test_atr_equals_wilders_average_of_true_ranges(apple: pl.DataFrame) -> None:
    high, low, close = (apple[name].to_numpy() for name in ("high", "low", "close"))
    before = close[:-1]
    reach = np.maximum.reduce([high[1:] - low[1:], np.abs(high[1:] - before), np.abs(low[1:] - before)])
    _equal(kernels.atr(high, low, close, 14)[1:], _wilder(reach, 14))


def test_channels_and_oscillators_equal_their_definitions(apple: pl.DataFrame) -> None:
    high, low, close = (apple[name].to_numpy() for name in ("high", "low", "close"))
    top, bottom = _windows(high, 14, np.max), _windows(low, 14, np.min)
    upper, middle, lower = kernels.donchian(high, low, 14)
    _equal(upper, top)
    _equal(lower, bottom)
    _equal(middle, (top + bottom) / 2)
    raw = (100 * (close - bottom) / (top - bottom))[13:]
    k = _windows(raw, 3, np.mean)
    ours_k, ours_d = kernels.stochastic(high, low, close, 14, 3, 3)
    _equal(ours_k[13:], k)
    _equal(ours_d[15:], _windows(k[2:], 3, np.mean))


def test_volume_features_equal_their_definitions(apple: pl.DataFrame) -> None:
    high, low, close, volume = (apple[name].to_numpy() for name in ("high", "low", "close", "volume"))
    signed = np.concatenate([[1.0], np.sign(np.diff(close))]) * volume
    _equal(kernels.obv(close, volume), np.cumsum(signed))
    typical = (high + low + close) / 3
    expected = _windows(typical * volume, 20, np.sum) / _windows(volume, 20, np.sum)
    _equal(kernels.vwap(high, low, close, volume, 20), expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expression=st.sampled_from(EVERY_OUTPUT), cut=st.integers(1, 3270), gap=st.integers(0, 3269))
def test_ending_the_data_at_a_bar_changes_no_value_up_to_it(
    apple: pl.DataFrame, expression: str, cut: int, gap: int
) -> None:
    """No kernel looks ahead, with a hole in the data or without."""
    holed = apple.with_columns(
        pl.when(pl.int_range(pl.len()) == gap).then(None).otherwise("close").alias("close")
    )
    for bars in (apple, holed):
        whole, cut_off = catalogue.evaluate(expression, bars), catalogue.evaluate(expression, bars.head(cut))
        np.testing.assert_array_equal(whole[:cut], cut_off)


@pytest.mark.parametrize("expression", EVERY_OUTPUT)
def test_the_first_value_comes_at_the_stated_look_back_and_anew_after_a_gap(
    apple: pl.DataFrame, expression: str
) -> None:
    feature = catalogue.parse(expression)
    name = feature.definition.name
    plain = feature.compute(apple)
    warm_from = int(np.argmax(np.isfinite(plain)))
    assert warm_from <= feature.lookback_bars or name in UNEVEN
    assert np.isfinite(plain[feature.lookback_bars :]).all() or name in UNEVEN
    if name in UNBROKEN:
        return
    hole = 500
    gap = pl.int_range(pl.len()) == hole
    inputs = feature.definition.inputs
    holed = apple.with_columns(pl.when(gap).then(None).otherwise(pl.col(name)).alias(name) for name in inputs)
    values = feature.compute(holed)
    np.testing.assert_array_equal(values[:hole], plain[:hole])
    assert np.isnan(values[hole])
    if name not in SUMS:
        fresh = feature.compute(apple.slice(hole + 1))
        np.testing.assert_allclose(values[hole + 1 :], fresh, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
@pytest.mark.parametrize("expression", EVERY_OUTPUT)
def test_too_little_data_is_undefined_not_an_error(apple: pl.DataFrame, expression: str, size: int) -> None:
    values = catalogue.evaluate(expression, apple.head(size))
    assert values.size == size
    feature = catalogue.parse(expression)
    if size <= int(np.argmax(np.isfinite(feature.compute(apple)))):
        assert np.isnan(values).all()


def test_values_without_a_definition_are_nan() -> None:
    still = np.full(30, 7.0)
    assert np.isnan(kernels.zscore(still, 5)).all()
    assert np.isnan(kernels.bbands(still, 5, 2.0)[3]).all()
    assert np.isnan(kernels.stochastic(still, still, still, 5, 1, 1)[0]).all()
    assert np.isnan(kernels.vwap(still, still, still, np.zeros(30), 5)).all()
    assert np.isnan(kernels.returns(np.zeros(30), 1)).all()
    with pytest.raises(ValueError, match="fast=9 is not below slow=5"):
        kernels.macd(still, 9, 5, 3)
    assert (kernels.rsi(still, 5)[5:] == 50).all()
    assert (kernels.volatility(still, 5, 252.0)[5:] == 0).all()


def test_rounding_does_not_accumulate_over_a_million_bars(close: Floats) -> None:
    long = np.tile(close, 310) * 1e6
    for ours, of in ((kernels.sma(long, 20), np.mean), (kernels.bbands(long, 20, 1.0)[1], np.mean)):
        _equal(ours[-2000:], of(sliding_window_view(long[-2019:], 20), axis=1))
    deviation = sliding_window_view(long[-2019:], 20).std(axis=1)
    upper, middle, *_ = kernels.bbands(long, 20, 1.0)
    np.testing.assert_allclose((upper - middle)[-2000:], deviation, rtol=1e-7)


def test_an_infinity_is_a_gap(close: Floats) -> None:
    poisoned = close[:100].copy()
    poisoned[50] = np.inf
    for kernel in (kernels.sma, kernels.ema, kernels.rsi, kernels.zscore, kernels.rolling_max):
        values = kernel(poisoned, 5)
        assert np.isnan(values[50])
        assert np.isfinite(values[60:]).all()


def test_wrong_arguments_are_refused_before_machine_code_runs(close: Floats) -> None:
    any_kernel: Any = kernels.sma
    for window in (0, -3, True):
        with pytest.raises(ValueError, match="invalid_parameter"):
            any_kernel(close, window)
    with pytest.raises(ValueError, match="unequal_lengths"):
        kernels.atr(close, close[1:], close, 14)
    assert any_kernel([1, 2, 3], 2).tolist()[1:] == [1.5, 2.5]


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_a_kernel_keeps_to_the_room_it_is_given(apple: pl.DataFrame, name: str) -> None:
    """Machine code checks no bounds: nothing may be written beyond the state that the definition asks for."""
    definition = DEFINITIONS[name]
    columns = [catalogue.column(apple, one, definition) for one in definition.inputs]
    for scale in (0, 1, 5):
        arguments = [
            max(int(one.low), int(one.default * scale)) if isinstance(one.default, int) else one.default
            for one in definition.params
        ]
        room = definition.state_floats(*arguments)
        state = np.concatenate([np.zeros(room), np.full(4096, 7.5)])
        out = np.full((len(definition.outputs) + 2, apple.height), 7.5)
        code = machine(definition.kernels, name, len(columns))
        code.run(0, apple.height, columns, np.array([*arguments, 0.0]), state, out)
        assert (state[room:] == 7.5).all()
        assert (out[-2:] == 7.5).all()


def test_where_a_column_is_cut_into_calls_changes_no_bit(apple: pl.DataFrame) -> None:
    for definition in DEFINITIONS.values():
        columns = [catalogue.column(apple, one, definition) for one in definition.inputs]
        arguments = [one.default for one in definition.params]
        state = np.zeros(definition.state_floats(*arguments))
        out = np.empty((len(definition.outputs), apple.height))
        code = machine(definition.kernels, definition.name, len(columns))
        for start, stop in ((0, 1), (1, 17), (17, 17), (17, 1500), (1500, apple.height)):
            code.run(start, stop, columns, np.array([*arguments, 0.0]), state, out)
        np.testing.assert_array_equal(out, catalogue.outputs(definition, arguments, columns))
