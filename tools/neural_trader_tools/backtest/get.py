"""The tool `backtest_get`."""

from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter

from neural_trader_governance.identity import Caller
from neural_trader_governance.untrusted.readings import Source, expose
from neural_trader_tools.backtest.ledger import BacktestRecord, Handles
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import choose
from neural_trader_tools.backtest.sweeps.record import is_sweep
from neural_trader_tools.engine.faults import CODES

_PARAMS = TypeAdapter(dict[str, object])

Number = float | int | tuple[float, float] | None
TRUST = (
    "deflated_sharpe_ratio", "probabilistic_sharpe_ratio", "sharpe_ci", "trials", "sharpe_by_luck",
    "track_record_bars", "break_even_cost_bps", "sharpe_first_half", "sharpe_second_half",
)  # fmt: skip
"""The metrics that say how far to trust the others; they come first."""
_BRIEF = (
    "deflated_sharpe_ratio", "sharpe_ci", "trials", "sharpe_ratio", "return_total", "cagr", "max_drawdown",
    "trade_count", "win_rate", "equity_final",
)  # fmt: skip


class BacktestStatus(BaseModel):
    """How far a backtest is, and what it found."""

    run_id: str
    state: str = Field(description="queued, running, completed, failed, canceled or interrupted")
    progress: float = Field(description="0 … 1")
    symbols: tuple[str, ...]
    interval: str
    bars: int | None = None
    warnings: tuple[str, ...] = Field(description="What makes the metrics doubtful, the gravest first")
    metrics: dict[str, Number] = Field(description="Empty until completed; null where undefined")
    digest: str | None = Field(default=None, description="SHA-256 over all inputs and outputs")
    handles: Handles | None = Field(default=None, description="For artifact_read")
    strategy_id: str | None = None
    params: dict[str, object]
    settings: dict[str, object] = Field(description="As of backtest_start, with its rules")
    output: str = Field(default="", description="Last lines it printed (format output)")
    error: str | None = None


async def backtest_get(
    backtests: Backtests,
    caller: Caller,
    *,
    run_id: Annotated[str, Field(description="From backtest_start or backtest_sweep")],
    wait_s: Annotated[float, Field(description="Wait for the end, at most 60")] = 0.0,
    format: Annotated[str, Field(description="full; brief: ten metrics; output: also prints")] = "full",  # noqa: A002  # the contract's name
) -> BacktestStatus:
    """Returns a backtest's state, metrics, warnings and handles, waiting up to wait_s seconds for its end."""
    choose("format", format, ("full", "brief", "output"))
    if is_sweep(run_id):
        from neural_trader_tools.backtest.sweep import sweep_get

        return await sweep_get(backtests, caller, run_id, wait_s, brief=format == "brief")
    record = await backtests.get(run_id, wait_s)
    if record.error is not None and speaks_for_guest(record.error):
        expose(Source.SANDBOX, record.error)
    if format == "output" and record.output:  # whoever reads a stranger's text is marked: only where asked
        expose(Source.SANDBOX, record.output)
    if record.agent != caller.agent and any(_has_words(value) for value in record.request.params.values()):
        expose(Source.AGENT, _PARAMS.dump_json(dict(record.request.params)).decode())
    return status_of(record, brief=format == "brief", output=format == "output")


def speaks_for_guest(failure: str) -> bool:
    """Tells whether a run's `code: what; next step` may hold words that its strategy chose."""
    code = failure.partition(":")[0]
    return code == "strategy_failed" or code in CODES


def _has_words(value: object) -> bool:
    return not isinstance(value, int | float | None)


def status_of(record: BacktestRecord, *, brief: bool = False, output: bool = False) -> BacktestStatus:
    """Returns a record as the tool shows it; `output` adds what the strategy printed, a stranger's text."""
    metrics = record.metrics or {}
    if brief:
        metrics = {name: metrics[name] for name in _BRIEF if name in metrics}
    request = record.request
    return BacktestStatus(
        run_id=record.run_id,
        state=record.state,
        progress=record.progress,
        symbols=request.symbols,
        interval=request.interval,
        bars=record.bars,
        metrics=metrics,
        warnings=record.warnings,
        digest=record.digest,
        handles=record.handles,
        strategy_id=request.strategy_id,
        params=dict(request.params),
        settings=request.settings.model_dump(mode="json"),
        output=record.output if output else "",
        error=record.error,
    )
