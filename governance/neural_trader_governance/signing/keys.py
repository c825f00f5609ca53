"""Ed25519 keys in the C2SP signed-note encodings (the forms of Go's `sumdb/note`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from neural_trader_governance.signing.halves import KeyType, PrivateHalf, PublicHalf, check_key_name

ED25519 = b"\x01"


@dataclass(frozen=True, slots=True)
class VerifyingKey(PublicHalf):
    """The public half: who signed, and whether they did."""

    key_type: ClassVar[KeyType] = KeyType(ED25519, 32, "an Ed25519 key", "a verifier key", "`log.vkey`")

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Says whether this key signed exactly this message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey(PrivateHalf[Ed25519PrivateKey, VerifyingKey]):
    """The private half. It never appears in a repr, a log or an exception."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        super().__init__(private, VerifyingKey(check_key_name(name), private.public_key().public_bytes_raw()))

    def __repr__(self) -> str:
        return f"SigningKey({self.vkey})"

    @classmethod
    def generate(cls, name: str) -> Self:
        """Makes a fresh key from the operating system's randomness."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def of_seed(cls, name: str, seed: bytes) -> Self:
        """Makes the key of this seed."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def key_type(cls) -> KeyType:
        """Returns the signature type, the public half's."""
        return VerifyingKey.key_type

    def sign(self, message: bytes) -> bytes:
        """Returns the 64-byte Ed25519 signature."""
        return self._private.sign(message)


def vkey_of(path: Path) -> str:
    """Returns the verifier key of a key file, for which a locked one needs no passphrase.

    Raises:
        ConfigurationError: it is missing, readable by others, or malformed.
    """
    return SigningKey.vkey_in(path)
