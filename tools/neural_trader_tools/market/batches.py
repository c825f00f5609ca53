"""Batches: what an import hands to the archive, and how it becomes new files of a listing."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market import frames
from neural_trader_tools.market.manifest import Actions, DataSet, Listing, Series
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


def merged_listing(
    files: ParquetFolder, listing: Listing | None, batch: Batch, imported_at: datetime
) -> tuple[Listing, Written]:
    """Writes the files that the batch makes necessary; nothing counts before the manifest names them.

    Args:
        files: Where files are stored.
        listing: What the archive holds of the symbol now, if anything.
        batch: The rows to add.
        imported_at: known_time of revisions where the source does not give one.

    Returns:
        The listing that names the new files, and the counts.

    Raises:
        InputError: the batch's interval is none.
        StorageError: the disk refused.
    """
    interval_duration(batch.interval)
    listing = listing or Listing(instrument=batch.instrument)
    revised_at = None if batch.known_time_given else imported_at
    name = batch.dataset.dataset_id
    series = dict(listing.series)
    old = series.get(batch.interval)
    stored = files.whole(old.file) if old else frames.empty(frames.BAR_SCHEMA)
    merged = frames.merge(stored, batch.bars, frames.BAR_KEY, revised_at)
    if merged.changed:
        file, digest = files.store(f"bars/{batch.interval}", batch.instrument.symbol, merged.frame)
        series[batch.interval] = _series(file, digest, merged.frame, name)
    actions, facts = listing.actions, None
    if batch.actions is not None and not batch.actions.is_empty():
        stored = files.whole(actions.file) if actions else frames.empty(frames.ACTION_SCHEMA)
        facts = frames.merge(stored, batch.actions, frames.ACTION_KEY, revised_at)
        if facts.changed:
            file, digest = files.store("actions", batch.instrument.symbol, facts.frame)
            actions = Actions(file=file, digest=digest, rows=facts.frame.height, dataset_id=name)
    counts = (facts.rows_new, facts.rows_revised, facts.rows_unchanged) if facts else (0, 0, 0)
    written = Written(
        batch.instrument.symbol, merged.rows_new, merged.rows_revised, merged.rows_unchanged, *counts
    )
    return Listing(instrument=batch.instrument, series=series, actions=actions), written


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
