"""Logs of the bus in this process: what a family remembers, in memory or in a SQLite file (WAL).

A file may be shared by several processes: sequences are given inside one transaction, and `read` sees what
others wrote. As with JetStream's files, what was acknowledged outlives the process (SIGKILL included); a
power cut may take the last moments, unless `synced`.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from neural_trader_governance.errors import StorageError
from neural_trader_tools.bus.events import BusEvent, decode
from neural_trader_tools.bus.port import Bounds, Published, Span

_TRIMMED_AT_ONCE = 1_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS heads (
  family TEXT PRIMARY KEY, last INTEGER NOT NULL, entries INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS entries (
  family TEXT NOT NULL, seq INTEGER NOT NULL, subject TEXT NOT NULL, message_id TEXT NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY (family, seq)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS entries_by_id ON entries (family, message_id);
CREATE TABLE IF NOT EXISTS positions (
  durable TEXT PRIMARY KEY, subject_filter TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""


class Entry(msgspec.Struct, gc=False):
    """What is to be kept: an event and its bytes."""

    subject: str
    message_id: str
    data: bytes
    event: BusEvent | None = None
    """None where it was read from a file and nobody asked for it yet."""
    seq: int = 0


def event_of(entry: Entry) -> BusEvent:
    """Returns what an entry holds.

    Raises:
        DataError: what a file holds is no event.
    """
    if entry.event is None:
        entry.event = decode(entry.data)
    return entry.event


_GONE = Entry("", "", b"")


class Log(Protocol):
    """What one family remembers, and where durable names stand."""

    shared: bool
    """Other processes may write it: look again, and off the event loop."""

    def append(self, entries: Sequence[Entry]) -> list[Published]:
        """Stores entries in order and gives them their sequences; one whose id is remembered is not stored.

        Raises:
            StorageError: the disk refused; none was stored.
        """
        ...

    def read(self, after: int, limit: int, passes: Callable[[str], bool]) -> tuple[list[Entry], int]:
        """Returns the next entries whose subject passes, and the sequence up to which this looked.

        Raises:
            StorageError: the file cannot be read.
        """
        ...

    def span(self) -> Span:
        """Returns the sequences that are kept."""
        ...

    def newest(self, subject: str) -> Entry | None:
        """Returns the newest entry of a subject."""
        ...

    def position(self, durable: str) -> tuple[str, int] | None:
        """Returns the filter and the acknowledged sequence of a durable name."""
        ...

    def keep_position(self, durable: str, subject_filter: str, seq: int) -> None:
        """Remembers where a durable name stands."""
        ...

    def close(self) -> None:
        """Closes what is open."""
        ...


class MemoryLog:
    """Remembers while the process lives; ids as long as their entries."""

    shared = False

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._entries: list[Entry] = []
        self._gone = 0  # of the list's entries, at its beginning
        self._seqs: dict[str, int] = {}
        self._last = 0
        self._bytes = 0
        self._positions: dict[str, tuple[str, int]] = {}

    def append(self, entries: Sequence[Entry]) -> list[Published]:
        """Stores entries; see `Log.append`."""
        answers: list[Published] = []
        kept, seqs, bounds = self._entries, self._seqs, self._bounds
        for entry in entries:
            known = seqs.get(entry.message_id)
            if known is not None:
                answers.append(Published(known, True))
                continue
            self._last += 1
            entry.seq = seqs[entry.message_id] = self._last
            kept.append(entry)
            self._bytes += len(entry.data)
            answers.append(Published(self._last))
            while len(kept) - self._gone > bounds.entries_max or (
                self._bytes > bounds.bytes_max and len(kept) - self._gone > 1
            ):
                oldest = kept[self._gone]
                del seqs[oldest.message_id]
                self._bytes -= len(oldest.data)
                kept[self._gone] = _GONE
                self._gone += 1
        if self._gone > _TRIMMED_AT_ONCE and self._gone * 2 > len(kept):
            del kept[: self._gone]
            self._gone = 0
        return answers

    def read(self, after: int, limit: int, passes: Callable[[str], bool]) -> tuple[list[Entry], int]:
        """Reads entries; see `Log.read`."""
        found: list[Entry] = []
        entries = self._entries
        for place in range(max(self._gone, len(entries) - (self._last - after)), len(entries)):
            entry = entries[place]
            if passes(entry.subject):
                found.append(entry)
                if len(found) == limit:
                    return found, entry.seq
        return found, max(after, self._last)

    def span(self) -> Span:
        """Returns the span; see `Log.span`."""
        return Span(self._last - (len(self._entries) - self._gone) + 1, self._last)

    def newest(self, subject: str) -> Entry | None:
        """Returns the newest entry of a subject; see `Log.newest`."""
        newest_first = reversed(self._entries)
        return next((entry for entry in newest_first if entry.seq and entry.subject == subject), None)

    def position(self, durable: str) -> tuple[str, int] | None:
        """Returns a position; see `Log.position`."""
        return self._positions.get(durable)

    def keep_position(self, durable: str, subject_filter: str, seq: int) -> None:
        """Keeps a position; see `Log.keep_position`."""
        self._positions[durable] = (subject_filter, seq)

    def close(self) -> None:
        """Does nothing: there is nothing to close."""


class DiskLog:
    """One family's entries in a SQLite file, which families and processes share.

    Args:
        path: The file; its folder exists.
        family: Whose entries.
        bounds: What is kept.
        synced: Sync every transaction: outlives a power cut, for a few milliseconds each.

    Raises:
        StorageError: the file cannot be opened.
    """

    shared = True

    def __init__(self, path: Path, family: str, bounds: Bounds, *, synced: bool = False) -> None:
        self._path, self._family, self._bounds = path, family, bounds
        self._turn = threading.Lock()  # one connection, and transactions of several threads
        with self._telling():
            with suppress(FileExistsError):  # readable by its owner only, from the first moment
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=30.0, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._connection.executescript(SCHEMA)
            self._connection.execute("INSERT OR IGNORE INTO heads VALUES (?, 0, 0, 0)", (family,))

    def append(self, entries: Sequence[Entry]) -> list[Published]:
        """Stores entries; see `Log.append`."""
        with self._telling(), self._transaction() as connection:
            last, count, size = connection.execute(
                "SELECT last, entries, bytes FROM heads WHERE family = ?", (self._family,)
            ).fetchone()
            answers: list[Published] = []
            for entry in entries:
                known = connection.execute(
                    "SELECT seq FROM entries WHERE family = ? AND message_id = ?",
                    (self._family, entry.message_id),
                ).fetchone()
                if known is not None:
                    answers.append(Published(known[0], True))
                    continue
                last, count, size = last + 1, count + 1, size + len(entry.data)
                connection.execute(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
                    (self._family, last, entry.subject, entry.message_id, entry.data),
                )
                answers.append(Published(last))
            count, size = self._trim(count, size)
            connection.execute(
                "UPDATE heads SET last = ?, entries = ?, bytes = ? WHERE family = ?",
                (last, count, size, self._family),
            )
        for entry, answer in zip(entries, answers, strict=True):
            entry.seq = answer.seq
        return answers

    def read(self, after: int, limit: int, passes: Callable[[str], bool]) -> tuple[list[Entry], int]:
        """Reads entries; see `Log.read`."""
        found: list[Entry] = []
        with self._telling(), self._transaction("DEFERRED") as connection:
            last = self._head(connection)[0]
            rows = connection.execute(
                "SELECT seq, subject, message_id, data FROM entries WHERE family = ? AND seq > ?"
                " ORDER BY seq",
                (self._family, after),
            )
            for seq, subject, message_id, data in rows:
                if passes(subject):
                    found.append(Entry(subject, message_id, data, None, seq))
                    if len(found) == limit:
                        return found, seq
        return found, max(after, last)

    def span(self) -> Span:
        """Returns the span; see `Log.span`."""
        with self._telling():
            last, count = self._head(self._connection)
        return Span(last - count + 1, last)

    def newest(self, subject: str) -> Entry | None:
        """Returns the newest entry of a subject; see `Log.newest`."""
        with self._telling():
            row = self._connection.execute(
                "SELECT seq, message_id, data FROM entries WHERE family = ? AND subject = ?"
                " ORDER BY seq DESC LIMIT 1",
                (self._family, subject),
            ).fetchone()
        return None if row is None else Entry(subject, row[1], row[2], None, row[0])

    def position(self, durable: str) -> tuple[str, int] | None:
        """Returns a position; see `Log.position`."""
        with self._telling():
            row = self._connection.execute(
                "SELECT subject_filter, seq FROM positions WHERE durable = ?", (durable,)
            ).fetchone()
        return None if row is None else (row[0], row[1])

    def keep_position(self, durable: str, subject_filter: str, seq: int) -> None:
        """Keeps a position; see `Log.keep_position`."""
        with self._telling():
            self._connection.execute(
                "INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT (durable) DO UPDATE SET"
                " subject_filter = excluded.subject_filter, seq = excluded.seq",
                (durable, subject_filter, seq),
            )

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _head(self, connection: sqlite3.Connection) -> tuple[int, int]:
        row = connection.execute(
            "SELECT last, entries FROM heads WHERE family = ?", (self._family,)
        ).fetchone()
        return row[0], row[1]

    def _trim(self, count: int, size: int) -> tuple[int, int]:
        """Lets the oldest go until the bounds hold; returns the count and the bytes that are left."""
        bounds = self._bounds
        while count > bounds.entries_max or (size > bounds.bytes_max and count > 1):
            rows = self._connection.execute(
                "SELECT seq, length(data) FROM entries WHERE family = ? ORDER BY seq LIMIT ?",
                (self._family, _TRIMMED_AT_ONCE),
            ).fetchall()
            gone = 0
            for seq, length in rows:
                if count <= bounds.entries_max and (size <= bounds.bytes_max or count <= 1):
                    break
                gone, count, size = seq, count - 1, size - length
            self._connection.execute(
                "DELETE FROM entries WHERE family = ? AND seq <= ?", (self._family, gone)
            )
        return count, size

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Generator[sqlite3.Connection]:
        connection = self._connection
        connection.execute(f"BEGIN {kind}")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _telling(self) -> Generator[None]:
        try:
            with self._turn:
                yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                "bus_log_failed",
                f"{self._path} could not be used ({error})",
                "check the disk; the file may be moved away: it holds copies, the truth is elsewhere",
            ) from error
