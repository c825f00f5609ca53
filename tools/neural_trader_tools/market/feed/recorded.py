"""Recorded ticks, read back: from Parquet and from the journal alike, as they were known at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_tools.market.feed.compaction import JOURNAL
from neural_trader_tools.market.feed.manifest import read_manifest
from neural_trader_tools.market.feed.segment_files import sealed, unsealed
from neural_trader_tools.market.feed.segments import KINDS, SCHEMAS, read_segment
from neural_trader_tools.market.feed.ticks import BarTick, Quote, Tick, Trade

READ_TRIES = 20
NANOSECONDS = pl.Datetime("ns", "UTC")


def recorded(
    root: Path,
    kind: str,
    *,
    symbols: Sequence[str] | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    as_of_ns: int | None = None,
) -> pl.DataFrame:
    """Returns recorded events, sorted by symbol and event_time; equal times in the order of their arrival.

    Args:
        root: The folder that `open_journal` and `compact` were given.
        kind: `trade`, `quote`, `bar`, `gap` or `quarantine`.
        symbols: Only these; None means all.
        start_ns: First event_time wanted, inclusive.
        end_ns: End of the event_times wanted, exclusive.
        as_of_ns: Rows received later are invisible; None sees everything.

    Returns:
        The kind's columns; `event_time` and `known_time` are Datetime ns UTC. Rows that a running journal has
        written but not acknowledged may be among them.

    Raises:
        InputError: there is no such kind.
        StorageError: files are replaced faster than they can be read.
        IntegrityError: the manifest does not parse.
    """
    if kind not in SCHEMAS:
        raise InputError(
            "unknown_kind", f"{kind!r:.20} is no kind of event", f"use one of {', '.join(SCHEMAS)}"
        )
    wanted = [
        pl.col(column) >= pl.lit(bound).cast(NANOSECONDS)
        if is_start
        else pl.col(column) < pl.lit(bound).cast(NANOSECONDS)
        for column, bound, is_start in (
            ("event_time", start_ns, True),
            ("event_time", end_ns, False),
            ("known_time", None if as_of_ns is None else as_of_ns + 1, False),
        )
        if bound is not None
    ]
    if symbols is not None:
        wanted.append(pl.col("symbol").is_in(list(symbols)))
    for _ in range(READ_TRIES):
        try:
            frames = [frame.filter(*wanted).collect() for frame in _frames(root, kind, start_ns, end_ns)]
        except FileNotFoundError:  # compacted meanwhile: the manifest says where the rows are now
            continue
        return pl.concat(frames).sort("symbol", "event_time", maintain_order=True)
    raise StorageError(
        "ticks_changing", "recorded ticks are compacted faster than they are read", "try again"
    )


def recorded_ticks(
    root: Path, start_ns: int, end_ns: int | None = None, symbols: Sequence[str] | None = None
) -> list[Tick]:
    """Returns the recorded trades, quotes and bars from a time on, in the order of their arrival.

    For `Pipeline.recall` after a restart: some minutes, and as long as the longest bar that is made. With an
    end it is for a replay, which makes its own bars: those made here before are left out.

    Args:
        root: The folder that `open_journal` and `compact` were given.
        start_ns: First event_time wanted, inclusive.
        end_ns: End of the event_times wanted, exclusive.
        symbols: Only these; None means all.

    Raises:
        StorageError: files are replaced faster than they can be read.
        IntegrityError: the manifest does not parse.
    """
    ticks: list[Tick] = []
    for made in (Trade, Quote, BarTick):
        rows = recorded(root, KINDS[made], start_ns=start_ns, end_ns=end_ns, symbols=symbols)
        if end_ns is not None and made is BarTick:
            rows = rows.filter(pl.col("flags").ne_missing("made"))
        rows = rows.drop("flags")
        rows = rows.with_columns(pl.col("event_time", "known_time").to_physical())
        ticks += [_tick(made, row) for row in rows.iter_rows()]
    return sorted(ticks, key=lambda tick: tick.ts_recv_ns)


def recorded_span(root: Path, start_ns: int | None, end_ns: int | None) -> tuple[int, int] | None:
    """Returns the first and the last event_time of the recorded ticks in a span, None where there are none.

    Args:
        root: The folder that `open_journal` and `compact` were given.
        start_ns: First event_time wanted, inclusive; None is the first there is.
        end_ns: Exclusive; None is after the last.

    Raises:
        IntegrityError: the manifest does not parse.
    """
    time = pl.col("event_time").to_physical()
    found: list[tuple[int, int]] = []
    for made in (Trade, Quote, BarTick):
        for frame in _frames(root, KINDS[made], start_ns, end_ns):
            wanted = [time >= start_ns] if start_ns is not None else []
            wanted += [time < end_ns] if end_ns is not None else []
            row = frame.filter(*wanted).select(time.min().alias("first"), time.max().alias("last")).collect()
            if row.item(0, "first") is not None:
                found.append((row.item(0, "first"), row.item(0, "last")))
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None


def _tick(made: type[Trade] | type[Quote] | type[BarTick], row: tuple[Any, ...]) -> Tick:
    """Returns the tick of a row; the columns are the fields, in their order."""
    if made is Trade:
        *fields, conditions = row
        return Trade(*fields, conditions=tuple(conditions))
    return made(*row)


def _frames(root: Path, kind: str, start_ns: int | None, end_ns: int | None) -> list[pl.LazyFrame]:
    """Returns the frames that may hold wanted rows, in the order of their arrival."""
    # First what is being written, then the manifest: a segment sealed or compacted in between is found
    # missing, or its number is within the manifest's, and is not read twice.
    found = [*sealed(root / JOURNAL, kind), *unsealed(root / JOURNAL, kind)]
    manifest = read_manifest(root)
    through = manifest.compacted_through.get(kind, 0)
    first, last = (
        None if bound is None else str(pl.Series([bound]).cast(NANOSECONDS).dt.date().item())
        for bound in (start_ns, end_ns)
    )
    parts = [
        part
        for day, parts in manifest.parts.get(kind, {}).items()
        if (first is None or day >= first) and (last is None or day <= last)
        for part in parts
    ]
    frames = [
        pl.scan_parquet(root / part.file, hive_partitioning=False)
        for part in sorted(parts, key=lambda part: part.last_segment)
    ]
    segments = [read_segment(path, kind)[0] for number, path in sorted(found) if number > through]
    empty = pl.DataFrame(SCHEMAS[kind].empty_table())
    return [empty.lazy(), *frames, *(pl.DataFrame(table).lazy() for table in segments)]
