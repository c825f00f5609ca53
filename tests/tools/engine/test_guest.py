"""What `signals` may return."""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from neural_trader_tools.engine import faults, guest

NAN = float("nan")


@pytest.fixture
def bars() -> pl.DataFrame:
    times = pl.datetime_range(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 4, tzinfo=UTC), eager=True)
    return pl.DataFrame({"time": times, "close": [1.0, 2.0, 3.0, 4.0]})


def returned(result: str, bars: pl.DataFrame) -> NDArray[np.float64]:
    source = (
        f"import numpy as np, polars as pl\nNAN = float('nan')\ndef signals(bars):\n    return {result}\n"
    )
    entry = guest.find_entry(guest.load(source))
    assert callable(entry)
    return guest.call_signals(entry, bars, {})


@pytest.mark.parametrize(
    ("result", "targets"),
    [
        ("""pl.Series([1, 0, -1, None])""", [1, 0, -1, NAN]),
        ("""bars["close"] > 2""", [0, 0, 1, 1]),
        ("""pl.Series([True, None, False, True])""", [1, NAN, 0, 1]),
        ("""pl.Series([0.5, NAN, None, -0.5])""", [0.5, NAN, NAN, -0.5]),
        ("""pl.Series([None] * 4)""", [NAN] * 4),
        ("""bars["close"].cast(pl.Decimal(10, 2)) - bars["close"].cast(pl.Decimal(10, 2))""", [0] * 4),
        ("""np.array([1, 0, -1, 0], dtype=np.int8)""", [1, 0, -1, 0]),
        ("""np.array([True, False, True, True])""", [1, 0, 1, 1]),
        ("""np.array([1.0, NAN, 0.25, -1.0], dtype=np.float16)""", [1, NAN, 0.25, -1]),
        ("""np.linspace(0, 1, 8)[::2]""", np.linspace(0, 1, 8)[::2].tolist()),
        ("""np.ma.masked_array([1.0, 0.0, 1.0, 0.0], mask=[1, 0, 0, 1])""", [NAN, 0, 1, NAN]),
    ],
)
def test_numbers_truths_and_nulls_become_targets(
    bars: pl.DataFrame, result: str, targets: list[float]
) -> None:
    given = returned(result, bars)
    assert given.dtype == np.float64
    assert np.array_equal(given, np.array(targets, dtype=np.float64), equal_nan=True)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ("""pl.Series(["1", "0", "1", "0"])""", "signals_type"),
        ("""bars["time"] - bars["time"]""", "signals_type"),
        ("""pl.Series([[1.0]] * 4)""", "signals_type"),
        ("""pl.Series([{"a": 1.0}] * 4)""", "signals_type"),
        ("""pl.Series(["a"] * 4, dtype=pl.Categorical)""", "signals_type"),
        ("""np.array([1, 0, 1, 0], dtype=object)""", "signals_type"),
        ("""np.array(["1"] * 4)""", "signals_type"),
        ("""np.array([1j] * 4)""", "signals_type"),
        ("""[1.0] * 4""", "signals_type"),
        ("""None""", "signals_type"),
        ("""bars""", "signals_type"),
        ("""np.zeros((4, 1))""", "signals_shape"),
        ("""np.zeros(5)""", "signals_shape"),
        ("""np.float64(1.0)""", "signals_type"),
        ("""np.full(4, np.inf)""", "target_out_of_range"),
        ("""bars["close"]""", "target_out_of_range"),
    ],
)
def test_whatever_else_is_refused(bars: pl.DataFrame, result: str, code: str) -> None:
    with pytest.raises(faults.StrategyFault) as caught:
        returned(result, bars)
    assert caught.value.code == code
    assert code in faults.CODES


def test_every_code_that_the_engine_raises_is_listed() -> None:
    folder = Path(faults.__file__).parent
    raised = {
        code
        for file in folder.glob("*.py")
        for code in re.findall(r'StrategyFault\(\s*"(\w+)"', file.read_text(encoding="utf-8"))
    }
    assert raised == faults.CODES
