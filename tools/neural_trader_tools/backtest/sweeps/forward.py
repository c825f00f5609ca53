"""Forward: what the choices of each fold came to on bars that they had not seen.

Walking forward, the chosen decisions are joined at the folds' borders and played as one history: a change of
parameters pays for the trades that it takes. Order streams cannot be joined, because an order is an answer to
fills of its own past; there the folds' returns are chained, and changing from one to the next is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from neural_trader_tools.backtest.metrics import bar_returns, compute_metrics, drawdowns, sharpe_per_bar
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.sweeps import kernel as k
from neural_trader_tools.backtest.sweeps.answer import Decisions
from neural_trader_tools.backtest.sweeps.figures import range_cells, range_objective, sharpe_of
from neural_trader_tools.backtest.sweeps.ground import Ground, commands
from neural_trader_tools.backtest.sweeps.ranking import Winner
from neural_trader_tools.backtest.sweeps.splits import Split, Validation, fold_edges, paths

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Fold(BaseModel):
    """One choice and its judgement; objectives of ratios are per bar. None: undefined there."""

    model_config = ConfigDict(frozen=True)

    train_bars: int
    test_bars: int
    test_first_bar: int
    params: dict[str, Any] | None
    objective_train: float | None
    objective_test: float | None


class OutOfSample(BaseModel):
    """All folds together.

    Attributes:
        scheme: Of the validation.
        folds: One for each split.
        stitched: `played` or `chained`, see the module; None where the tests make no one history.
        metrics: Of the stitched equity.
        path_sharpe_ratios: Yearly, of each backtest path of combinatorial validation (k-fold has one).
        decay: 1 - mean test objective / mean train objective; None where the latter is not above 0.
        equity: Handle of the stitched equity.
    """

    model_config = ConfigDict(frozen=True)

    scheme: str
    folds: tuple[Fold, ...]
    stitched: str | None = None
    metrics: dict[str, Any] | None = None
    path_sharpe_ratios: tuple[float | None, ...] = ()
    decay: float | None = None
    equity: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """Equity at the closes from the bar before the first test bar on, its times, and its metrics."""

    times: NDArray[np.int64]
    equity: Floats
    metrics: dict[str, Any]
    how: str


def folds_of(
    splits: Sequence[Split], winners: Sequence[Winner | None], edges: Ints, objective: str, cash: float
) -> tuple[Fold, ...]:
    """Returns each split's choice and what it came to."""
    found: list[Fold] = []
    for split, winner in zip(splits, winners, strict=True):
        test = None
        if winner is not None:
            value = float(range_objective(winner.cells[None], edges, split.test, objective, cash)[0])
            test = value if np.isfinite(value) else None
        found.append(
            Fold(
                train_bars=sum(last - first for first, last in split.train),
                test_bars=sum(last - first for first, last in split.test),
                test_first_bar=split.test[0][0],
                params=None if winner is None else dict(winner.params),
                objective_train=None if winner is None else winner.objective,
                objective_test=test,
            )
        )
    return tuple(found)


def decay_of(folds: Sequence[Fold]) -> float | None:
    """Returns what part of the training objective was lost on the other bars."""
    both = [
        (fold.objective_train, fold.objective_test)
        for fold in folds
        if fold.objective_train is not None and fold.objective_test is not None
    ]
    train = sum(each for each, _ in both)
    return 1.0 - sum(each for _, each in both) / train if both and train > 0.0 else None


def path_sharpes(
    validation: Validation, winners: Sequence[Winner | None], edges: Ints, root: float
) -> tuple[float | None, ...]:
    """Returns the yearly Sharpe ratio of each backtest path; None where a fold has no choice, or flat."""
    tested = 1 if validation.scheme == "purged" else validation.test_folds
    borders = fold_edges(int(edges[-1]), validation.folds)
    found: list[float | None] = []
    for path in paths(validation.folds, tested):
        total, squares = np.zeros(1), np.zeros(1)
        for fold, split in enumerate(path):
            winner = winners[split]
            if winner is None:
                total = np.full(1, np.nan)
                break
            first, last = range_cells(edges, (borders[fold], borders[fold + 1]))
            total += winner.cells[first:last, k.CELL_SUM].sum()
            squares += winner.cells[first:last, k.CELL_SQUARES].sum()
        value = float(sharpe_of(total, squares, int(edges[-1]) - 1)[0]) * root
        found.append(value if np.isfinite(value) else None)
    return tuple(found)


