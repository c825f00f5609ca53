"""The journal: what arrived live, on disk before it is acknowledged.

    root/.lock                              held by the one process that writes
    root/trade-000000000007.arrows          a sealed segment: complete, never changed again
    root/trade-000000000008.arrows.open     the segment that is being written
    root/damaged/…                          tails that a crash tore off, kept for a person to see

Entries are appended in memory, and written and synced in groups; only then they are acknowledged. A process
that dies leaves a torn tail at most, which the next one to open the journal moves aside. A full disk is an
error: what was acknowledged stays, what was not stays in memory and is written by the next try. An entry that
Arrow cannot hold (text that is no Unicode, a time beyond 64 bits) goes to the quarantine.

Entries become Arrow some hundreds at a time, where they are appended: they are in the core's cache then,
and the thread that writes needs the interpreter's lock for next to nothing. On a busy machine a thread that
is put to sleep while it holds that lock stops the feed for as long.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.feed.segment_files import (
    OPEN,
    OpenSegment,
    locked,
    repaired,
    sealed,
    sealed_as,
)
from neural_trader_tools.market.feed.segments import KINDS, SCHEMAS, UNSTORABLE, Encoder, Entry, unstorable

SEGMENT_BYTES_MAX = 64 * 2**20
SEGMENT_AGE_S_MAX = 300.0
BATCH_ROWS_MAX = 512
"""Rows per Arrow batch: as many as a core's cache holds. Making one takes about 0.4 ms."""
PENDING_ROWS_MAX = 2_000_000
"""So many entries may wait for a disk that refuses them (about 1 GB); then `append` refuses too."""

FsyncPolicy = Literal["commit", "seal"]

Taken = list[tuple[str, bytes, int]]
"""Arrow messages: the kind, the bytes, how many entries."""


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
        self._pending: dict[type[Entry], tuple[list[Entry], dict[int, str]]] = {
            made: ([], {}) for made in KINDS
        }
        """By type, what is not Arrow yet, and the flags of those entries that have some, by place."""
        self._encoded: Taken = []
        self._backlog: Taken = []
        self._open: dict[str, OpenSegment] = {}
        self._writing = threading.Lock()
        self.appended = 0
        """Entries taken since this journal was opened."""
        self.acknowledged: dict[str, int] = dict.fromkeys(SCHEMAS, 0)
        """Of those, by kind, how many are on disk and synced."""
        self._lock = locked(root)
        try:
            self.repairs = repaired(root)
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
        entries, flagged = self._pending[type(entry)]
        if flags:
            flagged[len(entries)] = flags
        entries.append(entry)
        self.appended += 1
        if len(entries) >= BATCH_ROWS_MAX:
            self._encode(type(entry))

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
        for made, (entries, _) in self._pending.items():
            if entries:
                self._encode(made)
        taken, self._encoded = self._encoded, []
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
            self._backlog += taken
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

    def _encode(self, made: type[Entry]) -> None:
        """Turns what waits of one kind into messages; what an unexpected failure leaves is tried again."""
        entries, flagged = self._pending[made]
        flags = [""] * len(entries)
        for place, said in flagged.items():
            flags[place] = said
        self._encoded += self._messages(KINDS[made], entries, flags)
        entries.clear()
        flagged.clear()

    def _messages(self, kind: str, entries: list[Entry], flags: list[str]) -> Taken:
        """Returns the messages of these entries; halves them to find those that cannot be stored."""
        try:
            return [(kind, self._encoders[kind].batch(entries, flags), len(entries))]
        except UNSTORABLE:
            if len(entries) == 1:
                return self._messages("quarantine", [unstorable(entries[0])], flags)
            half = len(entries) // 2
            return [
                *self._messages(kind, entries[:half], flags[:half]),
                *self._messages(kind, entries[half:], flags[half:]),
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

    def _segment(self, kind: str) -> OpenSegment:
        if kind not in self._open:
            path = self.root / f"{kind}-{self._next[kind]:012d}{OPEN}"
            self._open[kind] = OpenSegment(path, self._encoders[kind].header, self._clock_s())
            self._next[kind] += 1
        return self._open[kind]

    def _seal(self, kind: str) -> None:
        segment = self._open[kind]
        if not segment.suspect:
            segment.sync()
            self._acknowledge(kind, segment)
        sealed_as(segment.path, segment.rows)
        os.close(segment.handle)
        del self._open[kind]

    def _acknowledge(self, kind: str, segment: OpenSegment) -> None:
        self.acknowledged[kind] += segment.rows_unsynced
        segment.rows_unsynced = 0
