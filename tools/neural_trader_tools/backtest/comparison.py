"""A comparison: completed runs side by side, in the order in which they are to be believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.backtest.curve import read_curve
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.luck.overfitting import overfitting
from neural_trader_tools.backtest.luck.resampling import BARS_MIN, Intervals, intervals
from neural_trader_tools.backtest.luck.sharpe import (
    expected_best_sharpe,
    probabilistic_sharpe,
    sharpe_score,
)
from neural_trader_tools.backtest.luck.superiority import Superiority, superiority
from neural_trader_tools.backtest.metrics import bar_returns, growth, periods_per_year
from neural_trader_tools.backtest.prices import Prices

Floats = NDArray[np.float64]
DRAWS: Final = 1_000
FLAT: Final = 1e-15
BLOCKS: Final = ((320, 16), (64, 8), (16, 4))  # returns in common at least, blocks of PBO
VOID: Final = ("ruined", "look_ahead", "no_trades")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One completed run, and what is known of its data now.

    Attributes:
        record: The run.
        times: Of its bars, microseconds.
        equity: At each close.
        others: Sharpe ratio per bar of every other trial that saw some of its data up to now.
        violations: Decisions that use later bars, by `strategy_check`; None if nobody checked.
        prices: Of its symbols; empty where they are gone.
    """

    record: BacktestRecord
    times: NDArray[np.int64]
    equity: Floats
    others: Sequence[float | None]
    violations: int | None
    prices: Sequence[Prices]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A run as the comparison sees it.

    Attributes:
        run: The run.
        void: Why nothing of it is to be believed; empty if that is not so.
        score: Standard errors between its Sharpe ratio and what luck gives; None if undefined.
        deflated: Deflated Sharpe ratio with the trials of now.
        sharpe: A year, by the default definitions.
        luck: Sharpe ratio a year that luck gives the best of the trials.
        trials: How many there are now, this one included.
        spread: Stationary-bootstrap intervals.
        figures: Metrics of the equity by the default definitions, whatever convention the run asked for.
    """

    run: Run
    void: str
    score: float | None
    deflated: float | None
    sharpe: float | None
    luck: float
    trials: int
    spread: Intervals | None
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Runs from the most to the least believable, and what they have in common.

    Attributes:
        ranking: The runs in order; the matrices below follow it.
        bars: Returns in common.
        correlations: Of the returns in common; None where a run has no risk, or they share too little.
        cash: Whether any run beats holding nothing.
        hold: Whether any beats buying its symbols at the start and holding them; None without prices.
        overfitting: Probability of backtest overfitting of the choice among these runs.
    """

    ranking: Sequence[Judged]
    bars: int
    correlations: Sequence[Sequence[float | None]]
    cash: Superiority | None
    hold: Superiority | None
    overfitting: float | None


def compare(runs: Sequence[Run], seed: int = 0) -> Comparison:
    """Compares completed runs.

    Args:
        runs: Two or more.
        seed: Of every resampling.
    """
    ranking = sorted((judge(run, seed) for run in runs), key=_place)
    times = reduce(np.intersect1d, [judged.run.times for judged in ranking])
    if len(times) <= BARS_MIN:
        empty = [[None] * len(ranking)] * len(ranking)
        return Comparison(ranking, max(len(times) - 1, 0), empty, None, None, None)
    returns = np.column_stack(
        [_gains(judged.run.equity[np.searchsorted(judged.run.times, times)]) for judged in ranking]
    )
    hold: Superiority | None = None
    if all(judged.run.prices for judged in ranking):
        held = np.column_stack([_gains(hold_equity(judged.run.prices, times)) for judged in ranking])
        hold = superiority(returns - held, seed=seed, draws=DRAWS)
    blocks = next((blocks for bars, blocks in BLOCKS if len(returns) >= bars), 0)
    return Comparison(
        ranking=ranking,
        bars=len(returns),
        correlations=_correlations(returns),
        cash=superiority(returns, seed=seed, draws=DRAWS),
        hold=hold,
        overfitting=overfitting(returns, blocks).probability if blocks else None,
    )


