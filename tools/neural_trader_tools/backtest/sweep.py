"""The tool `backtest_sweep`, and what `backtest_get` shows of a sweep."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_governance.identity import Caller
from neural_trader_governance.untrusted.readings import OUTSIDE, Source, expose
from neural_trader_tools.backtest.get import BacktestStatus, speaks_for_guest
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import (
    SEED_MAX,
    SYMBOLS_MAX,
    BacktestRequest,
    choose,
    read_params,
    read_period,
    read_settings,
)
from neural_trader_tools.backtest.sweeps.record import SweepRecord, SweepRequest
from neural_trader_tools.backtest.sweeps.space import read_space
from neural_trader_tools.backtest.sweeps.splits import read_validation
from neural_trader_tools.engine.faults import CODES, did_you_mean

METHODS = ("grid", "random", "bayesian")
OBJECTIVES = ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "return_total")
OF_A_RANGE = ("sharpe_ratio", "return_total")
SETTINGS = ("cash", "commission_bps", "slippage_bps", "fill", "lots", "convention", "rules")
_AT_LENGTH = ("monte_carlo", "stress", "cost_shocks", "out_of_sample")


class SweepStarted(BaseModel):
    """A sweep that runs now."""

    run_id: str
    combinations: int


class SweepStatus(BacktestStatus):
    """How far a sweep is, and what it found; metrics, params and handles are the best combination's."""

    combinations: int
    failed: int = 0
    best: dict[str, Any] | None = None
    table: str | None = None
    deflated_sharpe_ratio: float | None = None
    trials: int = 0
    pbo: float | None = None
    pbo_trials: int = 0
    neighbours: dict[str, float] | None = None
    out_of_sample: dict[str, Any] | None = None
    monte_carlo: dict[str, Any] | None = None
    stress: tuple[dict[str, Any], ...] = ()
    cost_shocks: tuple[dict[str, Any], ...] = ()
    faults: tuple[dict[str, Any], ...] = ()


async def backtest_sweep(
    backtests: Backtests,
    caller: Caller,
    *,
    symbols: Annotated[list[str] | None, Field(description="As in backtest_start")] = None,
    grid: Annotated[
        dict[str, Any] | None,
        Field(description="By parameter: a list, 'first:last' or 'first:last:step', last included"),
    ] = None,
    strategy_id: Annotated[str | None, Field(description="Or give source")] = None,
    source: Annotated[str | None, Field(description="Or give strategy_id")] = None,
    interval: Annotated[str, Field(description="Bar length")] = "1d",
    start: Annotated[str | None, Field(description="Inclusive")] = None,
    end: Annotated[str | None, Field(description="Exclusive")] = None,
    params: Annotated[dict[str, Any] | None, Field(description="Those not varied")] = None,
    settings: Annotated[
        dict[str, Any] | None,
        Field(description="cash, commission_bps, slippage_bps, fill, lots, rules of backtest_start"),
    ] = None,
    method: Annotated[str, Field(description="grid, random or bayesian")] = "grid",
    samples: Annotated[int | None, Field(description="Tries of random, bayesian; else 100")] = None,
    objective: Annotated[
        str, Field(description="sharpe_ratio, sortino_ratio, calmar_ratio or return_total")
    ] = "sharpe_ratio",
    walk_forward: Annotated[
        str | None,
        Field(
            description="rolling,folds=5,train=500 | anchored | purged,purge=5,embargo=10 | "
            "combinatorial,folds=6,test=2"
        ),
    ] = None,
    seed: Annotated[int, Field(description="Of chance")] = 0,
    resume: Annotated[str | None, Field(description="run_id to go on with, alone")] = None,
) -> SweepStarted:
    """Tries parameter combinations; backtest_get then holds best, table, deflated_sharpe_ratio and pbo."""
    if resume is not None:
        owner = (await backtests.sweeps.get(resume)).agent
        if not caller.is_person and owner != caller.agent:
            raise InputError("run_not_yours", f"{resume} belongs to the agent {owner}", "start your own")
        record = await backtests.sweeps.resume(resume)
        return SweepStarted(run_id=record.run_id, combinations=record.request.space.count)
    request = await read_sweep(
        backtests,
        symbols=symbols or [],
        grid=grid or {},
        strategy_id=strategy_id,
        source=source,
        interval=interval,
        start=start,
        end=end,
        params=params,
        settings=settings or {},
        method=method,
        samples=samples,
        objective=objective,
        walk_forward=walk_forward,
        seed=seed,
    )
    try:
        run_id = await backtests.sweeps.start(request, agent=caller.agent)
    except (InputError, StrategyError) as error:
        if request.base.strategy_id is not None and error.code in CODES:  # names that its author chose
            error.facts[OUTSIDE] = Source.STRATEGY
        raise
    return SweepStarted(run_id=run_id, combinations=request.space.count)


