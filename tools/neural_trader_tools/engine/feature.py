"""A feature's values over bars, checked: what `self.feature(...)` and the rules of `engine/rule.py` read."""

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.interval import coarse_bars

Floats = NDArray[np.float64]
Evaluate = Callable[[str, pl.DataFrame], Floats]
COLUMNS: Final = ("open", "high", "low", "close", "volume")
"""Columns of the bars, which are features by their plain names."""


def feature_values(
    evaluate: Evaluate, expression: str, bars: pl.DataFrame, interval: str | None = None
) -> Floats:
    """Returns a feature's values, one a bar, read-only.

    Args:
        evaluate: Computes a feature; a `ValueError` says what is wrong with the expression.
        expression: Such as `rsi(14)`, or a column of the bars, such as `close`.
        bars: time, open, high, low, close, volume.
        interval: Of longer bars, such as `1d`: then each value is that of the last longer bar that was over,
            NaN before the first was; see `interval.coarse_bars`.

    Raises:
        StrategyFault: `invalid_feature` or `feature_shape`.
    """
    if interval is not None:
        longer, numbers = coarse_bars(bars, interval)
        found = np.append(feature_values(evaluate, expression, longer), np.nan)[numbers - 1]  # -1: the NaN
        found.flags.writeable = False
        return found
    name = expression.strip()
    if name in COLUMNS:
        values = np.asarray(bars[name].to_numpy(), dtype=np.float64).view()
    else:
        try:
            values = np.asarray(evaluate(expression, bars), dtype=np.float64).view()
        except ValueError as error:
            raise StrategyFault(
                "invalid_feature", f"feature {expression!r:.60}: {error}", "features_search lists them"
            ) from error
    if values.shape != (bars.height,):
        raise StrategyFault(
            "feature_shape",
            f"feature {expression!r:.60} gave shape {values.shape}, not one number a bar",
            "choose a feature with one output",
        )
    values.flags.writeable = False
    return values
