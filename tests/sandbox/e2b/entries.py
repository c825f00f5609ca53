"""Entries that the tests upload: what a sandbox of the service is asked to run message by message."""

from collections.abc import Callable
from typing import Any


def doubling(arguments: dict[str, Any], tables: dict[str, Any]) -> Callable[[Any], Any]:
    """A handler that doubles, prints, and has a bad day on `raise` and `spin`."""
    del arguments, tables
    print("opened")  # noqa: T201 - what a guest prints is captured

    def handle(message: Any) -> Any:
        print(f"got {message}")  # noqa: T201 - as above
        if message == "raise":
            raise ValueError("a bad day")
        while message == "spin":
            pass
        return message * 2

    return handle
