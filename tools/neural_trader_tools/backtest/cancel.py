"""The tool `backtest_cancel`."""

from typing import Annotated

from pydantic import BaseModel, Field

from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.sweeps.record import is_sweep


class BacktestCanceled(BaseModel):
    """The state of a run after the request to cancel it."""

    run_id: str
    state: str = Field(description="canceled, or the state in which it had already ended")


async def backtest_cancel(
    backtests: Backtests,
    caller: Caller,
    *,
    run_id: Annotated[str, Field(description="From backtest_start or backtest_sweep")],
) -> BacktestCanceled:
    """Cancels a running backtest; one that has ended stays as it is."""
    runs = backtests.sweeps if is_sweep(run_id) else backtests
    owner = (await runs.get(run_id)).agent
    if not caller.is_person and owner != caller.agent:
        raise RiskError("run_not_yours", f"{run_id} belongs to the agent {owner}", "cancel your own runs")
    record = await runs.cancel(run_id)
    return BacktestCanceled(run_id=run_id, state=record.state)
