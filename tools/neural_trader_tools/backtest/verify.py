"""The tool `backtest_verify`."""

from typing import Annotated

from pydantic import Field

from neural_trader_tools.backtest.run import Backtests, Verification


async def backtest_verify(
    backtests: Backtests, *, run_id: Annotated[str, Field(description="A completed run")]
) -> Verification:
    """Runs a backtest again on the prices known then, and says whether it gives the same digest."""
    return await backtests.verify(run_id)
