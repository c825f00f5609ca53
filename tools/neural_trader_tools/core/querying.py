"""The query: one SQL statement over one frame. What the sandbox runs for `artifact_query`.

Runs inside the sandbox: standard library and polars only.
"""

import math
from datetime import date, datetime
from typing import Any, Final

import polars as pl

TABLE: Final = "artifact"
"""The only table that a statement finds."""


def run_query(
    arguments: dict[str, Any], tables: dict[str, pl.DataFrame]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs the statement. The entry point of the sandbox job.

    Args:
        arguments: `sql` (text) and `rows_max` (how many rows may leave).
        tables: `artifact`.

    Returns:
        `{"columns": {name: values}, "row_count": rows in all}`, the first `rows_max` of them, and no columns
        beside. Whoever receives it must treat it as untrusted.

    Raises:
        Exception: whatever polars says of the statement.
    """
    found = pl.SQLContext({TABLE: tables[TABLE]}).execute(str(arguments["sql"]), eager=True)
    first = found.head(int(arguments["rows_max"]))
    columns = {name: [_cell(value) for value in first[name].to_list()] for name in first.columns}
    return {"columns": columns, "row_count": found.height}, {}


def _cell(value: Any) -> Any:
    """Returns a value as JSON has it: null for NaN, RFC 3339 for times, else text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("+00:00") + "Z"
    if isinstance(value, str | int | bool) or value is None:
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
