"""Group commit: units of concurrent threads share one transaction, one signature and one sync.

Units run one after another, each in a savepoint of the transaction that is open. One whose body has
ended leaves the commit to the thread that waits behind it, or to those that just leave the batch before
and are likely to come again, until there is none or the batch is full; the last one commits for all. No
unit returns before that commit: what it read of its neighbours may not outlive a crash either. A failed
write or sync fails the whole batch and latches the writer: an fsync error is reported once and later
syncs "succeed", so it is never retried.
"""

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from neural_trader_governance import alerts, database
from neural_trader_governance.audit import log
from neural_trader_governance.audit.entries import AuditEntry
from neural_trader_governance.audit.log import Receipt
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.errors import StorageError
from neural_trader_governance.terms.clocks import Clock

UNITS_PER_BATCH_MAX = 256
BATCH_AGE_S_MAX = 0.02
"""A batch is bounded so that other processes get their turn, and its first unit an answer."""

_PATIENCE_S = 0.25
_WORK_PER_CHECKPOINT = 2_000

_log = structlog.get_logger(__name__)


class Unit:
    """Other packages' rows beside the audit leaves that tell of them; all of it commits, or nothing."""

    __slots__ = ("_appender", "_ended", "_leaves", "_seal", "connection", "mark")

    def __init__(self, connection: sqlite3.Connection, appender: log.Appender) -> None:
        self.connection = connection
        self.mark = appender.mark()
        self._appender = appender
        self._leaves: dict[int, bytes] = {}
        self._ended = False
        self._seal: log.Seal | None = None

    def append(self, entry: AuditEntry) -> int:
        """Appends an entry and returns its seq, which holds only if the unit commits.

        Raises:
            InputError: the entry has no canonical form, or exceeds 65,535 bytes.
            StorageError: the unit has ended.
        """
        if self._ended:
            raise StorageError("unit_ended", "this unit has ended", "open a new one with store.unit()")
        seq, leaf = self._appender.append(entry)
        self._leaves[seq] = leaf
        alerts.observe(self.connection, entry, seq)  # what a person must hear of commits with its entry
        return seq

    def receipt(self, seq: int) -> Receipt:
        """Returns the receipt of an entry that this unit appended and committed.

        Raises:
            StorageError: the unit has not committed, or did not append this entry.
        """
        leaf = self._leaves.get(seq)
        if self._seal is None or leaf is None:
            raise StorageError(
                "no_receipt", f"entry {seq} was not committed by this unit", "ask after the unit has ended"
            )
        return Receipt(seq, leaf.hex(), self._seal.note)

    def end(self) -> None:
        """Takes nothing more (the writer calls this when the body has ended)."""
        self._ended = True

    def acknowledge(self, seal: log.Seal) -> None:
        """Marks the unit as durable (the writer calls this after the commit returned)."""
        self._seal = seal


class _Batch:
    """The transaction that is open, and the threads that wait for its outcome."""

    def __init__(self, appender: log.Appender) -> None:
        self.appender = appender
        self.seal: log.Seal | None = None
        self.failure: StorageError | None = None
        self.units = 0
        self._opened_s = time.monotonic()
        self._gates: list[threading.Lock] = []

    @property
    def over(self) -> bool:
        return self.seal is not None or self.failure is not None

    @property
    def has_room(self) -> bool:
        return self.units < UNITS_PER_BATCH_MAX and time.monotonic() - self._opened_s < BATCH_AGE_S_MAX

    @property
    def is_shared(self) -> bool:
        return bool(self._gates)

    def gate(self) -> int:
        """Returns the place in the row of those who wait for the outcome; the caller holds the turn."""
        gate = threading.Lock()
        gate.acquire()
        self._gates.append(gate)
        return len(self._gates) - 1

    def wait(self, place: int, timeout_s: float) -> bool:
        """Waits for one's own gate; returns whether the batch is over."""
        return self._gates[place].acquire(timeout=timeout_s) or self.over

    def let_go(self, place: int) -> bool:
        """Opens the gate of whoever stands at a place; returns whether anybody does.

        Each thread opens the next one's: all at once would fight over the interpreter's lock, of which
        only one can be the holder.
        """
        if not self.over or place >= len(self._gates):
            return False
        self._gates[place].release()
        return True

    def publish(self, seal: log.Seal | None, failure: StorageError | None) -> None:
        self.seal, self.failure = seal, failure
        self.let_go(0)


