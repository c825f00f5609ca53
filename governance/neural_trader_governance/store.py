"""The store: one SQLite file in which a change and its audit leaf are one transaction.

    with store.unit() as unit:
        unit.connection.execute("INSERT INTO orders …")
        seq = unit.append(AuditEntry.by(caller, EntryType.ORDER_INTENT, …))
    receipt = unit.receipt(seq)          # durable from here on: the broker may be called

WAL with synchronous=FULL: when `unit()` has returned, the bytes are on the disk. Threads share commits
(`commits`); a failed write or sync is fail-stop.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Self

from neural_trader_governance import (
    alerts,
    apikeys,
    brakes,
    budgets,
    database,
    halts,
    leases,
    live,
    mandates,
    overrides,
    principals,
    recalls,
    taints,
    throttles,
)
from neural_trader_governance.audit import log, witnessing
from neural_trader_governance.audit.log import Head, Receipt
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.commits import Unit, Writer
from neural_trader_governance.errors import StorageError
from neural_trader_governance.signing.at_rest import sync_folder
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.terms.clocks import Clock

__all__ = ["Head", "Receipt", "Store", "Unit"]

GOVERNANCE_SCHEMAS = (
    log.SCHEMA,
    witnessing.SCHEMA,
    halts.SCHEMA,
    principals.SCHEMA,
    apikeys.SCHEMA,
    taints.SCHEMA,
    recalls.SCHEMA,
    alerts.SCHEMA,
    mandates.SCHEMA,
    budgets.SCHEMA,
    throttles.SCHEMA,
    leases.SCHEMA,
    overrides.SCHEMA,
    live.SCHEMA,
)
"""The tables of governance's own modules; other packages hand theirs to `Store.open`."""


class Store:
    """The desk's one truth on this home; safe for many threads and many processes.

    Not guaranteed: that a rollback of the whole file to an older copy is noticed at start; that
    takes a memory outside this file (a witness).
    """

    def __init__(self, path: Path, *, origin: str, signer: LogSigner, clock: Clock) -> None:
        """Use `Store.open`, which checks what it opens."""
        self.path = path
        self.origin = origin
        self.vkey = signer.vkey
        self.signer = signer
        self._writer = Writer(path, origin, signer, clock)
        self._readers = database.Readers(path)
        self._version = database.Version(path)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        origin: str,
        signer: SigningKey | LogSigner,
        clock: Clock,
        schemas: Sequence[str] = (),
    ) -> Self:
        """Opens the store, creating it where there is none.

        Args:
            path: The database file; its folder exists and is on a local disk.
            origin: The log's name (https://c2sp.org/tlog-checkpoint); it stands in every entry.
            signer: The log's key, or what follows its rotations; by convention its name equals the origin.
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
            store = cls(path, origin=origin, signer=LogSigner.of(signer), clock=clock)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                "store_unavailable", f"{path} cannot be opened ({error})", "check the folder and its disk"
            ) from error
        try:
            store._prepare([*GOVERNANCE_SCHEMAS, *schemas])
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self, schemas: Sequence[str]) -> None:
        connection = self._writer.connection

        def begin() -> None:
            # In the schemas' own transaction: a log that is not ours is left as it was.
            log.begin_log(connection, self.origin, self.signer)
            self._writer.seen = log.advance(connection, self.origin, self.signer, None)
            brakes.restore(connection)

        try:
            database.prepare(connection, "".join(schemas), begin)
        except sqlite3.Error as error:
            raise StorageError(
                "store_unavailable", f"{self.path} cannot be prepared ({error})", "check the file"
            ) from error

    def unit(self) -> AbstractContextManager[Unit]:
        """Runs one unit of work: committed on a clean exit, else rolled back, and only it.

        Units of other threads may share the commit. All of them return, or raise what their bodies
        raised, only after it: whatever a body read is durable then.

        Raises:
            StorageError: `store_busy` when another process held the log for 30 s (nothing
                happened), `audit_write_failed` when the disk failed (every later unit raises too),
                `store_closed`, `nested_unit`.
            IntegrityError: the log was altered underneath; nothing is written.
        """
        return self._writer.unit()

    def when_failed(self, action: Callable[[StorageError], None]) -> None:
        """Calls `action` once when a write or sync has failed, in whichever thread met it.

        From then on nothing is accepted, so a process that trades ends itself here.
        """
        self._writer.when_failed(action)

    @contextmanager
    def read(self) -> Generator[sqlite3.Connection, None, None]:
        """Runs one consistent read transaction; the connection refuses writes.

        Raises:
            StorageError: the store is closed, or the file cannot be read.
        """
        self._writer.check_open()
        try:
            with self._readers.transaction() as connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(
                "audit_read_failed", f"the store could not be read ({error})", "run `neural-trader doctor`"
            ) from error

    def version(self) -> int:
        """Returns a number that changes with every commit of whatever process; see `known.Known`.

        Raises:
            StorageError: the store is closed, or the file cannot be read.
        """
        self._writer.check_open()
        try:
            return self._version.now()
        except sqlite3.Error as error:
            raise StorageError(
                "audit_read_failed", f"the store could not be read ({error})", "run `neural-trader doctor`"
            ) from error

    def head(self) -> Head:
        """Returns the newest signed checkpoint."""
        with self.read() as connection:
            seal = log.advance(connection, self.origin, self.signer, self._writer.seen)
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
        self._writer.check_not_inside()
        self._writer.close()
        self._readers.close()
        self._version.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
