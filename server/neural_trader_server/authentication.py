"""Authentication: over HTTP, every request shows who calls once this desk asks for it.

    Authorization: Bearer ntk_…          an API key that this desk issued
    Authorization: Bearer eyJ…           an access token of the OAuth issuer that the operator trusts
    a client certificate                 of the authority that the operator trusts (mTLS)

Liveness (`/healthz`, `/readyz`) and the OAuth metadata are anybody's; `/metrics` is too where only this
machine can ask. A desk on loopback that trusts no issuer and never issued a key serves loopback as it is;
from the first key on the door stays shut, also when the last key was revoked.
"""

from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from neural_trader_governance import apikeys
from neural_trader_governance.errors import InputError, NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_server.calling import EVERYTHING, REACH_KEY, SCOPE_KEY, Reach
from neural_trader_server.connections import PEER_KEY

if TYPE_CHECKING:
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from starlette.types import ASGIApp, Receive, Scope, Send

    from neural_trader_governance.signing.keys import VerifyingKey
    from neural_trader_governance.store import Store
    from neural_trader_governance.terms.clocks import Clock
    from neural_trader_server.oauth import TokenReader
    from neural_trader_server.rates import Rates

LIVENESS = frozenset({"/healthz", "/readyz"})
METADATA = "/.well-known/oauth-protected-resource"
METRICS = "/metrics"
_OAUTH_ERRORS = {"token_invalid": (401, "invalid_token"), "scope_missing": (403, "insufficient_scope")}
"""What RFC 6750 calls our refusals of a token."""

log = structlog.get_logger(__name__)


class RequireKey:
    """ASGI middleware: who calls, or 401.

    Args:
        app: What is served behind the door.
        store: Where keys and their revocations stand; asked at every request.
        issuer: The pinned key that signed the grants.
        clock: Ends keys.
        required: True: always; False: never; None: once a key was issued.
        tokens: Reads the access tokens of an OAuth issuer; None takes none.
        metadata_url: Where a client learns which issuer that is.
        open_metrics: `/metrics` is anybody's, since only this machine can ask.
        guests: First parts of paths behind which somebody else asks who is there, such as `/console`.
        strangers: Buckets of those who show what opens nothing; None never has them wait.
    """

    def __init__(
        self,
        app: "ASGIApp",
        *,
        store: "Store",
        issuer: "VerifyingKey",
        clock: "Clock",
        required: bool | None,
        tokens: "TokenReader | None" = None,
        metadata_url: str = "",
        open_metrics: bool = True,
        guests: tuple[str, ...] = (),
        strangers: "Rates | None" = None,
    ) -> None:
        self._app = app
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._required = required
        self._tokens = tokens
        self._challenge = f'Bearer resource_metadata="{metadata_url}"' if metadata_url else "Bearer"
        self._open = LIVENESS | ({METRICS} if open_metrics else frozenset[str]())
        self._guests = guests
        self._strangers = strangers

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on with its caller, or answers 401."""
        if scope["type"] == "websocket":
            return  # none are served
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller, reach = await self._caller(scope)
        except NeuralTraderError as error:
            await self._refuse(error, scope, receive, send)
            return
        known = scope
        if caller is not None:
            known = {**scope, SCOPE_KEY: caller, REACH_KEY: reach, "user": _owner_of(caller)}
        await self._app(known, receive, send)

    def _is_open(self, path: str) -> bool:
        if path in self._open or path == METADATA or path.startswith(f"{METADATA}/"):
            return True
        return any(path == guest or path.startswith(f"{guest}/") for guest in self._guests)

    async def _caller(self, scope: "Scope") -> tuple[Caller | None, Reach]:
        header = Headers(scope=scope).get("authorization")
        if header is None:
            peer = scope.get(PEER_KEY)
            if isinstance(peer, Caller):
                return peer, EVERYTHING
            if isinstance(peer, InputError):
                raise RiskError("certificate_invalid", peer.what, peer.next_step)
            if not self._is_required():
                return None, EVERYTHING
            raise self._nobody("key_required", "this desk serves those only who say who they are")
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() == "bearer" and self._tokens is not None and not token.startswith("ntk_"):
            read = await self._tokens.read(token)
            return read.caller, read.reach
        with self._store.read() as connection:
            now = self._clock.now()
            found = (
                apikeys.authenticate(connection, token, issuer=self._issuer, now=now)
                if scheme.lower() == "bearer"
                else None
            )
        if found is None:
            raise self._nobody("key_invalid", "the API key is unknown, revoked or expired")
        return found, EVERYTHING

    def _is_required(self) -> bool:
        if self._required is not None:
            return self._required
        with self._store.read() as connection:
            return apikeys.was_any_issued(connection)

    def _nobody(self, code: str, what: str) -> RiskError:
        issue = "send `Authorization: Bearer ntk_…`; a person issues one: neural-trader identity key issue"
        return RiskError(
            code, what, issue if self._tokens is None else f"{issue}; or a token of the OAuth issuer"
        )

    async def _refuse(
        self, error: NeuralTraderError, scope: "Scope", receive: "Receive", send: "Send"
    ) -> None:
        client = scope.get("client")
        wait_s = self._strangers.take(client[0] if client else "") if self._strangers is not None else 0.0
        if wait_s > 0:  # counted only where nobody was let in: whoever has a key never waits for a guesser
            await JSONResponse(_body(error), 429, {"Retry-After": str(int(wait_s) + 1)})(scope, receive, send)
            return
        log.warning("key_refused", code=error.code, path=str(scope["path"])[:40])
        status, challenge = 401 if isinstance(error, RiskError) else 503, self._challenge
        if error.code in _OAUTH_ERRORS:
            status, named = _OAUTH_ERRORS[error.code]
            challenge += f'{"," if " " in challenge else ""} error="{named}"'
        await JSONResponse(_body(error), status, {"WWW-Authenticate": challenge})(scope, receive, send)


def _body(error: NeuralTraderError) -> dict[str, object]:
    return {"error": {"code": error.code, "what": error.what, "next_step": error.next_step}}


def _owner_of(caller: Caller) -> "AuthenticatedUser":
    """Returns whose a session is that this request opens: the SDK keeps it from everybody else."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    return AuthenticatedUser(
        AccessToken(token="", client_id=caller.agent, scopes=[], subject=caller.principal)
    )
