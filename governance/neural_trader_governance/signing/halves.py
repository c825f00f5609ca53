"""Both halves of a key pair, of whatever signature type: the public one as text, the private one in its file.

A verifier key is `NAME+KEYID+BASE64(type || public key)`; KEYID is the first four bytes of
SHA-256(NAME || 0x0A || type || public key) in hex. See https://c2sp.org/signed-note.
"""

import base64
import binascii
import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.signing import at_rest, locking

SEED_BYTES = 32


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


@dataclass(frozen=True, slots=True)
class KeyType:
    """What tells the keys of one signature type from others.

    Attributes:
        byte: The signature type, which precedes the public key and the seed where they are encoded.
        public_bytes: Length of a public key.
        key: What the public key is, in an error's words.
        verifier: What the text is, in an error's words.
        file: Where such a text is found.
        code: The error's code.
    """

    byte: bytes
    public_bytes: int
    key: str
    verifier: str
    file: str
    code: str = "invalid_vkey"


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """The public half of a key pair, by name; a subclass knows its type and what verifies."""

    key_type: ClassVar[KeyType]

    name: str
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Reads a verifier key such as `desk.example/log+1f2e3d4c+AU…`.

        Raises:
            ConfigurationError: malformed, of another signature type, or its key id does not match its key.
        """
        its = cls.key_type
        try:
            name, key_id, encoded = vkey.strip().split("+", 2)
            check_key_name(name)
            data = decode_base64(encoded)
            if len(data) != 1 + its.public_bytes or data[:1] != its.byte:
                raise ValueError(f"it is not {its.key}")
            key = cls(name, data[1:])
            if key.key_id.hex() != key_id:
                raise ValueError("its key id does not match the key")
        except ValueError as error:
            raise ConfigurationError(
                its.code,
                f"{vkey.strip()!r:.80} is not {its.verifier} ({error})",
                f"give NAME+KEYID+BASE64 as {its.file} holds it",
            ) from None
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        return hashlib.sha256(self.name.encode() + b"\n" + self.key_type.byte + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        return (
            f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self.key_type.byte + self.public).decode()}"
        )


class _Private(Protocol):
    def private_bytes_raw(self) -> bytes: ...


_PrivateKey = TypeVar("_PrivateKey", bound=_Private)
_Public = TypeVar("_Public", bound=PublicHalf)


class PrivateHalf(ABC, Generic[_PrivateKey, _Public]):
    """The private half: a 32-byte seed. It never appears in a repr, a log or an exception."""

    def __init__(self, private: _PrivateKey, verifying_key: _Public) -> None:
        self._private = private
        self.verifying_key = verifying_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}+{self.key_id.hex()})"

    @classmethod
    @abstractmethod
    def generate(cls, name: str) -> Self:
        """Makes a fresh key from the operating system's randomness."""

    @classmethod
    @abstractmethod
    def of_seed(cls, name: str, seed: bytes) -> Self:
        """Makes the key of this seed."""

    @classmethod
    @abstractmethod
    def key_type(cls) -> KeyType:
        """Returns the signature type, the public half's."""

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
            name, key_id, seed = at_rest.decode_private(text, cls.key_type().byte, SEED_BYTES)
            key = cls.of_seed(name, seed)
            if key.key_id.hex() != key_id:
                raise ValueError
        except ValueError:
            raise at_rest.malformed_key(path) from None
        return key

    @classmethod
    def vkey_in(cls, path: Path) -> str:
        """Returns the verifier key of a key file, for which a locked one needs no passphrase.

        Raises:
            ConfigurationError: it is missing, readable by others, or malformed.
        """
        text = at_rest.read_key_file(path)
        return locking.read_locked(text).label if locking.is_locked(text) else cls.load(path).vkey

    def save(self, path: Path, passphrase: str | None = None, *, cost: int = locking.COST) -> None:
        """Writes a new key file of mode 0600, durably and whole or not at all; never overwrites one.

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
        if self.vkey_in(path) != self.vkey:
            raise ConfigurationError(
                "another_key", f"{path} holds another key", "give the path of this very key"
            )
        at_rest.write_key_file(path, self._encode(passphrase, cost), replace=True)

    def _encode(self, passphrase: str | None, cost: int) -> str:
        seed = self._private.private_bytes_raw()
        text = at_rest.encode_private(self.name, self.key_id, self.key_type().byte, seed)
        if passphrase is None:
            return text
        return locking.lock(text.encode("ascii"), label=self.vkey, passphrase=passphrase, cost=cost)

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
