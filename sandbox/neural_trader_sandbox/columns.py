"""Columns that lie end to end in one piece of memory, and a data frame over them that copies nothing.

Both the host, which writes them, and the guest, which reads them, use this module; the guest trusts what
it says, because only the host lays columns out.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypedDict

if TYPE_CHECKING:  # heavy: whoever has arrays or frames has imported them
    import polars as pl
    from numpy.typing import NDArray

_KINDS: Final = {"<f8": "<f8", "<i8": "<i8", "<M8[us]": "utc_us"}
_CELL_BYTES: Final = 8


class Layout(TypedDict):
    """What the bytes mean: `rows` cells of 8 bytes for each column, one column after the other."""

    rows: int
    columns: list[list[str]]  # name, and `<f8`, `<i8` or `utc_us`: microseconds since 1970-01-01 UTC


def lay_out(columns: "Mapping[str, NDArray[Any]]") -> tuple[Layout, list[memoryview]]:
    """How these columns lie, and their bytes, uncopied where they are contiguous.

    Args:
        columns: Arrays of one dimension and one length: float64, int64, or datetime64[us] for moments in UTC.

    Raises:
        ValueError: There is none, or one of another type, shape or length.
    """
    numpy = importlib.import_module("numpy")
    if not columns:
        raise ValueError("a table has one column at least")
    rows = len(next(iter(columns.values())))
    named: list[list[str]] = []
    parts: list[memoryview] = []
    for name, column in columns.items():
        kind = _KINDS.get(column.dtype.str)
        if kind is None or column.shape != (rows,):
            raise ValueError(f"column {name!r} is {column.dtype} of shape {column.shape}, not 8-byte cells")
        named.append([name, kind])
        parts.append(memoryview(numpy.ascontiguousarray(column).view("u1")))
    return {"rows": rows, "columns": named}, parts


def frame_over(memory: Any, layout: Layout) -> "pl.DataFrame":
    """The data frame whose columns are this very memory.

    Args:
        memory: Anything with the buffer protocol; kept alive by the frame, and never written to by it.
        layout: As `lay_out` made it.
    """
    polars = importlib.import_module("polars")
    series: list[pl.Series] = []
    for (name, kind), cells in zip(layout["columns"], arrays_over(memory, layout).values(), strict=True):
        column = polars.Series(name, cells)
        series.append(column.cast(polars.Datetime("us", "UTC")) if kind == "utc_us" else column)
    return polars.DataFrame(series)


def arrays_over(memory: Any, layout: Layout) -> "dict[str, NDArray[Any]]":
    """The columns of this very memory by name; moments as int64. See `frame_over`."""
    numpy = importlib.import_module("numpy")
    rows = layout["rows"]
    arrays: dict[str, NDArray[Any]] = {}
    for number, (name, kind) in enumerate(layout["columns"]):
        dtype = "<f8" if kind == "<f8" else "<i8"
        where = number * rows * _CELL_BYTES
        arrays[name] = numpy.frombuffer(memory, dtype, rows, where) if rows else numpy.empty(0, dtype)
    return arrays


def warm_up() -> None:
    """Run the way from memory to a frame once: what that imports is there for every fork."""
    layout: Layout = {"rows": 1, "columns": [["moment", "utc_us"], ["count", "<i8"], ["value", "<f8"]]}
    frame_over(bytearray(3 * _CELL_BYTES), layout)
