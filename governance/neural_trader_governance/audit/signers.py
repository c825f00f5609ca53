"""The log's signer: the private keys at hand, and the rule which of them sign a checkpoint.

The log decides, not a file's name: the keys in force at a checkpoint's size follow from the
rotations in the log itself, read in the transaction that signs. A process that was started before a
rotation therefore follows it at its next commit, or signs nothing at all.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Protocol

from neural_trader_governance.audit.checkpoints import Checkpoint
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.examination import Pins
from neural_trader_governance.audit.rotation import (
    KeyChain,
    open_signed,
    read_chain,
    rotation_entry,
    sign_rotation,
)
from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.signing.mldsa import MldsaSigningKey
from neural_trader_governance.signing.notes import NoteSigner


class Unit(Protocol):
    """A transaction that can append entries."""

    @property
    def connection(self) -> sqlite3.Connection:
        """The transaction's connection."""
        ...

    def append(self, entry: AuditEntry) -> int:
        """Appends an entry and returns its seq."""
        ...


FindKey = Callable[[VerifyingKey], SigningKey | None]
MoreSigners = Callable[[], Sequence[NoteSigner]]


def _none_found(_: VerifyingKey) -> None:
    return None


class LogSigner:
    """Signs and opens the checkpoints of one log.

    Args:
        key: The private key at hand; more are looked for when the log says that they are in force.
        pinned: The key that trust begins with, where it is not the one at hand (after a rotation).
        find: Looks for the private half of a key that the log names, such as in the home's folder.
        more: Optional second signers, asked at every checkpoint, such as an ML-DSA-44 key.
    """

    def __init__(
        self,
        key: SigningKey,
        *,
        pinned: VerifyingKey | None = None,
        find: FindKey = _none_found,
        more: MoreSigners = tuple,
    ) -> None:
        self.pinned = key.verifying_key if pinned is None else pinned
        self._keys = {key.verifying_key: key}
        self._find = find
        self._more = more
        self._known: tuple[tuple[object, ...] | None, KeyChain] = (None, KeyChain(self.pinned))

    @classmethod
    def of(cls, signer: "SigningKey | LogSigner") -> "LogSigner":
        """Returns a signer as it is, or one of a single key."""
        return signer if isinstance(signer, LogSigner) else cls(signer)

    @property
    def vkey(self) -> str:
        """The pinned verifier key as text."""
        return self.pinned.vkey

    def chain(self, connection: sqlite3.Connection, origin: str) -> KeyChain:
        """Returns the log's proven chain of keys, read anew only after another rotation.

        Raises:
            IntegrityError: a rotation in the log is not valid.
        """
        last = connection.execute(
            "SELECT seq, leaf_hash FROM audit_entries WHERE type = ? ORDER BY seq DESC LIMIT 1",
            (EntryType.KEY_ROTATE.value,),
        ).fetchone()
        known, chain = self._known
        if last != known:
            chain = read_chain(connection, origin, self.pinned) if last is not None else KeyChain(self.pinned)
            self._known = (last, chain)
        return chain

    def open(self, connection: sqlite3.Connection, note: str, origin: str) -> Checkpoint:
        """Reads a checkpoint of this log and proves that the keys in force at its size signed it.

        Raises:
            IntegrityError: malformed, of another log, or not signed by them.
        """
        return open_signed(note, self.chain(connection, origin), origin=origin)

    def sign(self, connection: sqlite3.Connection, checkpoint: Checkpoint) -> str:
        """Returns the note, signed by every key in force at its size; `connection` holds its entries.

        Raises:
            ConfigurationError: the private half of a key in force is not at hand.
        """
        signers = self.chain(connection, checkpoint.origin).signers(checkpoint.size)
        return checkpoint.sign([*(self.private(key) for key in signers), *self._more()])

    def private(self, key: VerifyingKey) -> SigningKey:
        """Returns the private half of a key in force.

        Raises:
            ConfigurationError: it is not at hand.
        """
        found = self._keys.get(key) or self._find(key)
        if found is None or found.verifying_key != key:
            raise ConfigurationError(
                "log_key_missing",
                f"the log's key in force is {key.name}+{key.key_id.hex()}, and its private half is not here",
                "restore that key file into the home's keys folder, then start again; nothing was signed",
            )
        self._keys[key] = found
        return found

    def pins(self) -> Pins:
        """Returns the verifier keys by which this desk checks itself."""
        second = [key.verifying_key for key in self._more() if isinstance(key, MldsaSigningKey)]
        return Pins(self.pinned, second[0] if second else None)

    def rotate(
        self, unit: Unit, new: SigningKey, *, origin: str, caller: Caller, overlap_entries: int
    ) -> tuple[VerifyingKey, int]:
        """Puts a new key in force with the unit's commit; returns the old key and the entry's seq.

        Raises:
            InputError: the new key has another name or was in force before, or the overlap is out of range.
            ConfigurationError: the private half of the key in force is not at hand.
        """
        chain = self.chain(unit.connection, origin)
        old = self.private(chain.current)
        if new.verifying_key in chain.keys:
            raise InputError(
                "invalid_rotation", "that key was in force before, and cannot return", "generate a fresh key"
            )
        rotation = sign_rotation(old, new, origin=origin, overlap_entries=overlap_entries)
        self._keys[new.verifying_key] = new
        return old.verifying_key, unit.append(rotation_entry(rotation, caller))
