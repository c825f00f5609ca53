"""The server: how agents and people reach the desk. What another process needs to mount it stands here.

    from neural_trader_server import Home, build_server, load_settings, open_desk, running

    home = Home.locate()
    async with open_desk(home, load_settings(home)) as services, running(services):
        server = build_server(services, toolsets="all")     # an MCP server, for any client of the SDK

examples/agent_loop.py is a whole agent around it. Logs go where the process has structlog send them, stdout
where nobody chose; `configure_logs("warning")` sends them to stderr, without secrets, as our commands do.
Names are loaded when they are asked for: a command would otherwise wait for the SDK.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_trader_server.app import build_server, open_desk
    from neural_trader_server.home import Home
    from neural_trader_server.listening import running
    from neural_trader_server.logs import configure_logs
    from neural_trader_server.settings import Settings, load_settings

__all__ = ["Home", "Settings", "build_server", "configure_logs", "load_settings", "open_desk", "running"]

_HOMES = {
    "Home": "home",
    "Settings": "settings",
    "build_server": "app",
    "configure_logs": "logs",
    "load_settings": "settings",
    "open_desk": "app",
    "running": "listening",
}


def __getattr__(name: str) -> Any:
    """Imports a name of `__all__` from the module that it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
