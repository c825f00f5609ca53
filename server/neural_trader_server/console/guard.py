"""The guard: every JSON answer of the console asks who is there, and every change which page asks.

    session     the sealed cookie of a person who is enrolled now, and the token that its login gave; else 401
    page        POST only from a page of this very address (Origin), port included; else 403

A cookie alone opens nothing. Browsers keep cookies by host and send them to every port of it, so another
account's program on this machine may come to hold one; the token is kept by the page's own origin.
"""

import hmac
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from neural_trader_governance.errors import (
    ConfigurationError,
    InputError,
    NetworkError,
    NeuralTraderError,
    RiskError,
    StorageError,
)
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Role, roles_of
from neural_trader_governance.redaction import redact
from neural_trader_server.console.sessions import Session, Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from neural_trader_server.app import Services

TOKEN_HEADER = "X-Console-Token"  # noqa: S105 - its name
ALWAYS = frozenset({"/console/api/halt", "/console/api/logout"})
"""What a person may also do on a server that is read-only."""

_VISITOR_KEY = "neural_trader.console_visitor"
_READING = frozenset({"GET", "HEAD"})
_BODY_MAX_BYTES = 64 * 1024

log = structlog.get_logger(__name__)

_Body = TypeVar("_Body", bound=BaseModel)


class Visitor:
    """Who asked: a session, and what its person may do now."""

    def __init__(self, session: Session, roles: frozenset[Role]) -> None:
        self.session = session
        self.roles = roles
        self.caller = Caller(session.person, "")

    def require(self, *roles: Role) -> None:
        """Passes a person with one of these roles.

        Raises:
            RiskError: `role_missing`.
        """
        if not self.roles & set(roles):
            wanted = " or ".join(roles)
            raise RiskError(
                "role_missing",
                f"{self.session.person} is not enrolled as {wanted}",
                f"enrol them: neural-trader identity role {self.session.person} --role {roles[0]}",
            )


def visitor_of(request: Request) -> Visitor:
    """Returns who made a request that passed the guard."""
    visitor = request.scope[_VISITOR_KEY]
    assert isinstance(visitor, Visitor)  # noqa: S101 - the guard put it there
    return visitor


class Guard:
    """ASGI middleware before every area: 401 without a session and its token, 403 for another page's change.

    Args:
        app: The areas.
        sessions: Read the cookie.
        services: Say who is enrolled now.
        read_only: Refuses every change but those in `ALWAYS`.
    """

    def __init__(
        self, app: "ASGIApp", sessions: Sessions, services: "Services", *, read_only: bool = False
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._services = services
        self._read_only = read_only

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request on with its visitor, or refuses it."""
        request = Request(scope)
        try:
            visitor = self._visitor(request)
            if request.method not in _READING:
                require_own_page(request, self._services.settings.public_url)
                if self._read_only and scope["path"] not in ALWAYS:
                    raise RiskError(
                        "read_only",
                        "this server is read-only: it changes nothing but the halt",
                        "use the command line, or a server that was started without --read-only",
                    )
            await self._app({**scope, _VISITOR_KEY: visitor}, receive, send)
        except NeuralTraderError as error:
            await refusal(error)(scope, receive, send)

    def _visitor(self, request: Request) -> Visitor:
        session = self._sessions.read(request.cookies.get(self._sessions.cookie_name, ""))
        shown = request.headers.get(TOKEN_HEADER, "").encode()
        if session is None or not hmac.compare_digest(shown, self._sessions.token(session).encode()):
            raise RiskError(
                "login_required", "no session is open in this browser", "run: neural-trader console --print"
            )
        with self._services.store.read() as connection:
            roles = roles_of(connection, session.person, issuer=self._services.issuer)
        if not roles:
            raise RiskError(
                "login_required",
                f"{session.person} is not enrolled at this desk any more",
                "see: neural-trader identity list",
            )
        return Visitor(session, roles)


def require_own_page(request: Request, public_url: str) -> None:
    """Passes a request that a page of this very address made, its port included.

    Raises:
        RiskError: `foreign_page`.
    """
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "")
    own = urlsplit(origin).netloc == host and bool(host)
    if not (own or (public_url and origin == public_url)):
        raise RiskError(
            "foreign_page",
            f"the request comes from {origin or 'no page'!r:.80}, not from this console",
            "open the console at its own address",
        )


async def read_body(request: Request, kind: type[_Body]) -> _Body:
    """Returns a request's JSON as a model.

    Raises:
        InputError: it is not JSON, too long, or not what the model says.
    """
    data = await request.body()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media != "application/json" or len(data) > _BODY_MAX_BYTES:
            raise ValueError("not JSON of at most 64 KiB")
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "invalid_request", f"{place or 'the body'}: {first['msg']}", "reload the page and try again"
        ) from None
    except ValueError as error:
        raise InputError("invalid_request", str(error), "reload the page and try again") from None


def read_query(request: Request, kind: type[_Body]) -> _Body:
    """Returns a request's parameters as a model.

    Raises:
        InputError: they are not what the model says.
    """
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "invalid_request", f"{place}: {first['msg']}", "choose what the page offers"
        ) from None


def answer(document: object) -> JSONResponse:
    """Returns a JSON answer; a model in its JSON form."""
    plain = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    return JSONResponse(plain)


def refusal(error: NeuralTraderError) -> JSONResponse:
    """Returns a failure as JSON, in the three parts that every surface of ours shows."""
    body = {"code": error.code, "what": redact(error.what), "next_step": redact(error.next_step)}
    status = 401 if error.code == "login_required" else _status_of(error)
    if status in {401, 403}:
        log.info("console_refused", code=error.code)
    return JSONResponse({"error": body}, status)


_STATUSES: tuple[tuple[type[NeuralTraderError], int], ...] = (
    (RiskError, 403),
    (InputError, 400),
    (ConfigurationError, 503),
    (StorageError, 503),
    (NetworkError, 503),
)


def _status_of(error: NeuralTraderError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 409)
