"""Cross-sections: where each symbol stands among all symbols of the same moment.

They read a long frame (a row for each symbol and time), so they are functions over frames, not expressions
over one symbol's bars. What is null or NaN stays null and counts for nobody; where a moment has too few
values, the result is null. A value depends on its own moment only, so nothing looks ahead.
"""

from collections.abc import Callable
from typing import Final

import polars as pl


def percent_rank(frame: pl.DataFrame, column: str, time: str = "event_time") -> pl.Series:
    """Rank among the moment's values, 0 lowest … 1 highest, ties sharing their mean rank.

    Null where the moment has fewer than two values. Jegadeesh, Titman, Journal of Finance 48:1 (1993).
    """
    value = _value(column)
    return _over(frame, (value.rank("average") - 1) / _at_least_two(value.count() - 1), time, column, "rank")


def zscore(frame: pl.DataFrame, column: str, time: str = "event_time") -> pl.Series:
    """Distance from the moment's mean in sample deviations; null where nothing varies.

    Grinold, Kahn, Active Portfolio Management (1999), ch. 14.
    """
    value = _value(column)
    spread = value.std()
    return _over(
        frame,
        pl.when(spread > 1e-14 * value.abs().max()).then((value - value.mean()) / spread),
        time,
        column,
        "zscore",
    )


def demeaned(frame: pl.DataFrame, column: str, time: str = "event_time") -> pl.Series:
    """Distance from the moment's mean: what is left of a return without the market's (equal weights)."""
    value = _value(column)
    return _over(frame, value - value.mean(), time, column, "demeaned")


def bucket(frame: pl.DataFrame, column: str, time: str = "event_time", buckets: int = 5) -> pl.Series:
    """Which of `buckets` equal groups by rank, 1 lowest; null where the moment has fewer values than groups.

    Raises:
        ValueError: `invalid_buckets`, not from 2 to 100.
    """
    if not 2 <= buckets <= 100:
        raise ValueError(f"invalid_buckets: {buckets} is not from 2 to 100; 5 gives quintiles")
    value = _value(column)
    place = (value.rank("ordinal") - 1) * buckets // value.count() + 1
    shown = pl.when(value.count() >= buckets).then(place.cast(pl.Float64))
    return _over(frame, shown, time, column, "bucket")


CROSS_SECTIONS: Final[dict[str, Callable[..., pl.Series]]] = {
    "percent_rank": percent_rank,
    "zscore": zscore,
    "demeaned": demeaned,
    "bucket": bucket,
}
"""By name."""


def _value(column: str) -> pl.Expr:
    value = pl.col(column).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def _at_least_two(others: pl.Expr) -> pl.Expr:
    return pl.when(others > 0).then(others)


def _over(frame: pl.DataFrame, expression: pl.Expr, time: str, column: str, name: str) -> pl.Series:
    missing = [one for one in (time, column) if one not in frame.columns]
    if missing:
        raise ValueError(
            f"missing_column: the frame has no column {missing[0]!r:.40};"
            f" it has {', '.join(frame.columns):.200}"
        )
    return frame.select(expression.over(time).alias(f"{column}_{name}")).to_series()
