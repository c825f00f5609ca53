"""A log of the bus on disk: a SQLite file (WAL) that families and processes share.

Sequences are given inside one transaction, and `read` sees what other processes wrote. As with JetStream's
files, what was acknowledged outlives the process (SIGKILL included); a power cut may take the last moments,
unless `synced`.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from neural_trader_governance.errors import StorageError
from neural_trader_tools.bus.logs import Entry
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
