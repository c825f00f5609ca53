"""Cautions: what a reader of a sweep's best has to know before believing it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from neural_trader_tools.backtest.cautions import (
    FEW_TRADES,
    LOOK_AHEAD,
    SURE,
    SURVIVORSHIP,
    UNCHECKED,
    is_long,
)
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.sweeps.record import SweepRequest

if TYPE_CHECKING:
    from neural_trader_tools.backtest.sweeps.conclusion import Scene, SweepResult

LOST_PART: Final = 0.5
"""Part of the objective that may be lost out of sample, and by the combinations next to the best."""
LIKELY: Final = 0.5
OF_THE_BEST: Final = ("ruined", "few_bars", "short", "one_trade", "no_costs", "costs", "capacity", "rejected")
"""Warnings of a single run that hold for a sweep's best as well, and say what a sweep's own do not."""
_GONE_US: Final = 30 * 86_400_000_000


def find_warnings(
    result: "SweepResult", request: SweepRequest, scene: "Scene", *, is_same: bool, violations: int | None
) -> list[str]:
    """Returns the warnings of a sweep, each `code: text`, the gravest first.

    Args:
        result: What it found; its warnings are those of the best as a single run.
        request: What was asked.
        scene: What it was played on.
        is_same: Whether the best combination came to the same when it was decided once more.
        violations: Decisions of the code that use later bars, by `strategy_check`; None if nobody checked.
    """
    warnings: list[str] = []
    if result.best is None:
        return ["no_best: no combination has an objective: none traded, or all failed."]
    alone = [text for text in result.warnings if text.partition(":")[0] in OF_THE_BEST]
    if violations:
        warnings.append(LOOK_AHEAD.format(violations))
    if not is_same:
        warnings.append("not_deterministic: the best combination came to something else when it ran again.")
    warnings += [text for text in alone if text.startswith("ruined")]
    sample = result.out_of_sample
    if sample is None:
        warnings.append("in_sample: all bars chose the best; use walk_forward for bars that did not.")
    elif sample.decay is not None and sample.decay > LOST_PART:
        warnings.append(
            f"decay: out of sample {sample.decay:.0%} of the objective is lost; the choice does not last."
        )
    if sample is not None and sample.stitched == "chained":
        warnings.append("chained: folds are joined without the cost of changing from one to the next.")
    if result.pbo is not None and result.pbo >= LIKELY:
        warnings.append(f"overfit: the probability of backtest overfitting is {result.pbo:.2f}.")
    if result.deflated_sharpe_ratio is not None and result.deflated_sharpe_ratio < SURE:
        warnings.append(
            f"luck: the deflated Sharpe ratio is {result.deflated_sharpe_ratio:.2f} after {result.trials} "
            f"trials; below {SURE} luck explains the best well enough."
        )
    if result.best.metrics["trade_count"] < FEW_TRADES:
        warnings.append(f"few_trades: the best made {result.best.metrics['trade_count']} trades.")
    if (
        result.neighbours is not None
        and result.neighbours["median"] < LOST_PART * result.best.objective > 0.0
    ):
        warnings.append("lonely: the combinations next to the best do less than half as well.")
    warnings += [text for text in alone if not text.startswith("ruined")]
    if result.failed:
        warnings.append(f"failed: {result.failed} of {result.combinations} combinations failed, see faults.")
    if result.best.metrics["trade_count"] and is_long(scene.times):
        warnings.append(f"{SURVIVORSHIP}{_survivors(scene.ground.prices)}")
    if request.space.method == "random" and 0 < request.space.count < request.space.size:
        warnings.append(
            f"sampled: {request.space.count:,} of {request.space.size:,} combinations were tried, drawn by "
            "the seed; give samples for more."
        )
    if 0 < result.pbo_trials < result.combinations - result.failed:
        warnings.append(f"pbo_sampled: {result.pbo_trials} of the combinations were judged for overfitting.")
    if violations is None:
        warnings.append(UNCHECKED)
    return warnings


def _survivors(prices: Sequence[Prices]) -> str:
    """Returns what the prices themselves say of it: whether any of several symbols has left the market."""
    if len(prices) < 2:
        return ""
    last = max(int(each.times[-1]) for each in prices)
    gone = sum(last - int(each.times[-1]) > _GONE_US for each in prices)
    return f" {gone or 'None'} of the {len(prices)} symbols ended before the others."
