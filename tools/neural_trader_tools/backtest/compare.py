"""The tool `backtest_compare`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.errors import DataError, InputError
from neural_trader_tools.backtest.get import Number
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.run import Backtests

if TYPE_CHECKING:  # it imports polars and numba; the server's start does not pay for that
    from neural_trader_tools.backtest.comparison import Comparison, Judged, Run
    from neural_trader_tools.backtest.luck.superiority import Superiority

RUNS_MAX: Final = 20
_SHOWN: Final = ("exposure_time", "trade_count", "win_rate", "turnover", "break_even_cost_bps")


class RankedRun(BaseModel):
    """One run in its place."""

    run_id: str
    why: str
    metrics: dict[str, Number] = Field(description="With the trials of now")


class Against(BaseModel):
    """Whether the best of the runs beats a benchmark by more than luck: p-values, and the runs that do."""

    spa: float
    reality_check: float
    superior: list[str] = Field(description="At 5 % (StepM)")


class BacktestComparison(BaseModel):
    """Runs in the order in which they are to be believed."""

    ranking: list[RankedRun]
    bars: int = Field(description="Returns that all have in common")
    correlations: list[list[float | None]] = Field(description="In the order of ranking")
    against: dict[str, Against] = Field(description="cash, buy_and_hold: p-values that none is better")
    pbo: float | None = Field(description="Probability that choosing the best of these is overfitting")
    warnings: list[str]


async def backtest_compare(
    backtests: Backtests,
    *,
    run_ids: Annotated[list[str], Field(description="2 to 20 completed runs")],
) -> BacktestComparison:
    """Ranks backtests by what luck leaves of them, and says why; tests them against cash and buy and hold."""
    if not 2 <= len(run_ids) <= RUNS_MAX or len(set(run_ids)) < len(run_ids):
        raise InputError(
            "invalid_run_ids",
            f"{len(set(run_ids))} different runs given",
            f"give 2 to {RUNS_MAX} different ones",
        )
    records = [await backtests.get(run_id) for run_id in run_ids]
    for record in records:
        if record.handles is None:
            raise InputError(
                "run_not_completed",
                f"{record.run_id} is {record.state}",
                "wait for it with backtest_get; compare completed runs only",
            )
    return await anyio.to_thread.run_sync(_compare, backtests, records)


def _compare(backtests: Backtests, records: Sequence[BacktestRecord]) -> BacktestComparison:
    from neural_trader_tools.backtest.comparison import compare, explain

    warnings: list[str] = []
    runs = [_read(backtests, record, warnings) for record in records]
    found = compare(runs)
    if found.cash is None:
        warnings.append(f"apart: the runs share {found.bars} returns, or none has risk; nothing is tested.")
    if len({record.request.settings.convention for record in records}) > 1:
        warnings.append("conventions: win_rate and exposure_time are in each run's own, the rest in ours.")
    first = found.ranking[0]
    return BacktestComparison(
        ranking=[
            RankedRun(run_id=judged.run.record.run_id, why=explain(judged, first), metrics=_metrics(judged))
            for judged in found.ranking
        ],
        bars=found.bars,
        correlations=[list(row) for row in found.correlations],
        against={
            name: _against(result, found)
            for name, result in (("cash", found.cash), ("buy_and_hold", found.hold))
            if result is not None
        },
        pbo=found.overfitting,
        warnings=warnings,
    )


def _read(backtests: Backtests, record: BacktestRecord, warnings: list[str]) -> "Run":
    from neural_trader_tools.backtest.comparison import Run, read_equity

    try:
        prices = backtests.read_prices(record.request, record)
    except (DataError, InputError) as error:
        warnings.append(f"no_prices: {record.run_id}: {error.code}; it is not compared with buy and hold.")
        prices = []
    times, equity = read_equity(backtests.equity(record))
    others, violations = backtests.known_of(record)
    return Run(record, times, equity, others, violations, prices)


def _metrics(judged: "Judged") -> dict[str, Number]:
    known = judged.run.record.metrics or {}
    spread = judged.spread
    return {
        "deflated_sharpe_ratio": judged.deflated,
        "probabilistic_sharpe_ratio": known.get("probabilistic_sharpe_ratio"),
        "sharpe_ci": spread.sharpe if spread else None,
        "cagr_ci": spread.cagr if spread else None,
        "trials": judged.trials,
        **judged.figures,
        **{name: known.get(name) for name in _SHOWN},
    }


def _against(result: "Superiority", found: "Comparison") -> Against:
    return Against(
        spa=result.spa,
        reality_check=result.reality_check,
        superior=[found.ranking[column].run.record.run_id for column in result.superior],
    )
