"""Examination: one pass over a log's entries and checkpoints, wherever they are kept.

Whoever walks a database or a folder feeds it entries in their order and, at each size that was
signed, the checkpoint. It recomputes everything from the entries' bytes, follows the key rotations
that they hold from the pinned key on, and names what does not hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import Checkpoint, read_checkpoint
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.rotation import KeyChain, Rotation, read_rotation
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.signing.mldsa import MldsaVerifyingKey
from neural_trader_governance.signing.notes import Note, parse_note

PROBLEMS_MAX = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not verify; `seq` names the entry where one can be named."""

    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The outcome: size and root are those of the newest checkpoint that the log's keys signed.

    `checkpoints` were checked; `unread` entries lie in an archive that is not here: their leaf hashes
    were checked, their bytes were not.
    """

    ok: bool
    size: int
    root: str
    problems: tuple[Problem, ...]
    checkpoints: int = field(default=0, compare=False)
    unread: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Pins:
    """The keys that the checker brings along: the log's, of any time, and its ML-DSA-44 key if it has one."""

    log: VerifyingKey
    mldsa: MldsaVerifyingKey | None = None

    @classmethod
    def of(cls, vkey: "str | VerifyingKey | Pins") -> "Pins":
        """Reads pins from text: one verifier key, and perhaps a second line with the ML-DSA-44 key.

        Raises:
            ConfigurationError: a key is malformed.
        """
        if isinstance(vkey, Pins):
            return vkey
        if isinstance(vkey, VerifyingKey):
            return cls(vkey)
        first, *more = vkey.strip().splitlines() or [""]
        return cls(VerifyingKey.parse(first), MldsaVerifyingKey.parse(more[0]) if more else None)


class Enough(Exception):  # noqa: N818 - a signal that the list is full, no error
    """Twenty problems were found; more would tell nothing new."""


class Examination:
    """What was seen so far, and what is wrong with it."""

    def __init__(self, pins: Pins, rotations: Iterable[Rotation]) -> None:
        self._pins = pins
        self._chain = KeyChain.anchored(pins.log, rotations)
        self._frontier: tuple[bytes, ...] = ()
        self._completed: list[tuple[int, int, bytes]] = []
        self._rooted = True
        self._mldsa_signed = False
        self._archived: list[tuple[int, int]] = []
        self._without_bytes: list[int] = []
        self.origin: str | None = None
        self.size = 0
        self.checkpoints = 0
        self.unread = 0
        self.newest: Checkpoint | None = None
        self.problems: list[Problem] = []

    def problem(self, seq: int | None, what: str) -> None:
        """Notes something that does not hold.

        Raises:
            Enough: it was the twentieth.
        """
        self.problems.append(Problem(seq, what))
        if len(self.problems) >= PROBLEMS_MAX:
            raise Enough

    def take(self, data: bytes, stored_leaf: bytes | None = None) -> LoggedEntry | None:
        """Examines the next entry's bytes; returns the entry if it is one.

        Args:
            data: The entry's canonical bytes.
            stored_leaf: The leaf hash that is kept beside them, if any.
        """
        seq, leaf = self.size, merkle.leaf_hash(data)
        entry, fault = self._read(data, seq)
        if stored_leaf is not None and leaf != stored_leaf:
            what = "the entry's bytes do not match its leaf hash"
            fault = f"{what}; {fault}" if fault else what
        if entry is not None and fault is None:
            fault = self._follow(entry, seq)
        if fault is not None:
            self.problem(seq, fault)
        # On from the stored hash: one altered entry is one problem, not every entry after it.
        self._extend(leaf if stored_leaf is None else stored_leaf)
        return None if fault else entry

    def take_hash(self, leaf: bytes) -> None:
        """Takes the leaf hash of an archived entry whose bytes are not here."""
        self.unread += 1
        self._extend(leaf)

    def mark_archived(self, seq: int) -> None:
        """Notes that the database does not hold this entry's bytes: an `audit.archive` entry must say so."""
        self._without_bytes.append(seq)

    def completed(self) -> list[tuple[int, int, bytes]]:
        """Returns the subtrees that the entry taken last completed."""
        return self._completed

    def seal(self, note: bytes) -> None:
        """Examines the checkpoint over the entries taken so far."""
        size = self.size
        self.checkpoints += 1
        try:
            parsed = parse_note(note)
            checkpoint = read_checkpoint(parsed, origin=self.origin)
            for key in self._chain.signers(size):
                parsed.verify(key)
            self._check_mldsa(parsed)
        except IntegrityError as error:
            self.problem(None, f"checkpoint {size}: {error.what}")
            return
        if checkpoint.size != size:
            self.problem(None, f"checkpoint {size} was signed for the size {checkpoint.size}")
            return
        self.origin, self.newest = checkpoint.origin, checkpoint
        if self._rooted and merkle.root_of(self._frontier) != checkpoint.root:
            # Every later root fails with this one: said once.
            self._rooted = False
            what = f"the entries up to here do not make up the root signed at size {size}"
            self.problem(max(0, size - 1), what)

    def finish(self) -> None:
        """Examines what only the end can tell."""
        # What was sealed, the keys in force signed; the pinned one must be one of them, or have been.
        if self.newest is None or self._pins.log not in self._chain.keys:
            self.problem(None, "no checkpoint is signed by this key")
        if self._pins.mldsa is not None and not self._mldsa_signed:
            self.problem(None, "no checkpoint is signed by the pinned ML-DSA-44 key")
        for seq in self._without_bytes:
            if not any(start <= seq < end for start, end in self._archived):
                self.problem(seq, "the entry's bytes are gone, and no audit.archive entry accounts for them")

    def report(self) -> AuditReport:
        """Returns the outcome."""
        newest = self.newest
        size, root = (0, "") if newest is None else (newest.size, newest.root.hex())
        whole = not self.problems and newest is not None
        return AuditReport(whole, size, root, tuple(self.problems), self.checkpoints, self.unread)

    def _extend(self, leaf: bytes) -> None:
        self._frontier, self._completed = merkle.extend(self.size, self._frontier, leaf)
        self.size += 1

    def _read(self, data: bytes, seq: int) -> tuple[LoggedEntry | None, str | None]:
        try:
            entry = LoggedEntry.decode(data)
        except IntegrityError as error:
            return None, error.what
        if entry.seq != seq:
            return entry, f"the entry says that it is number {entry.seq}"
        if self.origin is not None and entry.origin != self.origin:
            return entry, f"the entry belongs to the log {entry.origin!r:.80}"
        return entry, None

    def _follow(self, entry: LoggedEntry, seq: int) -> str | None:
        if entry.type is EntryType.KEY_ROTATE:
            try:
                self._chain.admit(seq, read_rotation(entry), entry.origin)
            except IntegrityError as error:
                return error.what
        elif entry.type is EntryType.AUDIT_ARCHIVE:
            start, end = entry.payload.get("start"), entry.payload.get("end")
            if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= seq:
                return "the entry does not say which entries were archived"
            self._archived.append((start, end))
        return None

    def _check_mldsa(self, parsed: Note) -> None:
        key = self._pins.mldsa
        # Once the log has a second key, every later checkpoint bears its signature.
        if key is not None and (self._mldsa_signed or parsed.names(key)):
            parsed.verify(key)
            self._mldsa_signed = True
