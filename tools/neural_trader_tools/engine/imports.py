"""Imports: the modules that strategies are meant to use. A list for messages, not a boundary."""

from typing import Final

MODULES: Final = frozenset(
    {
        "__future__", "abc", "collections", "dataclasses", "datetime", "enum", "functools", "itertools",
        "math", "numpy", "operator", "polars", "random", "statistics", "typing",
    }
)  # fmt: skip
OWN_MODULES: Final = ("neural_trader_tools.engine", "neural_trader_tools.features")


def may_import(name: str) -> bool:
    """Returns whether a strategy is meant to import the module of this dotted name."""
    return name.partition(".")[0] in MODULES or any(
        name == own or name.startswith(own + ".") for own in OWN_MODULES
    )
