"""Files of rows: CSV, Parquet or Arrow becomes a table of text cells with the line that each row stood on.

Cells stay text here, so that what cannot be read is quarantined with its line instead of vanishing.
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from neural_trader_governance.errors import InputError


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that a kind of file has: our names, each with the spellings that are taken for it."""

    aliases: Mapping[str, tuple[str, ...]]
    optional: frozenset[str]
    advice: str


ALIASES = {
    "time": (
        "time",
        "date",
        "datetime",
        "timestamp",
        "date/time",
        "event_time",
        "open time",
        "open_time",
        "t",
    ),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v"),
    "known_time": ("known_time", "known time"),
}
OPTIONAL = frozenset({"known_time"})
ADJUSTED = frozenset({"adj close", "adj_close", "adjclose", "adjusted close", "adjusted_close"})
PRICES = Layout(ALIASES, OPTIONAL, "time, open, high, low, close, volume (0 where unknown)")
ARROW_SUFFIXES = frozenset({".arrow", ".arrows", ".feather", ".ipc"})
ARROW_MAGIC = b"ARROW1"
CELL_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not taken, and why."""

    line: int
    reason: str
    content: str


@dataclass(frozen=True, slots=True)
class PriceTable:
    """A file's rows: `line` and, as text, the columns of its layout, optional ones where it has them."""

    cells: pl.DataFrame
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    notes: list[str] = field(default_factory=list[str])


def read_price_table(path: Path) -> PriceTable:
    """Reads a CSV, Parquet or Arrow file of bars; see `read_table`."""
    return read_table(path, PRICES)


def read_table(path: Path, layout: Layout) -> PriceTable:
    """Reads a `.csv`, `.parquet` or `.arrow` file (Arrow IPC, as a file or a stream).

    Raises:
        InputError: the file is missing, empty, malformed, of another kind, or lacks a column.
    """
    try:
        if not path.is_file():
            raise InputError("file_missing", f"{path.name!r:.100} is no file", "check the path")
        with path.open("rb") as file:
            start = file.read(len(ARROW_MAGIC))
    except OSError as error:
        raise InputError(
            "file_unreadable",
            f"{path.name!r:.100} cannot be read ({error.strerror})",
            "check its permissions",
        ) from error
    except ValueError:  # a NUL in the path
        raise InputError("file_missing", "the path holds a NUL character", "check the path") from None
    if not start:
        raise InputError("file_empty", f"{path.name} is empty", "export it again with a header and rows")
    suffix = path.suffix.lower()
    if start.startswith(b"PAR1") or suffix in {".parquet", ".pq"}:
        return _typed(path, "Parquet", pl.read_parquet, layout)
    if start == ARROW_MAGIC or suffix in ARROW_SUFFIXES:
        return _typed(path, "Arrow", _arrow, layout)
    if suffix in {".csv", ".txt", ".tsv"}:
        return _csv(path, layout)
    raise InputError(
        "file_kind_unknown",
        f"{path.name!r:.100} is none of .csv, .parquet and .arrow",
        f"convert it to one of them, with columns {layout.advice}",
    )


