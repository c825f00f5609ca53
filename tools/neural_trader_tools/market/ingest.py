"""Importing a file of bars: `data import FILE --symbol S --interval I`.

Everything in the file is accounted for: rows read = accepted + duplicates + quarantined. Quarantined rows
are written, with line and reason, to `quarantine/` in the archive's folder. A file that cannot be read as a
whole raises and leaves the archive as it was.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import polars as pl
from pydantic import Field

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import Clock, UtcTime, WallClock
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN, AssetClass, Instrument
from neural_trader_governance.terms.market import interval_duration
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.durable import write_durably
from neural_trader_tools.market.files import PriceTable, Rejected, read_price_table
from neural_trader_tools.market.frames import BAR_SCHEMA
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.quality import checked_rows
from neural_trader_tools.market.sessions import CONTINUOUS, NEW_YORK, WEEKEND_SHARE_MAX, session_times
from neural_trader_tools.market.times import check_zone, parse_times

SHOWN_MAX = 20


class QuarantinedRow(Term):
    """A row that was not imported."""

    line: int = Field(description="Line in a CSV file, else row number from 1")
    reason: str


class ImportReport(Term):
    """What an import read, kept and refused."""

    symbol: str
    interval: str
    file_name: str
    rows_read: int
    rows_accepted: int = Field(description="Good rows; new, revised or already there")
    rows_new: int
    rows_revised: int = Field(description="Rows that change a stored bar: kept as later revisions")
    rows_unchanged: int
    rows_quarantined: int
    duplicates: int = Field(description="Exact repeats within the file")
    out_of_order: int = Field(description="Rows that came after a later one; they were sorted")
    first: UtcTime | None
    last: UtcTime | None
    calendar: str = Field(description="Sessions that dates were read by: an exchange's MIC, or 24/7")
    known_time_assumed: bool
    quarantine_file: str | None = Field(description="Path below the archive; the refused rows with reasons")
    quarantined: list[QuarantinedRow] = Field(description="The first 20")
    reasons: dict[str, int] = Field(description="How many rows were refused, by reason")
    warnings: list[str]
    notes: list[str]


def import_file(
    archive: Archive,
    path: Path,
    symbol: str,
    interval: str = "1d",
    *,
    name: str = "",
    asset_class: AssetClass = "equity",
    calendar: str = "auto",
    time_zone: str = "UTC",
    source: str = "",
    licence: str = "unknown: the importer's own file",
    clock: Clock | None = None,
) -> ImportReport:
    """Imports a CSV, Parquet or Arrow file of bars under one symbol.

    Args:
        archive: Where the bars go.
        path: The file: columns time, open, high, low, close, volume by any usual name.
        symbol: Upper-case ticker.
        interval: The bars' length, such as `1d` or `5m`.
        name: The instrument's name, for a symbol that is new.
        asset_class: For a symbol that is new.
        calendar: A MIC whose sessions date the daily bars, `24/7`, or `auto`: XNYS unless more than 5 %
            of the dates are weekends.
        time_zone: IANA zone of times written without an offset.
        source: Where the file came from.
        licence: The terms it came under.
        clock: Says when the import happens.

    Raises:
        InputError: the symbol, interval, time zone or calendar is wrong; the file is missing, empty or
            malformed; or no row of it is good. The archive is unchanged.
        StorageError: the disk refused. The archive is unchanged.
    """
    if not re.fullmatch(SYMBOL_PATTERN, symbol):
        raise InputError(
            "invalid_symbol",
            f"{symbol!r:.40} is no symbol",
            "use up to 16 of A-Z 0-9 . - / ^ =, upper case, such as AAPL or BTC/USD",
        )
    interval_duration(interval)
    check_zone(time_zone)
    now = (clock or WallClock()).now()
    table = read_price_table(path)
    times, calendar, notes = row_times(table, interval, calendar, time_zone)
    checked = checked_rows(table, times, now)
    known_time_given = "known_time" in table.cells.columns
    if checked.rows.is_empty():
        first = checked.rejected[0]
        raise InputError(
            "no_good_rows",
            f"none of the {len(checked.rejected)} rows of {path.name} is good; line {first.line}:"
            f" {first.reason}",
            "check that the columns are what their names say; nothing was imported",
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = DataSet(
        dataset_id=f"file-{quote(symbol, safe='')}-{interval}".lower(),
        source=source or f"file {path.name}"[:400],
        licence=licence,
        note="; ".join([*table.notes, *notes])[:2000],
        imported_at=now,
        file_name=path.name[:255],
        file_digest=digest,
        known_time_assumed=not known_time_given,
        rows_read=table.cells.height + len(table.rejected),
        rows_added=0,
        rows_quarantined=len(checked.rejected),
    )
    quarantine_file = write_quarantine(archive.root, symbol, interval, digest, checked.rejected)
    instrument = listed_instrument(archive, symbol, name, asset_class)
    written = archive.write(
        [
            Batch(instrument, interval, bars, dataset, None, known_time_given)
            for bars in versions(checked.rows)
        ]
    )
    return ImportReport(
        symbol=symbol,
        interval=interval,
        file_name=path.name,
        rows_read=dataset.rows_read,
        rows_accepted=checked.rows.height,
        rows_new=sum(one.rows_new for one in written),
        rows_revised=sum(one.rows_revised for one in written),
        rows_unchanged=sum(one.rows_unchanged for one in written),
        rows_quarantined=len(checked.rejected),
        duplicates=checked.duplicates,
        out_of_order=checked.out_of_order,
        first=checked.rows.item(0, "event_time"),
        last=checked.rows.item(-1, "event_time"),
        calendar=calendar,
        known_time_assumed=not known_time_given,
        quarantine_file=quarantine_file,
        quarantined=[
            QuarantinedRow(line=one.line, reason=one.reason) for one in checked.rejected[:SHOWN_MAX]
        ],
        reasons=dict(Counter(one.reason for one in checked.rejected)),
        warnings=checked.warnings,
        notes=[*table.notes, *notes],
    )


def row_times(
    table: PriceTable, interval: str, calendar: str, zone: str
) -> tuple[pl.DataFrame, str, list[str]]:
    """Returns `event_time, known_time` per row, the calendar used, and notes on what was assumed.

    A daily bar is named by its date and gets its session's open and close. A bar of another interval
    opens at the instant given and is known when the interval is over.
    """
    parsed = parse_times(table.cells.get_column("time"), zone)
    notes: list[str] = []
    if interval == "1d":
        local = pl.col("instant").dt.convert_time_zone(
            "UTC" if calendar == CONTINUOUS else "America/New_York"
        )
        dates = parsed.select(pl.coalesce("date", local.dt.date())).to_series()
        weekends = dates.dt.weekday().is_in([6, 7]).sum() / max(len(dates) - dates.null_count(), 1)
        if calendar == "auto":
            calendar = CONTINUOUS if weekends > WEEKEND_SHARE_MAX else NEW_YORK
        days = session_times(dates, calendar)
        times = days.select("event_time", "known_time")
        outside = days.filter(~pl.col("is_session") & pl.col("event_time").is_not_null()).height
        if outside:
            notes.append(f"{outside} dates are no session of {calendar}: their bars open at 00:00 UTC")
        notes.append(f"known_time assumed: the session's close on {calendar}")
    else:
        calendar = CONTINUOUS if calendar == "auto" else calendar
        midnight = pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        event_time = pl.coalesce("instant", midnight) if interval[-1] in "dw" else pl.col("instant")
        length = interval_duration(interval)
        times = parsed.select(event_time.alias("event_time"), (event_time + length).alias("known_time"))
        notes.append("known_time assumed: the end of the interval")
    if "known_time" in table.cells.columns:
        known = parse_times(table.cells.get_column("known_time"), zone)
        times = times.with_columns(known.get_column("instant").alias("known_time"))
        notes[-1] = "known_time as the file gives it"
    return times, calendar, notes


def versions(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Splits rows into frames with one row per event_time each, oldest known first."""
    rank = pl.col("known_time").rank("ordinal").over("event_time").alias("version")
    parts = rows.with_columns(rank).partition_by("version", maintain_order=True, include_key=True)
    ordered = sorted(parts, key=lambda part: part.item(0, "version"))
    return [part.select(BAR_SCHEMA.names()) for part in ordered]


def listed_instrument(archive: Archive, symbol: str, name: str, asset_class: AssetClass) -> Instrument:
    """Returns the instrument as it is listed; a file of bars does not rename what is there."""
    try:
        listed = archive.instrument(symbol)
    except DataError:
        return Instrument(symbol=symbol, name=name or symbol, asset_class=asset_class)
    return Instrument(**listed.model_dump(include=set(Instrument.model_fields)))


def write_quarantine(
    root: Path, symbol: str, interval: str, digest: str, rejected: list[Rejected]
) -> str | None:
    """Writes the refused rows as CSV; returns the file's path below the archive's root."""
    if not rejected:
        return None
    file = f"quarantine/{quote(symbol, safe='.^=-')}.{interval}.{digest[:16]}.csv"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["line", "reason", "content"])
    writer.writerows((one.line, one.reason, one.content) for one in rejected)
    content = text.getvalue().encode("utf-8", "replace")
    write_durably(root / file, lambda out: out.write(content))
    return file
