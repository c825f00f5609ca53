"""The archive's Parquet files: immutable, named by their content's digest, cached in memory."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import polars as pl

from neural_trader_governance.errors import IntegrityError
from neural_trader_tools.market.durable import TEMPORARY_SUFFIX, write_durably, write_parquet_durably
from neural_trader_tools.market.frames import BAR_KEY, BAR_SCHEMA, digest, known_at
from neural_trader_tools.market.manifest import Part, Series
from neural_trader_tools.market.tiers import fetched

CACHED_FRAMES = 1024
CACHED_ROWS_MAX = 500_000
"""Frames up to this many rows are kept in memory after a read; larger ones are scanned with pushdown."""
CACHED_ROWS_TOTAL = 8_000_000
"""Of all cached frames together; 56 bytes a row."""
ROW_GROUP = 16_384
"""Rows of a part that are skipped or decoded together: smaller groups skip more but cost more statistics."""
Narrow = Callable[[pl.LazyFrame], pl.LazyFrame]


class ParquetFolder:
    """Stores and reads the frames below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cache: OrderedDict[tuple[str, str], pl.DataFrame] = OrderedDict()
        self._cached_rows = 0
        self._cache_lock = threading.Lock()

    def store(self, folder: str, symbol: str, frame: pl.DataFrame) -> tuple[str, str]:
        """Writes the frame durably; returns its path below the root and its content's digest.

        Raises:
            StorageError: the disk refused.
        """
        content_digest = digest(frame)
        file = f"{folder}/{quote(symbol, safe='.^=-')}.{content_digest[:16]}.parquet"
        write_parquet_durably(self._root / file, frame)
        return file, content_digest

    def store_part(self, interval: str, frame: pl.DataFrame) -> Part:
        """Writes an import's rows of many symbols as one part; it counts once the manifest names it.

        Args:
            interval: Of the rows.
            frame: `symbol` and `frames.BAR_SCHEMA`, sorted by symbol, event_time and known_time.

        Raises:
            StorageError: the disk refused.
        """
        encoded = BytesIO()
        frame.write_parquet(encoded, compression="zstd", row_group_size=ROW_GROUP)
        content = encoded.getvalue()
        file_digest = hashlib.sha256(content).hexdigest()
        file = f"bars/{interval}/imports/{file_digest[:16]}.parquet"
        write_durably(self._root / file, lambda out: out.write(content))
        return Part(
            file=file,
            interval=interval,
            rows=frame.height,
            first=frame.get_column("event_time").min(),  # pyright: ignore[reportArgumentType] (it has rows)
            last=frame.get_column("event_time").max(),  # pyright: ignore[reportArgumentType]
            first_known=frame.get_column("known_time").min(),  # pyright: ignore[reportArgumentType]
            first_symbol=frame.item(0, "symbol"),
            last_symbol=frame.item(-1, "symbol"),
            digest=file_digest,
            size=len(content),
        )

    def series(
        self,
        symbol: str,
        series: Series,
        parts: list[Part],
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
    ) -> pl.DataFrame:
        """Returns the rows of a series in a window as known at a moment: ascending, one per event_time.

        Args:
            symbol: Whose.
            series: Where they are.
            parts: Those of its interval.
            start: First event_time, inclusive.
            end: Exclusive.
            as_of: Rows known later are invisible.

        Raises:
            FileNotFoundError: an import has replaced a file since its name was read.
            IntegrityError: a file does not parse.
            StorageError: a cold part cannot be reached.
        """
        found = self.versions(symbol, series, parts, start, end, as_of)
        several = len(found) > 1
        rows = pl.concat(found).sort("event_time", "known_time") if several else found[0]
        return known_at(rows, None, BAR_KEY) if several or series.revisions else rows

    def versions(
        self,
        symbol: str,
        series: Series,
        parts: list[Part],
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | None = None,
    ) -> list[pl.DataFrame]:
        """As `series`, but every revision, file by file; at least one frame."""

        def narrow(rows: pl.LazyFrame) -> pl.LazyFrame:
            if as_of is not None:
                rows = rows.filter(pl.col("known_time") <= as_of)
            if start is not None:
                rows = rows.filter(pl.col("event_time") >= start)
            if end is not None:
                rows = rows.filter(pl.col("event_time") < end)
            return rows

        found = [self.rows(series.file, series.rows, narrow)] if series.file else []
        whole: list[pl.DataFrame] = []
        for part in parts if series.parted else ():
            if part.may_hold(symbol, start, end) and (as_of is None or part.first_known <= as_of):
                rows, is_narrow = self._part_rows(part, symbol, narrow)
                (found if is_narrow else whole).append(rows)
        whole = sorted((one for one in whole if one.height), key=lambda one: one.item(0, "event_time"))
        if all(one.item(-1, "event_time") < two.item(0, "event_time") for one, two in pairwise(whole)):
            whole = [pl.concat(whole)] if whole else []  # one year after another: in order as they are
        found += [narrow(one.lazy()).collect() for one in whole]
        found = [one for one in found if one.height]
        return found or [pl.DataFrame(schema=BAR_SCHEMA)]

    def read_file(self, symbol: str, file: str) -> pl.DataFrame:
        """Returns a series' own file as rows of a part, past the cache."""
        rows = self._reading(file, pl.read_parquet)
        return rows.select(pl.lit(symbol).alias("symbol"), *BAR_SCHEMA.names())

    def read_parts(self, parts: list[Part], first_symbol: str, last_symbol: str) -> list[pl.DataFrame]:
        """Returns the rows of a range of symbols, part by part, past the cache."""
        return [
            self._reading(
                part.file,
                lambda _, part=part: (
                    pl.scan_parquet(self._local(part))
                    .filter(pl.col("symbol").is_between(pl.lit(first_symbol), pl.lit(last_symbol)))
                    .select("symbol", *BAR_SCHEMA.names())
                    .collect()
                ),
            )
            for part in parts
        ]

    def preload(self, symbols: list[str], parts: list[Part]) -> None:
        """Reads the rows of several symbols from parts at once, so that reading each finds them cached."""
        for part in parts:
            wanted = [
                one
                for one in symbols
                if part.may_hold(one, None, None) and self._cached((part.file, one)) is None
            ]
            if len(wanted) < 2:
                continue
            rows = self._reading(
                part.file,
                lambda _, part=part, wanted=wanted: (
                    pl.scan_parquet(self._local(part)).filter(pl.col("symbol").is_in(wanted)).collect()
                ),
            )
            by_symbol = rows.partition_by("symbol", as_dict=True, include_key=False)
            for one in wanted:
                self._keep((part.file, one), by_symbol.get((one,), pl.DataFrame(schema=BAR_SCHEMA)))

    def whole(self, file: str) -> pl.DataFrame:
        """Returns a file's frame; files never change, so a cached frame is never stale.

        Raises:
            FileNotFoundError: an import has replaced the file since its name was read.
            IntegrityError: the file does not parse.
        """
        frame = self._cached((file, ""))
        if frame is None:
            frame = self._reading(file, pl.read_parquet)
            self._keep((file, ""), frame)
        return frame

    def rows(self, file: str, row_count: int, narrowed: Narrow) -> pl.DataFrame:
        """Returns what `narrowed` keeps; its filters are pushed down into files too large to cache.

        Raises:
            FileNotFoundError: an import has replaced the file since its name was read.
            IntegrityError: the file does not parse.
        """
        if row_count <= CACHED_ROWS_MAX:
            return narrowed(self.whole(file).lazy()).collect()
        return self._reading(file, lambda path: narrowed(pl.scan_parquet(path)).collect())

    def scan_parts(self, parts: list[Part]) -> list[pl.LazyFrame]:
        """Returns the parts' rows, unread: at most one frame, whose filters are pushed down."""
        paths = [self._local(part) for part in parts]
        return [pl.scan_parquet(paths).select("symbol", *BAR_SCHEMA.names())] if paths else []

    def scan_file(self, symbol: str, file: str) -> pl.LazyFrame:
        """Returns a series' own file, unread, in the shape of a part."""
        rows = pl.scan_parquet(self._root / file)
        return rows.select(pl.lit(symbol).alias("symbol"), *BAR_SCHEMA.names())

    def _part_rows(self, part: Part, symbol: str, narrowed: Narrow) -> tuple[pl.DataFrame, bool]:
        """Rows of one symbol, whole where that can be cached; and whether they are narrowed already."""
        cached = self._cached((part.file, symbol))
        if cached is not None:
            return cached, False
        large = part.rows > CACHED_ROWS_MAX and part.first_symbol == part.last_symbol

        def read(_: Path) -> pl.DataFrame:
            own = pl.scan_parquet(self._local(part)).filter(pl.col("symbol") == symbol).drop("symbol")
            return (narrowed(own) if large else own).collect()

        rows = self._reading(part.file, read)
        if not large:
            self._keep((part.file, symbol), rows)
        return rows, large

    def _local(self, part: Part) -> Path:
        path = self._root / part.file
        return fetched(part, self._root / "cold") if part.location and not path.exists() else path

    def _cached(self, key: tuple[str, str]) -> pl.DataFrame | None:
        with self._cache_lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        return None

    def _keep(self, key: tuple[str, str], frame: pl.DataFrame) -> None:
        if frame.height > CACHED_ROWS_MAX:
            return
        with self._cache_lock:
            if key not in self._cache:
                self._cache[key] = frame
                self._cached_rows += frame.height
            while len(self._cache) > CACHED_FRAMES or self._cached_rows > CACHED_ROWS_TOTAL:
                _, dropped = self._cache.popitem(last=False)
                self._cached_rows -= dropped.height

    def sweep(self, wanted: set[str]) -> None:
        """Removes files that no longer count: what killed imports left, what later ones replaced.

        Only the holder of the archive's write lock may call it.
        """
        for folder in ("bars", "actions"):
            for path in (self._root / folder).rglob("*"):
                if path.is_file() and path.relative_to(self._root).as_posix() not in wanted:
                    path.unlink(missing_ok=True)
        for path in self._root.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _reading(self, file: str, read: Callable[[Path], pl.DataFrame]) -> pl.DataFrame:
        try:
            return read(self._root / file)
        except FileNotFoundError:
            raise
        except (OSError, pl.exceptions.PolarsError) as error:
            raise IntegrityError(
                "archive_file_damaged",
                f"{file} cannot be read ({type(error).__name__})",
                "restore the archive folder from a copy, or import the data into a fresh one",
            ) from error
