"""The login: a link that `neural-trader console` made becomes a session, and a session ends."""

from typing import TYPE_CHECKING

import anyio.to_thread
import structlog
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from neural_trader_governance.errors import NeuralTraderError, RiskError
from neural_trader_governance.principals import roles_of
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.term import Term
from neural_trader_server.console.guard import answer, read_body, refusal, require_own_page, visitor_of
from neural_trader_server.console.sessions import SESSION_TTL, Session, Sessions

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.rates import Rates

log = structlog.get_logger(__name__)


class _Login(Term):
    link: str = Field(min_length=1, max_length=2_000)


class Login:
    """The two doors of the console.

    Args:
        services: The desk.
        sessions: Its sessions.
        strangers: Buckets of those who try with what opens nothing, by address.
    """

    def __init__(self, services: "Services", sessions: Sessions, strangers: "Rates") -> None:
        self._services = services
        self._sessions = sessions
        self._strangers = strangers

    def outer(self) -> list[Route]:
        """Returns the route that asks for no session: the one that opens it."""
        return [Route("/console/api/login", self._begin, methods=["POST"])]

    def routes(self) -> list[Route]:
        """Returns the routes within a session."""
        return [
            Route("/session", self._session, methods=["GET"]),
            Route("/logout", self._end, methods=["POST"]),
        ]

    async def _begin(self, request: Request) -> Response:
        try:
            require_own_page(request, self._services.settings.public_url)
            body = await read_body(request, _Login)
            session = await anyio.to_thread.run_sync(self._use, body.link)
        except NeuralTraderError as error:
            address = request.client.host if request.client else ""
            wait_s = self._strangers.take(f"console {address}")
            if wait_s > 0:
                seconds = int(wait_s) + 1
                slow = RiskError("too_many_tries", "too many links that open nothing", f"wait {seconds} s")
                return JSONResponse(
                    {"error": {"code": slow.code, "what": slow.what, "next_step": slow.next_step}},
                    429,
                    {"Retry-After": str(seconds)},
                )
            log.warning("console_login_refused", code=error.code)
            return refusal(error)
        log.info("console_login", person=session.person)
        # Said here and never again: with the cookie alone nobody gets it.
        response = answer({"person": session.person, "token": self._sessions.token(session)})
        self._set(response, request, self._sessions.cookie(session), int(SESSION_TTL.total_seconds()))
        return response

    def _use(self, link: str) -> Session:
        session = self._sessions.begin(link)
        with self._services.store.read() as connection:
            if not roles_of(connection, session.person, issuer=self._services.issuer):
                raise RiskError(
                    "not_enrolled",
                    f"{session.person} is not enrolled at this desk",
                    f"enrol them first: neural-trader identity enroll {session.person} --role reader",
                )
        return session

    async def _session(self, request: Request) -> Response:
        visitor = visitor_of(request)
        return answer(
            {
                "person": visitor.session.person,
                "roles": sorted(visitor.roles),
                "expires_at": format_time(visitor.session.expires_at),
            }
        )

    async def _end(self, request: Request) -> Response:
        await anyio.to_thread.run_sync(self._sessions.end, visitor_of(request).session)
        response = answer({"ended": True})
        self._set(response, request, "", 0)
        return response

    def _set(self, response: Response, request: Request, value: str, age_s: int) -> None:
        encrypted = request.url.scheme == "https" or self._services.settings.public_url.startswith("https:")
        response.set_cookie(
            self._sessions.cookie_name,
            value,
            max_age=age_s,
            path="/console",
            secure=encrypted,
            httponly=True,
            samesite="strict",
        )
