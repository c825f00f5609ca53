"""Calling: on whose behalf the call that is being served was made, and how far its credentials reach.

One server may serve several agents at once (each HTTP request brings its own credentials), so the caller
is not the process's: the gate sets it for the length of one call, and what the call starts inherits it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Role

if TYPE_CHECKING:  # a command asks for its caller too, and would wait most of a second for the SDK
    from mcp.server.context import ServerRequestContext

SCOPE_KEY = "neural_trader.caller"
"""Where an authenticated HTTP request carries its caller, in the ASGI scope."""

REACH_KEY = "neural_trader.reach"
"""Where it carries how far its credentials reach."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The most that credentials open, whatever their holder's roles: a token's scopes narrow, never widen.

    Attributes:
        role: Of reader, researcher and trader, the highest.
        toolsets: The only toolsets; None where the credentials name none.
    """

    role: Role = Role.TRADER
    toolsets: frozenset[str] | None = None

    def has(self, toolset: str) -> bool:
        """Says whether the credentials reach a toolset."""
        return self.toolsets is None or toolset in self.toolsets


EVERYTHING = Reach()

_current: ContextVar[Caller | None] = ContextVar("neural_trader_caller", default=None)
_reach: ContextVar[Reach] = ContextVar("neural_trader_reach", default=EVERYTHING)


def current_caller() -> Caller | None:
    """Returns the caller of the call being served; None outside one."""
    return _current.get()


def current_reach() -> Reach:
    """Returns how far the credentials of the call being served reach."""
    return _reach.get()


@contextmanager
def calling(caller: Caller | None, reach: Reach = EVERYTHING) -> Generator[None]:
    """Sets the caller and the reach while the body runs; None leaves the process's own caller."""
    token, reached = _current.set(caller), _reach.set(reach)
    try:
        yield
    finally:
        _reach.reset(reached)
        _current.reset(token)


def caller_of(ctx: "ServerRequestContext[Any, Any]") -> Caller | None:
    """Returns who authenticated the HTTP request that brought this message; None where nobody had to."""
    found = _in_scope(ctx, SCOPE_KEY)
    return found if isinstance(found, Caller) else None


def reach_of(ctx: "ServerRequestContext[Any, Any]") -> Reach:
    """Returns how far the credentials reach that came with the HTTP request of this message."""
    found = _in_scope(ctx, REACH_KEY)
    return found if isinstance(found, Reach) else EVERYTHING


def _in_scope(ctx: "ServerRequestContext[Any, Any]", key: str) -> object:
    scope = getattr(ctx.request, "scope", None)
    return scope.get(key) if isinstance(scope, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # ASGI
