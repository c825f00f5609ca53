"""The log's key files, and the order in which a rotation changes them.

    log.key             the private key in force (mode 0600)
    log.key.next        the one that a rotation is about to put in force
    log-<KEYID>.key     one that was replaced; it signs beside its successor during the overlap
    log.vkey            the verifier key that this home checks itself by; a rotation moves it on,
                        because whoever steals a replaced key could write another log for it
    log-<KEYID>.vkey    the verifier keys that were pinned before
    log-mldsa.key       optional second key (ML-DSA-44); while it is there, it signs every checkpoint
    log-mldsa.vkey      its verifier key

Which key is in force the log says, not a file's name: a crash between two steps changes nothing but
names, and the next rotation puts them right. A key only ever moves from `log.key.next` to `log.key` to
`log-<KEYID>.key`, in steps that leave it in one of them at least: whoever looks in that order finds it.
"""

import fcntl
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.audit.examination import Pins
from neural_trader_governance.audit.rotation import OVERLAP_ENTRIES, KeyChain
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.errors import ConfigurationError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.at_rest import sync_folder
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey, vkey_of
from neural_trader_governance.signing.mldsa import MldsaSigningKey, MldsaVerifyingKey, mldsa_vkey_of
from neural_trader_governance.signing.notes import NoteSigner
from neural_trader_governance.store import Store

