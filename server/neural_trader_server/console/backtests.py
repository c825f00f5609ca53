"""Backtests: what was run, by whom, how far to trust it, and each run with its curves, trades and proof."""

from typing import TYPE_CHECKING, Annotated, Any, cast

import anyio.to_thread
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.term import Term
from neural_trader_server.console.guard import answer, read_query
from neural_trader_server.console.series import series_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.backtest.ledger import BacktestRecord
    from neural_trader_tools.backtest.prices import Prices
    from neural_trader_tools.backtest.report.sheet import Sheet
    from neural_trader_tools.backtest.sweeps.record import SweepRecord

LISTED_MAX = 200
TRADES_PAGE = 25
CANDLES_MAX = 3_000
MARKS_MAX = 400
_LEADING = ("sharpe_ratio", "deflated_sharpe_ratio", "trials", "cagr", "max_drawdown", "trade_count")

_Row = dict[str, Any]


class _Page(Term):
    offset: Annotated[int, Field(ge=0, le=10_000_000), BeforeValidator(int)] = 0


class _Symbol(Term):
    symbol: Annotated[str, Field(min_length=1, max_length=80)]


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the backtests."""
    from neural_trader_tools.backtest.sweeps.record import SweepRecord, is_sweep

    backtests = services.backtests

    def listed() -> list[_Row]:
        named = _names(services)
        found = [backtests.find(run_id) for run_id in backtests.newest_ids(LISTED_MAX)]
        return [row_of(each, named) for each in found if each is not None]

    async def every(_: Request) -> Response:
        runs = await anyio.to_thread.run_sync(listed)
        return answer({"runs": runs, "limit": LISTED_MAX})

    def told(record: "BacktestRecord | SweepRecord") -> dict[str, Any]:
        row = row_of(record, _names(services)) | {"entry": _entry(services, record.run_id)}
        if isinstance(record, SweepRecord):
            return {"run": row, "sweep": _sweep(record)}
        if record.state != "completed":
            return {"run": row, "asked": _asked(record)}
        return {"run": row, "asked": _asked(record), "report": _report(services, record)}

    async def one(request: Request) -> Response:
        run_id = str(request.path_params["run_id"])
        if is_sweep(run_id):
            return answer(await anyio.to_thread.run_sync(lambda: told(backtests.sweeps.find(run_id))))
        record = await backtests.get(run_id)  # of one that runs here, as far as it is
        return answer(await anyio.to_thread.run_sync(told, record))

    async def trades(request: Request) -> Response:
        query = read_query(request, _Page)
        record = await backtests.get(request.path_params["run_id"])
        return answer(await anyio.to_thread.run_sync(_trades, services, record, query.offset))

    async def price(request: Request) -> Response:
        query = read_query(request, _Symbol)
        record = await backtests.get(request.path_params["run_id"])
        return answer(await anyio.to_thread.run_sync(_price, services, record, query.symbol))

    async def sheet(request: Request) -> Response:
        from neural_trader_tools.backtest.report.page import render_page

        record = await backtests.get(request.path_params["run_id"])
        page = await anyio.to_thread.run_sync(lambda: render_page(_sheet(services, record)))
        name = f"{record.run_id}.html"
        return answer({"name": name, "html": page})

    return [
        Route("/backtests", every, methods=["GET"]),
        Route("/backtests/{run_id}", one, methods=["GET"]),
        Route("/backtests/{run_id}/trades", trades, methods=["GET"]),
        Route("/backtests/{run_id}/price", price, methods=["GET"]),
        Route("/backtests/{run_id}/sheet", sheet, methods=["GET"]),
    ]


def row_of(record: "BacktestRecord | SweepRecord", named: dict[str, str]) -> _Row:
    """Returns a run as a row of a list.

    Args:
        record: Of the run.
        named: Names of the saved strategies by their id.
    """
    from neural_trader_tools.backtest.sweeps.record import SweepRecord

    metrics: dict[str, Any]
    if isinstance(record, SweepRecord):
        request, combinations, result = record.request.base, record.request.space.count, record.result or {}
        metrics = {name: result.get(name) for name in ("deflated_sharpe_ratio", "trials", "pbo")}
        warnings = cast("list[str]", result.get("warnings") or [])
    else:
        request, combinations, warnings = record.request, None, list(record.warnings)
        metrics = {name: (record.metrics or {}).get(name) for name in _LEADING}
    return {
        "run_id": record.run_id,
        "kind": "backtest" if combinations is None else "sweep",
        "state": record.state,
        "progress": record.progress,
        "agent": record.agent,
        "created_at": format_time(record.created_time),
        "finished_at": format_time(record.finished_time) if record.finished_time else None,
        "strategy_id": request.strategy_id,
        "strategy": named.get(request.strategy_id or ""),
        "symbols": list(request.symbols),
        "interval": request.interval,
        "start": format_time(request.start) if request.start else None,
        "end": format_time(request.end) if request.end else None,
        "combinations": combinations,
        "metrics": metrics,
        "warnings": warnings,
        "error": record.error,
    }


def _names(services: "Services") -> dict[str, str]:
    saved = services.registry.list(limit=1_000)
    return {each.strategy_id: f"{each.name} v{each.version}" for each in reversed(saved)}


def _entry(services: "Services", run_id: str) -> int | None:
    """Returns which entry of the log holds a run's result; None where there is none (yet)."""
    with services.store.read() as connection:
        row = connection.execute(
            "SELECT seq FROM audit_entries WHERE type = 'backtest.result' AND instr(CAST(entry AS TEXT), ?)"
            " ORDER BY time_us DESC LIMIT 1",
            (f'"{run_id}"',),
        ).fetchone()
    return None if row is None else int(row[0])


