"""Parts: results of some combinations as a frame, on their way to disk and back."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.backtest.sweeps.figures import figures
from neural_trader_tools.backtest.sweeps.ground import Ground, Outcomes
from neural_trader_tools.backtest.sweeps.kernel import CELL_SIZE
from neural_trader_tools.backtest.sweeps.space import Value

Floats = NDArray[np.float64]
PARAM: Final = "param:"
CELLS: Final = "cells"


def part_frame(
    first: int,
    combinations: Sequence[dict[str, Value]],
    seeds: Sequence[int],
    outcomes: Outcomes,
    ground: Ground,
    periods: float,
) -> pl.DataFrame:
    """Returns one row for each combination: number, parameters, seed, fault, figures and cells."""
    count = len(combinations)
    names = list(combinations[0])
    table = figures(outcomes.totals, float(ground.settings.cash), int(ground.edges[-1]), periods)
    return pl.DataFrame(
        [
            pl.Series("number", np.arange(first, first + count)),
            *(pl.Series(PARAM + name, [each[name] for each in combinations]) for name in names),
            pl.Series("seed", list(seeds), dtype=pl.Int64),
            pl.Series("fault", outcomes.faults, dtype=pl.String),
            *table.get_columns(),
            pl.Series(CELLS, outcomes.cells.reshape(count, -1)),
        ]
    )


def cells_of(frame: pl.DataFrame) -> Floats:
    """Returns the cells of a part, (combinations, cells, 3)."""
    return frame[CELLS].to_numpy().reshape(frame.height, -1, CELL_SIZE)


def params_of(frame: pl.DataFrame, row: int) -> dict[str, Value]:
    """Returns the varied parameters of one row."""
    return {name.removeprefix(PARAM): frame[name][row] for name in frame.columns if name.startswith(PARAM)}


def shown(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns rows as people and agents read them: parameters by their names, no cells."""
    taken = {name for name in frame.columns if not name.startswith(PARAM)}
    names = {
        name: name.removeprefix(PARAM)
        if name.removeprefix(PARAM) not in taken
        else f"param_{name[len(PARAM) :]}"
        for name in frame.columns
        if name.startswith(PARAM)
    }
    return frame.drop(CELLS, strict=False).rename(names)
