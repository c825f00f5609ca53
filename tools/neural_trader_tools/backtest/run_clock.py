"""The clock of a run: the newest bar that the trusted engine has come to.

Whoever asks on behalf of a run asks at this moment and no later. What a strategy reports of its own progress
is a stranger's word; the engine plays what it decided once it has ended. So the clock stands at the first bar
until the run is completed, and then at its last one.
"""

from datetime import datetime
from typing import TYPE_CHECKING

import anyio.to_thread

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import from_epoch_us
from neural_trader_tools.backtest.ledger import OPEN_STATES, BacktestRecord
from neural_trader_tools.backtest.sweeps.record import is_sweep

if TYPE_CHECKING:
    from neural_trader_tools.backtest.run import Backtests


async def clock_of(backtests: "Backtests", run_id: str) -> datetime:
    """Returns the clock of a backtest or a sweep: the open of the last bar that it has come to.

    Never later than the moment as of which its prices were read.

    Raises:
        InputError: there is no such run (`unknown_run`), or it ended without a result (`run_has_no_clock`).
        DataError: its prices are gone.
    """
    if is_sweep(run_id):
        sweep = await backtests.sweeps.get(run_id)
        request, state, as_of = sweep.request.base, sweep.state, sweep.as_of
        created = sweep.created_time
    else:
        run = await backtests.get(run_id)
        request, state, as_of, created = run.request, run.state, run.as_of, run.created_time
    if state not in {*OPEN_STATES, "completed"}:
        raise InputError(
            "run_has_no_clock",
            f"{run_id} is {state}: it came to no bar that can be named",
            "start it again and use the new run_id, or leave run_id out and give as_of",
        )
    record = BacktestRecord(run_id=run_id, request=request, created_time=created, as_of=as_of)
    return await anyio.to_thread.run_sync(_reached, backtests, record, state == "completed")


def _reached(backtests: "Backtests", record: BacktestRecord, ended: bool) -> datetime:
    prices = [each for each in backtests.read_prices(record.request, record) if len(each.times)]
    if not prices:
        raise InputError("run_has_no_clock", f"{record.run_id} has no bars", "start it again")
    reached = max(each.times[-1] for each in prices) if ended else min(each.times[0] for each in prices)
    return min(from_epoch_us(int(reached)), record.as_of)
