"""Fetching history: `data fetch alpaca --symbol S --start …`, which goes on where it was interrupted.

Pages are landed in the archive in portions, and after each the place where the history goes on is written,
durably, to `fetches/` in the archive's folder. A fetch that is killed loses at most one portion of reading;
run again with the same words, it goes on from there. Rows that are there already are recognised, whatever
happens between the two writes.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import anyio.to_thread
import polars as pl
from pydantic import Field, ValidationError

from neural_trader_governance.errors import DataError, InputError, NeuralTraderError
from neural_trader_governance.terms.clocks import Clock, UtcTime, format_time
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.durable import write_durably
from neural_trader_tools.market.providers.landing import Landed, land
from neural_trader_tools.market.providers.port import HistoryProvider, HistoryRequest, Page
from neural_trader_tools.market.times import parse_times

FOLDER = "fetches"
PORTION_ROWS = 100_000
PORTION_PAGES = 12
"""A plan of five requests a minute takes two and a half minutes for them."""
SYMBOLS_MAX = 1_000
REASONS_MAX = 20
_SIZE_MAX = 4 * 1024 * 1024

Tell = Callable[[float], Awaitable[None]]


class SymbolReport(Term):
    """What a fetch did for one symbol."""

    rows_read: int = 0
    rows_new: int = 0
    rows_revised: int = 0
    rows_unchanged: int = 0
    rows_quarantined: int = 0
    duplicates: int = 0
    actions_read: int = Field(default=0, description="Splits and dividends")


class FetchReport(Term):
    """What a fetch did, over all of its runs."""

    provider: str
    dataset_id: str
    interval: str
    start: UtcTime
    end: UtcTime
    symbols: dict[str, SymbolReport] = Field(description="Empty name: rows that name no symbol")
    pages: int
    resumed: bool = Field(default=False, description="It went on from an earlier run")
    quarantine_files: list[str] = Field(default_factory=list, description="Below the archive's folder")
    reasons: dict[str, int] = Field(default_factory=dict, description="How many rows were refused, by reason")
    notes: list[str] = Field(default_factory=list)


class _State(Term):
    """What is kept between two runs of one fetch."""

    cursor: str
    report: FetchReport


async def fetch_history(
    archive: Archive,
    provider: HistoryProvider,
    symbols: tuple[str, ...],
    interval: str,
    start: datetime,
    end: datetime | None,
    *,
    clock: Clock,
    tell: Tell | None = None,
    restart: bool = False,
    portion_rows: int = PORTION_ROWS,
) -> FetchReport:
    """Fetches bars, splits and dividends into the archive.

    Args:
        archive: Where they go.
        provider: Where they come from; closed by the caller.
        symbols: Which.
        interval: Of the bars.
        start: First bar's open, inclusive.
        end: Exclusive; None is now (of the first run, where it was interrupted).
        clock: Says when the import happens.
        tell: Is told the finished part, 0 … 1.
        restart: Forget where an interrupted run stood.
        portion_rows: Rows that are landed at once.

    Raises:
        InputError: no or too many symbols, an empty range, or something the provider does not have.
        DataError: `nothing_fetched`, or the service answers nonsense; what was landed is kept.
        NeuralTraderError: see `port.HistoryProvider.history`; what was landed is kept.
    """
    symbols = tuple(sorted(set(symbols)))
    now = clock.now()
    _check(symbols, start, end or now, now)
    path = _state_path(archive.root, provider, symbols, interval, start, end)
    state = None if restart else _read(path)
    request = HistoryRequest(symbols, interval, start, state.report.end if state else min(end or now, now))
    provider.check(request)
    if state is None:
        report = FetchReport(
            provider=provider.name,
            dataset_id=provider.dataset_id,
            interval=interval,
            start=request.start,
            end=request.end,
            symbols={},
            pages=0,
            notes=_mixed(archive, provider, symbols, interval),
        )
    else:
        report = state.report.model_copy(update={"resumed": True})
    portion: list[Page] = []

    async def land_portion() -> None:
        nonlocal report
        landed = await anyio.to_thread.run_sync(land, archive, provider, interval, portion, clock.now())
        report = _added(report, landed, len(portion))
        await anyio.to_thread.run_sync(_keep, path, portion[-1].cursor, report)
        portion.clear()

    pages: AsyncGenerator[Page] = provider.history(request, state.cursor if state else None)
    async with aclosing(pages):
        try:
            async for page in pages:
                portion.append(page)
                # Never between actions and bars: what a portion says of a day's dividends is all of them.
                is_full = _rows(portion) >= portion_rows or len(portion) >= PORTION_PAGES
                if page.cursor is None or (page.bars and is_full):
                    await land_portion()
                if tell is not None:
                    await tell(_finished(request, page))
        except NeuralTraderError:
            while portion and not portion[-1].bars:
                portion.pop()
            if portion:
                await land_portion()
            raise
    if not any(one.rows_read + one.actions_read for one in report.symbols.values()):
        raise DataError(
            "nothing_fetched",
            f"{provider.name} has no {interval} bars of {', '.join(symbols[:5])} from {format_time(start)}"
            f" to {format_time(request.end)}",
            "check the symbols' spelling and the range",
        )
    without = [one for one in symbols if one not in report.symbols or not report.symbols[one].rows_read]
    if without:
        note = f"no bars in that range, or unknown there: {', '.join(without)[:500]}"
        report = report.model_copy(update={"notes": [*report.notes, note]})
    return report


def _rows(portion: list[Page]) -> int:
    return sum(len(page.bars) for page in portion)


def _check(symbols: tuple[str, ...], start: datetime, end: datetime, now: datetime) -> None:
    if not 1 <= len(symbols) <= SYMBOLS_MAX:
        raise InputError(
            "invalid_symbols", f"{len(symbols)} symbols were given", f"give from 1 to {SYMBOLS_MAX}"
        )
    if start >= min(end, now):
        raise InputError(
            "invalid_range",
            f"from {format_time(start)} to {format_time(min(end, now))} there is nothing",
            "give a start before the end and before now; start is inclusive, end exclusive",
        )


def _mixed(archive: Archive, provider: HistoryProvider, symbols: tuple[str, ...], interval: str) -> list[str]:
    """Notes the series that another source began: a different value of the same bar becomes a revision."""
    held = {one.symbol: one for one in archive.instruments()}
    others = {
        symbol: archive.dataset_of(symbol, interval)
        for symbol in symbols
        if symbol in held and interval in held[symbol].intervals
    }
    return [
        f"{symbol} {interval} already came from {other}: where both have a bar, other values of"
        f" {provider.dataset_id} are kept as revisions, known from now on"
        for symbol, other in others.items()
        if other != provider.dataset_id
    ]


def _added(report: FetchReport, landed: dict[str, Landed], pages: int) -> FetchReport:
    symbols, reasons = dict(report.symbols), dict(report.reasons)
    files = list(report.quarantine_files)
    for symbol, one in landed.items():
        before = symbols.get(symbol, SymbolReport())
        counts = {name: getattr(before, name) + getattr(one, name) for name in SymbolReport.model_fields}
        symbols[symbol] = SymbolReport(**counts)
        files += one.quarantine_files
        for reason, count in one.reasons.items():
            known = reason if reason in reasons or len(reasons) < REASONS_MAX else "other reasons"
            reasons[known] = reasons.get(known, 0) + count
    return report.model_copy(
        update={
            "symbols": symbols,
            "reasons": reasons,
            "quarantine_files": list(dict.fromkeys(files)),
            "pages": report.pages + pages,
        }
    )


def _finished(request: HistoryRequest, page: Page) -> float:
    """Guesses the finished part from the last bar's symbol and time."""
    if page.cursor is None:
        return 1.0
    if not page.bars:
        return 0.0
    last = page.bars[-1]
    moment: datetime | None = parse_times(pl.Series([last.time])).item(0, "instant")
    place = request.symbols.index(last.symbol)
    if moment is None:
        return place / len(request.symbols)
    passed = (moment - request.start) / (request.end - request.start)
    return (place + min(max(passed, 0.0), 1.0)) / len(request.symbols)


def _state_path(
    root: Path,
    provider: HistoryProvider,
    symbols: tuple[str, ...],
    interval: str,
    start: datetime,
    end: datetime | None,
) -> Path:
    asked = [provider.dataset_id, symbols, interval, format_time(start), format_time(end) if end else None]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    return root / FOLDER / f"{provider.dataset_id}.{digest}.json"


def _read(path: Path) -> _State | None:
    try:
        with path.open("rb") as file:
            return _State.model_validate_json(file.read(_SIZE_MAX))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataError(
            "fetch_state_invalid",
            f"{path.name}, where an interrupted fetch stood, cannot be read ({type(error).__name__})",
            "begin anew: the same command with --restart",
        ) from None


def _keep(path: Path, cursor: str | None, report: FetchReport) -> None:
    """Writes where the history goes on; at its end, nothing is left to remember."""
    if cursor is None:
        path.unlink(missing_ok=True)
        return
    content = _State(cursor=cursor, report=report).model_dump_json(indent=1).encode()
    write_durably(path, lambda file: file.write(content))