LoadKey = Callable[[Path], SigningKey]
LoadMldsaKey = Callable[[Path], MldsaSigningKey]


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation that is durable: the entry that holds it, and the keys that went and came."""

    seq: int
    old_vkey: str
    new_vkey: str
    overlap_until: int


class KeyFiles:
    """The folder with the log's keys.

    Args:
        folder: A home's `keys`.
        load: Opens a private key's file, asking for its passphrase where it is locked.
        load_mldsa: The same for the second key.
    """

    def __init__(
        self,
        folder: Path,
        load: LoadKey = SigningKey.load,
        load_mldsa: LoadMldsaKey = MldsaSigningKey.load,
    ) -> None:
        self._folder = folder
        self._load = load
        self._load_mldsa = load_mldsa
        self._mldsa: tuple[tuple[int, int] | None, tuple[MldsaSigningKey, ...]] = (None, ())
        self.key = folder / "log.key"
        self.next = folder / "log.key.next"
        self.vkey = folder / "log.vkey"
        self.mldsa_key = folder / "log-mldsa.key"
        self.mldsa_vkey = folder / "log-mldsa.vkey"

    def signer(self, key: SigningKey | None = None) -> LogSigner:
        """Returns the log's signer, which finds a rotation's keys in this folder when they are needed.

        Raises:
            ConfigurationError: the key or the pinned verifier key cannot be read.
        """
        held = self._load(self.key) if key is None else key
        pinned = None
        if self.vkey.is_file():
            pinned = VerifyingKey.parse(self.vkey.read_text(encoding="ascii"))
        return LogSigner(held, pinned=pinned, find=self.find, more=self.second_keys)

    def pins(self) -> Pins:
        """Returns the verifier keys that this folder pinned.

        Raises:
            ConfigurationError: one is malformed.
        """
        lines = self.vkey.read_text(encoding="ascii").strip()
        second = self.mldsa_vkey.read_text(encoding="ascii").strip() if self.mldsa_vkey.is_file() else None
        mldsa = None if second is None else MldsaVerifyingKey.parse(second)
        return Pins(VerifyingKey.parse(lines), mldsa)

    def find(self, key: VerifyingKey) -> SigningKey | None:
        """Returns the private half of a key of this log, from whichever file holds it.

        Raises:
            ConfigurationError: none of the files that can be read holds it, and one cannot be read.
        """
        unreadable: ConfigurationError | None = None
        for path in (self.next, self.key, self._retired(key)):
            try:
                if path.exists() and vkey_of(path) == key.vkey:
                    return self._load(path)
            except ConfigurationError as error:
                if path.exists():  # else a rotation moved it while we looked, to where we look next
                    unreadable = error
        if unreadable is not None:
            raise unreadable
        return None

    def second_keys(self) -> Sequence[NoteSigner]:
        """Returns the ML-DSA-44 key if there is one: looked up anew, so that every process follows."""
        try:
            found = self.mldsa_key.stat()
        except FileNotFoundError:
            return ()
        stamp = (found.st_ino, found.st_mtime_ns)
        if self._mldsa[0] != stamp:
            held = self._mldsa[1]
            # A file that was only locked or unlocked must not stop a server that holds its key.
            same = bool(held) and mldsa_vkey_of(self.mldsa_key) == held[0].vkey
            self._mldsa = (stamp, held if same else (self._load_mldsa(self.mldsa_key),))
        return self._mldsa[1]

    def enable_mldsa(self, passphrase: str | None = None) -> str:
        """Makes the second key; returns its verifier key, to be pinned beside `log.vkey`.

        Every checkpoint from the next commit on, of every process of this home, bears its signature.

        Args:
            passphrase: Locks the key's file.

        Raises:
            StorageError: there is one already, or it cannot be written.
        """
        with self.locked():
            if self.mldsa_key.exists():
                raise StorageError("key_exists", f"{self.mldsa_key} exists already", "it signs already")
            key = MldsaSigningKey.generate(VerifyingKey.parse(vkey_of(self.key)).name)
            # The verifier key first: with the private one, signing begins.
            self._write(self.mldsa_vkey, key.vkey)
            key.save(self.mldsa_key, passphrase)
        return key.vkey

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keeps other processes from changing the key files; two rotations at once could lose a key."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def settle(self, chain: KeyChain) -> None:
        """Gives the files the names, and the pin the key, that the log's newest rotation asks for.

        Does nothing where they have them. The caller holds the lock.
        """
        if self.next.exists() and vkey_of(self.next) == chain.current.vkey:
            if self.key.exists() and (old := VerifyingKey.parse(vkey_of(self.key))) != chain.current:
                with suppress(FileExistsError):
                    os.link(self.key, self._retired(old))
            os.replace(self.next, self.key)
            sync_folder(self._folder)
        self._move_pin(chain)

    def _move_pin(self, chain: KeyChain) -> None:
        if not self.vkey.is_file():
            return
        pinned = VerifyingKey.parse(self.vkey.read_text(encoding="ascii"))
        # A pin that is not of this chain would have refused it before we came here.
        if pinned in chain.keys and pinned != chain.current:
            self._write(self._retired(pinned).with_suffix(".vkey"), pinned.vkey)
            self._write(self.vkey, chain.current.vkey)

    def _retired(self, key: VerifyingKey) -> Path:
        return self._folder / f"log-{key.key_id.hex()}.key"

    def _write(self, path: Path, text: str) -> None:
        beside = path.with_name(f".{path.name}.new")
        with beside.open("w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)


def rotate_log_key(
    store: Store,
    files: KeyFiles,
    *,
    caller: Caller,
    overlap_entries: int = OVERLAP_ENTRIES,
    passphrase: str | None = None,
) -> Rotated:
    """Puts a fresh key in force for the log; every step may be the last one before a crash.

    The new key is on the disk before the log names it; the commit of the `key.rotate` entry is what
    puts it in force, for every process on this home; the files' names follow. A rotation that a crash
    left half done is carried on with the key that it had made.

    Args:
        store: The log.
        files: Its keys.
        caller: The person who asked for it.
        overlap_entries: For how many entries the old key signs beside the new one.
        passphrase: Locks the new key's file.

    Raises:
        StorageError, ConfigurationError: a key cannot be read or written; nothing changed.
        InputError: the overlap is out of range.
    """
    signer = store.signer
    with files.locked():
        with store.read() as connection:
            files.settle(signer.chain(connection, store.origin))
        if files.next.exists():
            new = files.find(VerifyingKey.parse(vkey_of(files.next)))
            assert new is not None  # noqa: S101 - it was found by its own name
        else:
            new = SigningKey.generate(signer.pinned.name)
            new.save(files.next, passphrase)
        with store.unit() as unit:
            old, seq = signer.rotate(
                unit, new, origin=store.origin, caller=caller, overlap_entries=overlap_entries
            )
        with store.read() as connection:
            files.settle(signer.chain(connection, store.origin))
    return Rotated(seq, old.vkey, new.vkey, seq + 1 + overlap_entries)
