"""The console as one ASGI application, and the table of its areas.

An area is a module with `routes(services) -> list[Route]`; its paths begin below `/console/api` and are
behind the guard, whatever the area does. To add one, write the module and name it in `areas`.
"""

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route

from neural_trader_server.console.guard import Guard
from neural_trader_server.console.login import Login
from neural_trader_server.console.pages import routes as page_routes
from neural_trader_server.console.sessions import Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from neural_trader_server.app import Services
    from neural_trader_server.rates import Rates

PATH = "/console"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def areas(services: "Services") -> list[Route]:
    """Returns the routes of every area, relative to `/console/api`. One line each."""
    from neural_trader_server.console import (
        approvals,
        audit,
        backtests,
        health,
        memory,
        orders,
        overview,
        standing,
        strategies,
    )

    return [
        *standing.routes(services),
        *overview.routes(services),
        *approvals.routes(services),
        *orders.routes(services),
        *audit.routes(services),
        *strategies.routes(services),
        *backtests.routes(services),
        *memory.routes(services),
        *health.routes(services),
    ]


class Console:
    """ASGI middleware: `/console` and all below it; everything else goes on.

    Args:
        app: What serves the rest.
        services: The desk.
        strangers: Buckets of those who show what opens nothing.
        read_only: Nothing can be changed but the halt, as over MCP.
    """

    def __init__(
        self, app: "ASGIApp", services: "Services", strangers: "Rates", *, read_only: bool = False
    ) -> None:
        self._app = app
        sessions = Sessions(services.home, services.clock)
        login = Login(services, sessions, strangers)
        within = Mount(
            f"{PATH}/api",
            routes=[*login.routes(), *areas(services)],
            middleware=[Middleware(Guard, sessions=sessions, services=services, read_only=read_only)],
        )
        routes: list[BaseRoute] = [*page_routes(), *login.outer(), within]
        self._console = Starlette(routes=routes, exception_handlers={404: _nothing, 405: _nothing})
        self._console.router.redirect_slashes = False

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serves a request for the console, with the headers that keep its pages to themselves."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PATH or path.startswith(f"{PATH}/")):
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: "Message") -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                named = {name.lower() for name, _ in given}
                extra = (
                    dict(HEADERS) if b"cache-control" in named else HEADERS | {"Cache-Control": "no-store"}
                )
                added = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
                message = {**message, "headers": [*given, *added]}
            await send(message)

        await self._console(scope, receive, send_guarded)


async def _nothing(_: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 404)
    shown = {"code": "not_found", "what": "there is no such page", "next_step": "open /console"}
    return JSONResponse({"error": shown}, status)
