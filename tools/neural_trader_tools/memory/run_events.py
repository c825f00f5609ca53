"""What is remembered of a backtest or a sweep: its figures and our own warnings, one memory each.

Nothing of it is a strategy's or an agent's text: parameters are kept where they are numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from neural_trader_governance.audit.entries import LoggedEntry
from neural_trader_governance.terms.words import visible
from neural_trader_memory.limits import SYMBOLS_MAX
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.sweeps.record import SweepRecord
from neural_trader_tools.memory.events import Event

WARNINGS_TOLD: Final = 2
_FIGURES: Final = (
    "return_total", "cagr", "sharpe_ratio", "max_drawdown", "trade_count", "win_rate", "profit_factor",
    "exposure_time", "turnover", "deflated_sharpe_ratio", "probabilistic_sharpe_ratio",
)  # fmt: skip


def of_backtest(run: BacktestRecord, entry: LoggedEntry, agent: str) -> Event:
    """Returns the memory of a completed backtest: figures and our own warnings, nothing of the strategy's."""
    request, figures = run.request, _chosen(run.metrics)
    warnings = "".join(f" Warning: {each}" for each in run.warnings[:WARNINGS_TOLD])
    text = (
        f"Backtest {run.run_id} of {_listed(request.symbols)} on {request.interval} bars{_period(request)}:"
        f" {_told(figures)}.{warnings}"
    )
    data: dict[str, JsonValue] = {
        "run_id": run.run_id,
        "digest": run.digest,
        "strategy_id": request.strategy_id,
        "params": _plain_params(request.params),
        "metrics": _finite(figures),
    }
    return _of_run(run.run_id, agent, text, request.symbols, data, entry)


def of_sweep(sweep: SweepRecord, entry: LoggedEntry, agent: str) -> Event:
    """Returns the one memory of a sweep, however many combinations it tried."""
    request, result = sweep.request.base, sweep.result or {}
    best: dict[str, Any] = result.get("best") or {}
    outside: dict[str, Any] = result.get("out_of_sample") or {}
    figures, forward = _chosen(best.get("metrics")), _chosen(outside.get("metrics"))
    text = (
        f"Sweep {sweep.run_id} of {result.get('combinations')} combinations over {_listed(request.symbols)}"
        f" on {request.interval} bars{_period(request)}. Best in sample: {_told(figures)}."
        + (f" Out of sample ({outside.get('scheme')}): {_told(forward)}." if outside else " Not validated.")
        + f" Deflated Sharpe ratio {_number(result.get('deflated_sharpe_ratio'))} after"
        f" {result.get('trials')} trials; probability of overfitting {_number(result.get('pbo'))}."
    )
    data: dict[str, JsonValue] = {
        "run_id": sweep.run_id,
        "strategy_id": request.strategy_id,
        "params": _plain_params(best.get("params") or {}),
        "metrics": _finite(figures),
        "out_of_sample": _finite(forward),
        "deflated_sharpe_ratio": result.get("deflated_sharpe_ratio"),
        "trials": result.get("trials"),
        "pbo": result.get("pbo"),
    }
    return _of_run(sweep.run_id, agent, text, request.symbols, data, entry)


def of_missing_run(run_id: str, entry: LoggedEntry, agent: str) -> Event:
    """Returns the memory of a run whose record is gone: what the log itself says."""
    data: dict[str, JsonValue] = {"run_id": run_id, "digest": entry.payload.get("digest")}
    text = f"Backtest {visible(run_id)} was completed; its record is gone."
    return _of_run(run_id, agent, text, (), data, entry)


def _of_run(
    run_id: str,
    agent: str,
    text: str,
    symbols: Sequence[str],
    data: dict[str, JsonValue],
    entry: LoggedEntry,
) -> Event:
    return Event(
        key=f"backtest:{run_id}",
        agent=agent,
        kind="backtest",
        text=text,
        symbols=tuple(sorted(set(symbols)))[:SYMBOLS_MAX],
        data=data,
        event_time=entry.ts,
        about_seq=entry.seq,
        trust="verified",
    )


def _chosen(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: (metrics or {}).get(name) for name in _FIGURES}


def _listed(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:8])
    return shown if len(symbols) <= 8 else f"{shown} and {len(symbols) - 8} more"


def _period(request: Any) -> str:
    begin = f" from {request.start:%Y-%m-%d}" if request.start is not None else ""
    return begin + (f" to {request.end:%Y-%m-%d}" if request.end is not None else "")


def _told(figures: Mapping[str, Any]) -> str:
    known = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
    return (
        ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in known.items())
        or "no figures"
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "unknown"


def _finite(figures: Mapping[str, Any]) -> dict[str, JsonValue]:
    return {
        name: value
        for name, value in figures.items()
        if isinstance(value, (int, float)) and abs(value) <= 1e15  # neither NaN nor infinite
    }


def _plain_params(params: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Returns the parameters that are numbers: names and texts are a strategy's author's words."""
    kept = {
        name: value
        for name, value in params.items()
        if name.isascii()
        and name.isidentifier()
        and len(name) <= 40
        and isinstance(value, (bool, int, float))
    }
    return dict(list(kept.items())[:32])
