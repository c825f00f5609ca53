"""Batches: what an import hands to the archive, and how it becomes new files of a listing."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import polars as pl

from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market import frames
from neural_trader_tools.market.manifest import Actions, DataSet, Listing, Part, Series
from neural_trader_tools.market.parquet import ParquetFolder


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one symbol that enter the archive together, and the data set that they belong to.

    `bars` follows `frames.BAR_SCHEMA`, `actions` `frames.ACTION_SCHEMA`; at most one row per event.
    `dataset.rows_added` is set by the archive.
    """

    instrument: Instrument
    interval: str
    bars: pl.DataFrame
    dataset: DataSet
    actions: pl.DataFrame | None = None
    known_time_given: bool = False
    """The source says when each row was known, so a revision keeps that time."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one batch changed."""

    symbol: str
    rows_new: int
    rows_revised: int
    rows_unchanged: int
    actions_new: int = 0
    actions_revised: int = 0
    actions_unchanged: int = 0


class Gathered:
    """What a commit of many symbols adds, interval by interval, before it becomes one part of each."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[pl.DataFrame]]] = {}

    def add(self, interval: str, symbol: str, rows: pl.DataFrame) -> None:
        """Takes rows of a symbol in."""
        self._rows.setdefault(interval, {}).setdefault(symbol, []).append(rows)

    def of(self, interval: str, symbol: str) -> list[pl.DataFrame]:
        """Returns what was taken in of a symbol so far: a later batch of the commit merges with it."""
        return self._rows.get(interval, {}).get(symbol, [])

    def store(self, files: ParquetFolder) -> list[Part]:
        """Writes a part of each interval."""
        return [
            files.store_part(
                interval,
                pl.concat(
                    [
                        pl.concat(rows)
                        .sort("event_time", "known_time")
                        .select(pl.lit(symbol).alias("symbol"), *frames.BAR_SCHEMA.names())
                        for symbol, rows in sorted(by_symbol.items())
                    ]
                ),
            )
            for interval, by_symbol in sorted(self._rows.items())
        ]


def merged_listing(
    files: ParquetFolder,
    listing: Listing | None,
    batch: Batch,
    imported_at: datetime,
    parts: list[Part],
    gathered: Gathered | None = None,
) -> tuple[Listing, Written]:
    """Writes the files that the batch makes necessary; nothing counts before the manifest names them.

    Args:
        files: Where files are stored.
        listing: What the archive holds of the symbol now, if anything.
        batch: The rows to add.
        imported_at: known_time of revisions where the source does not give one.
        parts: The archive's parts of the batch's interval.
        gathered: Takes the bars in, where the commit makes a part of them instead of a file of each symbol.

    Returns:
        The listing that names the new files, and the counts.

    Raises:
        InputError: the batch's interval is none.
        StorageError: the disk refused.
    """
    interval_duration(batch.interval)
    listing = listing or Listing(instrument=batch.instrument)
    revised_at = None if batch.known_time_given else imported_at
    name, symbol = batch.dataset.dataset_id, batch.instrument.symbol
    series = dict(listing.series)
    old = series.get(batch.interval)
    if gathered is None and (old is None or not old.parted):
        stored = files.whole(old.file) if old else frames.empty(frames.BAR_SCHEMA)
        merged = frames.merge(stored, batch.bars, frames.BAR_KEY, revised_at)
        if merged.changed:
            file, digest = files.store(f"bars/{batch.interval}", symbol, merged.frame)
            series[batch.interval] = _series(file, digest, merged.frame, name)
    else:
        so_far = gathered.of(batch.interval, symbol) if gathered else []
        merged = frames.merge(
            _around(files, old, batch, parts, so_far), batch.bars, frames.BAR_KEY, revised_at
        )
        if merged.changed:
            file = old.file if old else ""
            if gathered is not None:
                gathered.add(batch.interval, symbol, merged.added)
            else:
                own = [files.whole(file), merged.added] if file else [merged.added]
                rows = pl.concat(own).sort("event_time", "known_time")
                file, _ = files.store(f"bars/{batch.interval}", symbol, rows)
            series[batch.interval] = _grown(old, merged, file, name)
    actions, facts = listing.actions, None
    if batch.actions is not None and not batch.actions.is_empty():
        stored = files.whole(actions.file) if actions else frames.empty(frames.ACTION_SCHEMA)
        facts = frames.merge(stored, batch.actions, frames.ACTION_KEY, revised_at)
        if facts.changed:
            file, digest = files.store("actions", symbol, facts.frame)
            actions = Actions(file=file, digest=digest, rows=facts.frame.height, dataset_id=name)
    counts = (facts.rows_new, facts.rows_revised, facts.rows_unchanged) if facts else (0, 0, 0)
    written = Written(symbol, merged.rows_new, merged.rows_revised, merged.rows_unchanged, *counts)
    return Listing(instrument=batch.instrument, series=series, actions=actions), written


def _around(
    files: ParquetFolder, series: Series | None, batch: Batch, parts: list[Part], so_far: list[pl.DataFrame]
) -> pl.DataFrame:
    """Returns the stored revisions that the batch's rows may meet, without reading what lies elsewhere."""
    if batch.bars.is_empty():
        return frames.empty(frames.BAR_SCHEMA)
    first: datetime = batch.bars.get_column("event_time").min()  # pyright: ignore[reportAssignmentType]
    last: datetime = batch.bars.get_column("event_time").max()  # pyright: ignore[reportAssignmentType]
    found = list(so_far)
    if series is not None and first <= series.last and last >= series.first:
        end = last + timedelta(microseconds=1)
        found += files.versions(batch.instrument.symbol, series, parts, first, end)
    rows = pl.concat(found) if found else frames.empty(frames.BAR_SCHEMA)
    # An import that ran beside a compaction may have left a row in both places.
    return rows.unique(subset=["event_time", "known_time"], maintain_order=True).sort(
        "event_time", "known_time"
    )


