"""`neural-trader backtest`: run a strategy file over archived or imported prices."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neural_trader_governance.errors import HostError, StrategyError
from neural_trader_server.cli import backtest_options as options
from neural_trader_server.cli.sweeps import sweep
from neural_trader_server.cli.terminal import (
    FAILED,
    HOST_LACKS,
    Json,
    emit,
    err,
    group,
    out,
    progress_bar,
    show_table,
    with_desk,
)

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("backtest", "Run strategies over history; their code runs in the sandbox.")
app.command()(sweep)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The strategy: one Python file.", exists=True, dir_okay=False)],
    symbol: options.Symbols = None,
    data: options.Data = None,
    start: options.Start = None,
    end: options.End = None,
    interval: options.Interval = "1d",
    param: options.Params = None,
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
    seed: Annotated[int, typer.Option(help="Seed of random numbers in the strategy.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Also write a tear sheet (HTML) here.")] = None,
    json_output: Json = False,
) -> None:
    """Backtest a strategy file and print its metrics and digest.

    Examples: neural-trader backtest run trend.py --symbol AAPL --param fast=20;
    neural-trader backtest run trend.py --data prices.csv --commission-bps 5
    """
    import anyio.to_thread

    options.require_prices(symbol, data)
    source = file.read_text(encoding="utf-8")
    if report is not None:  # before minutes of work, not after
        from neural_trader_tools.backtest.report.drawing import require_matplotlib

        require_matplotlib()
    arguments: dict[str, object] = {
        "source": source,
        "start": start,
        "end": end,
        "interval": interval,
        "params": dict(options.parameter(text) for text in param or []),
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
        "seed": seed,
    }

    async def work(services: "Services") -> dict[str, Any]:
        symbols = symbol or []
        async with _warming(services):
            if data is not None:
                symbols = [await options.import_prices(services, data, interval)]
            started = await services.call("backtest_start", symbols=symbols, **arguments)
            with progress_bar(f"{file.name} over {', '.join(symbols):.40}", quiet=json_output):
                engine = asyncio.ensure_future(anyio.to_thread.run_sync(_load_engine))
                result = await _finish(services, started)
                await asyncio.wait([engine])
        if report is not None and result["state"] == "completed":
            await _write(services, result["run_id"], report, None)
        return result

    try:
        with tempfile.TemporaryDirectory(prefix="neural-trader-backtest-") as folder:
            result = with_desk(work, archive=Path(folder) if data else None)
    except KeyboardInterrupt:
        err().print("Interrupted: the run was canceled, its guest ended.")
        raise
    if json_output:
        emit(result)
    else:
        _show(result)
    if result["state"] != "completed":
        error = _failure(result)
        if json_output:  # the document already says why
            raise typer.Exit(HOST_LACKS if isinstance(error, HostError) else FAILED)
        raise error


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(help="As `backtest run` or backtest_start shows it.")],
    page: Annotated[Path | None, typer.Option("--out", help="Write a tear sheet (HTML) here.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write its charts as one image here.")] = None,
    json_output: Json = False,
) -> None:
    """Show the result of a run again; with --out or --png, write its tear sheet.

    The page is one file that fetches nothing. Charts need the extra `report`; without it the exit code is 3.
    """

    async def work(services: "Services") -> dict[str, Any]:
        if page is not None or png is not None:
            await _write(services, run_id, page, png)
        return await services.call("backtest_get", run_id=run_id)

    result = with_desk(work)
    if json_output:
        emit(result)
    elif page is None and png is None:
        _show(result)


@app.command()
def verify(
    run_id: Annotated[str, typer.Argument(help="A completed run.")],
    json_output: Json = False,
) -> None:
    """Run a backtest again, on the prices as known then, and compare the digests; 1 if they differ."""

    async def work(services: "Services") -> dict[str, Any]:
        return await services.call("backtest_verify", run_id=run_id)

    result = with_desk(work)
    if json_output:
        emit(result)
    else:
        word = "identical" if result["identical"] else "different"
        out().print(f"{run_id}: {word}, digest {result['digest_recomputed']}", soft_wrap=True, markup=False)
        if result["detail"]:
            out().print(result["detail"], soft_wrap=True, markup=False)
    if not result["identical"]:
        raise typer.Exit(FAILED)


@app.command()
def compare(
    run_ids: Annotated[list[str], typer.Argument(help="Two or more completed runs.")],
    json_output: Json = False,
) -> None:
    """Rank runs by what luck leaves of them, side by side, and test them against cash and buy and hold."""

    async def work(services: "Services") -> dict[str, Any]:
        return await services.call("backtest_compare", run_ids=run_ids)

    result = with_desk(work)
    if json_output:
        emit(result)
        return
    ranking = result["ranking"]
    names = list(ranking[0]["metrics"])
    show_table(
        f"{len(ranking)} runs, the most believable first; {result['bars']} returns in common",
        ("metric", *(run["run_id"] for run in ranking)),
        [(name, *(_short(run["metrics"][name]) for run in ranking)) for name in names],
    )
    for place, run in enumerate(ranking, start=1):
        out().print(f"{place}. {run['run_id']}: {run['why']}", soft_wrap=True, markup=False)
    show_table(
        "Correlation of returns",
        ("", *(run["run_id"] for run in ranking)),
        [
            (run["run_id"], *map(_short, row))
            for run, row in zip(ranking, result["correlations"], strict=True)
        ],
    )
    for name, test in result["against"].items():
        better = ", ".join(test["superior"]) or "none"
        out().print(
            f"against {name.replace('_', ' ')}: SPA p {test['spa']:.3f}, reality check p "
            f"{test['reality_check']:.3f}; better at 5 %: {better}",
            soft_wrap=True,
            markup=False,
        )
    if result["pbo"] is not None:
        out().print(f"probability of overfitting, choosing the best of these: {result['pbo']:.2f}")
    for warning in result["warnings"]:
        out().print(f"warning: {warning}", soft_wrap=True, markup=False)


async def _write(services: "Services", run_id: str, page: Path | None, image: Path | None) -> None:
    from neural_trader_tools.backtest.report.files import write_report

    for path in await write_report(services.backtests, run_id, page, image):
        err().print(f"Wrote {path}", soft_wrap=True, markup=False)


def _load_engine() -> None:
    """Loads what replays the decisions, while the sandbox still makes them."""
    from neural_trader_tools.backtest import replay

    replay.warm_up()


@contextlib.asynccontextmanager
async def _warming(services: "Services") -> AsyncGenerator[None]:
    """Starts the sandbox beside what comes before its run: a second of another core."""
    task = asyncio.ensure_future(services.sandbox.warm())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _finish(services: "Services", started: dict[str, Any]) -> dict[str, Any]:
    while True:
        result = await services.call("backtest_get", run_id=started["run_id"], wait_s=60)
        if result["state"] not in {"queued", "running"}:
            return result


def _short(value: Any) -> str | None:
    """Returns a figure, or an interval of two, in as many digits as can be compared at a glance."""
    if value is None:
        return None
    if isinstance(value, list):
        return " … ".join(f"{end:.4g}" for end in cast("list[float]", value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _failure(result: dict[str, Any]) -> StrategyError | HostError:
    """Returns the error of a run that did not complete; the tool gives it as one line of text."""
    text = str(result.get("error") or f"the run is {result['state']}")
    code, _, rest = text.partition(": ")
    what, _, next_step = rest.rpartition("; ")
    kind = HostError if code == "sandbox_unavailable" else StrategyError
    if not what:
        return kind("backtest_failed", text, "see the warnings of the run and correct the strategy")
    return kind(code, what, next_step)


def _show(result: dict[str, Any]) -> None:
    """Prints how far to trust the result, what speaks against it, and then the result."""
    from neural_trader_tools.backtest.get import TRUST

    metrics = result["metrics"]
    title = f"{result['run_id']} {', '.join(result['symbols'])} {result['interval']}: {result['state']}"
    if not metrics:
        show_table(title, ("metric", "value"), ())
    else:
        trust = [(name, metrics[name]) for name in TRUST if name in metrics]
        show_table(f"{title}. How far to trust it", ("metric", "value"), trust)
    for warning in result["warnings"]:
        out().print(f"warning: {warning}", soft_wrap=True, markup=False)
    if metrics:
        rest = [(name, value) for name, value in metrics.items() if name not in TRUST]
        show_table("What it came to", ("metric", "value"), rest)
    if result["digest"]:
        out().print(f"digest {result['digest']}")
