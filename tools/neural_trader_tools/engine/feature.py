"""A feature's values over bars, checked: what `self.feature(...)` and the rules of `engine/rule.py` read."""

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine.faults import StrategyFault

Floats = NDArray[np.float64]
Evaluate = Callable[[str, pl.DataFrame], Floats]
COLUMNS: Final = ("open", "high", "low", "close", "volume")
"""Columns of the bars, which are features by their plain names."""


def feature_values(evaluate: Evaluate, expression: str, bars: pl.DataFrame) -> Floats:
    """Returns a feature's values, one a bar, read-only.

    Args:
        evaluate: Computes a feature; a `ValueError` says what is wrong with the expression.
        expression: Such as `rsi(14)`, or a column of the bars, such as `close`.
        bars: time, open, high, low, close, volume.

    Raises:
        StrategyFault: `invalid_feature` or `feature_shape`.
    """
    name = expression.strip()
    if name in COLUMNS:
        values = np.array(bars[name].to_numpy(), dtype=np.float64)
    else:
        try:
            values = np.array(evaluate(expression, bars), dtype=np.float64)
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
