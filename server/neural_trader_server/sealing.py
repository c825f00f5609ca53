"""Sealing: the secret that all processes of one home share for what a client carries between its calls.

A question that waits for its answer travels with the client (MCP's `requestState`), and any worker may get
the answer: each seals and opens with keys derived from one secret of the home, which no other home has.
"""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.calling import caller_of

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.request_state import RequestStateSecurity

    from neural_trader_server.home import Home

SECRET_BYTES = 32
STATE_TTL_S = 600.0
"""How long a question may wait: as long as an order's preview."""


def derive(home: "Home", purpose: str) -> bytes:
    """Returns a key of this home for one purpose, the same in each of its processes.

    Args:
        home: Whose secret it is; a new one is made where there is none.
        purpose: Keys for two purposes have nothing in common.

    Raises:
        ConfigurationError: `secret_unusable`, where the file is not a secret that only we can read.
    """
    return HKDF(SHA256(), 32, None, f"neural-trader/{purpose}/v1".encode()).derive(
        _secret(home.keys / "http.secret")
    )


def request_states(home: "Home") -> "RequestStateSecurity":
    """Returns how the SDK seals what a client carries: by the home's key, bound to the caller."""
    from mcp.server.request_state import RequestStateSecurity

    return RequestStateSecurity(
        keys=[derive(home, "request-state")], ttl=STATE_TTL_S, bind_principal=_bound_to
    )


def _bound_to(ctx: "ServerRequestContext[Any, Any]") -> str | None:
    caller = caller_of(ctx)
    return None if caller is None else f"{caller.agent}\n{caller.principal}"


def _secret(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        status, secret = path.stat(), path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "secret_unusable", f"{path} cannot be read or made: {error.strerror}", "make the folder writable"
        ) from error
    if status.st_mode & 0o077 or len(secret) != SECRET_BYTES:
        raise ConfigurationError(
            "secret_unusable",
            f"{path} can be read by others, or does not hold {SECRET_BYTES} bytes",
            "delete it: a new one is made, and whoever was being asked is asked again",
        )
    return secret


def _make(path: Path) -> None:
    """Makes the secret; of processes that do so at once, one wins and the others read its."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    mine = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(mine, path)
    except FileExistsError:
        pass
    finally:
        mine.unlink()
