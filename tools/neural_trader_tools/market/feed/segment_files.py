"""Segment files of a journal: the one being written, the sealed ones, and what a dead process left."""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.durable import sync_folder, write_durably
from neural_trader_tools.market.feed.segments import SCHEMAS, read_segment, write_fully

SEALED, OPEN = ".arrows", ".arrows.open"


class Repair(msgspec.Struct, frozen=True):
    """What was wrong with a segment that a dead process left."""

    segment: str
    rows_kept: int
    bytes_moved: int
    reason: str


class OpenSegment:
    """The open segment of one kind."""

    def __init__(self, path: Path, header: bytes, opened_s: float) -> None:
        self.path = path
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.rows = 0
        self.rows_unsynced = 0
        self.opened_s = opened_s
        self.suspect = False
        try:
            self.add(header, 0)
            sync_folder(path.parent)
        except BaseException:
            os.close(self.handle)
            path.unlink(missing_ok=True)
            raise

    def add(self, data: bytes, rows: int) -> None:
        """Writes a message at the end; where the disk refuses, the caller takes back what was written."""
        write_fully(self.handle, data, self.size)
        self.size += len(data)
        self.rows += rows
        self.rows_unsynced += rows

    def sync(self) -> None:
        """Syncs; once that failed, a later success would prove nothing about what was unsynced then."""
        try:
            os.fsync(self.handle)
        except OSError:
            self.suspect = True
            raise


def sealed(root: Path, kind: str) -> list[tuple[int, Path]]:
    """Returns the sealed segments of a kind with their numbers, oldest first."""
    return _numbered(root, kind, SEALED)


def unsealed(root: Path, kind: str) -> list[tuple[int, Path]]:
    """Returns the segments of a kind that are being written, or that a dead process left."""
    return _numbered(root, kind, OPEN)


def _numbered(root: Path, kind: str, suffix: str) -> list[tuple[int, Path]]:
    start = len(kind) + 1
    return sorted((int(path.name[start : -len(suffix)]), path) for path in root.glob(f"{kind}-*{suffix}"))


def sealed_as(path: Path, rows: int) -> None:
    """Gives a finished segment its final name, or removes it where it holds nothing."""
    if rows:
        path.rename(path.with_name(path.name[: -len(OPEN)] + SEALED))
    else:
        path.unlink()
    sync_folder(path.parent)


def repaired(root: Path) -> list[Repair]:
    """Seals what a dead process left open, torn tails moved aside.

    Raises:
        StorageError: the disk refused.
    """
    repairs: list[Repair] = []
    left: Iterable[tuple[str, Path]] = [(kind, path) for kind in SCHEMAS for _, path in unsealed(root, kind)]
    try:
        for kind, path in left:
            table, good, damage = read_segment(path, kind)
            if damage is not None:
                with path.open("r+b") as file:
                    file.seek(good)
                    tail = file.read()
                    aside = root / "damaged" / f"{path.name}.{good}"
                    write_durably(aside, lambda out, tail=tail: out.write(tail))
                    file.truncate(good)
                    os.fsync(file.fileno())
                repairs.append(Repair(path.name, table.num_rows, len(tail), damage.reason))
            sealed_as(path, table.num_rows)
    except OSError as error:
        raise StorageError(
            "journal_repair_failed",
            f"what a former process left in the journal cannot be repaired ({error.strerror or error})",
            "check the disk and the folder's permissions",
        ) from error
    return repairs


def locked(root: Path) -> int:
    """Returns the descriptor that holds a journal's lock, which ends with the process.

    Raises:
        StorageError: the folder cannot be written, or another process has the journal.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            "journal_unwritable",
            f"the journal's folder cannot be written ({error.strerror or error})",
            "check the folder's permissions",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StorageError(
            "journal_in_use",
            "another process is writing this journal",
            "stop it, or read the archive, which needs no lock",
        ) from error
    return handle
