"""The log inside the database: entries, complete subtree hashes and signed checkpoints.

Every function works on a connection that somebody else holds open, inside that one's transaction.
`Appender` reads the frontier from the database when its transaction begins, so that many
processes on one home extend one log.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from neural_trader_governance.audit import archive, merkle
from neural_trader_governance.audit.checkpoints import Checkpoint
from neural_trader_governance.audit.entries import AuditEntry, LoggedEntry
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.terms.clocks import Clock, to_epoch_us

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS audit_entries (
  seq INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, type TEXT NOT NULL, agent TEXT NOT NULL,
  symbol TEXT, client_order_id TEXT, leaf_hash BLOB NOT NULL, entry BLOB NOT NULL) STRICT;
DROP INDEX IF EXISTS audit_entries_type;
DROP INDEX IF EXISTS audit_entries_symbol;
DROP INDEX IF EXISTS audit_entries_agent;
CREATE INDEX IF NOT EXISTS audit_by_type ON audit_entries (type, time_us, seq, symbol, agent);
CREATE INDEX IF NOT EXISTS audit_by_symbol ON audit_entries (symbol, time_us, seq, type, agent)
  WHERE symbol IS NOT NULL;
CREATE INDEX IF NOT EXISTS audit_by_agent ON audit_entries (agent, time_us, seq, type, symbol);
CREATE INDEX IF NOT EXISTS audit_entries_time ON audit_entries (time_us);
DROP INDEX IF EXISTS audit_entries_order;
CREATE INDEX IF NOT EXISTS audit_by_order ON audit_entries (client_order_id)
  WHERE client_order_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS audit_subtrees (number INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS audit_checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
{archive.SCHEMA}"""
"""An entry whose bytes are empty was archived: they lie in the folder that `audit_archives` names.

Whatever a commit adds stands at the end of its table or index, as far as can be: every page that is
touched is written and synced.
"""
_ROWS_PER_INSERT_MAX = 64


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint: how many entries, under which root, signed."""

    size: int
    root_hex: str
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an entry stands: its leaf hash, and a signed checkpoint that covers it."""

    seq: int
    leaf_hash: str
    checkpoint: str


def read_node(connection: sqlite3.Connection, level: int, position: int) -> bytes:
    """Returns the stored hash of a complete subtree.

    Raises:
        IntegrityError: it is not there although the size says that it is complete.
    """
    if level == 0:
        row = connection.execute("SELECT leaf_hash FROM audit_entries WHERE seq = ?", (position,)).fetchone()
    else:
        row = connection.execute(
            "SELECT hash FROM audit_subtrees WHERE number = ?", (merkle.subtree_number(level, position),)
        ).fetchone()
    if row is None:
        raise IntegrityError(
            "subtree_missing",
            f"the audit log lacks its node {level}/{position}",
            "run `neural-trader audit verify`",
        )
    return bytes(row[0])


def node_reader(connection: sqlite3.Connection) -> merkle.NodeReader:
    """Returns the reader that proofs are made from."""
    return lambda level, position: read_node(connection, level, position)


def read_frontier(connection: sqlite3.Connection, size: int) -> tuple[bytes, ...]:
    """Returns the hashes of the complete subtrees that make up a tree of this size."""
    return tuple(read_node(connection, *node) for node in merkle.frontier_nodes(size))


def read_checkpoint(connection: sqlite3.Connection, covering: int | None = None) -> tuple[int, str] | None:
    """Returns size and note of the newest checkpoint, or of the first one that covers a seq."""
    if covering is None:
        query, values = "SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1", ()
    else:
        query = "SELECT size, note FROM audit_checkpoints WHERE size > ? ORDER BY size LIMIT 1"
        values = (covering,)
    row = connection.execute(query, values).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def read_receipt(connection: sqlite3.Connection, seq: int) -> Receipt:
    """Returns the receipt of a committed entry.

    Raises:
        InputError: the log has no such entry.
    """
    row = connection.execute("SELECT leaf_hash FROM audit_entries WHERE seq = ?", (seq,)).fetchone()
    found = read_checkpoint(connection, covering=seq)
    if row is None or found is None:
        raise InputError("unknown_seq", f"the audit log has no entry {seq}", "take a seq from audit_search")
    return Receipt(seq, bytes(row[0]).hex(), found[1])