async def read_sweep(
    backtests: Backtests,
    *,
    symbols: list[str],
    grid: Mapping[str, Any],
    strategy_id: str | None,
    source: str | None,
    interval: str,
    start: str | None,
    end: str | None,
    params: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    method: str,
    samples: int | None,
    objective: str,
    walk_forward: str | None,
    seed: int,
) -> SweepRequest:
    """Reads a sweep as an agent or a command line gives it.

    Raises:
        InputError: something is not offered, out of range or contradictory.
        StrategyError: the source is not Python.
    """
    choose("method", method, METHODS)
    choose("objective", objective, OBJECTIVES)
    for name in settings:
        if name not in SETTINGS:
            raise InputError("invalid_settings", f"{name!r:.40} is no setting", did_you_mean(name, SETTINGS))
    if not 1 <= len(symbols) <= SYMBOLS_MAX:
        raise InputError("invalid_symbols", f"{len(symbols)} symbols given", f"give 1 to {SYMBOLS_MAX}")
    if not 0 <= seed <= SEED_MAX:
        raise InputError("invalid_seed", f"seed {seed:.6g} is out of range", "give 0 to 2^53")
    if walk_forward is not None and objective not in OF_A_RANGE:
        raise InputError(
            "invalid_objective",
            f"{objective} cannot be told of the bars of a fold",
            f"use {' or '.join(OF_A_RANGE)} with walk_forward",
        )
    interval, first, last = read_period(interval, start, end)
    space = read_space(grid, method, samples, seed)
    text, known_id = await backtests.resolve_source(strategy_id, source)
    base = BacktestRequest(
        source=text,
        strategy_id=known_id,
        symbols=tuple(symbols),
        interval=interval,
        start=first,
        end=last,
        params=read_params(params),
        settings=read_settings(**settings),
        seed=seed,
    )
    return SweepRequest(
        base=base,
        space=space,
        objective=objective,  # pyright: ignore[reportArgumentType]  # chosen above
        validation=None if walk_forward is None else read_validation(walk_forward),
    )


async def sweep_get(
    backtests: Backtests, caller: Caller, run_id: str, wait_s: float, *, brief: bool
) -> SweepStatus:
    """Returns a sweep as `backtest_get` shows it; what strangers worded is noted as read."""
    record = await backtests.sweeps.get(run_id, wait_s)
    if record.error is not None and speaks_for_guest(record.error):
        expose(Source.SANDBOX, record.error)
    for fault in (record.result or {}).get("faults", ()):
        expose(Source.SANDBOX, str(fault["error"]))
    words = [
        *record.request.base.params.values(),
        *(value for axis in record.request.space.axes for value in axis.values),
    ]
    if record.agent != caller.agent and any(not isinstance(word, int | float | None) for word in words):
        expose(Source.AGENT, str(words)[:2_000])
    return sweep_status(record, brief=brief)


def sweep_status(record: SweepRecord, *, brief: bool = False) -> SweepStatus:
    """Returns a record as the tool shows it."""
    base, found = record.request.base, dict(record.result or {})
    best = found.get("best")
    handles = found.pop("handles", None)
    shown = {name: value for name, value in found.items() if not brief or name not in _AT_LENGTH}
    return SweepStatus.model_validate(
        {
            "run_id": record.run_id,
            "state": record.state,
            "progress": round(record.progress, 4),
            "symbols": base.symbols,
            "interval": base.interval,
            "metrics": {} if best is None else best["metrics"],
            "handles": handles,
            "strategy_id": base.strategy_id,
            "params": base.params if best is None else best["params"],
            "settings": base.settings.model_dump(mode="json"),
            "error": record.error,
            "combinations": record.request.space.count,
            "warnings": (),
            **shown,
        }
    )
