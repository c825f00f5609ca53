"""The store: one SQLite file in which a change and its audit leaf are one transaction.

    with store.unit() as unit:
        unit.connection.execute("INSERT INTO orders …")
        seq = unit.append(AuditEntry.by(caller, EntryType.ORDER_INTENT, …))
    receipt = unit.receipt(seq)          # durable from here on: the broker may be called

WAL with synchronous=FULL: when `unit()` has returned, the bytes are on the disk. A failed write or
sync is fail-stop: an fsync error is reported once and later syncs "succeed", so it is never retried.
"""

import os
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import structlog

from neural_trader_governance import database, halts
from neural_trader_governance.audit import log, witnessing
from neural_trader_governance.audit.entries import AuditEntry
from neural_trader_governance.audit.log import Head, Receipt
from neural_trader_governance.errors import StorageError
from neural_trader_governance.signing.keys import SigningKey, sync_folder
from neural_trader_governance.terms.clocks import Clock

__all__ = ["Head", "Receipt", "Store", "Unit"]

_COMMITS_PER_CHECKPOINT = 250

_log = structlog.get_logger(__name__)


class Unit:
    """One transaction: other packages' rows beside the audit leaves that tell of them."""

    def __init__(self, connection: sqlite3.Connection, appender: log.Appender) -> None:
        self.connection = connection
        self._appender = appender
        self._seal: log.Seal | None = None

    def append(self, entry: AuditEntry) -> int:
        """Appends an entry and returns its seq, which holds only if the unit commits.

        Raises:
            InputError: the entry has no canonical form, or exceeds 65,535 bytes.
            StorageError: the unit has ended.
        """
        if self._seal is not None:
            raise StorageError("unit_ended", "this unit has ended", "open a new one with store.unit()")
        return self._appender.append(entry)

    def receipt(self, seq: int) -> Receipt:
        """Returns the receipt of an entry that this unit appended and committed.

        Raises:
            StorageError: the unit has not committed, or did not append this entry.
        """
        leaf = self._appender.leaves.get(seq)
        if self._seal is None or leaf is None:
            raise StorageError(
                "no_receipt", f"entry {seq} was not committed by this unit", "ask after the unit has ended"
            )
        return Receipt(seq, leaf.hex(), self._seal.note)

    def seal(self) -> log.Seal:
        """Writes the checkpoint of what was appended (the store calls this before it commits)."""
        return self._appender.seal()

    def acknowledge(self, seal: log.Seal) -> None:
        """Marks the unit as durable (the store calls this after the commit returned)."""
        self._seal = seal


