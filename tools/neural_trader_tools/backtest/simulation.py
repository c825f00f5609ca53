"""A simulation: the strategy runs in the sandbox, its stream is checked, the trusted engine plays it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from neural_trader_governance.errors import HostError, StrategyError
from neural_trader_governance.untrusted.readings import OUTSIDE, Source
from neural_trader_sandbox.port import Job, Limits, Progress, Sandbox, SandboxResult, Watch
from neural_trader_tools.backtest.cautions import find_warnings
from neural_trader_tools.backtest.conventions import restate
from neural_trader_tools.backtest.curve import Curve, read_curve
from neural_trader_tools.backtest.digest import run_digest
from neural_trader_tools.backtest.metrics import Metrics, compute_metrics, periods_per_year
from neural_trader_tools.backtest.portfolio import Panel, replay_portfolio
from neural_trader_tools.backtest.portfolio_orders import Decisions, read_decisions, replay_decisions
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, SymbolReplay, replay_symbol
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.stream import read_stream, read_weights
from neural_trader_tools.engine.faults import CODES
from neural_trader_tools.strategies.outline import portfolio_kind

ENTRY: Final = "neural_trader_tools.engine.guest:run_strategy"
WEIGHTS_ENTRY: Final = "neural_trader_tools.engine.weights:run_weights"
PORTFOLIO_ENTRY: Final = "neural_trader_tools.engine.floor:run_portfolio"
FEATURES: Final = "neural_trader_tools.features.catalogue"
DEFAULTS: Final = Settings()
LIMITS: Final = Limits(wall_time_s=60.0, cpu_time_s=60)
_GUEST_PART = 0.9  # of a symbol's work; the rest is its replay


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """A finished backtest before its metrics: the replay, its digest, and its equity curve in numbers."""

    replay: Replay
    digest: str
    curve: Curve
    periods_per_year: float
    settings: Settings = DEFAULTS
    interval: str = "1d"

    @property
    def sharpe_per_bar(self) -> float | None:
        """Mean over standard deviation (n - 1) of the returns, not annualised."""
        return None if self.curve.moments is None else self.curve.moments.sharpe

    def metrics(self, trial_sharpes: Sequence[float | None] = ()) -> tuple[Metrics, list[str]]:
        """Returns the metrics and the warnings, given the Sharpe ratios of the other trials on this data."""
        metrics = compute_metrics(self.replay, self.periods_per_year, trial_sharpes, self.curve)
        warnings = find_warnings(self.replay, metrics, self.settings, self.periods_per_year)
        return restate(metrics, self.replay, self.settings.convention, self.interval), warnings


async def simulate(
    sandbox: Sandbox,
    request: BacktestRequest,
    prices: Sequence[Prices],
    *,
    limits: Limits = LIMITS,
    features: str = FEATURES,
    progress: Callable[[float], None] | None = None,
    printed: Callable[[str], None] | None = None,
    disturbance: int | None = None,
) -> Simulation:
    """Runs a backtest.

    Args:
        sandbox: Where the strategy's code runs; one single-use child for each symbol.
        request: What to run.
        prices: Bars of the request's symbols, in their order.
        limits: Of each child.
        features: Module whose `evaluate(expression, bars)` strategies reach through `self.feature`.
        progress: Called with the finished part, 0 … 1. Inside a symbol it is what the guest claims.
        printed: Called with what the strategy prints, as it comes; a stranger's text.
        disturbance: See `decide`.

    Raises:
        StrategyError: the strategy is invalid, failed, took too long or forged its answer.
        HostError: this host has no sandbox; nothing ran.
    """
    cash = float(request.settings.cash)
    if (kind := portfolio_kind(request.source)) is not None:
        watch = _watching(0, 1, progress, printed)
        options = {"limits": limits, "features": features, "disturbance": disturbance, "watch": watch}
        if kind == "weights":
            panel = await anyio.to_thread.run_sync(Panel.of, prices)
            rows, weights = await decide_weights(sandbox, request, panel, **options)  # type: ignore[arg-type]
            replay = await anyio.to_thread.run_sync(
                replay_portfolio, rows, weights, panel, request.settings, cash
            )
        else:
            panel = await anyio.to_thread.run_sync(Panel.by_name, prices)
            decided = await decide_orders(sandbox, request, panel, **options)  # type: ignore[arg-type]
            replay = await anyio.to_thread.run_sync(replay_decisions, decided, panel, request.settings, cash)
            replay = replay.in_order_of(prices)
        return await anyio.to_thread.run_sync(_conclude, request, prices, replay)
    replays: list[SymbolReplay] = []
    for bars in prices:
        kind, stream = await decide(
            sandbox,
            request,
            bars,
            cash=cash / len(prices),
            limits=limits,
            features=features,
            disturbance=disturbance,
            watch=_watching(len(replays), len(prices), progress, printed),
        )
        replays.append(
            await anyio.to_thread.run_sync(
                replay_symbol, kind, stream, bars, request.settings, cash / len(prices)
            )
        )
        if progress is not None:
            progress(len(replays) / len(prices))
    replay = await anyio.to_thread.run_sync(Replay.combine, replays, cash)
    return await anyio.to_thread.run_sync(_conclude, request, prices, replay)


async def decide(
    sandbox: Sandbox,
    request: BacktestRequest,
    bars: Prices,
    *,
    cash: float,
    limits: Limits = LIMITS,
    features: str = FEATURES,
    disturbance: int | None = None,
    watch: Watch | None = None,
) -> tuple[str, NDArray[np.float64]]:
    """Runs the strategy over one symbol in the sandbox and returns its checked decisions.

    Args:
        sandbox: As in `simulate`, and so are request, limits and features.
        request: See sandbox.
        bars: The symbol's bars.
        cash: Its cash at the start.
        limits: See sandbox.
        features: See sandbox.
        disturbance: Moves the addresses of the guest's objects; decisions must not depend on it.
        watch: Told of progress and prints while the guest runs.

    Returns:
        `("signals", targets)` or `("orders", commands)`, see `read_stream`.

    Raises:
        StrategyError: as in `simulate`.
        HostError: as in `simulate`.
    """
    arguments = _arguments(request, cash, features, disturbance)
    job = Job(ENTRY, arguments, tables={"bars": await anyio.to_thread.run_sync(bars.table)})
    result = await sandbox.run(job, limits, watch=watch)
    if result.status != "ok":
        raise_failure(result)
    return read_stream(result.value, result.columns, len(bars), request.settings.exposure_max)


def _watching(
    done: int, count: int, progress: Callable[[float], None] | None, printed: Callable[[str], None] | None
) -> Watch | None:
    """Returns the watch over one of `count` symbols, of which `done` are finished."""
    if progress is None and printed is None:
        return None

    def watch(news: Progress) -> None:
        if news.fraction is None:
            if printed is not None:
                printed(news.text)
        elif progress is not None:
            progress((done + news.fraction * _GUEST_PART) / count)

    return watch


async def decide_weights(
    sandbox: Sandbox,
    request: BacktestRequest,
    panel: Panel,
    *,
    limits: Limits = LIMITS,
    features: str = FEATURES,
    disturbance: int | None = None,
    watch: Watch | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Runs a portfolio strategy over all symbols in one child and returns its checked weights.

    Args:
        sandbox: As in `decide`, and so are the others.
        request: See sandbox.
        panel: Bars of all symbols.
        limits: See sandbox.
        features: See sandbox.
        disturbance: See sandbox.
        watch: See sandbox.

    Returns:
        Rows, indexes among the panel's times, and weights by row and symbol; see `read_weights`.

    Raises:
        StrategyError: as in `simulate`.
        HostError: as in `simulate`.
    """
    arguments = _arguments(request, float(request.settings.cash), features, disturbance)
    arguments["symbols"] = list[JsonValue](one.symbol for one in panel.prices)
    job = Job(WEIGHTS_ENTRY, arguments, tables={"bars": await anyio.to_thread.run_sync(panel.table)})
    result = await sandbox.run(job, limits, watch=watch)
    if result.status != "ok":
        raise_failure(result)
    return read_weights(
        result.value, result.columns, len(panel.times), len(panel.prices), request.settings.exposure_max
    )


