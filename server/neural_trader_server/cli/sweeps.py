"""`neural-trader backtest sweep`: try many combinations of a strategy's parameters."""

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_governance.errors import HostError, InputError, StrategyError
from neural_trader_server.cli import backtest_options as options
from neural_trader_server.cli.terminal import (
    FAILED,
    HOST_LACKS,
    Json,
    emit,
    err,
    out,
    progress_bar,
    show_table,
    with_desk,
)

if TYPE_CHECKING:
    from neural_trader_server.app import Services

INTERRUPTED = 130
SAMPLES = 100  # `sweeps.space.SAMPLES_DEFAULT`; help must not load the engine


class Method(StrEnum):
    """How combinations are chosen."""

    GRID = "grid"
    RANDOM = "random"
    BAYESIAN = "bayesian"


class Objective(StrEnum):
    """What the best combination is best at."""

    SHARPE_RATIO = "sharpe_ratio"
    SORTINO_RATIO = "sortino_ratio"
    CALMAR_RATIO = "calmar_ratio"
    RETURN_TOTAL = "return_total"


def sweep(
    file: Annotated[
        Path | None, typer.Argument(help="The strategy: one Python file.", exists=True, dir_okay=False)
    ] = None,
    symbol: options.Symbols = None,
    data: options.Data = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", help="NAME=first:last:step, NAME=a,b,c, or NAME=value for all; may be repeated."
        ),
    ] = None,
    start: options.Start = None,
    end: options.End = None,
    interval: options.Interval = "1d",
    method: Annotated[Method, typer.Option(help="How combinations are chosen.")] = Method.GRID,
    samples: Annotated[
        int | None, typer.Option(help="Combinations that random or bayesian tries; 100 if left out.", min=1)
    ] = None,
    objective: Annotated[Objective, typer.Option(help="What the best is best at.")] = Objective.SHARPE_RATIO,
    walk_forward: Annotated[
        str | None,
        typer.Option(help="rolling, anchored, purged or combinatorial; options such as ,folds=5,purge=5."),
    ] = None,
    cash: options.Cash = "100000",
    commission_bps: options.CommissionBps = 0.0,
    slippage_bps: options.SlippageBps = 0.0,
    fill: options.FillRule = options.Fill.NEXT_OPEN,
    lots: options.LotsRule = options.Lots.FRACTIONAL,
    convention: options.Convention = "default",
    commission_per_unit: options.CommissionPerUnit = "0",
    commission_min: options.CommissionMin = "0",
    spread_bps: options.SpreadBps = 0.0,
    borrow_bps_annual: options.BorrowBps = 0.0,
    margin: options.Margin = 1.0,
    volume_cap: options.VolumeCap = None,
    settlement_days: options.SettlementDays = 0,
    dividends: options.DividendsRule = options.Dividends.IGNORED,
    same_bar: options.SameBarRule = options.SameBar.PESSIMISTIC,
    seed: Annotated[int, typer.Option(help="Seed of chance, in the choice and in the strategy.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Sandboxes at the same time.", min=1, max=256)] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; auto, or local for a new one here.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this sweep; give nothing else.")] = None,
    heatmap: Annotated[
        Path | None,
        typer.Option(
            help="Write the objective over two parameters here: FILE.html, or FILE.png (extra report)."
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Try many combinations of parameters and say how far to believe the best.

    Example: neural-trader backtest sweep trend.py --symbol AAPL --param fast=5:50:5 --param slow=60:200:10
    --walk-forward rolling,folds=5. Ctrl-C keeps what is done; --resume ID goes on.
    """
    if resume is None and file is None:
        raise typer.BadParameter("give a strategy file, or --resume ID")
    if resume is None:
        options.require_prices(symbol, data)
    elif data is not None:
        raise typer.BadParameter("a sweep over --data cannot go on: its prices are kept for one command only")
    if method is not Method.GRID and samples is None and resume is None:
        err().print(
            f"{method.value} tries {SAMPLES} combinations, drawn by --seed; --samples N sets how many.",
            markup=False,
        )
    if heatmap is not None and not heatmap.parent.is_dir():  # before hours of work, not after them
        raise typer.BadParameter(f"there is no folder {heatmap.parent}", param_hint="--heatmap")
    if heatmap is not None and heatmap.suffix.lower() == ".png":
        from neural_trader_tools.backtest.report.drawing import require_matplotlib

        require_matplotlib()
    source = None if file is None else file.read_text(encoding="utf-8")
    given = [_split(text) for text in param or []]
    varied = {name: value for name, value in given if ":" in value or "," in value}
    arguments: dict[str, Any] = {
        "symbols": symbol or [],
        "grid": varied,
        "strategy_id": None,
        "source": source,
        "interval": interval,
        "start": start,
        "end": end,
        "params": {name: _value(value) for name, value in given if name not in varied},
        "settings": {
            "cash": cash,
            "commission_bps": commission_bps,
            "slippage_bps": slippage_bps,
            "fill": fill.value,
            "lots": lots.value,
            "convention": convention,
            "rules": {
                "commission_per_unit": commission_per_unit,
                "commission_min": commission_min,
                "spread_bps": spread_bps,
                "borrow_bps_annual": borrow_bps_annual,
                "margin": margin,
                "volume_cap": volume_cap,
                "settlement_days": settlement_days,
                "dividends": dividends.value,
                "same_bar": same_bar.value,
            },
        },
        "method": method.value,
        "samples": samples,
        "objective": objective.value,
        "walk_forward": walk_forward,
        "seed": seed,
    }
    started: list[str] = []

    async def work(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.backtest.sweep import read_sweep
        from neural_trader_tools.backtest.sweeps.service import Backend

        await services.start()
        sweeps = services.backtests.sweeps
        backend: Backend | None = None
        if ray is not None:
            from neural_trader_tools.backtest.sweeps.cluster import ray_backend

            backend = ray_backend(ray, workers or os.cpu_count() or 1)
        if resume is not None:
            run_id = (await sweeps.resume(resume, workers=workers, backend=backend)).run_id
        else:
            if data is not None:
                arguments["symbols"] = [await options.import_prices(services, data, interval)]
            request = await read_sweep(services.backtests, **arguments)
            run_id = await sweeps.start(
                request, agent=services.person.agent, workers=workers, backend=backend
            )
        started.append(run_id)
        while True:
            result = await services.call("backtest_get", run_id=run_id, wait_s=60)
            if result["state"] not in {"queued", "running"}:
                break
        if heatmap is not None and result["table"] is not None:
            from neural_trader_tools.backtest.sweeps.heatmap import write_heatmap

            table = services.artifacts.get(result["table"])
            shown = (await sweeps.get(run_id)).request.objective  # of a sweep that goes on, its own
            write_heatmap(heatmap, table, list(result["params"]), shown)
            err().print(f"Wrote {heatmap}", markup=False, soft_wrap=True)
        return result

    try:
        with (
            tempfile.TemporaryDirectory(prefix="neural-trader-sweep-") as folder,
            progress_bar("sweep", quiet=json_output),
        ):
            result = with_desk(work, archive=Path(folder) if data else None)
    except KeyboardInterrupt:
        if data is not None:
            err().print("interrupted; import the prices first (`data import`) for a sweep that can go on")
        elif started:
            err().print(
                f"interrupted; what is done is kept: neural-trader backtest sweep --resume {started[0]}",
                markup=False, soft_wrap=True,
            )  # fmt: skip
        raise typer.Exit(INTERRUPTED) from None
    if json_output:
        emit(result)
    else:
        _show(result)
    if result["state"] != "completed":
        error = _failure(result)
        if json_output:
            raise typer.Exit(HOST_LACKS if isinstance(error, HostError) else FAILED)
        raise error
    if result["best"] is None and result["failed"] == result["combinations"]:  # each of them is told above
        raise typer.Exit(FAILED)


def _split(text: str) -> tuple[str, str]:
    name, is_given, value = text.partition("=")
    if not is_given or not name.strip() or not value.strip():
        raise typer.BadParameter(f"{text!r:.60} is not NAME=VALUES", param_hint="--param")
    return name.strip(), value.strip()


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _failure(result: dict[str, Any]) -> StrategyError | HostError | InputError:
    text = str(result.get("error") or f"the sweep is {result['state']}")
    code, _, rest = text.partition(": ")
    what, _, next_step = rest.rpartition("; ")
    kind = HostError if code in ("sandbox_unavailable", "cluster_unreachable") else StrategyError
    if not what:
        return kind("sweep_failed", text, "correct the strategy and start again")
    return kind(code, what, next_step)


def _show(result: dict[str, Any]) -> None:
    names = ("deflated_sharpe_ratio", "pbo", "trials", "combinations", "failed")
    rows = [(name, _short(result[name])) for name in names]
    sample = result["out_of_sample"]
    if sample is not None:
        metrics: dict[str, Any] = sample["metrics"] or {}
        rows += [
            (f"out of sample {name}", _short(metrics[name]))
            for name in ("return_total", "sharpe_ratio", "max_drawdown")
            if name in metrics
        ]
        rows.append(("out of sample decay", _short(sample["decay"])))
    best = result["best"]
    if best is not None:
        rows += [(f"best {name}", value) for name, value in best["params"].items()]
        rows += [(f"best {name}", _short(value)) for name, value in best["metrics"].items()]
    title = f"{result['run_id']} {', '.join(result['symbols'])} {result['interval']}: {result['state']}"
    show_table(title, ("figure", "value"), rows)
    for fault in result["faults"]:
        out().print(f"failed: {fault['params']}: {fault['error']}", soft_wrap=True, markup=False)
    for warning in result["warnings"]:
        out().print(f"warning: {warning}", soft_wrap=True, markup=False)
    if result["table"] is not None:
        out().print(f"table {result['table']}")


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
