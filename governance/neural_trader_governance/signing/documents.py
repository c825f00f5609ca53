"""Signed documents: closed models whose every field but the signature is signed, under a domain.

A document names the key that signed it, for people; it never brings that key. It is checked against
a key that the reader pinned, and stored as canonical text, so that one document has one spelling.
"""

import functools
import secrets
from typing import ClassVar, Literal, Self

import orjson
from pydantic import Field, ValidationError

from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.terms.term import Term


def new_nonce() -> str:
    """Returns 128 random bits in hex: two documents that say the same are still two."""
    return secrets.token_hex(16)


class SignedDocument(Term):
    """The base of what the issuer signs; a subclass sets `domain`, so that kinds never mix."""

    domain: ClassVar[bytes]
    v: Literal[1] = 1
    issuer: str = Field(
        default="unsigned", min_length=1, max_length=200, description="Name of the key, not the key"
    )
    nonce: str = Field(default_factory=new_nonce, pattern=r"^[0-9a-f]{32}$")
    signature: str = Field(default="0" * 128, pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        """Returns the bytes that the signature covers: the domain and all fields but itself."""
        return self.domain + canonical_bytes(self.model_dump(mode="json", exclude={"signature"}))

    def signed_by(self, key: SigningKey) -> Self:
        """Returns this document with the key's name and its signature."""
        named = self.model_copy(update={"issuer": key.name})
        return named.model_copy(update={"signature": key.sign(named.signed_bytes()).hex()})

    def is_signed_by(self, key: VerifyingKey) -> bool:
        """Says whether the pinned key signed exactly this document."""
        return self.issuer == key.name and key.verify(self.signed_bytes(), bytes.fromhex(self.signature))

    def require_signature(self, key: VerifyingKey) -> None:
        """Passes only what the pinned key signed and what would be read back as it is.

        Raises:
            RiskError: `signature_invalid`.
        """
        if self.read(self.text(), key) != self:
            raise RiskError(
                "signature_invalid",
                f"the document is not signed by the issuer {key.name} that this desk pinned",
                "sign it with this desk's issuer key",
            )

    def text(self) -> str:
        """Returns the canonical text that is stored, signature included."""
        return canonical_bytes(self).decode()

    @classmethod
    def read(cls, text: str, key: VerifyingKey) -> Self | None:
        """Returns a stored document, or None if the pinned key did not sign exactly this text."""
        found = _read(cls, text, key)
        return found if isinstance(found, cls) else None


@functools.lru_cache(maxsize=4096)
def _read(kind: type[SignedDocument], text: str, key: VerifyingKey) -> SignedDocument | None:
    # Remembered by the whole text and the key: an edited row is another text, and is checked anew.
    try:
        document = kind.model_validate(orjson.loads(text))
        return document if document.text() == text and document.is_signed_by(key) else None
    except (orjson.JSONDecodeError, ValidationError, InputError):
        return None
