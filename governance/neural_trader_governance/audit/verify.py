"""Offline verification: is the log whole, and if not, which entry is the first bad one?

Everything is recomputed from the entries' own bytes and compared with what the log's keys signed,
from a pinned key on: canonical form, sequence, leaf hashes, stored subtrees, key rotations, and the
root at every checkpoint ever written (so each one is consistent with all that follow). Nothing is
modified.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.archive import KEPT_TYPES, Shelf
from neural_trader_governance.audit.checkpoints import read_checkpoint
from neural_trader_governance.audit.examination import AuditReport, Enough, Examination, Pins, Problem
from neural_trader_governance.audit.folders import verify_export
from neural_trader_governance.audit.rotation import read_rotations
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.signing.notes import parse_note

__all__ = [
    "AuditReport",
    "Pins",
    "Problem",
    "verify_connection",
    "verify_export",
    "verify_store",
]

_KEPT = frozenset(kept.value.encode() for kept in KEPT_TYPES)
# SQLite quotes the damaged text in its message, which then may not decode.
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)


def verify_store(path: Path, vkey: str | VerifyingKey | Pins, *, archive: Path | None = None) -> AuditReport:
    """Verifies a store file, or a plain copy of one, without changing it.

    Args:
        path: `desk.db`; a write-ahead log beside it is taken into account.
        vkey: A key that was the log's at any time; the rotations in the log lead to the others.
        archive: Where archived entries lie now, if not where they were archived to.

    Raises:
        StorageError: there is no such file, or it cannot be opened.
        ConfigurationError: a verifier key is malformed.
    """
    pins = Pins.of(vkey)
    if not path.is_file():
        raise StorageError("store_missing", f"there is no {path}", "give the path of a desk.db")
    try:
        with opened(path) as connection:
            return verify_connection(connection, pins, archive=archive)
    except _DAMAGE as error:
        return AuditReport(False, 0, "", (Problem(None, f"the database file is damaged: {error}"),))


def verify_connection(
    connection: sqlite3.Connection, vkey: str | VerifyingKey | Pins, *, archive: Path | None = None
) -> AuditReport:
    """Verifies the log behind an open connection, inside the caller's read transaction.

    This is the way to verify a store that is being written: `with store.read() as connection`.
    """
    pins = Pins.of(vkey)
    walk = _Walk(connection, Examination(pins, ()), Shelf(connection, archive))
    try:
        walk.anchor(pins)
        with suppress(Enough):
            walk.run()
    except _DAMAGE as error:
        size = walk.examination.size
        with suppress(Enough):
            walk.examination.problem(size, f"the database file is damaged from here on: {error}")
    return walk.examination.report()


class _Walk:
    """One pass over the database's checkpoints and entries in their order."""

    def __init__(self, connection: sqlite3.Connection, examination: Examination, shelf: Shelf) -> None:
        self._connection = connection
        self._shelf = shelf
        self._nodes = 0
        self.examination = examination

    def anchor(self, pins: Pins) -> None:
        """Finds the log's first key by the rotations that it holds; each is checked when it is passed."""
        with suppress(IntegrityError):
            rotations = [rotation for _, rotation in read_rotations(self._connection)]
            self.examination = Examination(pins, rotations)

    def run(self) -> None:
        # Cast to BLOB: damaged text must be compared, not decoded.
        entries = self._connection.execute(
            "SELECT seq, time_us, CAST(type AS BLOB), CAST(agent AS BLOB), CAST(symbol AS BLOB),"
            " CAST(client_order_id AS BLOB), leaf_hash, entry FROM audit_entries ORDER BY seq"
        )
        checkpoints = self._connection.execute(
            "SELECT size, CAST(note AS BLOB) FROM audit_checkpoints ORDER BY size"
        )
        examination = self.examination
        for size, note in checkpoints:
            signed = self._readable(size, note)
            while examination.size < size:
                row = entries.fetchone()
                if row is None:
                    examination.problem(examination.size, f"the entries end here, but {size} were signed")
                    return
                if not self._take(*row):
                    return
            if signed is not None:
                examination.seal(signed)
        examination.finish()
        for row in entries:
            examination.problem(row[0], "the entry stands beyond the newest checkpoint")
        (nodes,) = self._connection.execute("SELECT count(*) FROM audit_subtrees").fetchone()
        if nodes != self._nodes:
            what = f"{nodes} subtree hashes are stored, {self._nodes} belong to the entries"
            examination.problem(None, what)

    def _readable(self, size: int, note: object) -> bytes | None:
        if not isinstance(note, bytes):
            self.examination.problem(None, f"checkpoint {size}: its row is damaged")
            return None
        try:
            signed_size = read_checkpoint(parse_note(note)).size
        except IntegrityError as error:
            self.examination.problem(None, f"checkpoint {size}: {error.what}")
            return None
        if signed_size != size:
            self.examination.problem(None, f"checkpoint {size} was signed for the size {signed_size}")
            return None
        return note

    def _take(self, seq: int, *columns: object) -> bool:
        """Examines one row; False when the sequence broke, after which nothing can be placed."""
        examination = self.examination
        if seq != examination.size:
            examination.problem(examination.size, f"the entry is missing; the next one stored is {seq}")
            return False
        index, (leaf, stored) = columns[:5], columns[5:]
        if not isinstance(stored, bytes) or not isinstance(leaf, bytes):
            examination.problem(seq, "the entry's row is damaged")
            return False
        try:
            data = self._shelf.read(seq, leaf, stored)
        except StorageError:
            data = None
        except IntegrityError as error:
            examination.problem(seq, error.what)
            data = None
        if not stored:
            examination.mark_archived(seq)
            if index[1] in _KEPT:
                examination.problem(seq, "the entry's bytes are gone, and entries of its type never leave")
        if data is None:
            examination.take_hash(leaf)
        else:
            entry = examination.take(data, leaf)
            if entry is not None and index != _as_bytes(log.index_columns(entry)):
                examination.problem(seq, "the search columns differ from the entry")
        self._check_nodes(seq)
        return True

    def _check_nodes(self, seq: int) -> None:
        for level, position, expected in self.examination.completed():
            self._nodes += 1
            row = self._connection.execute(
                "SELECT hash FROM audit_subtrees WHERE number = ?", (merkle.subtree_number(level, position),)
            ).fetchone()
            if row is None or row[0] != expected:
                what = f"the stored subtree {level}/{position} that it completed is wrong"
                self.examination.problem(seq, what)


def _as_bytes(columns: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(value.encode() if isinstance(value, str) else value for value in columns)


@contextmanager
def opened(path: Path) -> Generator[sqlite3.Connection]:
    """Opens a store file without changing it.

    A lone file is opened as immutable, so that not even a lock appears. Where a write-ahead log
    lies beside it, which holds the newest commits: with its index, the store may be live and is
    read like any reader does; without, it is a copy, and read through a private one.
    """
    wal, index = (path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))
    if not wal.is_file() or wal.stat().st_size == 0:
        with closing(_connect(path, "mode=ro&immutable=1")) as connection:
            yield connection
    elif index.is_file() and os.access(path.parent, os.W_OK):
        with closing(_connect(path, "mode=ro")) as connection:
            connection.execute("BEGIN")
            yield connection
    else:
        with tempfile.TemporaryDirectory(prefix="neural-trader-verify-") as folder:
            copy = Path(folder) / "desk.db"
            shutil.copyfile(path, copy)
            shutil.copyfile(wal, copy.with_name("desk.db-wal"))
            with closing(_connect(copy, "mode=rw")) as connection:
                connection.execute("BEGIN")
                yield connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
