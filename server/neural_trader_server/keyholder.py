"""The keyholder: opens the private keys of a home, and finds the passphrase where one is locked.

A person's keys (approver, issuer) ask the person first: terminal, then environment, then the operating
system's keyring. A process's own keys (log, witness) ask the terminal last, because servers have none.
"""

import os
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_governance.signing import locking
from neural_trader_governance.signing.at_rest import read_key_file
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey, vkey_of
from neural_trader_governance.signing.mldsa import MldsaSigningKey, mldsa_vkey_of
from neural_trader_server.home import Home

KEYRING_SERVICE = "neural-trader"

Key = TypeVar("Key", SigningKey, MldsaSigningKey)


class KeyRole(StrEnum):
    """What a key signs: approvals, documents of authority, the log's checkpoints, cosignatures."""

    APPROVER = "approver"
    ISSUER = "issuer"
    LOG = "log"
    WITNESS = "witness"

    @property
    def is_person(self) -> bool:
        """True where a person must be there when it signs."""
        return self in (KeyRole.APPROVER, KeyRole.ISSUER)

    @property
    def variable(self) -> str:
        """The environment variable of its passphrase."""
        return f"NEURAL_TRADER_{self.name}_PASSPHRASE"


def key_path(home: Home, role: KeyRole) -> Path:
    """Returns where a home keeps a role's private key, whether or not it is there."""
    return home.keys / f"{role.value}.key"


def load_person_key(home: Home, role: KeyRole | str) -> SigningKey:
    """Opens the approver's or the issuer's key for a command that a person runs.

    Raises:
        ConfigurationError: missing, exposed, malformed, or locked and no passphrase opens it.
    """
    return load_key(key_path(home, KeyRole(role)), KeyRole(role))


def load_key(path: Path, role: KeyRole) -> SigningKey:
    """Opens a key file, asking for its passphrase if it is locked.

    Raises:
        ConfigurationError: missing, exposed, malformed; `key_locked` where nobody gave a passphrase,
            `wrong_passphrase` where the first one given does not open it.
    """
    return _opened(path, role, vkey_of, SigningKey.load)


def load_mldsa_key(path: Path) -> MldsaSigningKey:
    """Opens the log's second key, which has the passphrase sources of the log's first one.

    Raises:
        ConfigurationError: as `load_key`.
    """
    return _opened(path, KeyRole.LOG, mldsa_vkey_of, MldsaSigningKey.load)


def _opened(
    path: Path, role: KeyRole, name: Callable[[Path], str], load: Callable[[Path, str | None], Key]
) -> Key:
    if not locking.is_locked(read_key_file(path)):
        return load(path, None)
    for ask in _sources(role, name(path)):
        passphrase = ask()
        if passphrase:
            return load(path, passphrase)
    raise ConfigurationError(
        "key_locked",
        f"the key {path} is locked, and there is no terminal to ask on",
        f"run it on a terminal, set {role.variable}, or put the passphrase into the keyring:"
        f" neural-trader keys lock {path.stem} --keyring",
    )


def _sources(role: KeyRole, vkey: str) -> Iterator[Callable[[], str | None]]:
    def terminal() -> str | None:
        return ask_passphrase(f"Passphrase of the {role.value} key (Enter: look elsewhere): ")

    def environment() -> str | None:
        return os.environ.get(role.variable)

    def keyring() -> str | None:
        return recall_passphrase(vkey)

    yield from (terminal, environment, keyring) if role.is_person else (environment, keyring, terminal)


def ask_passphrase(prompt: str) -> str | None:
    """Asks on the terminal without echo; None where there is none."""
    if not sys.stdin.isatty():
        return None
    import getpass

    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        return None


def choose_passphrase(role: KeyRole) -> str | None:
    """Asks twice for a new passphrase, or takes the environment's; None where neither is given.

    Raises:
        ConfigurationError: the two differ.
    """
    first = ask_passphrase(f"New passphrase for the {role.value} key: ")
    if not first:
        return os.environ.get(role.variable)
    if ask_passphrase("The same again: ") != first:
        raise ConfigurationError("passphrases_differ", "the two passphrases differ", "try again")
    return first


def offer_locking(home: Home) -> bool:
    """Offers, on a terminal, one passphrase for the keys that sign in a person's name; True if it was taken.

    Raises:
        ConfigurationError: the two passphrases differ.
        InputError: the passphrase is too short.
    """
    paths = [key_path(home, role) for role in KeyRole if role.is_person]
    plain = [path for path in paths if path.exists() and not is_locked(path)]
    if not plain:
        return False
    passphrase = ask_passphrase("Passphrase for the approver's and the issuer's key (Enter: none): ")
    if not passphrase:
        return False
    if ask_passphrase("The same again: ") != passphrase:
        raise ConfigurationError(
            "passphrases_differ", "the two passphrases differ", "run `neural-trader keys lock approver`"
        )
    for path in plain:
        SigningKey.load(path).replace(path, passphrase)
    return True


def recall_passphrase(vkey: str) -> str | None:
    """Returns the passphrase that the operating system's keyring holds for a key; None without one."""
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(KEYRING_SERVICE, _account(vkey))
    except KeyringError:
        return None


def keep_passphrase(vkey: str, passphrase: str) -> None:
    """Puts a passphrase into the operating system's keyring.

    Raises:
        HostError: this machine has no keyring, or it refused.
    """
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(KEYRING_SERVICE, _account(vkey), passphrase)
    except KeyringError as error:
        raise HostError(
            "no_keyring",
            f"the operating system's keyring took no passphrase ({type(error).__name__})",
            "lock the key without --keyring, or start a keyring such as gnome-keyring",
        ) from None


def forget_passphrase(vkey: str) -> None:
    """Removes a passphrase from the operating system's keyring, if it is there."""
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.delete_password(KEYRING_SERVICE, _account(vkey))
    except KeyringError:
        return


def _account(vkey: str) -> str:
    """A key's own account: two homes, or a key and its successor, never share a passphrase by accident."""
    name, key_id, _ = vkey.split("+", 2)
    return f"{name}+{key_id}"


def is_locked(path: Path) -> bool:
    """Says whether a key file is locked.

    Raises:
        ConfigurationError: it is missing, or readable by others.
    """
    return locking.is_locked(read_key_file(path))


def verifying_key(path: Path) -> VerifyingKey:
    """Returns the public half of a key file without its passphrase."""
    return VerifyingKey.parse(vkey_of(path))
