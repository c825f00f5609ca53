"""Many features, of one symbol or of many at once: a frame of bars in, a frame of values out.

A long frame has a column with the symbol, and its rows lie together by symbol, ascending in time: each symbol
is then computed as if it were alone. Features that are the same but for their output are computed once, and
so are sums that several are made of; several may be computed at a time (`passes`).
"""

import importlib
from collections.abc import Sequence
from typing import Any

import polars as pl

from neural_trader_tools.features import catalogue
from neural_trader_tools.features.catalogue import TIMES, Floats


def evaluate_all(
    expressions: Sequence[str], bars: pl.DataFrame, *, symbol: str | None = None, threads: int = 1
) -> dict[str, Floats]:
    """Returns the values of several expressions over bars.

    Args:
        expressions: Such as `["rsi(14)", "macd(12,26,9).signal"]`.
        bars: As for `catalogue.evaluate`.
        symbol: The column that names the symbol, where the frame holds more than one.
        threads: How many features are computed at a time; the values do not depend on it.

    Returns:
        By expression as it was written: float64, one per bar, NaN where undefined.

    Raises:
        ValueError: a mistake in an expression, a column is missing, the rows of a symbol do not lie together
            (`scattered_symbol`) or are not ascending in time (`unsorted_times`).
    """
    features = {expression: catalogue.parse(expression) for expression in expressions}
    segments = None if symbol is None else _segments(bars, symbol)
    asked: dict[Any, set[int]] = {}
    for feature in features.values():
        asked.setdefault((feature.definition, feature.arguments), set()).add(feature.output)
    names = dict.fromkeys(name for definition, _ in asked for name in definition.inputs)
    readers = {name: next(part for part, _ in asked if name in part.inputs) for name in names}
    columns = {name: catalogue.column(bars, name, definition) for name, definition in readers.items()}
    passes: Any = importlib.import_module(catalogue.PASSES)
    computed = passes.compute(asked, columns, segments, threads)
    return {
        expression: computed[feature.definition, feature.arguments][feature.output]
        for expression, feature in features.items()
    }


def evaluate_frame(
    expressions: Sequence[str], bars: pl.DataFrame, *, symbol: str | None = None, threads: int = 1
) -> pl.DataFrame:
    """Returns the bars' times (and symbols) and a column for each expression, null where undefined.

    Args and errors as in `evaluate_all`.
    """
    values = evaluate_all(expressions, bars, symbol=symbol, threads=threads)
    kept = [name for name in (symbol, *TIMES, "known_time") if name is not None and name in bars.columns]
    return bars.select(*kept, *(pl.Series(name, column, nan_to_null=True) for name, column in values.items()))


def _segments(bars: pl.DataFrame, symbol: str) -> list[tuple[int, int]]:
    """First and last row (exclusive) of each symbol."""
    if symbol not in bars.columns:
        raise ValueError(f"missing_column: there is no column {symbol!r:.40}; name the one with the symbols")
    lengths = bars.get_column(symbol).rle().struct.unnest()
    twice = lengths.filter(pl.col("value").is_duplicated())
    if twice.height:
        raise ValueError(
            f"scattered_symbol: the rows of {twice['value'][0]!s:.20} do not lie together;"
            " sort the frame by symbol, then by time"
        )
    stops = lengths.get_column("len").cum_sum().to_list()
    name = next((name for name in TIMES if name in bars.columns), None)
    if name is not None:
        late = bars.select(
            ((pl.col(name).diff() <= pl.duration()) & (pl.col(symbol) == pl.col(symbol).shift(1))).arg_true()
        ).to_series()
        if late.len():
            raise ValueError(
                f"unsorted_times: row {late[0]} of {bars[symbol][late[0]]!s:.20} is not after the row before;"
                " sort the frame by symbol, then by time, without duplicates"
            )
    return list(zip([0, *stops[:-1]], stops, strict=True)) if stops else []
