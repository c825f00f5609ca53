"""Calling: on whose behalf the call that is being served was made.

One server may serve several agents at once (each HTTP request brings its own key), so the caller is
not the process's: the gate sets it for the length of one call, and what the call starts inherits it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from neural_trader_governance.identity import Caller

if TYPE_CHECKING:  # a command asks for its caller too, and would wait most of a second for the SDK
    from mcp.server.context import ServerRequestContext

SCOPE_KEY = "neural_trader.caller"
"""Where an authenticated HTTP request carries its caller, in the ASGI scope."""

_current: ContextVar[Caller | None] = ContextVar("neural_trader_caller", default=None)


def current_caller() -> Caller | None:
    """Returns the caller of the call being served; None outside one."""
    return _current.get()


@contextmanager
def calling(caller: Caller | None) -> Generator[None]:
    """Sets the caller while the body runs; None leaves the process's own."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)


def caller_of(ctx: "ServerRequestContext[Any, Any]") -> Caller | None:
    """Returns who authenticated the HTTP request that brought this message; None where nobody had to."""
    scope = getattr(ctx.request, "scope", None)
    found = scope.get(SCOPE_KEY) if isinstance(scope, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # ASGI
    return found if isinstance(found, Caller) else None
