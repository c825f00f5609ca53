"""The journal: what arrived live, on disk before it is acknowledged.

    root/.lock                              held by the one process that writes
    root/trade-000000000007.arrows          a sealed segment: complete, never changed again
    root/trade-000000000008.arrows.open     the segment that is being written
    root/damaged/…                          tails that a crash tore off, kept for a person to see

Entries are appended in memory, and written and synced in groups; only then they are acknowledged. A process
that dies leaves a torn tail at most, which the next one to open the journal moves aside. A full disk is an
error: what was acknowledged stays, what was not stays in memory and is written by the next try. An entry that
Arrow cannot hold (text that is no Unicode, a time beyond 64 bits) goes to the quarantine.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.durable import sync_folder, write_durably
from neural_trader_tools.market.feed.segments import (
    KINDS,
    SCHEMAS,
    UNSTORABLE,
    Encoder,
    Entry,
    read_segment,
    unstorable,
    write_fully,
)

SEALED, OPEN = ".arrows", ".arrows.open"
SEGMENT_BYTES_MAX = 64 * 2**20
SEGMENT_AGE_S_MAX = 300.0
BATCH_ROWS_MAX = 2_048
"""Rows per Arrow batch: as many as a core's cache holds while they become columns."""
PENDING_ROWS_MAX = 2_000_000
"""So many entries may wait for a disk that refuses them (about 1 GB); then `append` refuses too."""

FsyncPolicy = Literal["commit", "seal"]

Taken = dict[str, tuple[list[Entry], list[str]]]


class Repair(msgspec.Struct, frozen=True):
    """What was wrong with a segment that a dead process left."""

    segment: str
    rows_kept: int
    bytes_moved: int
    reason: str


class _Segment:
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


