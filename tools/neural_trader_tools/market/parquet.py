"""The archive's Parquet files: immutable, named by their content's digest, cached in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import polars as pl

from neural_trader_governance.errors import IntegrityError
from neural_trader_tools.market.durable import TEMPORARY_SUFFIX, write_durably
from neural_trader_tools.market.frames import digest

CACHED_FILES = 64
CACHED_ROWS_MAX = 500_000
"""Frames up to this many rows are kept in memory after a read; larger ones are scanned with pushdown."""


class ParquetFolder:
    """Stores and reads the frames below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cache: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._cache_lock = threading.Lock()

    def store(self, folder: str, symbol: str, frame: pl.DataFrame) -> tuple[str, str]:
        """Writes the frame durably; returns its path below the root and its content's digest.

        Raises:
            StorageError: the disk refused.
        """
        content_digest = digest(frame)
        file = f"{folder}/{quote(symbol, safe='.^=-')}.{content_digest[:16]}.parquet"
        write_durably(self._root / file, lambda out: frame.write_parquet(out, compression="zstd"))
        return file, content_digest

    def whole(self, file: str) -> pl.DataFrame:
        """Returns a file's frame; files never change, so a cached frame is never stale.

        Raises:
            FileNotFoundError: an import has replaced the file since its name was read.
            IntegrityError: the file does not parse.
        """
        with self._cache_lock:
            if file in self._cache:
                self._cache.move_to_end(file)
                return self._cache[file]
        frame = self._reading(file, pl.read_parquet)
        if frame.height <= CACHED_ROWS_MAX:
            with self._cache_lock:
                self._cache[file] = frame
                while len(self._cache) > CACHED_FILES:
                    self._cache.popitem(last=False)
        return frame

    def rows(
        self, file: str, row_count: int, narrowed: Callable[[pl.LazyFrame], pl.LazyFrame]
    ) -> pl.DataFrame:
        """Returns what `narrowed` keeps; its filters are pushed down into files too large to cache.

        Raises:
            FileNotFoundError: an import has replaced the file since its name was read.
            IntegrityError: the file does not parse.
        """
        if row_count <= CACHED_ROWS_MAX:
            return narrowed(self.whole(file).lazy()).collect()
        return self._reading(file, lambda path: narrowed(pl.scan_parquet(path)).collect())

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