def _grown(old: Series | None, merged: frames.Merged, file: str, dataset_id: str) -> Series:
    """Describes a series after rows were added, without reading the rest of it."""
    added = merged.added
    first: datetime = added.get_column("event_time").min()  # pyright: ignore[reportAssignmentType]
    last: datetime = added.get_column("event_time").max()  # pyright: ignore[reportAssignmentType]
    # The newest bar's first version: revisions are known later, but tell nothing of a newer bar.
    newest_known: datetime = added.filter(pl.col("event_time") == last).get_column("known_time").min()  # pyright: ignore[reportAssignmentType]
    content = frames.digest(added)
    if old is None:
        return Series(
            file=file, parted=not file, digest=content, rows=added.height, revisions=merged.rows_revised,
            first=first, last=last, newest_known_time=newest_known, dataset_id=dataset_id,
        )  # fmt: skip
    return old.model_copy(
        update={
            "file": file,
            "parted": True,
            "digest": sha256(f"{old.digest}\n{content}".encode()).hexdigest(),
            "rows": old.rows + added.height,
            "revisions": old.revisions + merged.rows_revised,
            "first": min(old.first, first),
            "last": max(old.last, last),
            "newest_known_time": (
                max(old.newest_known_time, newest_known) if merged.rows_new else old.newest_known_time
            ),
            "dataset_id": dataset_id,
        }
    )


def _series(file: str, digest: str, frame: pl.DataFrame, dataset_id: str) -> Series:
    """Describes a series' frame, sorted by event_time then known_time."""
    firsts = frame.unique(subset=list(frames.BAR_KEY), keep="first", maintain_order=True)
    newest: datetime = firsts.select(pl.col("known_time").max()).item()
    return Series(
        file=file,
        digest=digest,
        rows=frame.height,
        revisions=frame.height - firsts.height,
        first=firsts.item(0, "event_time"),
        last=firsts.item(-1, "event_time"),
        newest_known_time=newest,
        dataset_id=dataset_id,
    )
