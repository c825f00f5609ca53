"""Durable files: a write is wholly there or not at all, and one process writes at a time.

A file appears under its name only after its bytes are on disk (temporary file, fsync, rename, fsync
of the folder), so a process killed at any instant leaves the old file or the new one.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from neural_trader_governance.errors import StorageError

if TYPE_CHECKING:
    import polars as pl

TEMPORARY_SUFFIX = ".partial"


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replaces `path` by what `write` puts into the file that it is handed.

    Args:
        path: The file to create or replace; its folder is created when absent.
        write: Receives a binary file that is open for writing.

    Raises:
        StorageError: the disk refused (full, read-only, no permission); `path` is as it was before.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX, dir=path.parent)
        partial = Path(name)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise StorageError(
            "write_failed",
            f"{path.name} could not be written ({error.strerror or error})",
            "free some disk space or check the folder's permissions, then try again",
        ) from error
    except BaseException:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise


def write_parquet_durably(path: Path, frame: "pl.DataFrame", **options: Any) -> None:
    """Replaces `path` by the frame as Parquet.

    Encoded in memory first: polars would put the disk's refusal into an error of its own.

    Args:
        path: The file to create or replace.
        frame: Its content.
        options: Of `DataFrame.write_parquet`.

    Raises:
        StorageError: the disk refused; `path` is as it was before.
    """
    encoded = BytesIO()
    frame.write_parquet(encoded, compression="zstd", **options)
    write_durably(path, lambda file: file.write(encoded.getbuffer()))


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Holds the lock file `path` while the block runs; others, threads and processes alike, wait.

    The kernel releases the lock when the holder dies, so a killed importer blocks nobody.

    Raises:
        StorageError: the lock file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            "lock_failed",
            f"{path.name} could not be opened ({error.strerror or error})",
            "check that the archive's folder can be written",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
