"""The engine; `Strategy` is importable from here because users write that line at the top of their files.

It is the one package `__init__` that is not empty. The import is lazy, so that naming a light module of
the engine does not pay for numba.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_trader_tools.engine.strategy import Strategy

__all__ = ["Strategy"]


def __getattr__(name: str) -> Any:
    if name == "Strategy":
        from neural_trader_tools.engine.strategy import Strategy

        return Strategy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
