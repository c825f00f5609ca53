"""Authentication: over HTTP, every request to `/mcp` shows a key once this desk has issued one.

    Authorization: Bearer ntk_…

Liveness (`/healthz`, `/readyz`) is anybody's, and so is `/metrics`, since the desk serves loopback alone. A
desk that never issued a key serves loopback as it is; from the first key on the door stays shut, also when
the last key was revoked.
"""

from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from neural_trader_governance import apikeys
from neural_trader_governance.errors import NeuralTraderError, RiskError
from neural_trader_server.calling import SCOPE_KEY

if TYPE_CHECKING:
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from starlette.types import ASGIApp, Receive, Scope, Send

    from neural_trader_governance.identity import Caller
    from neural_trader_governance.signing.keys import VerifyingKey
    from neural_trader_governance.store import Store
    from neural_trader_governance.terms.clocks import Clock

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

log = structlog.get_logger(__name__)


class RequireKey:
    """ASGI middleware: who calls, or 401.

    Args:
        app: What is served behind the door.
        store: Where keys and their revocations stand; asked at every request.
        issuer: The pinned key that signed the grants.
        clock: Ends keys.
        required: True: always; False: never; None: once a key was issued.
    """

    def __init__(
        self, app: "ASGIApp", *, store: "Store", issuer: "VerifyingKey", clock: "Clock", required: bool | None
    ) -> None:
        self._app = app
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._required = required

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on with its caller, or answers 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            if scope["type"] == "websocket":
                return  # none are served
            await self._app(scope, receive, send)
            return
        try:
            caller = self._caller(Headers(scope=scope).get("authorization"))
        except NeuralTraderError as error:
            log.warning("key_refused", code=error.code, path=str(scope["path"])[:40])
            body = {"code": error.code, "what": error.what, "next_step": error.next_step}
            status = 401 if isinstance(error, RiskError) else 503
            await JSONResponse({"error": body}, status, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        known = scope if caller is None else {**scope, SCOPE_KEY: caller, "user": _owner_of(caller)}
        await self._app(known, receive, send)

    def _caller(self, header: str | None) -> "Caller | None":
        with self._store.read() as connection:
            required = apikeys.was_any_issued(connection) if self._required is None else self._required
            if header is None and not required:
                return None
            scheme, _, token = (header or "").partition(" ")
            now = self._clock.now()
            caller = (
                apikeys.authenticate(connection, token.strip(), issuer=self._issuer, now=now)
                if scheme.lower() == "bearer"
                else None
            )
        if caller is None:
            raise RiskError(
                "key_required" if header is None else "key_invalid",
                "this desk serves holders of an API key only"
                if header is None
                else "the API key is unknown, revoked or expired",
                "send `Authorization: Bearer ntk_…`; a person issues one: neural-trader identity key issue",
            )
        return caller


def _owner_of(caller: "Caller") -> "AuthenticatedUser":
    """Returns whose a session is that this request opens: the SDK keeps it from everybody else."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    return AuthenticatedUser(
        AccessToken(token="", client_id=caller.agent, scopes=[], subject=caller.principal)
    )
