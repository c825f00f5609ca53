"""Guest entries for a whole file: run as a program (``neural-trader sandbox run FILE``), or as a stream."""

import sys
import types
from collections.abc import Callable
from typing import Any

STRATEGY = "<strategy>"


def run_script(
    arguments: dict[str, Any], tables: dict[str, Any], report: Callable[[float], None] = lambda _: None
) -> tuple[Any, dict[str, Any]]:
    """Execute `arguments["source"]` as ``__main__``.

    The script may leave a JSON value in `result` and float arrays in `columns`; the handed-in tables
    are its `tables`, and it may call `report` with its finished part. ``sys.exit(0)`` is a normal end.

    Args:
        arguments: `source`, the text of the file.
        tables: Polars data frames by name.
        report: Tells whoever watches.

    Returns:
        The script's `result` (or None) and `columns` (or none).
    """
    names = _namespace(tables)
    names["report"] = report
    code = compile(arguments["source"], STRATEGY, "exec")
    try:
        exec(code, names)  # noqa: S102 - this is what the sandbox is for; it runs in the locked child only
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    return names.get("result"), names.get("columns", {})


def stream_script(arguments: dict[str, Any], tables: dict[str, Any]) -> Callable[[Any], Any]:
    """Execute `arguments["source"]` as ``__main__``; the function `handle` that it defines answers messages.

    Args:
        arguments: `source`, the text of the file.
        tables: Polars data frames by name.

    Raises:
        TypeError: The file defines no `handle`.
    """
    names = _namespace(tables)
    exec(compile(arguments["source"], STRATEGY, "exec"), names)  # noqa: S102 - as above
    handle = names.get("handle")
    if not callable(handle):
        raise TypeError("the file defines no function `handle(message)`")
    return handle


def _namespace(tables: dict[str, Any]) -> dict[str, Any]:
    module = types.ModuleType("__main__")
    names = module.__dict__
    names["tables"] = tables
    sys.modules["__main__"] = module
    return names
