"""Telling whoever called a tool how far its work is, while the call goes on.

The tool does not know who listens: a client of MCP that asked for progress, a bar in a terminal, or nobody.
"""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

Tell = Callable[[float], Awaitable[None]]
"""Takes the finished part, 0 … 1."""

_tell: ContextVar[Tell | None] = ContextVar("neural_trader_tell", default=None)


@contextmanager
def telling(listener: Tell) -> Generator[None]:
    """Has what is done inside be told to this listener."""
    token = _tell.set(listener)
    try:
        yield
    finally:
        _tell.reset(token)


async def tell(fraction: float) -> None:
    """Tells the finished part to whoever listens."""
    listener = _tell.get()
    if listener is not None:
        await listener(fraction)