def judge(run: Run, seed: int) -> Judged:
    """Judges a run by the trials of now, which may be more than when it ran."""
    periods = periods_per_year(run.record.request.interval, run.times)
    cash, root = float(run.record.request.settings.cash), periods**0.5
    curve = read_curve(run.equity, cash)
    moments, factor = curve.moments, float(run.equity[-1]) / cash
    codes = {warning.partition(":")[0] for warning in run.record.warnings}
    if run.violations:
        codes.add("look_ahead")
    sharpes = [*run.others, None if moments is None else moments.sharpe]
    luck = expected_best_sharpe(sharpes)
    return Judged(
        run=run,
        void=next((code for code in VOID if code in codes), ""),
        score=None if moments is None else sharpe_score(moments, luck),
        deflated=None if moments is None else probabilistic_sharpe(moments, luck),
        sharpe=None if moments is None else moments.sharpe * root,
        luck=luck * root,
        trials=len(sharpes),
        spread=intervals(bar_returns(run.equity), periods, seed=seed, draws=DRAWS),
        figures={
            "return_total": factor - 1.0,
            "cagr": growth(factor, curve.returns / periods),
            "volatility_annual": None if curve.deviation is None else curve.deviation * root,
            "sharpe_ratio": None if moments is None else moments.sharpe * root,
            "sortino_ratio": curve.mean / curve.downside * root if curve.downside > 0.0 else None,
            "max_drawdown": curve.drawdown,
        },
    )


def explain(judged: Judged, first: Judged) -> str:
    """Returns in one sentence why a run stands where it stands."""
    if judged.void:
        return {
            "ruined": "last: it lost everything.",
            "look_ahead": "last: it uses bars that were not there yet.",
            "no_trades": "last: it never traded.",
        }[judged.void]
    if judged.sharpe is None or judged.deflated is None:
        return "last: its returns have no risk, or are too few."
    interval = judged.spread.sharpe if judged.spread else None
    reach = f" (95 % {interval[0]:.2f} … {interval[1]:.2f})" if interval else ""
    text = (
        f"Sharpe {judged.sharpe:.2f}{reach} against {judged.luck:.2f} that luck gives the best of "
        f"{judged.trials:,} trials: {judged.deflated:.0%} sure"
    )
    if judged is not first and first.sharpe is not None and judged.sharpe > first.sharpe:
        text += "; higher than rank 1, but less sure"
    return text + ("." if judged.deflated >= 0.95 else "; luck explains it well enough.")


def hold_equity(prices: Sequence[Prices], times: NDArray[np.int64]) -> Floats:
    """Returns what one unit of money is worth that buys each symbol at its first close, in equal shares."""
    worth = np.zeros(len(times))
    for bars in prices:
        last = np.searchsorted(bars.times, times, side="right") - 1
        worth += np.where(last >= 0, bars.close[np.maximum(last, 0)] / bars.close[0], 1.0)
    return worth / len(prices)


def read_equity(frame: pl.DataFrame) -> tuple[NDArray[np.int64], Floats]:
    """Returns times and equity of the artifact that a run keeps."""
    times = frame["time"].to_physical().to_numpy().astype(np.int64)
    return times, np.array(frame["equity"].to_numpy(), dtype=np.float64)


def _place(judged: Judged) -> tuple[bool, bool, float]:
    return bool(judged.void), judged.score is None, -(judged.score or 0.0)


def _gains(equity: Floats) -> Floats:
    """Returns simple returns; 0 once everything is lost."""
    before, after = equity[:-1], equity[1:]
    return np.where(before > 0.0, after / np.where(before > 0.0, before, 1.0) - 1.0, 0.0)


def _correlations(returns: Floats) -> list[list[float | None]]:
    centred = returns - returns.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    risky = size > FLAT * len(returns)
    unit = centred / np.where(risky, size, 1.0)
    matrix = unit.T @ unit
    return [
        [
            round(float(matrix[row, column]), 6) if risky[row] and risky[column] else None
            for column in range(len(risky))
        ]
        for row in range(len(risky))
    ]
