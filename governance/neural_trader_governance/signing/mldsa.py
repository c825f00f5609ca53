"""ML-DSA-44 as a second signature under a checkpoint, for the day when Ed25519 no longer holds.

The form is that of C2SP: signed-note signature type 0x06, a `subtree/v1` cosignature over the whole
tree (https://c2sp.org/tlog-cosignature). The log makes no statement about time with it (timestamp
0): its entries carry their own. FIPS 204, from the `cryptography` package.
"""

import base64
import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.signing import at_rest, locking
from neural_trader_governance.signing.keys import check_key_name, decode_base64

ML_DSA_44 = b"\x06"
_PUBLIC_BYTES, _SEED_BYTES, _SIGNATURE_BYTES = 1312, 32, 2420
_NO_TIME = 0
_LABEL = b"subtree/v1\n\0"
_SIZE = re.compile(rb"0|[1-9][0-9]{0,17}")


def cosigned_message(name: str, text: bytes) -> bytes:
    """Returns the `cosigned_message` structure for the checkpoint with this note text.

    Raises:
        ValueError: the text is not a checkpoint's, or a name is longer than 255 bytes.
    """
    origin, size, root, *_ = text.split(b"\n")
    cosigner, digest = name.encode(), decode_base64(root.decode("ascii"))
    named = 0 < len(cosigner) < 256 and 0 < len(origin) < 256
    if not (named and len(digest) == 32 and _SIZE.fullmatch(size)):
        raise ValueError("the text has no origin, size and root that can be cosigned")
    tree = struct.pack(">QQ", 0, int(size)) + digest
    return b"".join(
        (_LABEL, _sized(cosigner), struct.pack(">Q", _NO_TIME), _sized(origin), tree),
    )


def _sized(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ML_DSA_44 + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class MldsaVerifyingKey:
    """The public half: verifies the ML-DSA-44 line of a checkpoint."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Reads a verifier key `NAME+KEYID+BASE64(0x06 || public key)`.

        Raises:
            ConfigurationError: the text is malformed, or its key id does not match its key.
        """
        try:
            name, key_id, encoded = vkey.strip().split("+", 2)
            check_key_name(name)
            data = decode_base64(encoded)
            if len(data) != 1 + _PUBLIC_BYTES or data[:1] != ML_DSA_44:
                raise ValueError("it is not an ML-DSA-44 key")
            key = cls(name, data[1:])
            if key.key_id.hex() != key_id:
                raise ValueError("its key id does not match the key")
        except ValueError as error:
            raise ConfigurationError(
                "invalid_vkey",
                f"{vkey.strip()!r:.80} is not an ML-DSA-44 verifier key ({error})",
                "give NAME+KEYID+BASE64 as `log-mldsa.vkey` holds it",
            ) from None
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        return _key_id(self.name, self.public)

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ML_DSA_44 + self.public).decode()}"

    def verify(self, text: bytes, signature: bytes) -> bool:
        """Says whether this key signed the checkpoint with this note text."""
        if len(signature) != 8 + _SIGNATURE_BYTES or signature[:8] != bytes(8):
            return False
        try:
            message = cosigned_message(self.name, text)
            MLDSA44PublicKey.from_public_bytes(self.public).verify(signature[8:], message)
        except (InvalidSignature, ValueError):
            return False
        return True


class MldsaSigningKey:
    """The private half: a 32-byte seed. It never appears in a repr, a log or an exception."""

    def __init__(self, name: str, private: MLDSA44PrivateKey) -> None:
        self._private = private
        self.verifying_key = MldsaVerifyingKey(check_key_name(name), private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"MldsaSigningKey({self.name}+{self.key_id.hex()})"

    @classmethod
    def generate(cls, name: str) -> Self:
        """Makes a fresh key from the operating system's randomness."""
        return cls(name, MLDSA44PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> Self:
        """Reads a key file, plain or locked (see `locking`).

        Raises:
            ConfigurationError: it is missing, readable by others, or malformed; `key_locked` without
                a passphrase, `wrong_passphrase` with another one.
        """
        text = at_rest.open_key_file(path, passphrase)
        try:
            name, key_id, seed = at_rest.decode_private(text, ML_DSA_44, _SEED_BYTES)
            key = cls(name, MLDSA44PrivateKey.from_seed_bytes(seed))
            if key.key_id.hex() != key_id:
                raise ValueError
        except ValueError:
            raise at_rest.malformed_key(path) from None
        return key

    def save(self, path: Path, passphrase: str | None = None, *, cost: int = locking.COST) -> None:
        """Writes a new key file of mode 0600, durably and whole or not at all; never overwrites one.

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
        if mldsa_vkey_of(path) != self.vkey:
            raise ConfigurationError(
                "another_key", f"{path} holds another key", "give the path of this very key"
            )
        at_rest.write_key_file(path, self._encode(passphrase, cost), replace=True)

    def _encode(self, passphrase: str | None, cost: int) -> str:
        text = at_rest.encode_private(self.name, self.key_id, ML_DSA_44, self._private.private_bytes_raw())
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

    def sign(self, text: bytes) -> bytes:
        """Returns the `timestamped_signature` over the checkpoint with this note text.

        Raises:
            InputError: the text is not a checkpoint's.
        """
        try:
            message = cosigned_message(self.name, text)
        except ValueError as error:
            raise InputError(
                "not_a_checkpoint",
                f"an ML-DSA-44 log key signs checkpoints only ({error})",
                "sign a checkpoint",
            ) from None
        return struct.pack(">Q", _NO_TIME) + self._private.sign(message)


def mldsa_vkey_of(path: Path) -> str:
    """Returns the verifier key of an ML-DSA-44 key file, for which a locked one needs no passphrase.

    Raises:
        ConfigurationError: it is missing, readable by others, or malformed.
    """
    text = at_rest.read_key_file(path)
    return locking.read_locked(text).label if locking.is_locked(text) else MldsaSigningKey.load(path).vkey
