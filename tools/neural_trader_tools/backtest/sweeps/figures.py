"""Figures: metrics of many combinations at once, from their totals; defined as in `backtest/metrics.py`."""

import math
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.backtest.sweeps import kernel as k
from neural_trader_tools.backtest.sweeps.splits import Range

Floats = NDArray[np.float64]
Objective = Literal["sharpe_ratio", "sortino_ratio", "calmar_ratio", "return_total"]
OBJECTIVES: Final = ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "return_total")
RANGE_OBJECTIVES: Final = ("sharpe_ratio", "return_total")
"""Objectives that can be told of a part of the period from its cells."""


def figures(totals: Floats, cash: float, bars: int, periods: float) -> pl.DataFrame:
    """Returns one row of metrics for each row of totals; null where undefined or failed.

    Args:
        totals: (combinations, 14), see `kernel.TOTALS`.
        cash: At the start.
        bars: Of the period.
        periods: Bars a year.
    """
    with np.errstate(all="ignore"):
        count = totals[:, k.RETURNS]
        mean = totals[:, k.SUM_1] / count
        raw2, raw3, raw4 = (totals[:, k.SUM_1 + power] / count for power in (1, 2, 3))
        variance = np.maximum(raw2 - mean**2, 0.0)
        deviation = np.sqrt(variance * count / (count - 1.0))
        defined = (count >= 2) & (deviation > 1e-15)
        third = raw3 - 3.0 * mean * raw2 + 2.0 * mean**3
        fourth = raw4 - 4.0 * mean * raw3 + 6.0 * mean**2 * raw2 - 3.0 * mean**4
        sharpe = np.where(defined, mean / deviation, np.nan)
        down = np.sqrt(totals[:, k.SUM_DOWN] / count)
        final = totals[:, k.EQUITY]
        cagr = np.where(final > 0.0, (final / cash) ** (periods / count) - 1.0, -1.0)
        drawdown = totals[:, k.DRAWDOWN]
        root = math.sqrt(periods)
        columns = {
            "return_total": final / cash - 1.0,
            "cagr": cagr,
            "sharpe_ratio": sharpe * root,
            "sortino_ratio": np.where(down > 0.0, mean / down * root, np.nan),
            "calmar_ratio": np.where(drawdown > 0.0, cagr / drawdown, np.nan),
            "volatility_annual": deviation * root,
            "max_drawdown": drawdown,
            "trade_count": totals[:, k.TRADES],
            "exposure_time": totals[:, k.EXPOSED] / bars,
            "commission_total": totals[:, k.COMMISSIONS],
            "traded_value": totals[:, k.TRADED],
            "sharpe_per_bar": sharpe,
            "skewness": np.where(defined, third / variance**1.5, np.nan),
            "kurtosis": np.where(defined, fourth / variance**2, np.nan),
            "returns": count,
            "rejections": totals[:, k.REJECTIONS],
            "ruined": totals[:, k.RUINED],
        }
    frame = pl.DataFrame({name: np.where(np.isfinite(v), v, np.nan) for name, v in columns.items()})
    return frame.fill_nan(None).with_columns(
        pl.col("trade_count", "returns", "rejections").cast(pl.Int64), pl.col("ruined").cast(pl.Boolean)
    )


def range_objective(
    cells: Floats, edges: NDArray[np.int64], ranges: tuple[Range, ...], objective: str, cash: float
) -> Floats:
    """Returns an objective of each combination over some bars, NaN where undefined.

    Args:
        cells: (combinations, cells, 3).
        edges: Where cells begin, and the number of bars.
        ranges: The bars; each begins and ends at an edge.
        objective: One of `RANGE_OBJECTIVES`, the Sharpe ratio per bar.
        cash: At the start.
    """
    chosen = [range_cells(edges, part) for part in ranges]
    with np.errstate(all="ignore"):
        if objective == "return_total":
            growth = np.ones(len(cells))
            for first, last in chosen:
                before = cells[:, first - 1, k.CELL_EQUITY] if first else cash
                growth = growth * (cells[:, last - 1, k.CELL_EQUITY] / before)
            return growth - 1.0
        places = np.concatenate([np.arange(first, last) for first, last in chosen])
        # the first bar has no return
        count = sum(last - max(first, 1) for first, last in ranges)
        return sharpe_of(
            cells[:, places, k.CELL_SUM].sum(axis=1), cells[:, places, k.CELL_SQUARES].sum(axis=1), count
        )


def sharpe_of(total: Floats, squares: Floats, count: int) -> Floats:
    """Returns the Sharpe ratio per bar from sums of returns and their squares; NaN where undefined."""
    with np.errstate(all="ignore"):
        mean = total / count
        variance = (squares - total * mean) / (count - 1)
        defined = (count >= 2) & (variance > 1e-12 * squares / max(count, 1)) & (variance > 1e-30)
        return np.where(defined, mean / np.sqrt(variance), np.nan)


def range_cells(edges: NDArray[np.int64], part: Range) -> tuple[int, int]:
    """Returns the cells [first, last) that make up the bars of a range."""
    return int(np.searchsorted(edges, part[0])), int(np.searchsorted(edges, part[1]))
