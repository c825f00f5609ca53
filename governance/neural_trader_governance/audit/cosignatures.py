"""Cosignatures: a witness's dated statement that a log's newest tree grew out of its earlier ones.

The Ed25519 form of https://c2sp.org/tlog-cosignature: signature type 0x04, a line of the signed
note beside the log's own. What is signed is `cosignature/v1`, the time, and the checkpoint's text.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from neural_trader_governance.errors import ConfigurationError, IntegrityError
from neural_trader_governance.signing.keys import SigningKey, check_key_name, decode_base64
from neural_trader_governance.signing.notes import Note, Signature

COSIGNATURE_V1 = b"\x04"
_TIME_MAX = 2**63 - 1
_LENGTH = 8 + 64


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The public half of a witness: a pinned one says whose cosignatures count."""

    name: str
    public: bytes

    @classmethod
    def of(cls, key: SigningKey) -> Self:
        """Returns the public half of a witness's own key."""
        return cls(key.name, key.verifying_key.public)

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Reads a witness's verifier key, such as `witness.example/w1+1f2e3d4c+BM…`.

        Raises:
            ConfigurationError: malformed, of another signature type, or its key id does not match.
        """
        try:
            name, key_id, encoded = vkey.strip().split("+", 2)
            check_key_name(name)
            data = decode_base64(encoded)
            if len(data) != 33 or data[:1] != COSIGNATURE_V1:
                raise ValueError("it is not an Ed25519 cosigner's key, which begins with the type 0x04")
            key = cls(name, data[1:])
            if key.key_id.hex() != key_id:
                raise ValueError("its key id does not match the key")
        except ValueError as error:
            raise ConfigurationError(
                "invalid_witness_vkey",
                f"{vkey.strip()!r:.80} is not a witness's verifier key ({error})",
                "give NAME+KEYID+BASE64 as the witness's `witness.vkey` holds it",
            ) from None
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        return hashlib.sha256(self.name.encode() + b"\n" + COSIGNATURE_V1 + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(COSIGNATURE_V1 + self.public).decode()}"

    @property
    def label(self) -> str:
        """Name and key id: which witness, in a line that people and tables can hold."""
        return f"{self.name}+{self.key_id.hex()}"

    def verify(self, note: Note) -> int:
        """Checks that this witness cosigned the note; returns when, in seconds since 1970.

        Raises:
            IntegrityError: its cosignature is absent, malformed or wrong.
        """
        found = [s for s in note.signatures if s.name == self.name and s.key_id == self.key_id]
        if not found:
            raise IntegrityError(
                "cosignature_missing",
                f"the checkpoint is not cosigned by {self.name}+{self.key_id.hex()}",
                "check that the pinned key is the witness's own",
            )
        return max(self._time_of(note.text, signature) for signature in found)

    def _time_of(self, text: str, signature: Signature) -> int:
        data = signature.signature
        time_s = int.from_bytes(data[:8], "big")
        try:
            if len(data) != _LENGTH or not 0 < time_s <= _TIME_MAX:
                raise InvalidSignature
            Ed25519PublicKey.from_public_bytes(self.public).verify(data[8:], _message(text, time_s))
        except InvalidSignature:
            raise IntegrityError(
                "cosignature_invalid",
                f"the cosignature of {self.name} does not match the checkpoint",
                "treat the checkpoint as forged or damaged",
            ) from None
        return time_s


def cosign(text: str, key: SigningKey, time_s: int) -> Signature:
    """Returns the cosignature line of a checkpoint's text.

    Args:
        text: The checkpoint without its signatures, ending in a newline.
        key: The witness's key, which signs nothing but cosignatures.
        time_s: When, in whole seconds since 1970; must be positive.

    Raises:
        ValueError: the time cannot stand in a cosignature.
    """
    if not 0 < time_s <= _TIME_MAX:
        raise ValueError(f"{time_s} is not a time of a cosignature")
    signature = time_s.to_bytes(8, "big") + key.sign(_message(text, time_s))
    return Signature(key.name, WitnessKey.of(key).key_id, signature)


def _message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
