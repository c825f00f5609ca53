"""The sandbox of an E2B service: its settings, its key, and a person's consent that data goes there.

A consent is a file of the home, bound to one destination, and an entry of the audit log. No tool gives it,
so an agent that calls over MCP cannot. An agent with a shell of this very account could write the file, as
it could sign with this account's keys (docs/security.md); the file counts only where the log's newest entry
about it says the same, so that such an agent would have to run the command, which is on record.
"""

import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, ValidationError

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.redaction import remember
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.term import Term

if TYPE_CHECKING:
    from neural_trader_sandbox.e2b.settings import E2BSettings
    from neural_trader_server.app import Services
    from neural_trader_server.home import Home
    from neural_trader_server.settings import Settings

COMMAND = "neural-trader sandbox consent e2b"
KEYRING_SERVICE, KEYRING_NAME = "neural-trader", "e2b"
LEAVES = (
    "the source text of every strategy and script that is run",
    "its parameters, and the prices and other tables that it is given",
    "the engine's own source files, and the names of the modules in use",
)
"""What goes to the service when something runs there."""

_FILE_BYTES_MAX = 4096


class Consent(Term):
    """A person agreed that strategies and data go to one destination."""

    v: Literal[1] = 1
    backend: Literal["e2b"] = "e2b"
    destination: str = Field(min_length=1, max_length=600)
    person: str = Field(min_length=1, max_length=80)
    given_time: UtcTime


def read_consent(home: "Home") -> Consent | None:
    """Returns the consent of this home; None where nobody gave one.

    Raises:
        ConfigurationError: the file is not a consent, or not its owner's alone (`sandbox_consent_invalid`).
    """
    path = home.e2b_consent
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _invalid(path, error.strerror or str(error)) from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise _invalid(path, "somebody else may write it")
    if len(data) > _FILE_BYTES_MAX:
        raise _invalid(path, "it is too long")
    try:
        return Consent.model_validate_json(data)
    except ValidationError as error:
        raise _invalid(path, error.errors(include_url=False)[0]["msg"]) from None


def recorded_destination(services: "Services") -> str | None:
    """Returns where the newest entry about consent in the audit log lets data go; None is nowhere.

    Raises:
        StorageError: the log cannot be read.
        IntegrityError: the entry is damaged.
    """
    from neural_trader_governance.audit.log import read_entry

    with services.store.read() as connection:
        row = connection.execute(
            "SELECT max(seq) FROM audit_entries WHERE type = ?", (EntryType.SANDBOX_CONSENT.value,)
        ).fetchone()
        if row[0] is None:
            return None
        entry = read_entry(connection, int(row[0]))
    payload = entry.payload
    destination = payload.get("destination")
    agreed = payload.get("consent") is True and payload.get("backend") == "e2b" and entry.agent == ""
    return destination if agreed and isinstance(destination, str) else None


def consented(services: "Services") -> Callable[[str], None]:
    """Returns what the backend asks before it sends anything anywhere; each time it looks again."""
    home = services.home

    def require(destination: str) -> None:
        consent = read_consent(home)
        if consent is None or consent.destination != destination:
            given = f"only for {consent.destination}" if consent is not None else "by nobody"
            raise ConfigurationError(
                "sandbox_consent_missing",
                f"strategies and data would leave this machine for {destination}; that was allowed {given}",
                f"a person runs: {COMMAND}",
            )
        if recorded_destination(services) != destination:
            raise ConfigurationError(
                "sandbox_consent_unrecorded",
                f"{home.e2b_consent} allows {destination}, but the log's newest entry about it does not",
                f"find out who wrote the file, remove it, then a person runs: {COMMAND}",
            )

    return require


def is_consented(services: "Services", destination: str) -> bool:
    """Tells whether data may go there now.

    Raises:
        ConfigurationError: the file is no consent (`sandbox_consent_invalid`).
    """
    known = read_consent(services.home)
    return (
        known is not None
        and known.destination == destination
        and recorded_destination(services) == destination
    )


def give_consent(services: "Services", destination: str) -> Consent:
    """Puts a person's consent on record and into force."""
    now: datetime = services.clock.now()
    consent = Consent(destination=destination, person=services.person.principal, given_time=now)
    payload = {"backend": "e2b", "destination": destination, "consent": True}
    services.record(services.person, EntryType.SANDBOX_CONSENT, payload=payload)
    path = services.home.e2b_consent
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(consent.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
    return consent


def revoke_consent(services: "Services") -> bool:
    """Takes it back, and puts that on record; False where there was none."""
    path = services.home.e2b_consent
    existed = path.exists()
    path.unlink(missing_ok=True)
    if not existed and recorded_destination(services) is None:
        return False
    payload = {"backend": "e2b", "consent": False}
    services.record(services.person, EntryType.SANDBOX_CONSENT, payload=payload)
    return True


def e2b_settings(home: "Home", settings: "Settings") -> "E2BSettings":
    """Returns what the backend must know; a key that is missing is found out when it is needed.

    Raises:
        ConfigurationError: a setting is not valid.
    """
    import hashlib

    from neural_trader_sandbox.e2b.settings import E2BSettings

    names = set(E2BSettings.model_fields) - {"api_key", "home_id", "folder"}
    given = {name: getattr(settings, f"e2b_{name}") for name in names}
    home_id = hashlib.sha256(str(home.path.resolve()).encode()).hexdigest()[:16]
    try:
        return E2BSettings(api_key=_key(settings), home_id=home_id, **given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"e2b_{'.'.join(str(part) for part in first['loc'])}".rstrip("_")
        raise ConfigurationError(
            "invalid_setting",
            f"{name}: {first['msg']}",
            f"fix NEURAL_TRADER_{name.upper()} or the line `{name} = …` in {home.config}",
        ) from None


def _key(settings: "Settings") -> SecretStr | None:
    """The API key: settings, E2B's own variable, the operating system's keyring."""
    found = settings.e2b_api_key.get_secret_value() if settings.e2b_api_key is not None else ""
    found = found or os.environ.get("E2B_API_KEY", "") or _recalled()
    if not found:
        return None
    remember(found)
    return SecretStr(found)


def _recalled() -> str:
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(KEYRING_SERVICE, KEYRING_NAME) or ""
    except KeyringError:
        return ""


def _invalid(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        "sandbox_consent_invalid", f"{path} is no consent: {why}", f"remove it, then a person runs: {COMMAND}"
    )
