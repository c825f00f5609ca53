"""The probability of backtest overfitting: how often the best of many turns out below their median.

Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado & Zhu 2017, The Probability of
Backtest Overfitting): the bars are cut into S blocks; every half of them chooses the best trial, the other
half judges the choice. All 12,870 splits of 16 blocks need nothing but each block's sums.
"""

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neural_trader_governance.errors import InputError
from neural_trader_tools.engine.compiled import vectorised

Floats = NDArray[np.float64]
BLOCKS: Final = 16
BLOCKS_MAX: Final = 20  # 184,756 splits
_FLAT: Final = 1e-12  # of the mean square: what is left of a variance is rounding error


@dataclass(frozen=True, slots=True, eq=False)
class Overfitting:
    """What choosing the best of the trials was worth.

    Attributes:
        probability: Part of the splits whose choice ranked in the lower half on the bars that it had not
            seen; 0.5 is what choosing among equals gives, near 0 is what skill gives.
        loss_probability: Part of the splits whose choice lost money on the other bars.
        slope: Of the chosen trial's unseen Sharpe ratio over its seen one, least squares; None if flat.
        logits: Log odds of the unseen relative rank of each split's choice; 0 or below is the lower half.
        splits: How many there were.
    """

    probability: float
    loss_probability: float
    slope: float | None
    logits: Floats
    splits: int


def overfitting(returns: ArrayLike, blocks: int = BLOCKS) -> Overfitting:
    """Returns the overfitting of a choice among trials by their Sharpe ratio, from their returns.

    Args:
        returns: Shape (bars, trials), of the same bars.
        blocks: S, even, 2 … 20.

    Raises:
        InputError: fewer than two trials or than two bars a block, or a return is no finite number.
    """
    return pbo(*block_sums(returns, blocks))