class Writer:
    """The one connection of this process that writes, and whose turn it is."""

    def __init__(self, path: Path, origin: str, signer: LogSigner, clock: Clock) -> None:
        self.path = path
        self.connection = database.connect_writer(path)
        self.seen: log.Seal
        self._origin = origin
        self._signer = signer
        self._clock = clock
        self._turn = threading.Lock()
        self._waiting: deque[None] = deque()  # append and pop are atomic, a counter's += is not
        self._holder: int | None = None
        self._pid = os.getpid()
        self._batch: _Batch | None = None
        self._leaving: _Batch | None = None  # the batch whose threads are being let go, one by one
        self._failure: str | None = None
        self._when_failed: list[Callable[[StorageError], None]] = []
        self._work = 0
        self._closed = False

    @contextmanager
    def unit(self) -> Generator[Unit, None, None]:
        """Runs one unit; see `Store.unit`."""
        self.check_usable()
        self.check_not_inside()
        batch, unit = self._start()
        try:
            yield unit
        except BaseException as error:
            self._finish(batch, unit, error)
            if batch.failure is not None:
                raise self._failed() from error
            raise
        self._finish(batch, unit, None)
        if batch.seal is None:
            raise self._failed()
        unit.acknowledge(batch.seal)

    def check_usable(self) -> None:
        """Raises StorageError where nothing may be written: failed, closed or forked."""
        if self._failure is not None:
            raise self._failed()
        self.check_open()

    def check_open(self) -> None:
        """Raises StorageError where the store is closed or belongs to a parent process."""
        if self._closed:
            raise StorageError("store_closed", "the store is closed", "open it again with Store.open")
        if os.getpid() != self._pid:
            raise StorageError(
                "store_forked", "a store does not survive a fork", "open it again in the child process"
            )

    def check_not_inside(self) -> None:
        """Raises StorageError where this thread is inside a unit, and would wait for itself."""
        if self._holder == threading.get_ident():
            raise StorageError("nested_unit", "this thread is inside a unit", "use the unit that is open")

    def when_failed(self, action: Callable[[StorageError], None]) -> None:
        """Calls `action` once, in the thread that met the failure, when the writer latches."""
        self._when_failed.append(action)
        if self._failure is not None:
            action(self._failed())

    def close(self) -> None:
        """Commits what is open and closes the connection."""
        self._take_turn()
        try:
            self._closed = True
            if self._batch is not None:
                self._settle(self._batch)
            with suppress(sqlite3.Error):
                # SQLite's last checkpoint writes its pages anew and syncs those: it repeats no failed sync.
                self.connection.close()
        finally:
            self._pass_turn()

    def _take_turn(self) -> None:
        self._waiting.append(None)
        try:
            self._turn.acquire()
        finally:
            self._waiting.pop()
        self._holder = threading.get_ident()

    def _pass_turn(self) -> None:
        self._holder = None
        self._turn.release()

    def _start(self) -> tuple[_Batch, Unit]:
        self._take_turn()
        try:
            self.check_usable()
            batch = self._batch
            if batch is None:
                batch = self._batch = self._begin()
            unit = Unit(self.connection, batch.appender)
            self.connection.enter_body(batch.appender.write)
        except BaseException:
            self._pass_turn()
            raise
        return batch, unit

    def _begin(self) -> _Batch:
        try:
            database.begin(self.connection)
        except sqlite3.Error as error:
            if database.is_busy(error):
                raise StorageError(
                    "store_busy",
                    f"another process held the log for {database.BUSY_TIMEOUT_S:.0f} s",
                    "try again; nothing was written",
                ) from error
            raise self._latch(error) from error
        try:
            return _Batch(log.Appender(self.connection, self._origin, self._signer, self._clock, self.seen))
        except BaseException as error:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._latch(error) from error
            raise

    def _finish(self, batch: _Batch, unit: Unit, error: BaseException | None) -> None:
        """Ends a unit and returns when its batch is over: committed, or failed."""
        place: int | None = None
        try:
            self._end(batch, unit, error)
            if not batch.over and (self._waiting or self._leaving is not None) and batch.has_room:
                place = batch.gate()
        finally:
            if place is None and not batch.over:
                self._settle(batch)
            self._pass_turn()
        if place is None:
            return
        try:
            while not batch.wait(place, _PATIENCE_S):
                self._settle_late(batch)
        except BaseException:
            self._settle_late(batch)
            raise
        finally:
            if not batch.let_go(place + 1):
                self._last_left(batch)

    def _end(self, batch: _Batch, unit: Unit, error: BaseException | None) -> None:
        unit.end()
        batch.units += 1
        try:
            self.connection.leave_body(error)
        except sqlite3.Error as failure:  # a lost transaction is lost for everybody in it
            self._fail(batch, failure)
        else:
            if error is not None:
                batch.appender.go_back(unit.mark)

    def _last_left(self, batch: _Batch) -> None:
        """Commits what units left open in the expectation that this thread would come with one, too."""
        if self._leaving is not batch:
            return
        self._leaving = None
        current = self._batch
        if current is not None and not self._waiting:
            self._settle_late(current)

    def _settle_late(self, batch: _Batch) -> None:
        """Commits a batch whose last thread never came, such as one that was interrupted."""
        self._take_turn()
        try:
            if not batch.over:
                self._settle(batch)
        finally:
            self._pass_turn()

    def _settle(self, batch: _Batch) -> None:
        """Seals and commits the batch and tells its threads; the caller holds the turn."""
        seal: log.Seal | None = None
        try:
            seal = batch.appender.seal()
            self.connection.execute(database.COMMIT)
        except BaseException as error:
            interrupted = not isinstance(error, Exception)
            if seal is None or not interrupted or self.connection.in_transaction:
                self._fail(batch, error)
            else:  # the interrupt was seen only after SQLite had committed
                self._succeed(batch, seal)
            if interrupted:
                raise
            return
        self._succeed(batch, seal)
        self._work += 1 + batch.units
        if self._work >= _WORK_PER_CHECKPOINT:
            self._work = 0
            try:
                database.checkpoint(self.connection)
            except sqlite3.Error as error:
                # This batch is durable in the write-ahead log; the next one is refused.
                self._latch(error)

    def _succeed(self, batch: _Batch, seal: log.Seal) -> None:
        self._batch, self.seen = None, seal
        self._leaving = batch if batch.is_shared else None
        batch.publish(seal, None)

    def _fail(self, batch: _Batch, error: BaseException) -> StorageError:
        self._batch = None
        with suppress(sqlite3.Error):
            self.connection.execute("ROLLBACK")
        try:
            failure = self._latch(error)
        finally:
            batch.publish(None, self._failed())
        return failure

    def _latch(self, error: BaseException) -> StorageError:
        first = self._failure is None
        self._failure = self._failure or str(error) or type(error).__name__
        failure = self._failed()
        if first:
            _log.error("audit_write_failed", path=str(self.path), error=self._failure)
            for action in self._when_failed:
                action(failure)
        return failure

    def _failed(self) -> StorageError:
        return StorageError(
            "audit_write_failed",
            f"the audit log could not be written ({self._failure}); nothing more is accepted",
            "check the disk, run `neural-trader audit verify`, then start again",
        )
