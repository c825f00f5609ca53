"""Keys: which client may use which account; secrets are kept as digests and compared in constant time."""

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key pair of one account."""

    key_id: str
    secret_digest: bytes
    account: str

    @classmethod
    def of(cls, key_id: str, secret: str, account: str) -> "ApiKey":
        """Makes one; the secret is forgotten."""
        return cls(key_id, _digest(secret), account)


class KeyRing:
    """All keys of an exchange."""

    def __init__(self, keys: list[ApiKey]) -> None:
        self._keys = {key.key_id: key for key in keys}

    def account(self, key_id: str | None, secret: str | None) -> str | None:
        """Returns the account that a key pair opens, or None."""
        key = self._keys.get(key_id or "")
        digest = _digest(secret or "")
        # Compared either way, so that the time says nothing about which key ids there are.
        same = hmac.compare_digest(digest, key.secret_digest if key else b"\0" * len(digest))
        return key.account if key is not None and same else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
