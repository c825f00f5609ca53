"""Cosignatures: a witness's dated statement that a log's newest tree grew out of its earlier ones.

The Ed25519 form of https://c2sp.org/tlog-cosignature: signature type 0x04, a line of the signed
note beside the log's own. What is signed is `cosignature/v1`, the time, and the checkpoint's text.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.halves import KeyType, PublicHalf
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import Note, Signature

COSIGNATURE_V1 = b"\x04"
_TIME_MAX = 2**63 - 1
_LENGTH = 8 + 64


@dataclass(frozen=True, slots=True)
class WitnessKey(PublicHalf):
    """The public half of a witness: a pinned one says whose cosignatures count."""

    key_type: ClassVar[KeyType] = KeyType(
        COSIGNATURE_V1,
        32,
        "an Ed25519 cosigner's key, which begins with the type 0x04",
        "a witness's verifier key",
        "the witness's `witness.vkey`",
        "invalid_witness_vkey",
    )

    @classmethod
    def of(cls, key: SigningKey) -> Self:
        """Returns the public half of a witness's own key."""
        return cls(key.name, key.verifying_key.public)

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
