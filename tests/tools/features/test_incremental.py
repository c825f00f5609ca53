"""Bar by bar and over columns: the same values, bit for bit, whatever gaps there are."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_tools.features import catalogue
from neural_trader_tools.features.definitions import DEFINITIONS
from neural_trader_tools.features.incremental import INPUTS, SPARE_BARS, IncrementalSet

Floats = NDArray[np.float64]
EVERY = [
    f"{one.name}.{output}" if len(one.outputs) > 1 else one.name
    for one in DEFINITIONS.values()
    for output in one.outputs
]


def _fed(expressions: list[str], bars: pl.DataFrame) -> Floats:
    """Every update's values, one row a bar."""
    fed = IncrementalSet(expressions)
    columns = [bars[name].fill_null(math.nan).to_list() for name in INPUTS[:5]]
    times = (bars["event_time"].dt.epoch("us") / 1e6).to_list()
    return np.array([fed.update(*bar) for bar in zip(*columns, times, strict=True)])


def _holed(bars: pl.DataFrame, seed: int, share: float) -> pl.DataFrame:
    """Bars with single values missing at random."""
    rng = np.random.default_rng(seed)
    return bars.with_columns(
        pl.when(pl.Series(rng.random(bars.height) < share)).then(None).otherwise(pl.col(name)).alias(name)
        for name in INPUTS[:5]
    )


def test_every_feature_is_the_same_bar_by_bar_over_thirteen_years(apple: pl.DataFrame) -> None:
    """With gaps, and past many moves of the buffer and fresh sums."""
    for bars in (apple, _holed(apple, 1, 0.002)):
        fed = _fed(EVERY, bars)
        for place, expression in enumerate(EVERY):
            np.testing.assert_array_equal(
                fed[:, place], catalogue.evaluate(expression, bars), err_msg=expression
            )


@pytest.mark.parametrize("window", [1, 20, 1_023, 1_500])
@pytest.mark.parametrize("gaps", [(), (3_000, 12_345), (9_999,)])
def test_long_columns_whose_sums_slide_side_by_side_keep_every_bit(
    window: int, gaps: tuple[int, ...]
) -> None:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(window).normal(0.0, 1e-3, 21_000)))
    close[list(gaps)] = [math.nan, math.inf][: len(gaps)]
    expression = f"sma({window})"
    fed = IncrementalSet([expression])
    expected = [fed.update(1.0, 1.0, 1.0, price, 1.0, 0.0)[0] for price in close.tolist()]
    found = catalogue.evaluate(expression, pl.DataFrame({"close": close}))
    assert found.tobytes() == np.array(expected).tobytes()
    assert np.isfinite(found).sum() >= 21_000 - (len(gaps) + 1) * window


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(DEFINITIONS)),
    data=st.data(),
    seed=st.integers(0, 1000),
    start=st.integers(0, 2000),
)
def test_any_parameters_and_gaps_give_the_same_values(
    apple: pl.DataFrame, name: str, data: st.DataObject, seed: int, start: int
) -> None:
    definition = DEFINITIONS[name]
    numbers = [
        data.draw(st.integers(int(one.low), int(min(one.high, 60))))
        if isinstance(one.default, int)
        else data.draw(st.floats(one.low, min(one.high, 50.0)))
        for one in definition.params
    ]
    if definition.check is not None and definition.check(*numbers):
        numbers[:2] = [5, 9]
    written = f"({','.join(str(one) for one in numbers)})" if numbers else ""
    outputs = [f".{one}" for one in definition.outputs] if len(definition.outputs) > 1 else [""]
    expressions = [f"{name}{written}{output}" for output in outputs]
    bars = _holed(apple.slice(start, 700), seed, 0.01)
    fed = _fed(expressions, bars)
    for place, expression in enumerate(expressions):
        np.testing.assert_array_equal(fed[:, place], catalogue.evaluate(expression, bars), err_msg=expression)


def test_expressions_of_one_feature_share_its_work_and_keep_their_order(apple: pl.DataFrame) -> None:
    asked = ["bbands(20,2).lower", "rsi", "bbands(20,2).upper", "rsi(14)", "bbands"]
    fed = IncrementalSet(asked)
    assert fed.expressions == [
        "bbands(20,2).lower", "rsi(14)", "bbands(20,2).upper", "rsi(14)", "bbands(20,2).upper",
    ]  # fmt: skip
    values = _fed(asked, apple.head(SPARE_BARS))
    np.testing.assert_array_equal(values[:, 1], values[:, 3])
    np.testing.assert_array_equal(values[:, 2], values[:, 4])


def test_a_returned_array_is_not_written_again() -> None:
    fed = IncrementalSet(["sma(1)"])
    first = fed.update(1, 1, 1, 1, 0)
    second = fed.update(2, 2, 2, 2, 0)
    assert (first[0], second[0]) == (1.0, 2.0)


def test_sets_do_not_touch_each_other() -> None:
    one, other = IncrementalSet(["sma(2)"]), IncrementalSet(["sma(2)"])
    one.update(1, 1, 1, 1, 1)
    assert math.isnan(other.update(5, 5, 5, 5, 5)[0])
    assert one.update(3, 3, 3, 3, 3)[0] == 2.0


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="invalid_feature: no expression"):
        IncrementalSet([])
    with pytest.raises(ValueError, match="did you mean rsi"):
        IncrementalSet(["rsj(14)"])
    with pytest.raises(ValueError, match="missing_time"):
        IncrementalSet(["sma(2)", "month"]).update(1, 1, 1, 1, 1)
    with pytest.raises(TypeError):
        IncrementalSet(["sma(2)"]).update(1, 1, 1, "x", 1)  # type: ignore[arg-type]
