"""ML-DSA-44 as a second signature under a checkpoint, for the day when Ed25519 no longer holds.

The form is that of C2SP: signed-note signature type 0x06, a `subtree/v1` cosignature over the whole
tree (https://c2sp.org/tlog-cosignature). The log makes no statement about time with it (timestamp
0): its entries carry their own. FIPS 204, from the `cryptography` package.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from neural_trader_governance.errors import InputError
from neural_trader_governance.signing.halves import (
    KeyType,
    PrivateHalf,
    PublicHalf,
    check_key_name,
    decode_base64,
)

ML_DSA_44 = b"\x06"
_SIGNATURE_BYTES = 2420
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


@dataclass(frozen=True, slots=True)
class MldsaVerifyingKey(PublicHalf):
    """The public half: verifies the ML-DSA-44 line of a checkpoint."""

    key_type: ClassVar[KeyType] = KeyType(
        ML_DSA_44, 1312, "an ML-DSA-44 key", "an ML-DSA-44 verifier key", "`log-mldsa.vkey`"
    )

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


class MldsaSigningKey(PrivateHalf[MLDSA44PrivateKey, MldsaVerifyingKey]):
    """The private half: a 32-byte seed. It never appears in a repr, a log or an exception."""

    def __init__(self, name: str, private: MLDSA44PrivateKey) -> None:
        public = private.public_key().public_bytes_raw()
        super().__init__(private, MldsaVerifyingKey(check_key_name(name), public))

    @classmethod
    def generate(cls, name: str) -> Self:
        """Makes a fresh key from the operating system's randomness."""
        return cls(name, MLDSA44PrivateKey.generate())

    @classmethod
    def of_seed(cls, name: str, seed: bytes) -> Self:
        """Makes the key of this seed."""
        return cls(name, MLDSA44PrivateKey.from_seed_bytes(seed))

    @classmethod
    def key_type(cls) -> KeyType:
        """Returns the signature type, the public half's."""
        return MldsaVerifyingKey.key_type

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
    return MldsaSigningKey.vkey_in(path)
