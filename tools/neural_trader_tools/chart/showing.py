"""Whether whoever called a tool draws by itself: a client with MCP Apps makes a chart of its numbers."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

_has_apps: ContextVar[Callable[[], bool]] = ContextVar("neural_trader_has_apps", default=lambda: False)


@contextmanager
def showing(has_apps: Callable[[], bool]) -> Generator[None]:
    """Says how what is called inside learns whether its client renders apps; few tools ask."""
    token = _has_apps.set(has_apps)
    try:
        yield
    finally:
        _has_apps.reset(token)


def client_has_apps() -> bool:
    """Tells whether the client that waits for the answer renders apps."""
    return _has_apps.get()()
