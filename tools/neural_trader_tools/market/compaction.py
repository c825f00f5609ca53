"""Compaction: many series' files and imported parts become one part a year, sorted by symbol and time.

    bars/INTERVAL/date=2019/DIGEST.parquet         a year; a month where a year has over 5,000,000 rows

What it changes is where rows lie, never what a read returns. Readers and importers go on meanwhile: the new
parts count from the one instant at which the manifest names them. Killed before that, it leaves the archive
as it was; the next run clears its folder. Rows pass through memory a few hundred symbols at a time.

An import that ran beside it keeps its files; rows that are then in two places are the same, and read once.
Cold parts stay where they are.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from neural_trader_governance.errors import StorageError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.durable import exclusive, sync_folder
from neural_trader_tools.market.manifest import Listing, Manifest, ManifestFile, Part, Series
from neural_trader_tools.market.parquet import ROW_GROUP, ParquetFolder

CHUNK_ROWS = 500_000
YEAR_ROWS_MAX = 5_000_000
WORK = "compacting"


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows: int


@dataclass(slots=True)
class _Writer:
    """One part that is being written."""

    period: str
    path: Path
    file: Any
    rows: int = 0
    bounds: list[Any] = field(default_factory=list[Any])
    first_symbol: str = ""
    last_symbol: str = ""


def compact(
    root: Path, manifest_file: ManifestFile, files: ParquetFolder, tell: Callable[[float], None]
) -> Compacted:
    """Compacts every interval; the caller holds the lock of compactions.

    Args:
        root: The archive's folder.
        manifest_file: Its manifest.
        files: Its files.
        tell: Takes the finished part, 0 … 1.

    Raises:
        StorageError: the disk refused; the archive is unchanged.
        FileNotFoundError: a file that the manifest names is lost.
    """
    work = root / WORK
    before = manifest_file.read()
    try:
        shutil.rmtree(work, ignore_errors=True)
        made: list[tuple[Part, Path]] = []
        total = sum(series.rows for listing in before.listings.values() for series in listing.series.values())
        done = 0
        for interval in sorted({each for one in before.listings.values() for each in one.series}):
            period = _period(before, interval)
            writers: dict[str, _Writer] = {}
            for rows in _chunks(manifest_file, before, files, interval):
                _write(rows, period, work / interval, writers)
                done += rows.height
                tell(min(done / max(total, 1), 1.0))
            made += [_closed(one, interval) for one in writers.values()]
        return _commit(root, manifest_file, files, before, made)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StorageError(
            "compaction_failed",
            f"the disk refused ({error.strerror or error}); the archive is unchanged",
            "free some disk space (as much as the bars take), then try again",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _period(manifest: Manifest, interval: str) -> str:
    """Returns how parts are cut: `%Y`, or `%Y-%m` where a year would be too large to rewrite at ease."""
    spans = [one.series[interval] for one in manifest.listings.values() if interval in one.series]
    first, last = min(one.first for one in spans), max(one.last for one in spans)
    years = max((last - first).days / 365, 1.0)
    is_large = sum(one.rows for one in spans) / years > YEAR_ROWS_MAX
    return "%Y-%m" if is_large and interval_duration(interval).days < 1 else "%Y"


def _chunks(
    manifest_file: ManifestFile, manifest: Manifest, files: ParquetFolder, interval: str
) -> Iterator[pl.DataFrame]:
    """Yields all rows of an interval that are on this disk, sorted by symbol, a bounded number at a time."""
    parts = [part for part in manifest.parts_by_interval.get(interval, []) if not part.location]
    symbols = sorted(symbol for symbol, one in manifest.listings.items() if interval in one.series)
    held: list[str] = []
    rows = 0
    for symbol in symbols:
        held.append(symbol)
        rows += manifest.listings[symbol].series[interval].rows
        if rows >= CHUNK_ROWS or symbol == symbols[-1]:
            found: list[pl.DataFrame] = []
            for one in held:
                file = manifest.listings[one].series[interval].file
                try:
                    found += [files.read_file(one, file)] if file else []
                except FileNotFoundError:
                    if manifest_file.read().listings[one].series[interval].file == file:
                        raise  # it is lost; else an import has replaced it, and the new one stays as it is
            found += files.read_parts([part for part in parts if _meets(part, held)], held[0], held[-1])
            if found:
                key = ["symbol", "event_time", "known_time"]
                yield pl.concat(found).unique(subset=key).sort(key)
            held, rows = [], 0


def _meets(part: Part, symbols: list[str]) -> bool:
    return part.first_symbol <= symbols[-1] and part.last_symbol >= symbols[0]


def _write(rows: pl.DataFrame, period: str, folder: Path, writers: dict[str, _Writer]) -> None:
    import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs] (lazy; the package ships no stubs)

    parquet: Any = pyarrow.parquet
    for key, own in (
        rows.with_columns(pl.col("event_time").dt.strftime(period).alias("period"))
        .partition_by("period", as_dict=True, include_key=False, maintain_order=True)
        .items()
    ):
        name = str(key[0])
        table = cast("Any", own).to_arrow()
        if name not in writers:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.parquet"
            writer = parquet.ParquetWriter(path, table.schema, compression="zstd", write_statistics=True)
            writers[name] = _Writer(name, path, writer, first_symbol=own.item(0, "symbol"))
        one = writers[name]
        one.file.write_table(table, row_group_size=ROW_GROUP)
        one.rows += own.height
        one.last_symbol = own.item(-1, "symbol")
        times = own.select(
            pl.col("event_time").min().alias("first"),
            pl.col("event_time").max().alias("last"),
            pl.col("known_time").min().alias("known"),
        )
        one.bounds.append(times.row(0))


def _closed(one: _Writer, interval: str) -> tuple[Part, Path]:
    one.file.close()
    with one.path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    part = Part(
        file=f"bars/{interval}/date={one.period}/{digest[:16]}.parquet",
        interval=interval,
        period=one.period,
        rows=one.rows,
        first=min(each[0] for each in one.bounds),
        last=max(each[1] for each in one.bounds),
        first_known=min(each[2] for each in one.bounds),
        first_symbol=one.first_symbol,
        last_symbol=one.last_symbol,
        digest=digest,
        size=one.path.stat().st_size,
    )
    return part, one.path


def _commit(
    root: Path,
    manifest_file: ManifestFile,
    files: ParquetFolder,
    before: Manifest,
    made: list[tuple[Part, Path]],
) -> Compacted:
    """Puts the new parts in force, instead of what they were made of and nobody changed meanwhile."""
    replaced = {part.file for part in before.parts if not part.location}
    bars = {series.file for listing in before.listings.values() for series in listing.series.values()} - {""}
    old = replaced | bars
    bytes_before = sum((root / name).stat().st_size for name in old if (root / name).exists())
    with exclusive(root / ".lock"):
        now = manifest_file.read()
        for part, path in made:
            target = root / part.file
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            sync_folder(target.parent)
        listings = {
            symbol: _moved(listing, before.listings.get(symbol)) for symbol, listing in now.listings.items()
        }
        kept = tuple(part for part in now.parts if part.file not in replaced)
        # The same content has the same name: what is compact already is replaced by itself.
        parts = (*kept, *(part for part, _ in made))
        after = Manifest(listings=listings, datasets=now.datasets, renames=now.renames, parts=parts)
        if after != now:
            manifest_file.replace(after)
        files.sweep(manifest_file.read().files())
    names = {series.file for listing in listings.values() for series in listing.series.values()} - {""}
    return Compacted(
        files_before=len(old),
        files_after=len(names) + sum(not part.location for part in parts),
        bytes_before=bytes_before,
        bytes_after=sum(part.size for part in parts if not part.location)
        + sum((root / name).stat().st_size for name in names),
        rows=sum(part.rows for part, _ in made),
    )


def _moved(listing: Listing, before: Listing | None) -> Listing:
    """Says of each series that its rows are in parts, and drops the file whose rows all are."""
    if before is None:
        return listing
    series: dict[str, Series] = {}
    for interval, one in listing.series.items():
        old = before.series.get(interval)
        if old is None:
            series[interval] = one
        else:
            file = "" if one.file == old.file else one.file
            series[interval] = one.model_copy(update={"file": file, "parted": True})
    return listing.model_copy(update={"series": series})