class Journal:
    """Appends events durably.

    `append` and `take` belong to one thread (the event loop's); `write` may run in another, one at a time.

    Args:
        root: The folder; created where absent.
        fsync: `commit` syncs, and so acknowledges, with every `write`; `seal` only when a segment is sealed.
        first_segments: By kind, the number from which new segments count: beyond what was compacted.
        clock_s: Seconds that never go back; says when a segment is old enough to be sealed.

    Raises:
        StorageError: the folder cannot be written, or another process has the journal.
    """

    def __init__(
        self,
        root: Path,
        *,
        fsync: FsyncPolicy = "commit",
        first_segments: dict[str, int] | None = None,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        segment_age_s_max: float = SEGMENT_AGE_S_MAX,
        pending_rows_max: int = PENDING_ROWS_MAX,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._fsync = fsync
        self._bytes_max, self._age_s_max, self._rows_max = (
            segment_bytes_max,
            segment_age_s_max,
            pending_rows_max,
        )
        self._clock_s = clock_s
        self._encoders = {kind: Encoder(kind) for kind in SCHEMAS}
        self._pending: Taken = {kind: ([], []) for kind in SCHEMAS}
        self._by_type = {made: self._pending[kind] for made, kind in KINDS.items()}
        self._unencoded: list[tuple[str, list[Entry], list[str]]] = []
        self._backlog: list[tuple[str, bytes, int]] = []
        self._open: dict[str, _Segment] = {}
        self._writing = threading.Lock()
        self.appended = 0
        """Entries taken since this journal was opened."""
        self.acknowledged: dict[str, int] = dict.fromkeys(SCHEMAS, 0)
        """Of those, by kind, how many are on disk and synced."""
        self._lock = _locked(root)
        try:
            self.repairs = _repaired(root)
            """What was wrong when it was opened."""
            self._next = {
                kind: max(
                    [(first_segments or {}).get(kind, 1), *(number + 1 for number, _ in sealed(root, kind))]
                )
                for kind in SCHEMAS
            }
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def waiting(self) -> int:
        """Entries that are not acknowledged yet."""
        return self.appended - sum(self.acknowledged.values())

    def append(self, entry: Entry, flags: str = "") -> None:
        """Takes an entry in, in memory; `check_room` says whether there is room."""
        entries, flagged = self._by_type[type(entry)]
        entries.append(entry)
        flagged.append(flags)
        self.appended += 1

    def check_room(self) -> None:
        """Does nothing where there is room for more.

        Raises:
            StorageError: too many entries wait for a disk that refuses them.
        """
        if self.waiting > self._rows_max:
            raise StorageError(
                "journal_behind",
                f"{self.waiting} events wait for the disk",
                "free some disk space; the feed goes on when the journal is written",
            )

    def take(self) -> Taken:
        """Returns what was appended since the last call, for `write`."""
        taken = {kind: pair for kind, pair in self._pending.items() if pair[0]}
        for kind in taken:
            self._pending[kind] = ([], [])
        for made, kind in KINDS.items():
            if kind in taken:
                self._by_type[made] = self._pending[kind]
        return taken

    def write(self, taken: Taken) -> dict[str, int]:
        """Writes and syncs what was taken, and what earlier tries could not write.

        Returns:
            `acknowledged`, by kind.

        Raises:
            StorageError: the disk refused. What this or an earlier call acknowledged is on disk; the rest
                waits in memory for the next call.
        """
        with self._writing:
            self._unencoded += [(kind, *pair) for kind, pair in taken.items()]
            while self._unencoded:  # what an unexpected failure leaves here is tried again
                self._backlog += self._encoded(*self._unencoded[0])
                del self._unencoded[0]
            try:
                for kind in SCHEMAS:
                    self._write_kind(kind)
            except OSError as error:
                raise StorageError(
                    "journal_write_failed",
                    f"the journal could not be written ({error.strerror or error}); "
                    f"{self.waiting} events wait in memory",
                    "free some disk space; the next write takes them",
                ) from error
            return dict(self.acknowledged)

    def commit(self) -> dict[str, int]:
        """Writes and syncs all that was appended: `write(take())`."""
        return self.write(self.take())

    def seal(self) -> None:
        """Seals the open segments, so that they can be compacted.

        Raises:
            StorageError: the disk refused.
        """
        with self._writing:
            try:
                for kind in tuple(self._open):
                    self._seal(kind)
            except OSError as error:
                raise StorageError(
                    "journal_seal_failed",
                    f"a journal segment could not be synced ({error.strerror or error})",
                    "check the disk; its rows are read again when the journal is opened",
                ) from error

    def close(self) -> None:
        """Commits, seals and gives the journal up.

        Raises:
            StorageError: the disk refused; the journal is given up all the same.
        """
        try:
            self.commit()
            self.seal()
        finally:
            for segment in self._open.values():
                os.close(segment.handle)
            self._open.clear()
            os.close(self._lock)

    def _encoded(self, kind: str, entries: list[Entry], flags: list[str]) -> list[tuple[str, bytes, int]]:
        """Returns the messages of these entries; halves them to find those that cannot be stored."""
        if len(entries) > BATCH_ROWS_MAX:
            return [
                message
                for start in range(0, len(entries), BATCH_ROWS_MAX)
                for message in self._encoded(
                    kind, entries[start : start + BATCH_ROWS_MAX], flags[start : start + BATCH_ROWS_MAX]
                )
            ]
        try:
            return [(kind, self._encoders[kind].batch(entries, flags), len(entries))]
        except UNSTORABLE:
            if len(entries) == 1:
                return self._encoded("quarantine", [unstorable(entries[0])], flags)
            half = len(entries) // 2
            return [
                *self._encoded(kind, entries[:half], flags[:half]),
                *self._encoded(kind, entries[half:], flags[half:]),
            ]

    def _write_kind(self, kind: str) -> None:
        mine = [item for item in self._backlog if item[0] == kind]
        if mine:
            segment = self._segment(kind)
            start, rows, unsynced = segment.size, segment.rows, segment.rows_unsynced
            try:
                for _, message, count in mine:
                    segment.add(message, count)
                if self._fsync == "commit":
                    segment.sync()
            except OSError:
                # After a failed sync nobody knows what is on disk: take it back, go on in a new segment.
                os.ftruncate(segment.handle, start)
                segment.size, segment.rows, segment.rows_unsynced = start, rows, unsynced
                self._seal(kind)
                raise
            self._backlog = [item for item in self._backlog if item[0] != kind]
            if self._fsync == "commit":
                self._acknowledge(kind, segment)
        segment = self._open.get(kind)
        if segment is not None and (
            segment.size >= self._bytes_max or self._clock_s() - segment.opened_s >= self._age_s_max
        ):
            self._seal(kind)

    def _segment(self, kind: str) -> _Segment:
        if kind not in self._open:
            path = self.root / f"{kind}-{self._next[kind]:012d}{OPEN}"
            self._open[kind] = _Segment(path, self._encoders[kind].header, self._clock_s())
            self._next[kind] += 1
        return self._open[kind]

    def _seal(self, kind: str) -> None:
        segment = self._open[kind]
        if not segment.suspect:
            segment.sync()
            self._acknowledge(kind, segment)
        _sealed_as(segment.path, segment.rows)
        os.close(segment.handle)
        del self._open[kind]

    def _acknowledge(self, kind: str, segment: _Segment) -> None:
        self.acknowledged[kind] += segment.rows_unsynced
        segment.rows_unsynced = 0


def sealed(root: Path, kind: str) -> list[tuple[int, Path]]:
    """Returns the sealed segments of a kind with their numbers, oldest first."""
    return _numbered(root, kind, SEALED)


def unsealed(root: Path, kind: str) -> list[tuple[int, Path]]:
    """Returns the segments of a kind that are being written, or that a dead process left."""
    return _numbered(root, kind, OPEN)


def _numbered(root: Path, kind: str, suffix: str) -> list[tuple[int, Path]]:
    start = len(kind) + 1
    return sorted((int(path.name[start : -len(suffix)]), path) for path in root.glob(f"{kind}-*{suffix}"))


def _sealed_as(path: Path, rows: int) -> None:
    """Gives a finished segment its final name, or removes it where it holds nothing."""
    if rows:
        path.rename(path.with_name(path.name[: -len(OPEN)] + SEALED))
    else:
        path.unlink()
    sync_folder(path.parent)


def _repaired(root: Path) -> list[Repair]:
    """Seals what a dead process left open, torn tails moved aside."""
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
            _sealed_as(path, table.num_rows)
    except OSError as error:
        raise StorageError(
            "journal_repair_failed",
            f"what a former process left in the journal cannot be repaired ({error.strerror or error})",
            "check the disk and the folder's permissions",
        ) from error
    return repairs


def _locked(root: Path) -> int:
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
