"""Founding: what turns an empty folder into the home of a desk, once, whoever comes first.

Every step is skipped where its result exists, so that founding again changes nothing; keys and
policies are never overwritten. A lock keeps two servers that start at once from founding twice.
"""

import fcntl
import os
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from neural_trader_governance import principals
from neural_trader_governance.audit.key_files import KeyFiles
from neural_trader_governance.audit.signers import LogSigner
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import EnrolmentUnit, Role
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey, vkey_of
from neural_trader_server.home import Home
from neural_trader_server.keyholder import KeyRole, load_key, load_mldsa_key


@dataclass(frozen=True, slots=True)
class Founded:
    """What a call of `found` made; empty where the home was whole."""

    made: list[str] = field(default_factory=list[str])


def is_founded(home: Home) -> bool:
    """Tells, without opening anything, whether the home has its log, keys and policy.

    The approver's and the issuer's private keys may live elsewhere, which is better; what is pinned may not.
    """
    needed = (home.log_key, home.log_vkey, home.approver_vkey, home.issuer_vkey, home.desk_db)
    return all(path.exists() for path in (*needed, home.policy_file, home.policy_schema))


@contextmanager
def founding(home: Home) -> Generator[Founded]:
    """Makes folders, keys and policy; the body then opens the log; the log's key becomes final after it.

    The order matters: `log.key` appears only when the log that it signs exists. A home with a key
    and no log has therefore lost its log, and starting a second history under the same key would
    be the one thing that a log must never do.

    Raises:
        IntegrityError: the home has its log's key and no log.
        ConfigurationError: the home cannot be written.
    """
    home.make()
    with exclusively(home.path / ".founding.lock"):
        founded = Founded()
        if home.log_key.exists() and not home.desk_db.exists():
            raise IntegrityError(
                "audit_log_missing",
                f"{home.desk_db} is gone, and the key that signed it is still here",
                "restore desk.db from a backup, or begin anew in another home (NEURAL_TRADER_HOME)",
            )
        _make_approver(home, founded)
        _make_issuer(home)
        _copy_policy(home, founded)
        pending = _pending(home.log_key)
        if not home.log_key.exists() and not pending.exists():
            SigningKey.generate(f"neural-trader.local/desk/{secrets.token_hex(4)}").save(pending)
        yield founded
        _settle_issuer(home, founded)
        if pending.exists():
            write_vkey(home.log_vkey, SigningKey.load(pending).vkey)
            os.replace(pending, home.log_key)
            founded.made.append("the log's key pair")
        elif not home.log_vkey.exists():
            write_vkey(home.log_vkey, vkey_of(home.log_key))
            founded.made.append("the log's verifier key")


def log_signer(home: Home) -> LogSigner:
    """Returns the log's signer, also while the home is being founded; it follows the log's key rotations."""
    pending = _pending(home.log_key)
    key = SigningKey.load(pending) if pending.exists() and not home.log_key.exists() else None
    return log_key_files(home).signer(key)


def log_key_files(home: Home) -> KeyFiles:
    """Returns the files of the log's keys, opened by the keyholder."""
    return KeyFiles(home.keys, lambda path: load_key(path, KeyRole.LOG), load_mldsa_key)


def issuer_pin(home: Home) -> VerifyingKey:
    """Returns the issuer's verifier key that this home pinned; all authority of people rests on it.

    Raises:
        ConfigurationError: it is missing or malformed.
    """
    if home.issuer_vkey.exists():
        return VerifyingKey.parse(home.issuer_vkey.read_text(encoding="ascii"))
    pending = _pending(home.issuer_key)
    return VerifyingKey.parse(vkey_of(pending if pending.exists() else home.issuer_key))


def enroll_first(
    home: Home, founded: Founded, unit: EnrolmentUnit, *, person: Caller, agents: Iterable[str], now: datetime
) -> None:
    """Enrols the owner, where nobody is enrolled yet, with every role; and agents that are new, as traders.

    Raises:
        IntegrityError: what is enrolled was signed by another issuer than the one that this home pinned.
        ConfigurationError: there is somebody to enrol, and the issuer's key cannot be opened.
    """
    connection, issuer = unit.connection, issuer_pin(home)
    if foreign := principals.unverified(connection, issuer=issuer):
        raise IntegrityError(
            "issuer_changed",
            f"{foreign[0]} is not enrolled by the issuer {issuer.name} that this home pinned",
            "restore keys/issuer.vkey from your backup; nobody can trade without it",
        )
    known = {each.subject for each in principals.list_enrolments(connection, issuer=issuer)}
    wanted: list[tuple[principals.Kind, str]] = [("agent", agent) for agent in agents]
    if not any(subject.startswith("person ") for subject in known):
        wanted.insert(0, ("person", person.principal))
    for kind, name in wanted:
        if f"{kind} {name}" in known:
            continue
        document = principals.sign_enrolment(
            connection,
            issuer_key(home),
            kind=kind,
            name=name,
            roles=frozenset(Role) if kind == "person" else frozenset({Role.TRADER}),
            vkey=home.approver_vkey.read_text(encoding="ascii") if kind == "person" else None,
            time=now,
        )
        principals.enroll(unit, document, issuer=issuer, caller=person)
        founded.made.append(f"the enrolment of the {kind} {name}")


def issuer_key(home: Home) -> SigningKey:
    """Opens the issuer's private key, also while the home is being founded.

    Raises:
        ConfigurationError: it is not here, or it is locked and no passphrase opens it.
    """
    if _pending(home.issuer_key).exists():
        return SigningKey.load(_pending(home.issuer_key))
    return load_key(home.issuer_key, KeyRole.ISSUER)


def _make_issuer(home: Home) -> None:
    pending = _pending(home.issuer_key)
    if not any(path.exists() for path in (home.issuer_vkey, home.issuer_key, pending)):
        SigningKey.generate(f"neural-trader.local/issuer/{secrets.token_hex(4)}").save(pending)


def _settle_issuer(home: Home, founded: Founded) -> None:
    pending = _pending(home.issuer_key)
    if pending.exists():
        os.replace(pending, home.issuer_key)
    if not home.issuer_vkey.exists():
        write_vkey(home.issuer_vkey, vkey_of(home.issuer_key))
        founded.made.append("the issuer's key pair")


def _pending(key: Path) -> Path:
    """Where a key waits until what it signs exists."""
    return key.with_name(f"{key.name}.new")


def _make_approver(home: Home, founded: Founded) -> None:
    if not home.approver_key.exists() and not home.approver_vkey.exists():
        SigningKey.generate(f"neural-trader.local/approver/{secrets.token_hex(4)}").save(home.approver_key)
        founded.made.append("the approver's key pair")
    if not home.approver_vkey.exists():
        write_vkey(home.approver_vkey, vkey_of(home.approver_key))


def _copy_policy(home: Home, founded: Founded) -> None:
    shipped = files("neural_trader_governance.policy")
    for path in (home.policy_file, home.policy_schema):
        if not path.exists():
            write_text(path, shipped.joinpath(path.name).read_text(encoding="utf-8"))
            founded.made.append(f"policy/{path.name}")


def write_vkey(path: Path, vkey: str) -> None:
    """Writes a verifier key's file, whole or not at all."""
    write_text(path, vkey + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file durably: the old one or the new one stands there, whatever happens."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextmanager
def exclusively(path: Path) -> Generator[None]:
    """Lets one process at a time through, by a lock on this file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
