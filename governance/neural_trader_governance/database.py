"""SQLite as the store uses it: durable commits, waiting writers, readers that cannot write."""

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

BUSY_TIMEOUT_S = 30.0
# Result codes after which nothing that SQLite says about durability can be relied on.
_FATAL = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Opens a connection that syncs every commit and waits 30 s for another writer.

    Transactions are explicit, and threads take turns by the caller's own lock.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # SQLite's automatic WAL checkpoint swallows sync errors; the store runs its own.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        if query_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, script: str, begin: Callable[[], None]) -> None:
    """Turns WAL on and runs an idempotent script and `begin` in one transaction.

    Raises:
        sqlite3.Error: the file is no database, the script fails, or others held it for 30 s.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE;{script}")
            begin()
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # Turning WAL on does not wait for the busy handler while others open the same file.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            # Processes that were killed left their part of the write-ahead log behind.
            checkpoint(connection)
            return


def checkpoint(connection: sqlite3.Connection) -> None:
    """Moves the write-ahead log into the database as far as readers allow; nobody waits for it.

    Raises:
        sqlite3.Error: the disk failed.
    """
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        if not is_busy(error):
            raise


def is_busy(error: BaseException) -> bool:
    """Says whether another process was in the way, and nothing worse."""
    return _primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_fatal(error: BaseException) -> bool:
    """Says whether the disk or the file failed, so that no later write can be trusted."""
    return _primary_code(error) in _FATAL


def _primary_code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


class Readers:
    """Read-only connections, kept for the next reader; each is used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Yields a connection inside a read transaction: one moment of the database."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._path, query_only=True)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def close(self) -> None:
        """Closes the idle connections; a reader in flight closes its own when it ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
