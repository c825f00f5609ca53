"""The tool `market_get_bars`."""

import difflib
from typing import Annotated, get_args

import anyio.to_thread
import polars as pl
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.market import interval_duration
from neural_trader_governance.terms.term import Term
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.market.adjustment import Adjust
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.frames import VALUE_COLUMNS
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.market.windows import ReadWindow, checked_limit, read_window

LIMIT_DEFAULT = 20
LIMIT_MAX = 1000
DECIMALS = 6
"""Inline prices are rounded to this; the handle keeps every digit."""


class BarsResult(Term):
    """The newest bars of what was asked for inline, all of them behind the handle."""

    symbol: str
    interval: str
    adjust: str
    as_of: UtcTime | None = Field(description="Null: everything")
    columns: dict[str, list[str | float | None]] = Field(description="time (the bar's open) and its values")
    row_count: int = Field(description="The handle holds all of them")
    handle: str | None = Field(description="null: no bar matched")
    data_version: str | None = Field(default=None, description="Detailed only")
    dataset: str | None = Field(default=None, description="Detailed only")
    note: str | None = None


async def market_get_bars(
    archive: Archive,
    artifacts: Artifacts,
    clock: ReplayClock,
    *,
    symbol: Annotated[str, Field(description="As market_search spells it, such as AAPL")],
    interval: Annotated[str, Field(description="1d, 1h, …: stored, or made of a finer one")] = "1d",
    start: Annotated[str | None, Field(description="First bar's open (ISO date or RFC 3339)")] = None,
    end: Annotated[str | None, Field(description="Exclusive")] = None,
    as_of: Annotated[str | None, Field(description="Only what was known at this time")] = None,
    adjust: Annotated[str, Field(description="none, splits, or total (with dividends)")] = "splits",
    limit: Annotated[int, Field(description="Newest rows to show, 1-1000")] = LIMIT_DEFAULT,
    columns: Annotated[
        list[str] | None, Field(description="Of open, high, low, close, volume; default all")
    ] = None,
    format: Annotated[  # noqa: A002 (the contract's name)
        str, Field(description="or detailed: adds known_time, version")
    ] = "concise",
) -> BarsResult:
    """Historical price bars, point-in-time. Shows the newest rows; the whole range is behind `handle`."""
    window = read_window(start, end, as_of, clock.horizon())
    checked_limit(limit, LIMIT_MAX)
    chosen = _chosen("column", columns or list(VALUE_COLUMNS), VALUE_COLUMNS)
    (how,) = _chosen("adjust", [adjust], get_args(Adjust))
    (style,) = _chosen("format", [format], ("concise", "detailed"))

    def read() -> BarsResult:
        frame = archive.bars(
            symbol,
            interval,
            start=window.start,
            end=window.end,
            as_of=window.as_of,
            adjust=how,  # pyright: ignore[reportArgumentType] (checked against the literal just above)
        )
        kept = frame.select("event_time", "known_time", *chosen)
        detailed = style == "detailed"
        return BarsResult(
            symbol=symbol,
            interval=interval,
            adjust=how,
            as_of=window.as_of,
            columns=_inline(kept.tail(limit), chosen, with_known_time=detailed),
            row_count=frame.height,
            handle=artifacts.put(kept, "bars") if frame.height else None,
            data_version=archive.data_version(symbol, interval) if detailed else None,
            dataset=archive.dataset_of(symbol, interval) if detailed else None,
            note=_note(archive, symbol, interval, frame.height, limit, window),
        )

    return await anyio.to_thread.run_sync(read)


def _inline(
    frame: pl.DataFrame, names: list[str], with_known_time: bool
) -> dict[str, list[str | float | None]]:
    columns: dict[str, list[str | float | None]] = {
        "time": [format_time(moment) for moment in frame.get_column("event_time")]
    }
    if with_known_time:
        columns["known_time"] = [format_time(moment) for moment in frame.get_column("known_time")]
    for name in names:
        columns[name] = frame.get_column(name).round(DECIMALS).to_list()
    return columns


def _note(
    archive: Archive, symbol: str, interval: str, rows: int, limit: int, window: ReadWindow
) -> str | None:
    notes: list[str] = []
    if rows > limit:
        notes.append(
            f"showing the newest {limit} of {rows} bars; narrow with start, end or columns,"
            " or read the handle with artifact_read"
        )
    if not rows:
        spans = archive.spans(symbol)
        known = f", known at {format_time(window.as_of)}" if window.as_of else ""
        first, last = (
            (min(one.first for one in spans), max(one.last for one in spans)) if spans else (None, None)
        )
        reach = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if first and last else "nothing"
        notes.append(f"no bar in that range{known}; the archive holds {reach}")
    source = archive.source(symbol, interval)
    if interval_duration(source) != interval_duration(interval):
        notes.append(f"made of the stored {source} bars")
    notes += [
        f"{one.old} became {one.new} on {one.event_time:%Y-%m-%d}: one series"
        for one in archive.renames(symbol, window.as_of)
    ]
    return "; ".join(notes) or None


def _chosen(what: str, wanted: list[str], allowed: tuple[str, ...]) -> list[str]:
    for name in wanted:
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, n=1)
            raise InputError(
                f"unknown_{what}",
                f"there is no {what} {name!r:.40}",
                f"did you mean {near[0]}?" if near else f"use one of: {', '.join(allowed)}",
            )
    return list(dict.fromkeys(wanted))
