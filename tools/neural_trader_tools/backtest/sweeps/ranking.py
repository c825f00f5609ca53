"""Ranking: one pass over the results on disk, which never lie in memory together.

Finds the best combination, the best of every fold, the rows of the table, and who is judged for overfitting.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.backtest.sweeps import kernel as k
from neural_trader_tools.backtest.sweeps.figures import range_objective
from neural_trader_tools.backtest.sweeps.parts import CELLS, cells_of, params_of
from neural_trader_tools.backtest.sweeps.space import Space, Value
from neural_trader_tools.backtest.sweeps.splits import Split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TABLE_ROWS_MAX: Final = 50_000
PBO_TRIALS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Winner:
    """The best combination of the training bars of one split, and its cells."""

    number: int
    params: dict[str, Value]
    seed: int
    objective: float
    cells: Floats


@dataclass(slots=True, eq=False)
class Ranking:
    """What one pass found.

    Attributes:
        best: Row of the best combination; None where none has an objective.
        table: The best rows, best first; without cells.
        objectives: Of every combination, NaN where undefined.
        failed: How many failed.
        faults: Some different failures, with their combinations.
        winners: The best of each split; None where none has an objective there.
    """

    best: dict[str, Any] | None = None
    best_params: dict[str, Value] = field(default_factory=dict[str, Value])
    best_cells: Floats | None = None
    table: pl.DataFrame = field(default_factory=pl.DataFrame)
    objectives: Floats = field(default_factory=lambda: np.empty(0))
    failed: int = 0
    faults: list[tuple[dict[str, Value], str]] = field(default_factory=list[tuple[dict[str, Value], str]])
    winners: list[Winner | None] = field(default_factory=list["Winner | None"])


def rank(
    frames: Iterable[pl.DataFrame],
    count: int,
    objective: str,
    splits: Sequence[Split],
    edges: Ints,
    cash: float,
) -> Ranking:
    """Goes over the parts of a sweep once. Of equal combinations the first one is the best.

    Args:
        frames: Parts in the order of the combinations, see `part_frame`.
        count: Combinations in all.
        objective: What is best.
        splits: Of the validation.
        edges: Where cells begin.
        cash: At the start.
    """
    ranking = Ranking(objectives=np.full(count, np.nan), winners=[None] * len(splits))
    for frame in frames:
        values = frame[objective].fill_null(math.nan).to_numpy()
        numbers = frame["number"].to_numpy()
        ranking.objectives[numbers] = values
        _note_faults(frame, ranking)
        if not np.isnan(values).all():
            row = int(np.nanargmax(values))
            if ranking.best is None or values[row] > ranking.best[objective]:
                ranking.best = frame.drop(CELLS).row(row, named=True)
                ranking.best_params = params_of(frame, row)
                ranking.best_cells = cells_of(frame)[row].copy()
        _choose_winners(frame, ranking, objective, splits, edges, cash)
        joined = (
            pl.concat([ranking.table, frame.drop(CELLS)], how="vertical_relaxed")
            if ranking.table.width
            else frame.drop(CELLS)
        )
        ranking.table = joined.sort(objective, descending=True, nulls_last=True, maintain_order=True).head(
            TABLE_ROWS_MAX
        )
    return ranking


def _note_faults(frame: pl.DataFrame, ranking: Ranking) -> None:
    failed = frame.filter(pl.col("fault").is_not_null())
    ranking.failed += failed.height
    known = {text for _, text in ranking.faults}
    for row in range(failed.height):
        text = failed["fault"][row]
        if len(ranking.faults) >= 5:
            return
        if text not in known:
            known.add(text)
            ranking.faults.append((params_of(failed, row), text))


def _choose_winners(
    frame: pl.DataFrame,
    ranking: Ranking,
    objective: str,
    splits: Sequence[Split],
    edges: Ints,
    cash: float,
) -> None:
    if not splits:
        return
    cells = cells_of(frame)
    for place, split in enumerate(splits):
        values = range_objective(cells, edges, split.train, objective, cash)
        if np.isnan(values).all():
            continue
        row = int(np.nanargmax(values))
        before = ranking.winners[place]
        if before is None or values[row] > before.objective:
            ranking.winners[place] = Winner(
                int(frame["number"][row]), params_of(frame, row), int(frame["seed"][row]), float(values[row]),
                cells[row].copy(),
            )  # fmt: skip


def neighbours(space: Space, number: int, objectives: Floats) -> list[float]:
    """Returns the objectives of the combinations of a full grid one step away, where they have one."""
    found: list[float] = []
    stride = space.size
    for axis in space.axes:
        stride //= len(axis.values)
        digit = number // stride % len(axis.values)
        for step in (-1, 1):
            if 0 <= digit + step < len(axis.values):
                value = float(objectives[number + step * stride])
                if not math.isnan(value):
                    found.append(value)
    return found


def judged(ranking: Ranking, seed: int) -> set[int]:
    """Returns who is judged for overfitting: all with an objective; of too many a sample, with the best."""
    numbers = [int(number) for number in np.flatnonzero(~np.isnan(ranking.objectives))]
    if len(numbers) <= PBO_TRIALS_MAX or ranking.best is None:
        return set(numbers)
    chosen = random.Random(seed).sample(numbers, PBO_TRIALS_MAX - 1)  # noqa: S311  # it must repeat
    return {*chosen, int(ranking.best["number"])}


def block_sums(
    frames: Iterable[pl.DataFrame], chosen: set[int], edges: Ints, blocks: Sequence[int]
) -> tuple[Floats, Floats, Floats]:
    """Returns sums and sums of squares, (blocks, trials), and returns in each block, (blocks,).

    Args:
        frames: Parts with number and cells.
        chosen: Numbers of the trials.
        edges: Where cells begin.
        blocks: Where blocks begin, and the number of bars; all of them edges.
    """
    begins = np.searchsorted(edges, blocks[:-1])
    sums: list[Floats] = []
    for frame in frames:
        rows = np.flatnonzero(frame["number"].is_in(list(chosen)).to_numpy())
        if len(rows):
            sums.append(np.add.reduceat(cells_of(frame)[rows][:, :, : k.CELL_EQUITY], begins, axis=1))
    both = np.concatenate(sums)
    counts = np.diff(np.array(blocks, dtype=np.float64))
    counts[0] -= 1.0  # the first bar has no return
    return both[:, :, k.CELL_SUM].T.copy(), both[:, :, k.CELL_SQUARES].T.copy(), counts
