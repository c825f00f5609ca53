"""A witness: remembers, outside the desk, the newest tree it saw of each log, and vouches for it.

It cosigns a checkpoint only if a pinned key of that log signed it and a consistency proof leads to
it from the newest one it cosigned before; that memory is durable before the cosignature leaves.
The answers are those of https://c2sp.org/tlog-witness, whoever carries them.

Not guaranteed: anything after the witness's own folder was put back to an older copy. Keep it on
another machine or account than the desk, and never restore it from a backup.
"""

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from neural_trader_governance import database
from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import Checkpoint, open_checkpoint
from neural_trader_governance.audit.cosignatures import WitnessKey, cosign
from neural_trader_governance.audit.submissions import Submission, parse_submission
from neural_trader_governance.errors import InputError, IntegrityError, StorageError
from neural_trader_governance.signing.at_rest import sync_folder
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.signing.notes import Note, parse_note
from neural_trader_governance.terms.clocks import Clock, to_epoch_us

SIZE_TYPE = "text/x.tlog.size"
_EVIDENCE_MAX = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS trusted_keys (
  origin TEXT NOT NULL, vkey TEXT NOT NULL, PRIMARY KEY (origin, vkey)) STRICT;
CREATE TABLE IF NOT EXISTS logs (
  origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note TEXT NOT NULL,
  time_s INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS evidence (
  id INTEGER PRIMARY KEY, origin TEXT NOT NULL, time_s INTEGER NOT NULL, reason TEXT NOT NULL,
  note TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the witness answers: an HTTP status and a body."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What the witness knows of one log; `note` carries the log's signature and the cosignature."""

    origin: str
    size: int
    root_hex: str
    time_s: int
    note: str
    refused: int


class Witness:
    """One witness, on its own folder; safe for many threads and many processes."""

    def __init__(self, folder: Path, key: SigningKey, clock: Clock) -> None:
        """Use `Witness.open`."""
        self.key = WitnessKey.of(key)
        self._signer = key
        self._clock = clock
        self._path = folder / "witness.db"
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._connection = sqlite3.connect(
            self._path, timeout=database.BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        # A commit that a crash undoes is a forgotten promise: EXTRA also syncs the journal's removal.
        self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.execute("PRAGMA synchronous = EXTRA")

    @classmethod
    def open(cls, folder: Path, key: SigningKey, clock: Clock) -> Self:
        """Opens the witness of a folder.

        Args:
            folder: Exists, is the witness's alone and on a local disk.
            key: The witness's own key, which no desk knows.
            clock: Dates the cosignatures.

        Raises:
            StorageError: its memory cannot be opened.
        """
        path = folder / "witness.db"
        try:
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(folder)
            witness = cls(folder, key, clock)
            witness._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                "witness_unavailable", f"{path} cannot be opened ({error})", "check the folder and its disk"
            ) from error
        return witness

    def trust(self, key: VerifyingKey, origin: str | None = None) -> bool:
        """Pins a log's key; a log may have several, so that a new one can take over. True if it is new.

        Args:
            key: The log's verifier key, got from its operator and not from the log.
            origin: The log's name; by convention the key's own.
        """
        with self._unit() as connection:
            cursor = connection.execute(
                "INSERT INTO trusted_keys (origin, vkey) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (origin or key.name, key.vkey),
            )
            return cursor.rowcount == 1

    def trusted(self) -> list[tuple[str, VerifyingKey]]:
        """Returns the pinned keys, each with the origin that it may sign for."""
        with self._unit() as connection:
            rows = connection.execute(
                "SELECT origin, vkey FROM trusted_keys ORDER BY origin, vkey"
            ).fetchall()
        return [(str(origin), VerifyingKey.parse(vkey)) for origin, vkey in rows]

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answers one `add-checkpoint` request (https://c2sp.org/tlog-witness).

        Raises:
            StorageError: the memory could not be written; nothing was cosigned, and nothing will be.
        """
        try:
            submission = parse_submission(body)
            note = parse_note(submission.note)
        except (InputError, IntegrityError) as error:
            return Answer(400, f"{error.what}\n")
        with self._unit() as connection:
            return self._judge(connection, submission, note)

    def latest(self, origin: str) -> Witnessed | None:
        """Returns what was cosigned last for a log, or None."""
        return next((log for log in self.logs() if log.origin == origin), None)

    def logs(self) -> list[Witnessed]:
        """Returns every log that was ever cosigned."""
        with self._unit() as connection:
            rows = connection.execute(
                "SELECT origin, size, root, time_s, note,"
                " (SELECT count(*) FROM evidence WHERE evidence.origin = logs.origin)"
                " FROM logs ORDER BY origin"
            ).fetchall()
        return [
            Witnessed(str(o), int(s), bytes(r).hex(), int(t), str(n), int(e)) for o, s, r, t, n, e in rows
        ]

    def close(self) -> None:
        """Closes the memory."""
        with self._lock:
            self._connection.close()

    def _judge(self, connection: sqlite3.Connection, submission: Submission, note: Note) -> Answer:
        origin = note.text.partition("\n")[0]
        rows = connection.execute("SELECT vkey FROM trusted_keys WHERE origin = ?", (origin,)).fetchall()
        if not rows:
            return Answer(404, f"the log {origin!r:.100} is not known here\n")
        try:
            checkpoint = _open(note, [VerifyingKey.parse(row[0]) for row in rows], origin)
        except IntegrityError as error:
            return Answer(403 if error.code.startswith("signature") else 400, f"{error.what}\n")
        if submission.old > checkpoint.size:
            return Answer(400, f"the old size {submission.old} exceeds the size {checkpoint.size}\n")
        row = connection.execute("SELECT size, root FROM logs WHERE origin = ?", (origin,)).fetchone()
        size, root = (0, merkle.EMPTY_ROOT) if row is None else (int(row[0]), bytes(row[1]))
        if submission.old != size:
            return Answer(409, f"{size}\n", SIZE_TYPE)
        if not _continues(size, root, checkpoint, submission.proof):
            forked = checkpoint.size == size and checkpoint.root != root
            reason = "another root of this size" if forked else f"no proof leads to it from size {size}"
            self._keep_evidence(connection, checkpoint, note, reason, forked=forked)
            return Answer(422, f"no proof leads from size {size} to this tree of {checkpoint.size}\n")
        return self._cosign(connection, checkpoint, note)

    def _cosign(self, connection: sqlite3.Connection, checkpoint: Checkpoint, note: Note) -> Answer:
        """Remembers the checkpoint; the answer leaves only after the caller's transaction is durable."""
        time_s = to_epoch_us(self._clock.now()) // 1_000_000
        line = cosign(note.text, self._signer, time_s)
        known = (self.key.name, self.key.key_id)
        others = tuple(s for s in note.signatures if (s.name, s.key_id) != known)
        connection.execute(
            "INSERT INTO logs (origin, size, root, note, time_s) VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin)"
            " DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note,"
            " time_s = excluded.time_s",
            (
                checkpoint.origin,
                checkpoint.size,
                checkpoint.root,
                Note(note.text, (*others, line)).encode(),
                time_s,
            ),
        )
        return Answer(200, line.line())

    def _keep_evidence(
        self, connection: sqlite3.Connection, checkpoint: Checkpoint, note: Note, reason: str, *, forked: bool
    ) -> None:
        """Keeps a signed checkpoint that was not shown to follow: it may prove a second history."""
        kept, known = connection.execute(
            "SELECT count(*), coalesce(max(note = ?), 0) FROM evidence WHERE origin = ?",
            (note.encode(), checkpoint.origin),
        ).fetchone()
        # Whoever has a true checkpoint can send it with a false proof, again and again. What leaves no
        # doubt, two roots of one size, has room of its own, and nothing is kept twice.
        if not known and kept < (_EVIDENCE_MAX if forked else _EVIDENCE_MAX // 2):
            time_s = to_epoch_us(self._clock.now()) // 1_000_000
            connection.execute(
                "INSERT INTO evidence (origin, time_s, reason, note) VALUES (?, ?, ?, ?)",
                (checkpoint.origin, time_s, f"size {checkpoint.size}: {reason}", note.encode()),
            )

    @contextmanager
    def _unit(self) -> Generator[sqlite3.Connection]:
        """One transaction that is durable when it has ended; a failed one ends the witness (fail-stop)."""
        with self._lock:
            if self._failure is not None:
                raise self._failed()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if database.is_busy(error):
                    raise StorageError(
                        "witness_busy", "another process held the witness's memory for 30 s", "try again"
                    ) from error
                self._failure = str(error)
                raise self._failed() from error

    def _failed(self) -> StorageError:
        return StorageError(
            "witness_write_failed",
            f"{self._path} could not be written ({self._failure}); nothing more is cosigned",
            "check the disk, then start the witness again",
        )


def _open(note: Note, keys: list[VerifyingKey], origin: str) -> Checkpoint:
    """Reads a checkpoint that at least one pinned key signed, and whose known signatures all hold."""
    known = {(key.name, key.key_id): key for key in keys}
    signers = [known[name] for s in note.signatures if (name := (s.name, s.key_id)) in known]
    if not signers:
        raise IntegrityError(
            "signature_missing",
            f"no key that is pinned for {origin!r:.100} signed it",
            "run `neural-trader witness trust` with the log's present key",
        )
    encoded = note.encode()
    # Every one is checked: a known key's signature that does not hold makes the whole note malformed.
    opened = [open_checkpoint(encoded, key, origin=origin) for key in signers]
    return opened[0]


def _continues(size: int, root: bytes, checkpoint: Checkpoint, proof: tuple[bytes, ...]) -> bool:
    if checkpoint.size == 0 and checkpoint.root != merkle.EMPTY_ROOT:
        return False
    if size == 0:
        return not proof
    return merkle.verify_consistency(size, checkpoint.size, root, checkpoint.root, proof)
