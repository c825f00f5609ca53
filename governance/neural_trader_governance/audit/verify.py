"""Offline verification: is the log whole, and if not, which entry is the first bad one?

Everything is recomputed from the entries' own bytes and compared with what a pinned key signed:
canonical form, sequence, leaf hashes, stored subtrees, and the root at every checkpoint ever
written (so each one is consistent with all that follow). Nothing is modified.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.checkpoints import Checkpoint, open_checkpoint
from neural_trader_governance.audit.entries import LoggedEntry
from neural_trader_governance.audit.tiles import spans, tile_path
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.signing.keys import VerifyingKey

PROBLEMS_MAX = 20
# SQLite quotes the damaged text in its message, which then may not decode.
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not verify; `seq` names the entry where one can be named."""

    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The outcome: size and root are those of the newest checkpoint that the key signed."""

    ok: bool
    size: int
    root: str
    problems: tuple[Problem, ...]


def verify_store(path: Path, vkey: str | VerifyingKey) -> AuditReport:
    """Verifies a store file, or a plain copy of one, without changing it.

    Args:
        path: `desk.db`; a write-ahead log beside it is taken into account.
        vkey: The pinned verifier key of the log.

    Raises:
        StorageError: there is no such file, or it cannot be opened.
        ConfigurationError: the verifier key is malformed.
    """
    key = VerifyingKey.parse(vkey) if isinstance(vkey, str) else vkey
    if not path.is_file():
        raise StorageError("store_missing", f"there is no {path}", "give the path of a desk.db")
    try:
        with _opened(path) as connection:
            return verify_connection(connection, key)
    except _DAMAGE as error:
        return _report(None, [Problem(None, f"the database file is damaged: {error}")])


def verify_connection(connection: sqlite3.Connection, vkey: str | VerifyingKey) -> AuditReport:
    """Verifies the log behind an open connection, inside the caller's read transaction.

    This is the way to verify a store that is being written: `with store.read() as connection`.
    """
    walk = _Walk(connection, VerifyingKey.parse(vkey) if isinstance(vkey, str) else vkey)
    try:
        walk.run()
    except _DAMAGE as error:
        walk.problems.append(Problem(walk.size, f"the database file is damaged from here on: {error}"))
    except _Enough:
        pass
    return _report(walk.newest, walk.problems)


def verify_export(folder: Path, vkey: str | VerifyingKey) -> AuditReport:
    """Verifies a tlog-tiles folder against a pinned key.

    Raises:
        StorageError: the folder holds no checkpoint.
        ConfigurationError: the verifier key is malformed.
    """
    key = VerifyingKey.parse(vkey) if isinstance(vkey, str) else vkey
    try:
        note = (folder / "checkpoint").read_bytes()
    except OSError as error:
        raise StorageError(
            "export_missing", f"{folder} holds no checkpoint ({error.strerror})", "give an export's folder"
        ) from None
    try:
        checkpoint = open_checkpoint(note, key)
    except IntegrityError as error:
        return _report(None, [Problem(None, f"checkpoint: {error.what}")])
    problems: list[Problem] = []
    hashes = _check_bundles(folder, checkpoint, problems)
    root, level = merkle.tree_hash(hashes), 0
    while hashes and len(problems) < PROBLEMS_MAX:
        above: list[bytes] = []
        for index, width in spans(len(hashes)):
            first = index * 256
            wanted = hashes[first : first + width]
            name = tile_path(str(level), index, width)
            stored = _read(folder / name)
            if stored != b"".join(wanted):
                bad = first if stored is None else _first_difference(stored, wanted) + first
                seq = bad if level == 0 else None
                problems.append(Problem(seq, f"{name} does not match the entries"))
            if width == 256:
                above.append(merkle.tree_hash(wanted))
        hashes, level = above, level + 1
    if root != checkpoint.root:
        problems.append(
            Problem(None, f"the entries do not make up the signed root at size {checkpoint.size}")
        )
    return _report(checkpoint, problems)


def _check_bundles(folder: Path, checkpoint: Checkpoint, problems: list[Problem]) -> list[bytes]:
    hashes: list[bytes] = []
    for index, width in spans(checkpoint.size):
        name = tile_path("entries", index, width)
        bundle = _read(folder / name)
        if bundle is None:
            problems.append(Problem(index * 256, f"{name} is missing"))
            break
        offset = 0
        for seq in range(index * 256, index * 256 + width):
            end = offset + 2 + int.from_bytes(bundle[offset : offset + 2], "big")
            if end > len(bundle) or offset + 2 > len(bundle):
                problems.append(Problem(seq, f"{name} ends within the entry"))
                return hashes
            data, offset = bundle[offset + 2 : end], end
            _, fault = _read_entry(data, seq, checkpoint.origin)
            if fault is not None:
                problems.append(Problem(seq, fault))
            hashes.append(merkle.leaf_hash(data))
            if len(problems) >= PROBLEMS_MAX:
                return hashes
        if offset != len(bundle):
            problems.append(Problem(None, f"{name} holds bytes beyond its entries"))
    return hashes


class _Enough(Exception):  # noqa: N818 - a signal that the list is full, no error
    pass


class _Walk:
    """One pass over checkpoints and entries in their order."""

    def __init__(self, connection: sqlite3.Connection, key: VerifyingKey) -> None:
        self._connection = connection
        self._key = key
        self._origin: str | None = None
        self._frontier: tuple[bytes, ...] = ()
        self._nodes = 0
        self._rooted = True
        self.size = 0
        self.newest: Checkpoint | None = None
        self.problems: list[Problem] = []

    def problem(self, seq: int | None, what: str) -> None:
        self.problems.append(Problem(seq, what))
        if len(self.problems) >= PROBLEMS_MAX:
            raise _Enough

    def run(self) -> None:
        # Cast to BLOB: damaged text must be compared, not decoded.
        entries = self._connection.execute(
            "SELECT seq, time_us, CAST(type AS BLOB), CAST(agent AS BLOB), CAST(symbol AS BLOB),"
            " CAST(client_order_id AS BLOB), leaf_hash, entry FROM audit_entries ORDER BY seq"
        )
        checkpoints = self._connection.execute(
            "SELECT size, CAST(note AS BLOB) FROM audit_checkpoints ORDER BY size"
        )
        for size, note in checkpoints:
            checkpoint = self._open(size, note)
            while self.size < size:
                row = entries.fetchone()
                if row is None:
                    self.problem(self.size, f"the entries end here, but {size} were signed")
                    return
                if not self._take(*row):
                    return
            if checkpoint is not None:
                self._check_root(checkpoint)
        if self.newest is None:
            self.problem(None, "no checkpoint is signed by this key")
        for row in entries:
            self.problem(row[0], "the entry stands beyond the newest checkpoint")
        (nodes,) = self._connection.execute("SELECT count(*) FROM audit_nodes").fetchone()
        if nodes != self._nodes:
            self.problem(None, f"{nodes} subtree hashes are stored, {self._nodes} belong to the entries")

    def _open(self, size: int, note: object) -> Checkpoint | None:
        if not isinstance(note, bytes):
            self.problem(None, f"checkpoint {size}: its row is damaged")
            return None
        try:
            checkpoint = open_checkpoint(note, self._key, origin=self._origin)
        except IntegrityError as error:
            self.problem(None, f"checkpoint {size}: {error.what}")
            return None
        if checkpoint.size != size:
            self.problem(None, f"checkpoint {size} was signed for the size {checkpoint.size}")
            return None
        self._origin, self.newest = checkpoint.origin, checkpoint
        return checkpoint

    def _take(self, seq: int, *columns: object) -> bool:
        """Checks one entry; False when the sequence broke, after which nothing can be placed."""
        if seq != self.size:
            self.problem(self.size, f"the entry is missing; the next one stored is {seq}")
            return False
        index, (stored_leaf, data) = columns[:5], columns[5:]
        if not isinstance(data, bytes) or not isinstance(stored_leaf, bytes):
            self.problem(seq, "the entry's row is damaged")
            return False
        entry, fault = _read_entry(data, seq, self._origin)
        if merkle.leaf_hash(data) != stored_leaf:
            what = "the entry's bytes do not match its leaf hash"
            self.problem(seq, f"{what}; {fault}" if fault else what)
        elif fault is not None:
            self.problem(seq, fault)
        elif entry is None or index != _as_bytes(log.index_columns(entry)):
            self.problem(seq, "the search columns differ from the entry")
        # On from the stored hash: one altered entry is one problem, not every entry after it.
        self._frontier, completed = merkle.extend(seq, self._frontier, stored_leaf)
        self._nodes += len(completed)
        for level, position, expected in completed:
            row = self._connection.execute(
                "SELECT hash FROM audit_nodes WHERE level = ? AND position = ?", (level, position)
            ).fetchone()
            if row is None or row[0] != expected:
                self.problem(seq, f"the stored subtree {level}/{position} that it completed is wrong")
        self.size += 1
        return True

    def _check_root(self, checkpoint: Checkpoint) -> None:
        if self._rooted and merkle.root_of(self._frontier) != checkpoint.root:
            # Every later root fails with this one: said once.
            self._rooted = False
            self.problem(
                max(0, checkpoint.size - 1),
                f"the entries up to here do not make up the root signed at size {checkpoint.size}",
            )


def _read_entry(data: bytes, seq: int, origin: str | None) -> tuple[LoggedEntry | None, str | None]:
    """Returns the entry, and what is wrong with it as number `seq` of this log."""
    try:
        entry = LoggedEntry.decode(data)
    except IntegrityError as error:
        return None, error.what
    if entry.seq != seq:
        return entry, f"the entry says that it is number {entry.seq}"
    if origin is not None and entry.origin != origin:
        return entry, f"the entry belongs to the log {entry.origin!r:.80}"
    return entry, None


def _as_bytes(columns: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(value.encode() if isinstance(value, str) else value for value in columns)


def _first_difference(stored: bytes, wanted: list[bytes]) -> int:
    for offset, expected in enumerate(wanted):
        if stored[offset * 32 : offset * 32 + 32] != expected:
            return offset
    return len(wanted) - 1


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _report(checkpoint: Checkpoint | None, problems: list[Problem]) -> AuditReport:
    size, root = (0, "") if checkpoint is None else (checkpoint.size, checkpoint.root.hex())
    return AuditReport(not problems and checkpoint is not None, size, root, tuple(problems))


@contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
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
