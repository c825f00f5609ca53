"""Files: a run's tear sheet read from the home and written as HTML and PNG."""

from pathlib import Path

import anyio.to_thread

from neural_trader_governance.errors import DataError, InputError, StorageError
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.report.drawing import draw_png, require_matplotlib
from neural_trader_tools.backtest.report.page import headline, render_page
from neural_trader_tools.backtest.report.sheet import Sheet
from neural_trader_tools.backtest.run import Backtests


async def write_report(
    backtests: Backtests, run_id: str, page: Path | None = None, image: Path | None = None
) -> list[Path]:
    """Writes the tear sheet of a completed run and returns the files.

    Args:
        backtests: The home's runs.
        run_id: Of the run.
        page: Where the HTML page goes, if one is asked for.
        image: Where the PNG goes, if one is asked for.

    Raises:
        HostError: `report_missing`: matplotlib is not installed.
        InputError: there is no such run, or it did not complete.
        StorageError: a file cannot be written.
    """
    require_matplotlib()
    record = await backtests.get(run_id)
    return await anyio.to_thread.run_sync(_write, backtests, record, page, image)


def read_sheet(backtests: Backtests, record: BacktestRecord) -> Sheet:
    """Reads what a completed run kept; without its prices the sheet has no price chart.

    Raises:
        InputError: it did not complete, or its artifacts are gone.
    """
    equity, trades = backtests.equity(record), backtests.trades(record)
    try:
        prices = backtests.read_prices(record.request, record)
    except (DataError, InputError):
        prices = []
    others, _ = backtests.known_of(record)
    return Sheet.of(record, equity, trades, prices, others)


def _write(backtests: Backtests, record: BacktestRecord, page: Path | None, image: Path | None) -> list[Path]:
    sheet = read_sheet(backtests, record)
    written: list[Path] = []
    if page is not None:
        put(page, render_page(sheet).encode())
        written.append(page)
    if image is not None:
        put(image, draw_png(sheet, headline(sheet)))
        written.append(image)
    return written


def put(path: Path, content: bytes) -> None:
    """Writes a file.

    Raises:
        StorageError: `report_not_written`.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StorageError(
            "report_not_written",
            f"{path.name} could not be written: {error.strerror or error}",
            "give a path in a folder that exists and can be written",
        ) from error