def read_entry(connection: sqlite3.Connection, seq: int, *, folder: Path | None = None) -> LoggedEntry:
    """Returns one committed entry, from its archive where it was moved to one.

    Args:
        connection: Inside a transaction of the store.
        seq: Its number.
        folder: Where archived entries lie now, if not where they were archived to.

    Raises:
        InputError: the log has no such entry.
        StorageError: `entry_archived`, its archive is not where it was.
        IntegrityError: its bytes are damaged.
    """
    row = connection.execute("SELECT leaf_hash, entry FROM audit_entries WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        raise InputError("unknown_seq", f"the audit log has no entry {seq}", "take a seq from audit_search")
    return LoggedEntry.decode(archive.Shelf(connection, folder).read(seq, bytes(row[0]), bytes(row[1])))


@dataclass(frozen=True, slots=True)
class Seal:
    """What a process last saw and checked of the log; a later state must contain it."""

    size: int
    root: bytes
    note: str
    frontier: tuple[bytes, ...]


class Mark(NamedTuple):
    """Where an appender stood, so that it can go back there."""

    size: int
    frontier: tuple[bytes, ...]
    rows: int
    written: int
    nodes: int


class Appender:
    """Extends the log within one transaction and seals it with one signed checkpoint.

    Rows are kept back until the seal, or until somebody looks (`write`), and then written many at once.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        origin: str,
        signer: LogSigner,
        clock: Clock,
        seen: Seal,
    ) -> None:
        self._connection = connection
        self._origin = origin
        self._signer = signer
        self._clock = clock
        self._base = advance(connection, origin, signer, seen)
        self._size = self._base.size
        self._frontier = self._base.frontier
        self._rows: list[tuple[object, ...]] = []
        self._written = 0
        self._nodes: list[tuple[object, ...]] = []

    def append(self, entry: AuditEntry) -> tuple[int, bytes]:
        """Adds one entry; returns its seq and its leaf hash.

        Raises:
            InputError: the entry has no canonical form, or is too large.
        """
        seq, now = self._size, self._clock.now()
        logged, data = LoggedEntry.place(entry, seq=seq, ts=now, origin=self._origin)
        leaf = merkle.leaf_hash(data)
        self._rows.append((seq, *index_columns(logged), leaf, data))
        self._frontier, completed = merkle.extend(seq, self._frontier, leaf)
        self._nodes += [(merkle.subtree_number(*node), digest) for *node, digest in completed]
        self._size += 1
        return seq, leaf

    def mark(self) -> Mark:
        """Returns where the appender stands."""
        return Mark(self._size, self._frontier, len(self._rows), self._written, len(self._nodes))

    def go_back(self, mark: Mark) -> None:
        """Forgets what was appended since the mark; the caller rolls the database back to there too."""
        self._size, self._frontier, self._written = mark.size, mark.frontier, mark.written
        del self._rows[mark.rows :], self._nodes[mark.nodes :]

    def write(self) -> None:
        """Writes the rows of entries that were kept back."""
        if self._written < len(self._rows):
            rows, self._written = self._rows[self._written :], len(self._rows)
            _insert(self._connection, "audit_entries", rows)

    def seal(self) -> Seal:
        """Writes subtrees and signed checkpoint if anything was appended; returns the log's state."""
        if self._size == self._base.size:
            return self._base
        self.write()
        _insert(self._connection, "audit_subtrees", self._nodes)
        root = merkle.root_of(self._frontier)
        note = self._signer.sign(self._connection, Checkpoint(self._origin, self._size, root))
        self._connection.execute(
            "INSERT INTO audit_checkpoints (size, note) VALUES (?, ?)", (self._size, note)
        )
        return Seal(self._size, root, note, self._frontier)


def _insert(connection: sqlite3.Connection, table: str, rows: list[tuple[object, ...]]) -> None:
    # Many rows to a statement: the interpreter's lock changes hands at each.
    while rows:
        count = min(_ROWS_PER_INSERT_MAX, 1 << len(rows).bit_length() - 1)  # few statements to keep prepared
        values = f"({','.join('?' * len(rows[0]))})"
        connection.execute(
            f"INSERT INTO {table} VALUES {','.join([values] * count)}",  # noqa: S608 - names of our own
            [value for row in rows[:count] for value in row],
        )
        rows = rows[count:]


def index_columns(entry: LoggedEntry) -> tuple[int, str, str, str | None, str | None]:
    """Returns the columns that are derived from an entry, for search."""
    return to_epoch_us(entry.ts), entry.type.value, entry.agent, entry.symbol, entry.client_order_id


def advance(connection: sqlite3.Connection, origin: str, signer: LogSigner, seen: Seal | None) -> Seal:
    """Reads the newest state and checks that it continues what this process saw before.

    A log must never sign two histories: a checkpoint is extended only if the keys in force signed it, the
    stored subtrees make up its root, and it contains the state seen before.

    Raises:
        IntegrityError: one of these does not hold, or entries stand beyond the checkpoint.
    """
    found = read_checkpoint(connection)
    if found is None:
        raise _broken("the audit log has no checkpoint")
    size, note = found
    if seen is not None and note == seen.note:
        return seen
    checkpoint = signer.open(connection, note, origin)
    last = connection.execute("SELECT max(seq) FROM audit_entries").fetchone()[0]
    if checkpoint.size != size or size != (0 if last is None else int(last) + 1):
        raise _broken(f"the newest checkpoint covers {checkpoint.size} entries, the log holds another number")
    frontier = read_frontier(connection, size)
    if merkle.root_of(frontier) != checkpoint.root:
        raise _broken(f"the stored hashes do not make up the signed root at size {size}")
    if seen is not None:
        if size < seen.size:
            raise _broken(f"the log shrank from {seen.size} to {size} entries")
        if merkle.root_of(read_frontier(connection, seen.size)) != seen.root:
            raise _broken(f"the log no longer contains its own history of {seen.size} entries")
    return Seal(size, checkpoint.root, note, frontier)


def begin_log(connection: sqlite3.Connection, origin: str, signer: LogSigner) -> None:
    """Writes the signed checkpoint of size 0 into a fresh log; does nothing to one that exists."""
    _adopt_nodes(connection)
    if read_checkpoint(connection) is None:
        if connection.execute("SELECT 1 FROM audit_entries LIMIT 1").fetchone() is not None:
            raise _broken("the audit log has entries and no checkpoint")
        note = signer.sign(connection, Checkpoint(origin, 0, merkle.EMPTY_ROOT))
        connection.execute("INSERT INTO audit_checkpoints (size, note) VALUES (0, ?)", (note,))


def _adopt_nodes(connection: sqlite3.Connection) -> None:
    """Takes over the subtrees of a log that an earlier version wrote, which kept them by their place."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'audit_nodes'").fetchone() is None:
        return
    nodes = connection.execute("SELECT level, position, hash FROM audit_nodes").fetchall()
    connection.executemany(
        "INSERT INTO audit_subtrees VALUES (?, ?)",
        [(merkle.subtree_number(level, position), digest) for level, position, digest in nodes],
    )
    connection.execute("DROP TABLE audit_nodes")


def _broken(what: str) -> IntegrityError:
    return IntegrityError(
        "audit_log_broken", what, "stop trading, keep the files, and run `neural-trader audit verify`"
    )