def _arrow(path: Path) -> pl.DataFrame:
    """Reads with pyarrow, which checks offsets and text; polars trusts them and panics on damaged files."""
    # Lazy: no other kind of file needs it. Typed by hand: the package ships no stubs.
    import pyarrow  # pyright: ignore[reportMissingTypeStubs]
    from pyarrow import ipc  # pyright: ignore[reportMissingTypeStubs]

    pa: Any = pyarrow
    arrow: Any = ipc
    convert = cast("Callable[[Any], Any]", pl.from_arrow)  # pyright: ignore[reportUnknownMemberType]
    try:
        # From memory: a length that lies can then ask for no more than there is.
        content = path.read_bytes()
        is_file = content.startswith(ARROW_MAGIC)
        table = (arrow.open_file if is_file else arrow.open_stream)(pa.BufferReader(content)).read_all()
        table.validate(full=True)
        for at, one in enumerate(table.schema):  # the same instants: polars knows no zone such as +05:30
            if pa.types.is_timestamp(one.type) and one.type.tz is not None:
                instants = table.column(at).cast(pa.timestamp(one.type.unit, "UTC"))
                table = table.set_column(at, one.name, instants)
        frame = convert(table)
    except (pa.ArrowException, MemoryError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise pl.exceptions.ComputeError(f"{error!s:.200}") from error
    if not isinstance(frame, pl.DataFrame):
        raise pl.exceptions.ComputeError("it holds no table")
    return frame


def _typed(path: Path, kind: str, read: Callable[[Path], pl.DataFrame], layout: Layout) -> PriceTable:
    try:
        table = read(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(
            "file_malformed",
            f"{path.name} is no complete {kind} file ({type(error).__name__})",
            "export or download it again; nothing was imported",
        ) from error
    if table.is_empty():
        raise InputError("file_empty", f"{path.name} has no rows", "export it again with rows")
    chosen, notes = _columns(table.columns, path.name, layout)
    texts = [_text(table.get_column(column)).alias(name) for name, column in chosen.items()]
    lines = pl.int_range(1, table.height + 1, eager=True).alias("line")
    return PriceTable(pl.DataFrame([lines, *texts]), [], notes)


def _text(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Date:
        return column.dt.to_string("%Y-%m-%d")
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
        return column.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.6f+00:00")
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        return pl.Series([str(value)[:CELL_LENGTH_MAX] for value in column.to_list()], dtype=pl.String)
    return column.cast(pl.String)


def _csv(path: Path, layout: Layout) -> PriceTable:
    """Reads with the standard library's reader, which knows the line that each record ends on."""
    rows: list[tuple[int, list[str]]] = []
    rejected: list[Rejected] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t|", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
            header = next(reader, list[str]())
            chosen, notes = _columns(header, path.name, layout)
            for row in reader:
                if len(row) == len(header):
                    rows.append((reader.line_num, row))
                elif any(cell.strip() for cell in row):
                    content = delimiter.join(row)[:CELL_LENGTH_MAX]
                    reason = f"has {len(row)} cells where the header has {len(header)}"
                    rejected.append(Rejected(reader.line_num, reason, content))
    except UnicodeDecodeError as error:
        raise InputError(
            "file_malformed", f"{path.name} is not UTF-8 text ({error.reason})", "save it as UTF-8 CSV"
        ) from error
    except (csv.Error, OSError) as error:
        raise InputError(
            "file_malformed",
            f"{path.name} is no well-formed CSV ({error})",
            "export it again; nothing was imported",
        ) from error
    if not rows and not rejected:
        raise InputError("file_empty", f"{path.name} has a header but no rows", "export it again with rows")
    places = {name: header.index(column) for name, column in chosen.items()}
    columns = {name: [row[place].strip() for _, row in rows] for name, place in places.items()}
    cells = pl.DataFrame(
        {"line": [line for line, _ in rows], **columns},
        schema={"line": pl.Int64, **dict.fromkeys(chosen, pl.String)},
    )
    return PriceTable(cells, rejected, notes)


def _columns(header: list[str], file_name: str, layout: Layout) -> tuple[dict[str, str], list[str]]:
    """Maps our column names to the file's, by any alias in any case."""
    spelled = {column.strip().lower().strip('"'): column for column in reversed(header)}
    chosen: dict[str, str] = {}
    for name, aliases in layout.aliases.items():
        found = [spelled[alias] for alias in aliases if alias in spelled]
        if len(found) > 1 or (found and header.count(found[0]) > 1):
            raise InputError(
                "columns_ambiguous",
                f"{file_name} has several columns for {name}: {', '.join(found)}",
                "keep one of them (join a date and a time column into one)",
            )
        if found:
            chosen[name] = found[0]
    missing = [name for name in layout.aliases if name not in chosen and name not in layout.optional]
    if missing:
        has = ", ".join(column[:30] for column in header[:20]) or "no columns"
        raise InputError(
            "columns_missing",
            f"{file_name} lacks {', '.join(missing)} (it has {has})",
            f"rename or add the columns: {layout.advice}",
        )
    ignored = [column.strip()[:30] for column in header if column not in chosen.values()]
    notes: list[str] = []
    if any(column.lower() in ADJUSTED for column in ignored):
        notes.append("adjusted closes were ignored: prices are kept raw and adjusted when read")
    others = [column for column in ignored if column.lower() not in ADJUSTED]
    if others:
        notes.append(f"ignored columns: {', '.join(others[:20])}")
    return chosen, notes
