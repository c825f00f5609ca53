"""Compaction: sealed journal segments become Parquet, partitioned by kind and UTC date.

    root/ticks.json                                        the manifest: what counts
    root/journal/…                                         see `journal`
    root/ticks/trade/date=2026-11-20/000007-000012.parquet sorted by (symbol, event_time)

Equal times keep the order of their arrival. A process killed at any instant leaves every row in exactly one
place: new files do not count until the manifest names them, and segments are removed only after it did. The
next run sweeps what was left. A date that gathered more than eight files is merged into one.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import polars as pl

from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_tools.market.durable import exclusive, sync_folder, write_parquet_durably
from neural_trader_tools.market.feed.journal import Journal
from neural_trader_tools.market.feed.manifest import Part, TickManifest, read_manifest, replace_manifest
from neural_trader_tools.market.feed.segment_files import sealed
from neural_trader_tools.market.feed.segments import SCHEMAS, read_segment

JOURNAL, TICKS = "journal", "ticks"
PARTS_MAX = 8
ROW_GROUP_ROWS = 131_072
SEGMENTS_AT_ONCE = 16
"""Segments of a kind per commit: what bounds the memory of a run (about 1 GB)."""


class Compacted(msgspec.Struct, frozen=True):
    """What a run did."""

    rows: int
    segments: int
    parts: int
    damaged: tuple[str, ...] = ()
    """Segments that were not whole: their good rows were taken, a copy is kept in journal/damaged."""


def open_journal(root: Path, **options: object) -> Journal:
    """Opens the journal of a folder of recorded ticks; its segments count on from what was compacted.

    Args:
        root: The folder.
        options: As `Journal` takes them.

    Raises:
        StorageError: the folder cannot be written, or another process has the journal.
        IntegrityError: the manifest does not parse.
    """
    through = read_manifest(root).compacted_through
    first = {kind: last + 1 for kind, last in through.items()}
    return Journal(root / JOURNAL, first_segments=first, **options)  # pyright: ignore[reportArgumentType]


def compact(root: Path) -> Compacted:
    """Moves the rows of every sealed segment into Parquet; safe beside a journal that is being written.

    Raises:
        StorageError: the disk refused; every row is where it was.
        IntegrityError: the manifest or a Parquet file does not parse.
    """
    rows = segments = parts = 0
    damaged: list[str] = []
    with exclusive(root / ".compaction.lock"):
        try:
            manifest = read_manifest(root)
            _sweep(root, manifest)
            for kind in SCHEMAS:
                while batch := sealed(root / JOURNAL, kind)[:SEGMENTS_AT_ONCE]:
                    before = manifest.rows(kind)
                    manifest, made, torn = _compacted(root, manifest, kind, batch)
                    replace_manifest(root, manifest)
                    _sweep(root, manifest)
                    rows += manifest.rows(kind) - before
                    segments += len(batch)
                    parts += made
                    damaged += torn
        except OSError as error:
            raise StorageError(
                "compaction_failed",
                f"recorded ticks could not be compacted ({error.strerror or error})",
                "free some disk space or check the folder's permissions; every row is where it was",
            ) from error
    return Compacted(rows, segments, parts, tuple(damaged))


def _compacted(
    root: Path, manifest: TickManifest, kind: str, batch: list[tuple[int, Path]]
) -> tuple[TickManifest, int, list[str]]:
    """Writes the segments' rows as new parts; returns the manifest that names them."""
    frames: list[pl.DataFrame] = []
    torn: list[str] = []
    for _, path in batch:
        table, _, damage = read_segment(path, kind)
        if damage is not None:
            _kept_aside(path)
            torn.append(path.name)
        frames.append(pl.DataFrame(table))
    rows = pl.concat(frames)
    first, last = batch[0][0], batch[-1][0]
    dates = dict(manifest.parts.get(kind, {}))
    made = 0
    for day, part_rows in _by_date(rows):
        parts = dates.get(day, ())
        part = _written(root, kind, day, part_rows, first, last)
        if len(parts) >= PARTS_MAX:
            older = [_read(root / old.file) for old in parts]
            part = _written(root, kind, day, pl.concat([*older, part_rows]), parts[0].first_segment, last)
            parts = ()
        dates[day] = (*parts, part)
        made += 1
    return (
        TickManifest(
            compacted_through={**manifest.compacted_through, kind: last},
            parts={**manifest.parts, kind: dates} if dates else manifest.parts,
        ),
        made,
        torn,
    )


def _by_date(rows: pl.DataFrame) -> Iterable[tuple[str, pl.DataFrame]]:
    """Yields the UTC dates of the rows, each with its rows in the order of their arrival."""
    days = rows.with_columns(pl.col("event_time").dt.strftime("%Y-%m-%d").alias("day"))
    for (day,), part in days.partition_by("day", as_dict=True, maintain_order=True).items():
        yield str(day), part.drop("day")


def _written(root: Path, kind: str, day: str, rows: pl.DataFrame, first: int, last: int) -> Part:
    file = f"{TICKS}/{kind}/date={day}/{first:06d}-{last:06d}.parquet"
    ordered = rows.sort("symbol", "event_time", maintain_order=True)
    write_parquet_durably(root / file, ordered, statistics=True, row_group_size=ROW_GROUP_ROWS)
    return Part(file=file, rows=ordered.height, first_segment=first, last_segment=last)


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, hive_partitioning=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IntegrityError(
            "tick_file_damaged",
            f"{path.name} of {path.parent.name} cannot be read ({type(error).__name__})",
            "restore the folder from a copy",
        ) from error


def _kept_aside(path: Path) -> None:
    """Links a damaged segment into `damaged` before its good rows are taken and it is removed."""
    aside = path.parent / "damaged"
    aside.mkdir(exist_ok=True)
    if not (aside / path.name).exists():
        os.link(path, aside / path.name)
        sync_folder(aside)


def _sweep(root: Path, manifest: TickManifest) -> None:
    """Removes segments whose rows are in Parquet, and files that no manifest names."""
    for kind, through in manifest.compacted_through.items():
        for number, path in sealed(root / JOURNAL, kind):
            if number <= through:
                path.unlink(missing_ok=True)
    wanted = manifest.files()
    for path in (root / TICKS).rglob("*"):
        if path.is_file() and path.relative_to(root).as_posix() not in wanted:
            path.unlink(missing_ok=True)
