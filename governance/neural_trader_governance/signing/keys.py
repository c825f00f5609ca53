"""Ed25519 keys in the C2SP signed-note encodings (the forms of Go's `sumdb/note`).

A verifier key is `NAME+KEYID+BASE64(0x01 || public key)`; KEYID is the first four bytes of
SHA-256(NAME || 0x0A || 0x01 || public key) in hex. See https://c2sp.org/signed-note.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.signing import at_rest, locking

ED25519 = b"\x01"


def decode_base64(text: str) -> bytes:
    """Decodes standard base64 and accepts only the one canonical spelling.

    Raises:
        ValueError: foreign characters, wrong padding, or spare bits that are not zero.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"{text!r:.60} is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError(f"{text!r:.60} is not canonical base64")
    return data


def check_key_name(name: str) -> str:
    """Returns the name if a note can carry it: not empty, no space, no plus sign, no control.

    Raises:
        ValueError: it cannot.
    """
    if not name or len(name) > 200 or not name.isprintable() or any(c.isspace() or c == "+" for c in name):
        raise ValueError(f"{name!r:.60} is not a key name; use one like desk.example/log")
    return name


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half: who signed, and whether they did."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Reads a verifier key such as `desk.example/log+1f2e3d4c+AU…`.

        Raises:
            ConfigurationError: the text is malformed, or its key id does not match its key.
        """
        try:
            name, key_id, encoded = vkey.strip().split("+", 2)
            check_key_name(name)
            data = decode_base64(encoded)
            if len(data) != 33 or data[:1] != ED25519:
                raise ValueError("it is not an Ed25519 key")
            key = cls(name, data[1:])
            if key.key_id.hex() != key_id:
                raise ValueError("its key id does not match the key")
        except ValueError as error:
            raise ConfigurationError(
                "invalid_vkey",
                f"{vkey.strip()!r:.80} is not a verifier key ({error})",
                "give NAME+KEYID+BASE64 as `log.vkey` holds it",
            ) from None
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        return _key_id(self.name, self.public)

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Says whether this key signed exactly this message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The private half. It never appears in a repr, a log or an exception."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verifying_key = VerifyingKey(check_key_name(name), private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"SigningKey({self.verifying_key.vkey})"

    @classmethod
    def generate(cls, name: str) -> Self:
        """Makes a fresh key from the operating system's randomness."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> Self:
        """Reads a key file, plain or locked (see `locking`).

        Args:
            path: The file, of mode 0600.
            passphrase: Opens a locked key; ignored for a plain one.

        Raises:
            ConfigurationError: it is missing, readable by others, or malformed; `key_locked` without
                a passphrase, `wrong_passphrase` with another one.
        """
        text = at_rest.open_key_file(path, passphrase)
        try:
            name, key_id, seed = at_rest.decode_private(text, ED25519, 32)
            key = cls(name, Ed25519PrivateKey.from_private_bytes(seed))
            if key.key_id.hex() != key_id:
                raise ValueError
        except ValueError:
            raise at_rest.malformed_key(path) from None
        return key

    def save(self, path: Path, passphrase: str | None = None, *, cost: int = locking.COST) -> None:
        """Writes a new key file of mode 0600, durably; an existing file is never overwritten.

        Args:
            path: Must be free.
            passphrase: Locks the file.
            cost: Of guessing the passphrase (scrypt's N).

        Raises:
            StorageError: a file of that name exists, or it cannot be written.
            InputError: the passphrase is too short.
        """
        at_rest.write_key_file(path, self._encode(passphrase, cost))

    def replace(self, path: Path, passphrase: str | None = None, *, cost: int = locking.COST) -> None:
        """Writes the key anew over its own file, locked or plain; a crash leaves the old or the new one.

        Raises:
            ConfigurationError: the file holds another key.
            StorageError: it cannot be written.
            InputError: the passphrase is too short.
        """
        if vkey_of(path) != self.vkey:
            raise ConfigurationError(
                "another_key", f"{path} holds another key", "give the path of this very key"
            )
        at_rest.write_key_file(path, self._encode(passphrase, cost), replace=True)

    def _encode(self, passphrase: str | None, cost: int) -> str:
        text = at_rest.encode_private(self.name, self.key_id, ED25519, self._private.private_bytes_raw())
        if passphrase is None:
            return text
        return locking.lock(text.encode("ascii"), label=self.vkey, passphrase=passphrase, cost=cost)

    def sign(self, message: bytes) -> bytes:
        """Returns the 64-byte Ed25519 signature."""
        return self._private.sign(message)

    @property
    def name(self) -> str:
        """The key's name, as it stands in signature lines."""
        return self.verifying_key.name

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        return self.verifying_key.key_id

    @property
    def vkey(self) -> str:
        """The verifier key as text, to be pinned by whoever checks the log."""
        return self.verifying_key.vkey


def vkey_of(path: Path) -> str:
    """Returns the verifier key of a key file, for which a locked one needs no passphrase.

    Raises:
        ConfigurationError: it is missing, readable by others, or malformed.
    """
    text = at_rest.read_key_file(path)
    return locking.read_locked(text).label if locking.is_locked(text) else SigningKey.load(path).vkey
