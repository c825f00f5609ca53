"""Locking: a private key at rest that only a passphrase opens.

scrypt stretches the passphrase, ChaCha20-Poly1305 seals the key, and everything else in the file
(format, whose key it is, the cost) is authenticated with it, so that nothing can be swapped.
"""

import base64
import os
import unicodedata
from typing import Annotated, Literal

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import Field, ValidationError

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.terms.term import Term

COST = 2**17
"""scrypt's N with r = 8: 128 MiB and about half a second for every guess (OWASP's recommendation)."""

PASSPHRASE_MIN = 8
_HEADING = '{"format":"neural-trader-locked-key"'

_Base64 = Annotated[str, Field(max_length=16_384, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]


class LockedKey(Term):
    """The file of a locked key; every field but the ciphertext is authenticated with it."""

    format: Literal["neural-trader-locked-key"]
    v: Literal[1]
    label: str = Field(max_length=4096, description="Whose key this is: its verifier key")
    kdf: Literal["scrypt"]
    cost: int = Field(ge=2**10, le=2**20, description="scrypt's N; the bound keeps a file from eating memory")
    salt: _Base64
    cipher: Literal["chacha20-poly1305"]
    nonce: _Base64
    ciphertext: _Base64

    def authenticated(self) -> bytes:
        """Returns what the ciphertext vouches for beside itself."""
        return canonical_bytes(self.model_dump(mode="json", exclude={"ciphertext"}))


def is_locked(text: str) -> bool:
    """Says whether a key file's text is in the locked form."""
    return text.startswith(_HEADING)


def lock(secret: bytes, *, label: str, passphrase: str, cost: int = COST) -> str:
    """Returns the file of a locked key.

    Args:
        secret: The private key's bytes.
        label: Whose key it is; `unlock` shows it without the passphrase.
        passphrase: At least 8 characters.
        cost: scrypt's N, a power of two.

    Raises:
        InputError: the passphrase is too short.
    """
    if len(passphrase) < PASSPHRASE_MIN:
        raise InputError(
            "passphrase_too_short",
            f"a passphrase needs {PASSPHRASE_MIN} characters at least",
            "choose a longer one, such as five random words",
        )
    salt, nonce = os.urandom(16), os.urandom(12)
    header = LockedKey(
        format="neural-trader-locked-key",
        v=1,
        label=label,
        kdf="scrypt",
        cost=cost,
        salt=_encode(salt),
        cipher="chacha20-poly1305",
        nonce=_encode(nonce),
        ciphertext="",
    )
    sealed = ChaCha20Poly1305(_stretch(passphrase, salt, cost)).encrypt(nonce, secret, header.authenticated())
    # In the order of the fields, so that a person who opens the file reads first what it is.
    whole = header.model_copy(update={"ciphertext": _encode(sealed)})
    return orjson.dumps(whole.model_dump(mode="json")).decode() + "\n"


def read_locked(text: str) -> LockedKey:
    """Reads the file of a locked key without opening it.

    Raises:
        ConfigurationError: it is malformed, or of a newer version.
    """
    try:
        return LockedKey.model_validate_json(text)
    except ValidationError:
        raise ConfigurationError(
            "invalid_key", "the locked key is malformed", "restore the key file from your backup"
        ) from None


def unlock(locked: LockedKey, passphrase: str) -> bytes:
    """Returns the private key's bytes.

    Raises:
        ConfigurationError: `wrong_passphrase`; a file that was altered looks the same.
    """
    try:
        salt, nonce, sealed = (_decode(part) for part in (locked.salt, locked.nonce, locked.ciphertext))
        key = _stretch(passphrase, salt, locked.cost)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, locked.authenticated())
    except (InvalidTag, ValueError):
        # Neither the passphrase nor the file is quoted, and no cause is chained.
        raise ConfigurationError(
            "wrong_passphrase",
            f"the passphrase does not open the key {locked.label!r:.120}, or its file was altered",
            "try again; a lost passphrase cannot be recovered, make a new key instead",
        ) from None


def _stretch(passphrase: str, salt: bytes, cost: int) -> bytes:
    # The same characters typed on another keyboard must be the same passphrase.
    text = unicodedata.normalize("NFC", passphrase).encode()
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(text)


def _decode(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if _encode(data) != text:
        raise ValueError  # spare bits: the same bytes have one spelling only
    return data


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
