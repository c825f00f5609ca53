"""The tool `backtest_start`."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_governance.identity import Caller
from neural_trader_governance.untrusted.readings import OUTSIDE, Source
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import (
    SEED_MAX,
    SYMBOLS_MAX,
    BacktestRequest,
    read_params,
    read_period,
    read_settings,
)
from neural_trader_tools.engine.faults import CODES


class BacktestStarted(BaseModel):
    """A backtest that runs now."""

    run_id: str


async def backtest_start(
    backtests: Backtests,
    caller: Caller,
    *,
    symbols: Annotated[list[str], Field(description="Tickers; they share the cash equally")],
    strategy_id: Annotated[str | None, Field(description="Saved strategy; or give source")] = None,
    source: Annotated[str | None, Field(description="Python source; or give strategy_id")] = None,
    interval: Annotated[str, Field(description="Bar length: 1d, 1h …")] = "1d",
    start: Annotated[str | None, Field(description="First time, inclusive")] = None,
    end: Annotated[str | None, Field(description="Last time, exclusive")] = None,
    params: Annotated[dict[str, Any] | None, Field(description="The strategy's parameters")] = None,
    cash: Annotated[str | float | None, Field(description="Default 100000")] = None,
    commission_bps: Annotated[str | float, Field(description="Of the notional")] = 0,
    slippage_bps: Annotated[str | float, Field(description="On market and stop fills")] = 0,
    fill: Annotated[str, Field(description="next_open or close")] = "next_open",
    lots: Annotated[str, Field(description="fractional or whole")] = "fractional",
    convention: Annotated[str, Field(description="Whose definitions: default")] = "default",
    rules: Annotated[
        dict[str, Any] | None,
        Field(
            description="commission_per_unit, commission_min, spread_bps, borrow_bps_annual, margin, "
            "volume_cap, settlement_days, dividends, same_bar"
        ),
    ] = None,
    seed: Annotated[int, Field(description="For random numbers in the strategy")] = 0,
) -> BacktestStarted:
    """Starts a backtest of a strategy in the sandbox and returns its run_id for backtest_get."""
    settings = read_settings(
        cash=cash,
        commission_bps=commission_bps,
        slippage_bps=slippage_bps,
        fill=fill,
        lots=lots,
        convention=convention,
        rules=rules,
    )
    interval, first, last = read_period(interval, start, end)
    if not 1 <= len(symbols) <= SYMBOLS_MAX:
        raise InputError("invalid_symbols", f"{len(symbols)} symbols given", f"give 1 to {SYMBOLS_MAX}")
    if not 0 <= seed <= SEED_MAX:
        raise InputError("invalid_seed", f"seed {seed:.6g} is out of range", "give 0 to 2^53")
    text, known_id = await backtests.resolve_source(strategy_id, source)
    request = BacktestRequest(
        source=text,
        strategy_id=known_id,
        symbols=tuple(symbols),
        interval=interval,
        start=first,
        end=last,
        params=read_params(params),
        settings=settings,
        seed=seed,
    )
    try:
        return BacktestStarted(run_id=await backtests.start(request, agent=caller.agent))
    except (InputError, StrategyError) as error:
        if known_id is not None and error.code in CODES:  # it repeats names that the strategy's author chose
            error.facts[OUTSIDE] = Source.STRATEGY
        raise