def stitch(
    ground: Ground,
    times: NDArray[np.int64],
    splits: Sequence[Split],
    chosen: Sequence[Sequence[Decisions]],
    places: Sequence[int],
    periods: float,
) -> Stitched:
    """Returns the one history of consecutive test ranges.

    Args:
        ground: Prices and rules.
        times: Union of the times of all bars.
        splits: Consecutive test ranges up to the last bar.
        chosen: By symbol: decisions of the winners.
        places: For each split, which of them is its winner.
        periods: Bars a year.
    """
    if any(decisions.kind == "orders" for decisions in chosen[0]):
        return _chained(ground, times, splits, chosen, places, periods)
    tails: list[Prices] = []
    streams: list[tuple[str, Floats]] = []
    begins = times[np.array([split.test[0][0] for split in splits])]
    for symbol, prices in enumerate(ground.prices):
        # a symbol's own bar before the first test bar, and where each fold begins to decide
        starts = [max(int(bar) - 1, 0) for bar in np.searchsorted(prices.times, begins)]
        rows: list[Floats] = []
        for fold, place in enumerate(places):
            end = starts[fold + 1] if fold + 1 < len(starts) else len(prices)
            changes = chosen[symbol][place].of(0)
            rows.append(_from(changes, starts[fold], end))
        joined = np.concatenate(rows)
        joined[:, 0] -= starts[0]
        offsets = np.array([0, len(joined)], dtype=np.int64)
        streams.append(("orders", commands(Decisions("signals", offsets, joined, [None]), 0)))
        tails.append(prices.tail(len(prices) - starts[0]))
    replay = Ground(tails, ground.settings, ground.edges).replay(streams)
    metrics = compute_metrics(replay, periods).model_dump()
    return Stitched(replay.times, replay.equity, metrics, "played")


def _from(changes: Floats, start: int, end: int) -> Floats:
    """Returns the changes on the bars [start, end), the first row being the target in force at the start."""
    place = int(np.searchsorted(changes[:, 0], start, side="right"))
    target = changes[place - 1, 1] if place else 0.0
    later = changes[place : int(np.searchsorted(changes[:, 0], end))]
    return np.concatenate([[[float(start), target]], later])


def _chained(
    ground: Ground,
    times: NDArray[np.int64],
    splits: Sequence[Split],
    chosen: Sequence[Sequence[Decisions]],
    places: Sequence[int],
    periods: float,
) -> Stitched:
    cash = float(ground.settings.cash)
    begin = splits[0].test[0][0] - 1
    equity = np.full(len(times) - begin, cash)
    value = cash
    curves: dict[int, Floats] = {}
    for split, place in zip(splits, places, strict=True):
        if place not in curves:
            streams = [("orders", commands(symbol[place], 0)) for symbol in chosen]
            curves[place] = ground.replay(streams).equity
        curve = curves[place]
        (first, last), before = split.test[0], curve[split.test[0][0] - 1]
        if before > 0.0 and value > 0.0:
            equity[first - begin : last - begin] = value * curve[first:last] / before
        else:
            equity[first - begin : last - begin] = value
        value = float(equity[last - begin - 1])
    returns = bar_returns(equity)
    sharpe = sharpe_per_bar(returns)
    metrics = {
        "equity_final": value,
        "return_total": value / cash - 1.0,
        "sharpe_ratio": None if sharpe is None else sharpe * periods**0.5,
        "max_drawdown": drawdowns(equity, cash)[0],
    }
    return Stitched(times[begin:], equity, metrics, "chained")
