"""Enactment: how a policy file of the home becomes the policy in force, by a person's signature.

`policy/default.cedar` in the home is a draft that people edit. What judges orders is the bundle that
the log activated last; a first bundle is made when a home is founded, and when a home of an earlier
version, whose policy was the file itself, is opened for the first time.
"""

from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import structlog

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.activation import ActivationUnit, activate, engine_of, newest_activation
from neural_trader_governance.policy.bundles import BUNDLE_BYTES_MAX, BundleFolder, PolicyBundle
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, policy_digest
from neural_trader_server.founding import Founded, issuer_key, issuer_pin, write_text
from neural_trader_server.home import Home

_FORMERLY_SHIPPED = frozenset({"9d926237f46ad9c56757f33fade220e041f5adf159eca45cf11b7e776c1fc268"})
"""Digests of the defaults of earlier versions: a home that never changed them gets today's."""

SHIPPED = "default"
"""What commands call the policy that this version ships."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that a command names: its texts, and the bundle if it came as one."""

    name: str
    policy: str
    schema: str
    bundle: PolicyBundle | None = None

    @property
    def digest(self) -> str:
        """What an activation would name."""
        return policy_digest(self.policy.encode(), self.schema.encode())


def read_candidate(home: Home, name: str, schema: Path | None = None) -> Candidate:
    """Reads a policy: a Cedar file, a bundle file, the beginning of a kept bundle's digest, or `default`.

    A Cedar file's schema is `schema`, else the `.cedarschema` beside it, else the home's, else ours.

    Raises:
        InputError: there is no such file and no such bundle.
        IntegrityError: a bundle is damaged.
    """
    if name == SHIPPED:
        return Candidate("this version's default", _shipped(POLICY_FILE), _shipped(SCHEMA_FILE))
    path = Path(name)
    if not path.is_file():
        folder = BundleFolder(home.bundles)
        digest = folder.find(name)
        if digest is None:
            raise InputError(
                "unknown_policy",
                f"{name!r:.80} is no file, and not the beginning (8 digits or more) of one kept bundle",
                "give a .cedar file, a bundle, a digest of `neural-trader policy status`, or `default`",
            )
        return _of_bundle(f"bundle {digest[:12]}", folder.read(digest))
    text = _read(path)
    if text.lstrip().startswith("{"):
        return _of_bundle(path.name, PolicyBundle.parse(text))
    places = (schema, path.with_suffix(".cedarschema"), home.policy_schema)
    found = next((place for place in places if place is not None and place.is_file()), None)
    return Candidate(path.name, text, _read(found) if found else _shipped(SCHEMA_FILE))


def sign_candidate(home: Home, candidate: Candidate, *, now: datetime, comment: str) -> PolicyBundle:
    """Returns the candidate's bundle, signed with the issuer's key unless it came signed.

    Raises:
        ConfigurationError: the issuer's key is not here, or stays locked.
        IntegrityError: a bundle that came signed is not this desk's issuer's.
    """
    if candidate.bundle is not None:
        candidate.bundle.require(issuer_pin(home))
        return candidate.bundle
    return PolicyBundle.sign(
        issuer_key(home), policy=candidate.policy, schema=candidate.schema, created=now, comment=comment
    )


def enact_first(home: Home, founded: Founded, unit: ActivationUnit, *, person: Caller, now: datetime) -> None:
    """Signs and activates the home's policy file where no signed policy was ever activated.

    Where that cannot be done (the issuer's key is locked, the file is of an older version and was
    changed), nothing is activated: the desk then denies every order and says what to do.
    """
    newest = newest_activation(unit.connection)
    if newest is not None and newest.bundle_signature:
        return
    try:
        _renew_default(home, founded)
        candidate = read_candidate(home, str(home.policy_file), home.policy_schema)
        bundle = sign_candidate(home, candidate, now=now, comment="the first signed policy of this home")
        engine_of(bundle)
    except ConfigurationError as error:
        _log.error("policy_not_activated", problem=error.what, next_step=error.next_step)
        founded.made.append(f"no policy in force yet ({error.code})")
        return
    activate(unit, bundle, folder=BundleFolder(home.bundles), issuer=issuer_pin(home), caller=person)
    founded.made.append("the policy's activation")


def is_draft(home: Home, digest: str) -> bool:
    """Says whether the home's policy file differs from the policy of this digest."""
    try:
        return policy_digest(home.policy_file.read_bytes(), home.policy_schema.read_bytes()) != digest
    except OSError:
        return True


def refresh_draft(home: Home, bundle: PolicyBundle) -> None:
    """Makes the home's policy file that of a bundle."""
    write_text(home.policy_file, bundle.policy)
    write_text(home.policy_schema, bundle.cedar_schema)


def _renew_default(home: Home, founded: Founded) -> None:
    """Replaces an earlier version's default that nobody changed by today's."""
    digest = policy_digest(home.policy_file.read_bytes(), home.policy_schema.read_bytes())
    if digest in _FORMERLY_SHIPPED:
        write_text(home.policy_schema, _shipped(SCHEMA_FILE))
        write_text(home.policy_file, _shipped(POLICY_FILE))
        founded.made.append("policy/default.cedar of this version in place of the earlier default")


def _of_bundle(name: str, bundle: PolicyBundle) -> Candidate:
    return Candidate(name, bundle.policy, bundle.cedar_schema, bundle)


def _shipped(name: str) -> str:
    return files("neural_trader_governance.policy").joinpath(name).read_text(encoding="utf-8")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > BUNDLE_BYTES_MAX:
            raise InputError(
                "policy_too_large", f"{path} exceeds {BUNDLE_BYTES_MAX:,} bytes", "give a policy file"
            )
        # As bytes: the digest covers every one of them, line ends included.
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "policy_unreadable", f"{path} cannot be read ({type(error).__name__})", "give a UTF-8 text file"
        ) from None