async def decide_orders(
    sandbox: Sandbox,
    request: BacktestRequest,
    panel: Panel,
    *,
    limits: Limits = LIMITS,
    features: str = FEATURES,
    disturbance: int | None = None,
    watch: Watch | None = None,
) -> Decisions:
    """Runs a portfolio strategy with orders over all symbols in one child; returns its checked decisions.

    Args:
        sandbox: As in `decide`, and so are the others.
        request: See sandbox.
        panel: Bars of all symbols, sorted by their names.
        limits: See sandbox.
        features: See sandbox.
        disturbance: See sandbox.
        watch: See sandbox.

    Raises:
        StrategyError: as in `simulate`.
        HostError: as in `simulate`.
    """
    arguments = _arguments(request, float(request.settings.cash), features, disturbance)
    arguments["symbols"] = list[JsonValue](one.symbol for one in panel.prices)
    job = Job(PORTFOLIO_ENTRY, arguments, tables={"bars": await anyio.to_thread.run_sync(panel.table)})
    result = await sandbox.run(job, limits, watch=watch)
    if result.status != "ok":
        raise_failure(result)
    return read_decisions(result.value, result.columns, panel, request.settings.exposure_max)


def _arguments(
    request: BacktestRequest, cash: float, features: str, disturbance: int | None
) -> dict[str, JsonValue]:
    return {
        "source": request.source,
        "params": request.params,
        "settings": {**request.settings.model_dump(mode="json"), "cash": cash},
        "features": features,
        "seed": request.seed,
        **({} if disturbance is None else {"disturbance": disturbance}),
    }


