"""At rest: a private key in its file, plain or locked, readable by its owner alone.

    PRIVATE+KEY+NAME+KEYID+BASE64(type || seed)

is the plain form, of whatever signature type (that of Go's `sumdb/note`); `locking` has the other one.
"""

import base64
import os
import secrets
from pathlib import Path

from neural_trader_governance.errors import ConfigurationError, StorageError
from neural_trader_governance.signing import locking

_PRIVATE_PREFIX = "PRIVATE+KEY+"


def read_key_file(path: Path) -> str:
    """Returns a key file's text, plain or locked.

    Raises:
        ConfigurationError: it is missing, or readable by others.
    """
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "key_unreadable",
            f"the key {path} cannot be read ({type(error).__name__})",
            "run `neural-trader init`, or restore the key file",
        ) from None
    if mode & 0o077:
        raise ConfigurationError(
            "key_exposed", f"the key {path} has mode {mode:04o}", f"run `chmod 600 {path}`"
        )
    return text


def open_key_file(path: Path, passphrase: str | None) -> str:
    """Returns a key file's plain text, unlocked where a passphrase locks it.

    Raises:
        ConfigurationError: missing or readable by others; `key_locked` without a passphrase,
            `wrong_passphrase` with another one.
    """
    text = read_key_file(path)
    if not locking.is_locked(text):
        return text.strip()
    if passphrase is None:
        raise ConfigurationError(
            "key_locked",
            f"the key {path} is locked, and no passphrase was given",
            "run the command on a terminal, or see `neural-trader keys --help`",
        )
    return locking.unlock(locking.read_locked(text), passphrase).decode("ascii", errors="replace").strip()


def write_key_file(path: Path, text: str, *, replace: bool = False) -> None:
    """Writes a key file of mode 0600, durably, and whole or not at all.

    Args:
        path: Must be free, unless it is replaced.
        text: What it holds.
        replace: Put it in the place of the file that is there.

    Raises:
        StorageError: a file of that name exists, or it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                beside.replace(path)
            else:
                os.link(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            "key_not_saved",
            f"the key {path} was not written ({error.strerror})",
            "choose a free path in a writable folder",
        ) from error


def encode_private(name: str, key_id: bytes, kind: bytes, seed: bytes) -> str:
    """Returns the plain form of a private key."""
    return f"{_PRIVATE_PREFIX}{name}+{key_id.hex()}+{base64.b64encode(kind + seed).decode()}\n"


def decode_private(text: str, kind: bytes, seed_bytes: int) -> tuple[str, str, bytes]:
    """Returns name, key id in hex and seed of a private key's plain form.

    Raises:
        ValueError: it is malformed or of another kind; the message is empty, for it would hold the key.
    """
    name, key_id, encoded = text.removeprefix(_PRIVATE_PREFIX).split("+", 2)
    data = base64.b64decode(encoded, validate=True)
    whole = text.startswith(_PRIVATE_PREFIX) and base64.b64encode(data).decode() == encoded
    if not whole or len(data) != len(kind) + seed_bytes or not data.startswith(kind):
        raise ValueError
    return name, key_id, data[len(kind) :]


def malformed_key(path: Path) -> ConfigurationError:
    """Returns the error for a key file that holds no key; its text is not quoted, it may hold most of one."""
    return ConfigurationError(
        "invalid_key", f"the key {path} is malformed", "restore the key file from your backup"
    )


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable (a rename or a creation is not, before this)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
