"""The tool `backtest_cancel`."""

from typing import Annotated

from pydantic import BaseModel, Field

from neural_trader_tools.backtest.run import Backtests


class BacktestCanceled(BaseModel):
    """The state of a run after the request to cancel it."""

    run_id: str
    state: str = Field(description="canceled, or the state in which it had already ended")


async def backtest_cancel(
    backtests: Backtests, *, run_id: Annotated[str, Field(description="From backtest_start")]
) -> BacktestCanceled:
    """Cancels a running backtest; one that has ended stays as it is."""
    record = await backtests.cancel(run_id)
    return BacktestCanceled(run_id=run_id, state=record.state)