def raise_failure(result: SandboxResult) -> NoReturn:
    """Raises what a run in the sandbox ended with, in our words.

    Raises:
        HostError: `sandbox_unavailable`: it never ran.
        StrategyError: `strategy_timeout`, `strategy_killed`, `strategy_failed`, or the code of the engine's
            own fault, such as `unknown_parameter`.
    """
    error = result.error
    message = "" if error is None else error.message[:500]
    if result.status == "refused":
        raise HostError(
            "sandbox_unavailable",
            message or "this host lacks a layer of the sandbox",
            "run `neural-trader sandbox doctor` for what to do; nothing ran",
        )
    if result.status == "timeout":
        raise StrategyError(
            "strategy_timeout",
            message or "the strategy did not finish in time",
            "use a shorter period, or numpy and polars instead of loops",
        )
    if result.status == "killed":
        raise StrategyError(
            "strategy_killed",
            message or "the sandbox stopped the strategy",
            "strategies may compute, not open files, sockets or processes; use less memory",
        )
    line = "" if error is None or error.line is None else f" (line {error.line} of the strategy)"
    parts = message.split(": ", 1)
    if error is not None and error.type == "StrategyFault" and len(parts) == 2 and "; " in parts[1]:
        what, next_step = parts[1].rsplit("; ", 1)
        if parts[0] in CODES:
            raise StrategyError(
                parts[0], what + line, next_step, line=error.line, **{OUTSIDE: Source.SANDBOX}
            )
    name = "error" if error is None else error.type
    raise StrategyError(
        "strategy_failed",
        f"the strategy raised {name}: {message}{line}",
        "correct it, then run strategy_check",
        line=None if error is None else error.line,
        **{OUTSIDE: Source.SANDBOX},
    )


def _conclude(request: BacktestRequest, prices: Sequence[Prices], replay: Replay) -> Simulation:
    return Simulation(
        replay=replay,
        digest=run_digest(request, prices, replay),
        curve=read_curve(replay.equity, replay.cash, replay.falls),
        periods_per_year=periods_per_year(request.interval, replay.times),
        settings=request.settings,
        interval=request.interval,
    )
