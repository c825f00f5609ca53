"""The log's signer: the private keys at hand, and the rule which of them sign a checkpoint.

The log decides, not a file's name: the keys in force at a checkpoint's size follow from the
rotations in the log itself, read in the transaction that signs. A process that was started before a
rotation therefore follows it at its next commit, or signs nothing at all.
"""

import sqlite3
from collections.abc import Callable, Sequence

from neural_trader_governance.audit.checkpoints import Checkpoint
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.rotation import KeyChain, open_signed, read_chain
from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.signing.notes import NoteSigner

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

    def hold(self, key: SigningKey) -> None:
        """Keeps a private key for when the log puts it in force."""
        self._keys[key.verifying_key] = key
