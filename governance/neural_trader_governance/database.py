"""SQLite as the store uses it: durable commits, waiting writers, readers that cannot write."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUSY_TIMEOUT_S = 30.0
COMMIT = "COMMIT /* the store's own */"
_LOOK_AGAIN_S = 0.001
# Result codes after which nothing that SQLite says about durability can be relied on.
_FATAL = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}


class WriterConnection(sqlite3.Connection):
    """The connection of units: their bodies meet it only within a savepoint of the open transaction.

    Inside a body nobody ends the transaction that is shared, and nothing is written outside it:
    SQLite itself rolls back after some failures, and the next statement would commit by itself.
    Bodies may catch what SQLite raises; this remembers what matters.
    """

    _write_log: Callable[[], None] | None = None
    _in_savepoint = False
    _executing = False
    _failure: sqlite3.Error | None = None

    def enter_body(self, write_log: Callable[[], None]) -> None:
        """Begins a unit's body.

        Args:
            write_log: Writes the entries that are kept back; called when a body looks at the log.
        """
        self._write_log = write_log

    def leave_body(self, error: BaseException | None) -> None:
        """Ends a unit's body: its statements are kept, or taken back where it raised.

        Args:
            error: What the body raised.

        Raises:
            sqlite3.Error: the transaction was lost underneath, whatever the body made of that.
        """
        self._write_log = None
        if isinstance(error, sqlite3.Error):
            self._note(error)
        if self._failure is not None:
            raise self._failure
        self._require_transaction()
        if self._in_savepoint:
            self._in_savepoint = False
            if error is not None:
                super().execute("ROLLBACK TO unit")
            super().execute("RELEASE unit")

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As `sqlite3.Connection.execute`, within the unit's savepoint."""
        if self._write_log is not None:
            self._prepare_body(sql)
        self._executing = True
        try:
            return super().execute(sql, parameters)
        except sqlite3.Error as error:
            self._note(error)
            raise
        finally:
            self._executing = False

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """As `sqlite3.Connection.executemany`, within the unit's savepoint."""
        if self._write_log is not None:
            self._prepare_body(sql)
        self._executing = True
        try:
            return super().executemany(sql, parameters)
        except sqlite3.Error as error:
            self._note(error)
            raise
        finally:
            self._executing = False

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """As `sqlite3.Connection.cursor`, for this class alone.

        Raises:
            sqlite3.ProgrammingError: a body asks, whose cursor would go past the savepoint.
        """
        if self._write_log is not None and not self._executing:
            raise sqlite3.ProgrammingError("use the unit's connection.execute")
        return super().cursor(*arguments, **options)

    def _prepare_body(self, sql: str) -> None:
        self._require_transaction()
        write_log, self._write_log = self._write_log, None
        try:
            if not self._in_savepoint:
                super().execute("SAVEPOINT unit")
                self._in_savepoint = True
            if write_log is not None and "audit_" in sql:
                write_log()
        finally:
            self._write_log = write_log

    def _require_transaction(self) -> None:
        if not self.in_transaction:
            raise sqlite3.OperationalError("the transaction was rolled back underneath a unit")

    def _note(self, error: sqlite3.Error) -> None:
        if self._failure is None and is_fatal(error):
            self._failure = error

    def authorize(self, action: int, *_: object) -> int:
        """Refuses BEGIN, COMMIT and ROLLBACK while a body runs."""
        denied = self._write_log is not None and action == sqlite3.SQLITE_TRANSACTION
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Opens a connection that syncs every commit and waits 30 s for another writer.

    Transactions are explicit, and threads take turns by the caller's own lock.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    return _configured(connection, query_only=query_only)


def connect_writer(path: Path) -> WriterConnection:
    """Opens the connection of units; it does not wait for other writers by itself, `begin` does."""
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        factory=WriterConnection,
    )
    _configured(connection, query_only=False)
    connection.execute("PRAGMA busy_timeout = 0")
    connection.set_authorizer(connection.authorize)
    return connection


def _configured(connection: sqlite3.Connection, *, query_only: bool) -> sqlite3.Connection:
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


def begin(connection: sqlite3.Connection) -> None:
    """Begins a write transaction and waits up to 30 s for other processes.

    SQLite's own waiting sleeps for up to 100 ms between looks, so that a busy process would starve
    the others.

    Raises:
        sqlite3.Error: the file failed, or is still held by another process.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_AGAIN_S * (0.5 + random.random()))  # noqa: S311 - so that waiters spread
        else:
            return


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
            connection.execute(COMMIT)
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


class Version:
    """A connection that only says whether anything was committed, by whatever other connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def now(self) -> int:
        """Returns a number that every commit changes, of whatever process; it means nothing elsewhere."""
        with self._lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the store is closed")
            if self._connection is None:
                self._connection = connect(self._path, query_only=True)
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            return int(version)

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()


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
