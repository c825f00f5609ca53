"""Policy bundles: a policy and its schema as one signed, versioned file, kept for ever by digest.

A bundle says which rules the issuer stands behind; it does not say that they are in force. That
takes a `policy.activate` entry in the log (policy/activation.py), so an old bundle that somebody puts
back does nothing, and a decision of years ago can be decided again with the rules of its day.
"""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, ValidationError

from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.policy.engine import policy_digest
from neural_trader_governance.signing.at_rest import sync_folder
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime

BUNDLE_BYTES_MAX = 4 * 2**20
"""A policy is read by people: whatever is larger than this is none."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_DIGEST_PREFIX = re.compile(r"[0-9a-f]{8,64}")


class PolicyBundle(SignedDocument):
    """What the issuer signed: every byte of the policy and of its schema, when, and why."""

    domain: ClassVar[bytes] = b"neural-trader/policy-bundle/v1\n"
    policy: str = Field(min_length=1, description="The Cedar policies")
    cedar_schema: str = Field(min_length=1, description="The Cedar schema that they are checked against")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Over both texts; see policy_digest")
    created: UtcTime
    comment: str = Field(default="", max_length=500, description="Why this policy, in a person's words")

    @classmethod
    def sign(cls, key: SigningKey, *, policy: str, schema: str, created: datetime, comment: str = "") -> Self:
        """Returns a bundle signed with the issuer's key."""
        digest = policy_digest(policy.encode(), schema.encode())
        return cls(
            policy=policy, cedar_schema=schema, digest=digest, created=created, comment=comment
        ).signed_by(key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a bundle's text. It vouches for nothing yet: `require` does.

        Raises:
            IntegrityError: it is no bundle, or not in its one canonical spelling.
        """
        try:
            bundle = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "text"
            raise _refused(f"it is not a policy bundle ({where}: {first['msg']})") from None
        if bundle.text() != text.rstrip("\n"):
            raise _refused("it is not in canonical form")
        return bundle

    def require(self, issuer: VerifyingKey) -> None:
        """Passes only a bundle that the pinned issuer signed and whose digest is its texts'.

        Raises:
            IntegrityError: `policy_bundle_refused`.
        """
        if not self.is_signed_by(issuer):
            raise _refused(f"it is not signed by this desk's issuer {issuer.name}")
        if policy_digest(self.policy.encode(), self.cedar_schema.encode()) != self.digest:
            raise _refused("its digest is not that of its texts")


@dataclass(frozen=True, slots=True)
class BundleFolder:
    """The folder of every policy that was ever activated here: `<digest>.json`."""

    path: Path

    def path_of(self, digest: str) -> Path:
        """Returns where the bundle of this digest is kept.

        Raises:
            IntegrityError: the text is no digest, and would name another file.
        """
        if not _DIGEST.fullmatch(digest):
            raise _refused(f"{digest!r:.80} is no policy digest")
        return self.path / f"{digest}.json"

    def read(self, digest: str) -> PolicyBundle:
        """Returns the bundle of this digest. Only its digest is checked, which is all a replay needs.

        Raises:
            IntegrityError: it is missing, damaged, or holds another policy.
        """
        path = self.path_of(digest)
        try:
            with path.open("rb") as file:
                data = file.read(BUNDLE_BYTES_MAX + 1)
            text = data.decode()
        except FileNotFoundError:
            raise _refused(f"{path} does not exist") from None
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(f"{path} cannot be read ({type(error).__name__})") from None
        if len(data) > BUNDLE_BYTES_MAX:
            raise _refused(f"{path} is larger than {BUNDLE_BYTES_MAX:,} bytes")
        bundle = PolicyBundle.parse(text)
        if not bundle.digest == digest == policy_digest(bundle.policy.encode(), bundle.cedar_schema.encode()):
            raise _refused(f"{path} holds another policy than its name says")
        return bundle

    def keep(self, bundle: PolicyBundle, issuer: VerifyingKey) -> PolicyBundle:
        """Writes a bundle durably, and returns the one that is kept: the first good one of its digest.

        Raises:
            IntegrityError: the bundle is not this issuer's.
            StorageError: it cannot be written.
        """
        bundle.require(issuer)
        try:
            kept = self.read(bundle.digest)
            kept.require(issuer)
            return kept
        except IntegrityError:
            pass  # there is none yet, or it is damaged: this one takes its place
        path = self.path_of(bundle.digest)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with partial.open("w", encoding="utf-8") as file:
                file.write(bundle.text() + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            sync_folder(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StorageError(
                "policy_bundle_not_saved",
                f"{path} was not written ({error.strerror})",
                "check the folder and its disk; the policy in force has not changed",
            ) from error
        return bundle

    def find(self, prefix: str) -> str | None:
        """Returns the one kept digest that begins with these 8 to 64 hex digits, or None."""
        if not _DIGEST_PREFIX.fullmatch(prefix) or not self.path.is_dir():
            return None
        found = [path.stem for path in self.path.glob(f"{prefix}*.json") if _DIGEST.fullmatch(path.stem)]
        return found[0] if len(found) == 1 else None


def _refused(why: str) -> IntegrityError:
    return IntegrityError(
        "policy_bundle_refused",
        f"the policy bundle is refused: {why}",
        "restore the file from a backup, or have a person run `neural-trader policy activate FILE`",
    )
