"""The guest entry behind ``neural-trader sandbox run FILE``: a whole file, run as a program."""

import sys
import types
from typing import Any

STRATEGY = "<strategy>"


def run_script(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Execute `arguments["source"]` as ``__main__``.

    The script may leave a JSON value in `result` and float arrays in `columns`; the handed-in tables
    are its `tables`. ``sys.exit(0)`` is a normal end.

    Args:
        arguments: `source`, the text of the file.
        tables: Polars data frames by name.

    Returns:
        The script's `result` (or None) and `columns` (or none).
    """
    module = types.ModuleType("__main__")
    names = module.__dict__
    names["tables"] = tables
    sys.modules["__main__"] = module
    code = compile(arguments["source"], STRATEGY, "exec")
    try:
        exec(code, names)  # noqa: S102 - this is what the sandbox is for; it runs in the locked child only
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    return names.get("result"), names.get("columns", {})