def block_sums(returns: ArrayLike, blocks: int = BLOCKS) -> tuple[Floats, Floats, Floats]:
    """Returns sums, sums of squares, (blocks, trials) each, and counts, (blocks,), of nearly equal blocks.

    Raises:
        InputError: as in `overfitting`.
    """
    matrix = np.asarray(returns, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise InputError("too_few_trials", "overfitting needs two trials at least", "compare more runs")
    if not 2 <= blocks <= BLOCKS_MAX or blocks % 2:
        raise InputError("invalid_blocks", f"{blocks} blocks", f"give an even number, 2 … {BLOCKS_MAX}")
    if len(matrix) < 2 * blocks:
        raise InputError(
            "too_few_bars",
            f"{len(matrix)} returns are too few for {blocks} blocks",
            "use a longer period or fewer blocks",
        )
    starts = np.linspace(0, len(matrix), blocks + 1).astype(np.int64)
    sums = cast("Floats", np.add.reduceat(matrix, starts[:-1], axis=0))
    squares = cast("Floats", np.add.reduceat(matrix * matrix, starts[:-1], axis=0))
    return sums, squares, np.diff(starts).astype(np.float64)


def pbo(block_sums: ArrayLike, block_sums_of_squares: ArrayLike, counts: ArrayLike) -> Overfitting:
    """Returns the overfitting of a choice among trials, from what a sweep keeps of each trial and block.

    Equal Sharpe ratios share their rank; of equal best ones the first is chosen. A trial without risk in a
    half (it held nothing there) has the ratio 0 there.

    Args:
        block_sums: Sum of the returns per bar, (blocks, trials).
        block_sums_of_squares: Sum of their squares, the same shape.
        counts: Returns in each block, (blocks,), the same for every trial.

    Raises:
        InputError: the shapes do not fit, there are fewer than two trials, or a sum is not finite.
    """
    sums = np.ascontiguousarray(block_sums, dtype=np.float64)
    squares = np.ascontiguousarray(block_sums_of_squares, dtype=np.float64)
    sizes = np.ascontiguousarray(counts, dtype=np.float64)
    blocks = len(sizes)
    if sums.ndim != 2 or sums.shape != squares.shape or sums.shape[0] != blocks or sums.shape[1] < 2:
        raise InputError(
            "invalid_blocks", f"sums of {sums.shape} for {blocks} blocks", "give (blocks, 2 trials or more)"
        )
    if blocks < 2 or blocks % 2 or blocks > BLOCKS_MAX or (sizes * (blocks // 2) < 2).any():
        raise InputError("invalid_blocks", f"{blocks} blocks", f"give an even number, 2 … {BLOCKS_MAX}")
    if not (np.isfinite(sums).all() and np.isfinite(squares).all()):
        raise InputError(
            "invalid_returns", "a return is not a finite number", "leave out the bars before the first"
        )
    seen, unseen, ranks = _splits(sums, squares, sizes, _halves(blocks))
    relative = ranks / (sums.shape[1] + 1.0)
    logits = np.log(relative / (1.0 - relative))
    spread = seen - seen.mean()
    steepness = float(spread @ spread)
    return Overfitting(
        probability=float((logits <= 0.0).mean()),
        loss_probability=float((unseen < 0.0).mean()),
        slope=float(spread @ (unseen - unseen.mean())) / steepness if steepness > _FLAT else None,
        logits=logits,
        splits=len(logits),
    )


@vectorised
def _halves(blocks: int) -> NDArray[np.int64]:
    """Returns every half of the blocks that holds block 0, as bit masks; the others are its complements."""
    masks = np.empty(1 << (blocks - 1), dtype=np.int64)
    found = 0
    for mask in range(1, 1 << blocks, 2):
        members = 0
        for block in range(blocks):
            members += (mask >> block) & 1
        if 2 * members == blocks:
            masks[found] = mask
            found += 1
    return masks[:found].copy()


@vectorised
def _splits(
    sums: Floats, squares: Floats, counts: Floats, masks: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Returns each split's chosen Sharpe ratio, that of the choice on the other half, and its rank there."""
    blocks, trials = sums.shape
    seen, unseen, ranks = np.empty(2 * len(masks)), np.empty(2 * len(masks)), np.empty(2 * len(masks))
    half_sums, half_squares = np.zeros(trials), np.zeros(trials)
    total_sums, total_squares = np.zeros(trials), np.zeros(trials)
    for block in range(blocks):
        for trial in range(trials):
            total_sums[trial] += sums[block, trial]
            total_squares[trial] += squares[block, trial]
    total = counts.sum()
    inside, outside = np.empty(trials), np.empty(trials)
    for number in range(len(masks)):
        mask = masks[number]
        count = 0.0
        half_sums[:] = 0.0
        half_squares[:] = 0.0
        for block in range(blocks):
            if (mask >> block) & 1:
                count += counts[block]
                for trial in range(trials):
                    half_sums[trial] += sums[block, trial]
                    half_squares[trial] += squares[block, trial]
        other = total - count
        for trial in range(trials):
            inside[trial] = _sharpe(half_sums[trial], half_squares[trial], count)
            outside[trial] = _sharpe(
                total_sums[trial] - half_sums[trial], total_squares[trial] - half_squares[trial], other
            )
        for way in range(2):  # the half chooses and its complement judges, then the other way round
            choosing = inside if way == 0 else outside
            judging = outside if way == 0 else inside
            best = 0
            for trial in range(1, trials):
                if choosing[trial] > choosing[best]:
                    best = trial
            mark = judging[best]
            below, equal = 0, 0
            for trial in range(trials):
                below += judging[trial] < mark
                equal += judging[trial] == mark
            row = 2 * number + way
            seen[row] = choosing[best]
            unseen[row] = mark
            ranks[row] = below + (equal + 1) / 2.0
    return seen, unseen, ranks


@vectorised
def _sharpe(total: float, squares: float, count: float) -> float:
    mean = total / count
    variance = squares / count - mean * mean
    if variance <= _FLAT * squares / count:
        return 0.0
    return mean / np.sqrt(variance * count / (count - 1.0))