class Store:
    """The desk's one truth on this home; safe for many threads and many processes.

    Not guaranteed: that a rollback of the whole file to an older copy is noticed at start; that
    takes a memory outside this file (a witness).
    """

    def __init__(self, path: Path, *, origin: str, signer: SigningKey, clock: Clock) -> None:
        """Use `Store.open`, which checks what it opens."""
        self.path = path
        self.origin = origin
        self.vkey = signer.vkey
        self._signer = signer
        self._clock = clock
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._pid = os.getpid()
        self._failure: str | None = None
        self._seen: log.Seal
        self._commits = 0
        self._closed = False
        self._writer = database.connect(path)
        self._readers = database.Readers(path)

    @classmethod
    def open(
        cls, path: Path, *, origin: str, signer: SigningKey, clock: Clock, schemas: Sequence[str] = ()
    ) -> Self:
        """Opens the store, creating it where there is none.

        Args:
            path: The database file; its folder exists and is on a local disk.
            origin: The log's name (https://c2sp.org/tlog-checkpoint); it stands in every entry.
            signer: The log's key; by convention its name equals the origin.
            clock: Gives entries their `ts`.
            schemas: Idempotent `CREATE … IF NOT EXISTS` scripts of the packages that write here.

        Raises:
            StorageError: the file cannot be opened or prepared.
            IntegrityError: its last checkpoint is not signed by this key, or does not match it.
        """
        try:
            # Never open and close a file that SQLite may have open in this process: POSIX drops the whole
            # process's locks with the descriptor, and the next process to leave would delete a live WAL.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(path.parent)
            store = cls(path, origin=origin, signer=signer, clock=clock)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                "store_unavailable", f"{path} cannot be opened ({error})", "check the folder and its disk"
            ) from error
        try:
            store._prepare([log.SCHEMA, witnessing.SCHEMA, halts.SCHEMA, *schemas])
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self, schemas: Sequence[str]) -> None:
        def begin() -> None:
            # In the schemas' own transaction: a log that is not ours is left as it was.
            log.begin_log(self._writer, self.origin, [self._signer])
            self._seen = log.advance(self._writer, self.origin, self._signer, None)

        try:
            database.prepare(self._writer, "".join(schemas), begin)
        except sqlite3.Error as error:
            raise StorageError(
                "store_unavailable", f"{self.path} cannot be prepared ({error})", "check the file"
            ) from error

    @contextmanager
    def unit(self) -> Generator[Unit, None, None]:
        """Runs one `BEGIN IMMEDIATE` transaction: committed on a clean exit, else rolled back.

        Raises:
            StorageError: `store_busy` when another process held the log for 30 s (nothing
                happened), `audit_write_failed` when the disk failed (every later unit raises too),
                `store_closed`, `nested_unit`.
            IntegrityError: the log was altered underneath; nothing is written.
        """
        self._check_usable()
        if self._holder == threading.get_ident():
            raise StorageError("nested_unit", "this thread is inside a unit", "use the unit that is open")
        with self._lock:
            self._check_usable()
            self._holder = threading.get_ident()
            try:
                self._begin()
                try:
                    unit = Unit(
                        self._writer,
                        log.Appender(self._writer, self.origin, self._signer, self._clock, self._seen),
                    )
                    yield unit
                    seal = unit.seal()
                except BaseException as error:
                    self._roll_back(error)
                    raise
                self._commit()
                self._seen = seal
                unit.acknowledge(seal)
            finally:
                self._holder = None

    def _begin(self) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if database.is_busy(error):
                raise StorageError(
                    "store_busy",
                    f"another process held the log for {database.BUSY_TIMEOUT_S:.0f} s",
                    "try again; nothing was written",
                ) from error
            raise self._latch(error) from error

    def _roll_back(self, error: BaseException) -> None:
        with suppress(sqlite3.Error):
            self._writer.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error) and database.is_fatal(error):
            raise self._latch(error) from error

    def _commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise self._latch(error) from error
        self._commits += 1
        if self._commits % _COMMITS_PER_CHECKPOINT == 0:
            try:
                database.checkpoint(self._writer)
            except sqlite3.Error as error:
                # This unit is durable in the write-ahead log; the next one is refused.
                self._latch(error)

    def _latch(self, error: sqlite3.Error) -> StorageError:
        self._failure = str(error)
        _log.error("audit_write_failed", path=str(self.path), error=str(error))
        return self._failed()

    def _failed(self) -> StorageError:
        return StorageError(
            "audit_write_failed",
            f"the audit log could not be written ({self._failure}); nothing more is accepted",
            "check the disk, run `neural-trader audit verify`, then start again",
        )

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise self._failed()
        if self._closed:
            raise StorageError("store_closed", "the store is closed", "open it again with Store.open")
        if os.getpid() != self._pid:
            raise StorageError(
                "store_forked", "a store does not survive a fork", "open it again in the child process"
            )

    @contextmanager
    def read(self) -> Generator[sqlite3.Connection, None, None]:
        """Runs one consistent read transaction; the connection refuses writes.

        Raises:
            StorageError: the store is closed, or the file cannot be read.
        """
        if self._closed or os.getpid() != self._pid:
            self._check_usable()
        try:
            with self._readers.transaction() as connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(
                "audit_read_failed", f"the store could not be read ({error})", "run `neural-trader doctor`"
            ) from error

    def head(self) -> Head:
        """Returns the newest signed checkpoint."""
        with self.read() as connection:
            seal = log.advance(connection, self.origin, self._signer, self._seen)
        return Head(seal.size, seal.root.hex(), seal.note)

    def receipt(self, seq: int) -> Receipt:
        """Returns the receipt of any committed entry.

        Raises:
            InputError: the log has no such entry.
        """
        with self.read() as connection:
            return log.read_receipt(connection, seq)

    def snapshot(self, path: Path) -> None:
        """Writes a plain, consistent copy of the whole file, which `verify_store` can check.

        Raises:
            StorageError: the path exists already, or cannot be written.
        """
        if path.exists():
            raise StorageError("snapshot_exists", f"{path} exists already", "choose a free path")
        with self.read() as source:
            target = sqlite3.connect(path)
            try:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
            finally:
                target.close()

    def close(self) -> None:
        """Closes the store; a unit of another thread ends first, a reader in flight may finish.

        Raises:
            StorageError: this thread is inside a unit.
        """
        if self._holder == threading.get_ident():
            raise StorageError("nested_unit", "this thread is inside a unit", "close the store after it")
        with self._lock, suppress(sqlite3.Error):
            self._closed = True
            self._writer.close()
        self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
