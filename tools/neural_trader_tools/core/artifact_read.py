"""`artifact_read`: page through a frame that another tool left behind a handle."""

import difflib
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import orjson
from pydantic import BaseModel, Field, JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_tools.artifacts import Artifacts

if TYPE_CHECKING:
    import polars as pl

LIMIT_MAX = 1000
PAGE_BYTES = 7000  # leaves room for the envelope within the 8 kB of a default answer


class ArtifactPage(BaseModel):
    """Some rows of an artifact, column by column."""

    handle: str
    columns: dict[str, list[JsonValue]] = Field(description="Equal-length values by column name")
    row_count: int = Field(description="Rows in this page")
    total_rows: int
    next_cursor: str | None = Field(description="Pass as cursor for the following rows; null at the end")


async def artifact_read(
    artifacts: Artifacts,
    *,
    handle: Annotated[str, Field(description="As another tool returned it, such as bars-3f2a9c1b5d7e8f60")],
    cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    columns: Annotated[list[str] | None, Field(description="Only these columns")] = None,
    limit: Annotated[
        int | None, Field(description="Rows, at most 1000; default: as many as fit into 8 kB")
    ] = None,
) -> ArtifactPage:
    """Read the rows behind a handle (bars, features, equity, trades), page by page."""
    if limit is not None and not 1 <= limit <= LIMIT_MAX:
        raise InputError(
            "invalid_limit", f"limit {limit} is outside 1 to {LIMIT_MAX}", "give a number in that range"
        )
    return await anyio.to_thread.run_sync(_page, artifacts, handle, cursor, columns, limit)


def _page(
    artifacts: Artifacts, handle: str, cursor: str | None, columns: list[str] | None, limit: int | None
) -> ArtifactPage:
    frame = artifacts.get(handle)
    if columns is not None:
        frame = _select(frame, columns)
    start = _offset(cursor, frame.height)
    page = _plain(frame.slice(start, limit or LIMIT_MAX))
    rows = min(limit or LIMIT_MAX, frame.height - start)
    if limit is None:
        rows = _fit(page, rows)
        page = {name: values[:rows] for name, values in page.items()}
    end = start + rows
    return ArtifactPage(
        handle=handle,
        columns=page,
        row_count=rows,
        total_rows=frame.height,
        next_cursor=str(end) if end < frame.height else None,
    )


def _select(frame: "pl.DataFrame", columns: list[str]) -> "pl.DataFrame":
    for name in columns:
        if name not in frame.columns:
            close = difflib.get_close_matches(name, frame.columns, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                "unknown_column",
                f"{name!r:.40} is no column of this artifact",
                f"{hint}it has {', '.join(frame.columns)}",
            )
    if not columns:
        raise InputError("invalid_columns", "the list of columns is empty", "name columns or leave it out")
    return frame.select(list(dict.fromkeys(columns)))


def _offset(cursor: str | None, height: int) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 12 and int(cursor) < max(height, 1)):
        raise InputError(
            "invalid_cursor",
            f"cursor {cursor!r:.20} is not of this artifact",
            "pass next_cursor unchanged, or leave cursor out for the first rows",
        )
    return int(cursor)


def _fit(page: dict[str, list[JsonValue]], rows: int) -> int:
    """Returns how many leading rows stay within `PAGE_BYTES`; at least one."""
    used = len(orjson.dumps({name: [] for name in page}))
    for row in range(rows):
        used += sum(len(orjson.dumps(values[row])) + 1 for values in page.values())
        if used > PAGE_BYTES:
            return max(row, 1)
    return rows


def _plain(frame: "pl.DataFrame") -> dict[str, list[JsonValue]]:
    return {name: [_cell(value) for value in frame[name].to_list()] for name in frame.columns}


def _cell(value: Any) -> JsonValue:
    """Returns a value as JSON has it: null for NaN, RFC 3339 for times, text for Decimals."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return format_time(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, str | int | bool) or value is None:
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
