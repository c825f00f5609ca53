"""ML-DSA-44 as a second signature under a checkpoint, for the day when Ed25519 no longer holds.

The form is that of C2SP: signed-note signature type 0x06, a `subtree/v1` cosignature over the whole
tree (https://c2sp.org/tlog-cosignature). The log makes no statement about time with it (timestamp
0): its entries carry their own. FIPS 204, from the `cryptography` package.
"""

import base64
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from neural_trader_governance.errors import ConfigurationError, InputError, StorageError
from neural_trader_governance.signing.keys import check_key_name, decode_base64, sync_folder

ML_DSA_44 = b"\x06"
_PUBLIC_BYTES, _SEED_BYTES, _SIGNATURE_BYTES = 1312, 32, 2420
_NO_TIME = 0
_PRIVATE_PREFIX = "PRIVATE+KEY+"
_LABEL = b"subtree/v1\n\0"


def cosigned_message(name: str, text: bytes) -> bytes:
    """Returns the `cosigned_message` structure for the checkpoint with this note text.

    Raises:
        ValueError: the text is not a checkpoint's, or a name is longer than 255 bytes.
    """
    origin, size, root = text.split(b"\n")[:3]
    cosigner, digest = name.encode(), decode_base64(root.decode("ascii"))
    if not (0 < len(cosigner) < 256 and 0 < len(origin) < 256 and len(digest) == 32):
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
    def load(cls, path: Path) -> Self:
        """Reads a key file.

        Raises:
            ConfigurationError: it is missing, readable by others, or malformed.
        """
        try:
            mode = path.stat().st_mode & 0o777
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                "key_unreadable",
                f"the key {path} cannot be read ({type(error).__name__})",
                "restore the key file from your backup",
            ) from None
        if mode & 0o077:
            raise ConfigurationError(
                "key_exposed", f"the key {path} has mode {mode:04o}", f"run `chmod 600 {path}`"
            )
        try:
            name, key_id, encoded = text.removeprefix(_PRIVATE_PREFIX).split("+", 2)
            data = decode_base64(encoded)
            if not text.startswith(_PRIVATE_PREFIX) or len(data) != 1 + _SEED_BYTES or data[:1] != ML_DSA_44:
                raise ValueError
            key = cls(name, MLDSA44PrivateKey.from_seed_bytes(data[1:]))
            if key.key_id.hex() != key_id:
                raise ValueError
        except ValueError:
            # The text is not quoted: it may hold most of a private key.
            raise ConfigurationError(
                "invalid_key", f"the key {path} is malformed", "restore the key file from your backup"
            ) from None
        return key

    def save(self, path: Path) -> None:
        """Writes a new key file of mode 0600, durably and whole or not at all; never overwrites one.

        Raises:
            StorageError: a file of that name exists, or it cannot be written.
        """
        seed = base64.b64encode(ML_DSA_44 + self._private.private_bytes_raw()).decode()
        beside = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{_PRIVATE_PREFIX}{self.name}+{self.key_id.hex()}+{seed}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(beside, path)
            finally:
                beside.unlink()
            sync_folder(path.parent)
        except OSError as error:
            raise StorageError(
                "key_not_saved",
                f"the key {path} was not written ({error.strerror})",
                "choose a free path in a writable folder",
            ) from error

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
