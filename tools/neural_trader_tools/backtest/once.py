"""One backtest without a service or an archive: what `neural-trader backtest run` calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from pydantic import BaseModel, JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_sandbox.port import Sandbox
from neural_trader_tools.backtest.metrics import Metrics
from neural_trader_tools.backtest.prices import Prices, read_csv
from neural_trader_tools.backtest.settings import SOURCE_MAX_BYTES, BacktestRequest, Settings
from neural_trader_tools.backtest.simulation import Simulation, simulate


class OnceResult(BaseModel):
    """The result of one backtest: the fields of `backtest_get` that make sense without a run."""

    state: str = "completed"
    symbols: tuple[str, ...]
    interval: str
    bars: int
    start: str
    end: str
    metrics: Metrics
    warnings: list[str]
    digest: str


async def run_once(
    sandbox: Sandbox,
    source: str,
    prices: Sequence[Prices],
    *,
    interval: str = "1d",
    params: Mapping[str, JsonValue] | None = None,
    settings: Settings | None = None,
    seed: int = 0,
) -> tuple[OnceResult, Simulation]:
    """Backtests a strategy on given prices, in the sandbox like every other.

    Raises:
        StrategyError: see `simulate`.
        HostError: see `simulate`.
    """
    request = BacktestRequest(
        source=source,
        symbols=tuple(bars.symbol for bars in prices),
        interval=interval,
        params=dict(params or {}),
        settings=settings or Settings(),
        seed=seed,
    )
    simulation = await simulate(sandbox, request, prices)
    metrics, warnings = simulation.metrics()
    times = simulation.replay.equity_frame()["time"]
    first, last = times[0], times[-1]
    result = OnceResult(
        symbols=request.symbols,
        interval=interval,
        bars=len(times),
        start=first.isoformat().replace("+00:00", "Z"),
        end=last.isoformat().replace("+00:00", "Z"),
        metrics=metrics,
        warnings=warnings,
        digest=simulation.digest,
    )
    return result, simulation


async def read_prices(path: Path, *, start: Any = None, end: Any = None) -> Prices:
    """Reads a CSV file of prices (see `read_csv`), optionally a period of it; the symbol is the file's stem.

    Raises:
        InputError: the file is missing or not readable.
        DataError: a row is bad, or the period is empty.
    """
    frame = await anyio.to_thread.run_sync(read_csv, path)
    if start is not None:
        frame = frame.filter(frame["event_time"] >= start)
    if end is not None:
        frame = frame.filter(frame["event_time"] < end)
    return Prices.from_frame(path.stem, frame)


def read_source(path: Path) -> str:
    """Reads a strategy file.

    Raises:
        InputError: it is missing, too large, or not UTF-8.
    """
    if not path.is_file():
        raise InputError("file_missing", f"there is no file {path.name!r:.80}", "check the path")
    if path.stat().st_size > SOURCE_MAX_BYTES:
        raise InputError(
            "source_too_large", f"{path.name} exceeds {SOURCE_MAX_BYTES // 1024} KiB", "make it shorter"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError("source_not_utf8", f"{path.name} is not UTF-8 text", "save it as UTF-8") from None
