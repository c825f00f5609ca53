"""`neural-trader backtest sweep`: try many combinations of a strategy's parameters."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_governance.errors import HostError, InputError, StrategyError
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


def sweep(
    file: Annotated[
        Path | None, typer.Argument(help="The strategy: one Python file.", exists=True, dir_okay=False)
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", help="Ticker in the archive; may be repeated.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", help="NAME=first:last:step, NAME=a,b,c, or NAME=value for all; may be repeated."
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(help="First bar, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="End, exclusive.")] = None,
    interval: Annotated[str, typer.Option(help="Bar length.")] = "1d",
    method: Annotated[str, typer.Option(help="grid, random or bayesian.")] = "grid",
    samples: Annotated[int | None, typer.Option(help="Combinations that random or bayesian tries.")] = None,
    objective: Annotated[
        str, typer.Option(help="sharpe_ratio, sortino_ratio, calmar_ratio or return_total.")
    ] = "sharpe_ratio",
    walk_forward: Annotated[
        str | None,
        typer.Option(help="rolling, anchored, purged or combinatorial; options such as ,folds=5,purge=5."),
    ] = None,
    cash: Annotated[str, typer.Option(help="Starting cash, USD.")] = "100000",
    commission_bps: Annotated[float, typer.Option(help="Commission in basis points.")] = 0.0,
    slippage_bps: Annotated[float, typer.Option(help="Slippage in basis points.")] = 0.0,
    fill: Annotated[str, typer.Option(help="next_open or close.")] = "next_open",
    lots: Annotated[str, typer.Option(help="fractional or whole.")] = "fractional",
    seed: Annotated[int, typer.Option(help="Seed of chance, in the choice and in the strategy.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Sandboxes at the same time.", min=1, max=256)] = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; auto, or local for a new one here.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this sweep; give nothing else.")] = None,
    heatmap: Annotated[
        Path | None, typer.Option(help="Write the objective over two parameters here.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Try many combinations of parameters and say how far to believe the best.

    Example: neural-trader backtest sweep trend.py --symbol AAPL --param fast=5:50:5 --param slow=60:200:10
    --walk-forward rolling,folds=5. Ctrl-C keeps what is done; --resume ID goes on.
    """
    if resume is None and file is None:
        raise typer.BadParameter("give a strategy file, or --resume ID")
    if heatmap is not None and not heatmap.parent.is_dir():  # before hours of work, not after them
        raise typer.BadParameter(f"there is no folder {heatmap.parent}", param_hint="--heatmap")
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
            "cash": cash, "commission_bps": commission_bps, "slippage_bps": slippage_bps, "fill": fill,
            "lots": lots,
        },
        "method": method,
        "samples": samples,
        "objective": objective,
        "walk_forward": walk_forward,
        "seed": seed,
    }  # fmt: skip
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
            from neural_trader_tools.backtest.sweeps.heatmap import heatmap_html

            table = services.artifacts.get(result["table"])
            heatmap.write_text(heatmap_html(table, list(result["params"]), objective), encoding="utf-8")
        return result

    try:
        with progress_bar("sweep", quiet=json_output):
            result = with_desk(work)
    except KeyboardInterrupt:
        if started:
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
