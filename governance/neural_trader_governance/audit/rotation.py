"""Key rotation: the old key of a log names the new one, inside the log itself.

A `key.rotate` entry holds a statement signed by both keys: the old one hands over, the new one
proves that somebody holds it. From the checkpoint that contains the entry on, the new key signs; for
`overlap_entries` more entries the old key signs beside it, so that whoever pinned the old key has
time to follow. A key that was replaced never returns.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, JsonValue, ValidationError

from neural_trader_governance.audit.checkpoints import Checkpoint, read_checkpoint
from neural_trader_governance.audit.entries import AuditEntry, EntryType, LoggedEntry
from neural_trader_governance.errors import ConfigurationError, InputError, IntegrityError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.signing.notes import parse_note
from neural_trader_governance.terms.term import Term

OVERLAP_ENTRIES = 1_000
"""By default, the old key signs beside the new one for this many entries."""
_DOMAIN = b"neural-trader/key.rotate/v1\n"


class Rotation(Term):
    """The statement of a `key.rotate` entry, signed by the key that goes and the key that comes."""

    v: Literal[1] = 1
    origin: str = Field(min_length=1, max_length=200)
    old_vkey: str = Field(min_length=1, max_length=400)
    new_vkey: str = Field(min_length=1, max_length=400)
    overlap_entries: int = Field(ge=0, le=1_000_000_000)
    old_signature: str = Field(default="0" * 128, pattern=r"^[0-9a-f]{128}$")
    new_signature: str = Field(default="0" * 128, pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        """Returns what both keys sign: the domain and all fields but the signatures."""
        unsigned = self.model_dump(mode="json", exclude={"old_signature", "new_signature"})
        return _DOMAIN + canonical_bytes(unsigned)

    def check(self, origin: str, current: VerifyingKey) -> VerifyingKey:
        """Checks that the current key of this log handed over to the key that this returns.

        Raises:
            IntegrityError: another log's, not signed by the current key, or no proof of possession.
        """
        try:
            new = VerifyingKey.parse(self.new_vkey)
        except ConfigurationError as error:
            raise _invalid(error.what) from None
        message = self.signed_bytes()
        if self.origin != origin or new.name != current.name:
            raise _invalid(f"it is about the log {self.origin!r:.80}")
        if self.old_vkey != current.vkey or not current.verify(message, bytes.fromhex(self.old_signature)):
            raise _invalid(f"the key in force, {current.key_id.hex()}, did not sign it")
        if not new.verify(message, bytes.fromhex(self.new_signature)):
            raise _invalid(f"the new key {new.key_id.hex()} did not sign it")
        return new


def sign_rotation(old: SigningKey, new: SigningKey, *, origin: str, overlap_entries: int) -> Rotation:
    """Signs the hand-over with both keys.

    Raises:
        InputError: the new key has another name or is the old one, or the overlap is out of range.
    """
    if new.name != old.name or new.vkey == old.vkey:
        raise InputError(
            "invalid_rotation",
            f"the new key must be another one of the name {old.name}",
            "generate a fresh key with the log's own name",
        )
    try:
        rotation = Rotation(
            origin=origin, old_vkey=old.vkey, new_vkey=new.vkey, overlap_entries=overlap_entries
        )
    except ValidationError:
        raise InputError(
            "invalid_rotation", f"an overlap of {overlap_entries} entries is out of range", "give 0 or more"
        ) from None
    message = rotation.signed_bytes()
    signatures = {"old_signature": old.sign(message).hex(), "new_signature": new.sign(message).hex()}
    return rotation.model_copy(update=signatures)


def rotation_entry(rotation: Rotation, caller: Caller) -> AuditEntry:
    """Returns the entry that puts a rotation on the record."""
    payload: dict[str, JsonValue] = {"rotation": rotation.model_dump(mode="json")}
    return AuditEntry.by(caller, EntryType.KEY_ROTATE, payload=payload)


def read_rotation(entry: AuditEntry) -> Rotation:
    """Returns the statement of a `key.rotate` entry; nothing about it is proven yet.

    Raises:
        IntegrityError: the payload is not a rotation.
    """
    try:
        return Rotation.model_validate(entry.payload.get("rotation"))
    except ValidationError:
        raise _invalid("its payload holds no rotation") from None


@dataclass(frozen=True, slots=True)
class _Term:
    key: VerifyingKey
    start: int
    """The first tree size whose checkpoint this key must sign."""
    overlap_until: int
    """The last tree size whose checkpoint the key before must sign too."""


class KeyChain:
    """Which keys must have signed a checkpoint, by its size: the first key, and the rotations since."""

    def __init__(self, first: VerifyingKey) -> None:
        self._terms = [_Term(first, 0, -1)]

    @classmethod
    def anchored(cls, pinned: VerifyingKey, rotations: Iterable[Rotation]) -> Self:
        """Returns the chain, of its first key only, that a pinned key belongs to.

        A key that a rotation names as the new one was not the first: the chain then begins with the
        key that the first rotation replaced. Nothing is believed yet; `admit` checks each link.
        """
        known = list(rotations)
        if any(rotation.new_vkey == pinned.vkey for rotation in known):
            try:
                return cls(VerifyingKey.parse(known[0].old_vkey))
            except ConfigurationError:
                return cls(pinned)
        return cls(pinned)

    @property
    def current(self) -> VerifyingKey:
        """The key that the newest rotation put in force."""
        return self._terms[-1].key

    @property
    def keys(self) -> tuple[VerifyingKey, ...]:
        """Every key that was ever in force, the first one first."""
        return tuple(term.key for term in self._terms)

    def admit(self, seq: int, rotation: Rotation, origin: str) -> None:
        """Follows the rotation that entry `seq` holds.

        Raises:
            IntegrityError: it is not signed as it must be, or brings a key back.
        """
        new = rotation.check(origin, self.current)
        if new in self.keys:
            raise _invalid(f"the key {new.key_id.hex()} was replaced before and cannot return")
        self._terms.append(_Term(new, seq + 1, seq + 1 + rotation.overlap_entries))

    def signers(self, size: int) -> tuple[VerifyingKey, ...]:
        """Returns the keys that must have signed a checkpoint of this size, the one in force first."""
        place = max(index for index, term in enumerate(self._terms) if term.start <= size)
        term = self._terms[place]
        return (term.key, self._terms[place - 1].key) if size <= term.overlap_until else (term.key,)


def read_rotations(connection: sqlite3.Connection) -> list[tuple[int, Rotation]]:
    """Returns the rotations that the log holds, with their places, unproven.

    Raises:
        IntegrityError: an entry is damaged.
    """
    rows = connection.execute(
        "SELECT seq, entry FROM audit_entries WHERE type = ? ORDER BY seq", (EntryType.KEY_ROTATE.value,)
    )
    return [(int(seq), read_rotation(LoggedEntry.decode(bytes(data)))) for seq, data in rows]


def read_chain(connection: sqlite3.Connection, origin: str, pinned: VerifyingKey) -> KeyChain:
    """Returns the proven chain of keys of the log in this database.

    Raises:
        IntegrityError: a rotation is not valid, or the pinned key never was the log's.
    """
    rotations = read_rotations(connection)
    chain = KeyChain.anchored(pinned, (rotation for _, rotation in rotations))
    for seq, rotation in rotations:
        try:
            chain.admit(seq, rotation, origin)
        except IntegrityError as error:
            raise IntegrityError(error.code, f"entry {seq}: {error.what}", error.next_step) from None
    return chain


def open_signed(note: str | bytes, chain: KeyChain, *, origin: str | None = None) -> Checkpoint:
    """Reads a checkpoint and proves that the keys in force at its size signed it.

    Raises:
        IntegrityError: malformed, of another log, or not signed by them.
    """
    parsed = parse_note(note)
    checkpoint = read_checkpoint(parsed, origin=origin)
    for key in chain.signers(checkpoint.size):
        parsed.verify(key)
    return checkpoint


def _invalid(why: str) -> IntegrityError:
    return IntegrityError(
        "invalid_rotation",
        f"the key rotation is not valid: {why}",
        "keep the files and run `neural-trader audit verify`",
    )