def _asked(record: "BacktestRecord") -> dict[str, Any]:
    request = record.request
    return {
        "params": request.params,
        "settings": request.settings.model_dump(mode="json"),
        "seed": request.seed,
        "source": request.source,
        "as_of": format_time(record.as_of),
        "bars": record.bars,
    }


def _sheet(services: "Services", record: "BacktestRecord") -> "Sheet":
    from neural_trader_tools.backtest.report.files import read_sheet

    return read_sheet(services.backtests, record)


def _report(services: "Services", record: "BacktestRecord") -> dict[str, Any]:
    import numpy as np

    from neural_trader_tools.backtest.get import TRUST
    from neural_trader_tools.backtest.report.page import SURE, show, verdict

    sheet = _sheet(services, record)
    metrics = record.metrics or {}
    ordered = [*(name for name in TRUST if name in metrics), *(name for name in metrics if name not in TRUST)]
    counts = {str(row[0]): int(row[1]) for row in sheet.trades["symbol"].value_counts().rows()}
    return {
        "verdict": verdict(sheet),
        "sure": sheet.deflated_now is not None and sheet.deflated_now >= SURE,
        "deflated_now": sheet.deflated_now,
        "trials_now": sheet.trials_now,
        "metrics": [
            {"name": name, "value": metrics[name], "shown": show(name, metrics[name]), "trust": name in TRUST}
            for name in ordered
        ],
        "equity": series_of(sheet.times, sheet.equity),
        "hold": series_of(sheet.times, sheet.hold) if len(sheet.hold) else None,
        "drawdown": series_of(sheet.times, sheet.drawdown),
        "months": [
            {"year": year, "month": month, "value": value if np.isfinite(value) else None}
            for (year, month), value in sheet.months.items()
        ],
        "years": [
            {"year": year, "value": value} for year, value in sheet.years.items() if np.isfinite(value)
        ],
        "trades": sheet.trades.height,
        "traded": [
            {"symbol": symbol, "trades": counts.get(symbol, 0)}
            for symbol in sorted(record.request.symbols, key=lambda name: (-counts.get(name, 0), name))
        ],
        "digest": record.digest,
        "engine": record.engine,
        "output": record.output,
    }


def _trades(services: "Services", record: "BacktestRecord", offset: int) -> dict[str, Any]:
    frame = services.backtests.trades(record)
    rows = frame.slice(offset, TRADES_PAGE).to_dicts()
    for row in rows:
        for name in ("entry_time", "exit_time"):
            row[name] = format_time(row[name]) if row[name] is not None else None
    return {"trades": rows, "offset": offset, "page": TRADES_PAGE, "count": frame.height}


def _price(services: "Services", record: "BacktestRecord", symbol: str) -> dict[str, Any]:
    """Returns one symbol's prices, as the run read them, and the marks of its trades on them."""
    import polars as pl

    if symbol not in record.request.symbols:
        raise InputError(
            "unknown_symbol",
            f"{symbol!r:.40} is not among the symbols of {record.run_id}",
            "choose one of the list",
        )
    request = record.request.model_copy(update={"symbols": (symbol,)})
    try:
        (prices,) = services.backtests.read_prices(request, as_of=record)
    except InputError as error:
        raise DataError("prices_gone", f"{symbol}: {error.what}", error.next_step) from error
    trades = services.backtests.trades(record).filter(pl.col("symbol") == symbol)
    marks = [
        {"time": int(row[name].timestamp()), "kind": kind, "side": row["side"]}
        for row in trades.iter_rows(named=True)
        for name, kind in (("entry_time", "entry"), ("exit_time", "exit"))
        if row[name] is not None
    ]
    marks.sort(key=lambda mark: mark["time"])
    drawn, times = _drawn(prices)
    shown = _spread(marks, times)
    return {"symbol": symbol, **drawn, "marks": shown, "marks_count": len(marks), "trades": trades.height}


def _drawn(prices: "Prices") -> tuple[dict[str, Any], list[int]]:
    """Returns candles, or where they are too many to be seen the line of the closes; and its times."""
    import numpy as np

    if len(prices.times) <= CANDLES_MAX:
        bars = np.column_stack([prices.open, prices.high, prices.low, prices.close]).tolist()
        times = [int(time) // 1_000_000 for time in prices.times]
        return {"bars": {"times": times, "bars": bars}, "closes": None, "count": len(times)}, times
    closes = series_of(prices.times, prices.close)
    return {"bars": None, "closes": closes, "count": closes["count"]}, closes["times"]


def _spread(marks: list[_Row], times: list[int]) -> list[_Row]:
    """Returns the marks that can be told apart, each on a bar that is drawn."""
    import numpy as np

    from neural_trader_tools.backtest.report.thinning import spread_out

    if not marks or not times:
        return []
    bars = np.searchsorted(np.array(times), [mark["time"] for mark in marks], side="right") - 1
    at = np.clip(bars, 0, len(times) - 1).astype(np.int64)
    kept = range(len(marks)) if len(marks) <= MARKS_MAX else spread_out(at, len(times), MARKS_MAX)
    return [{**marks[int(row)], "time": times[int(at[int(row)])]} for row in kept]


def _sweep(record: "SweepRecord") -> dict[str, Any]:
    request = record.request
    return {
        "space": request.space.model_dump(mode="json"),
        "objective": request.objective,
        "validation": None if request.validation is None else request.validation.model_dump(mode="json"),
        "done": record.done,
        "result": record.result,
    }
