"""Memories in files: what an export writes, and what of a stranger's file is believed.

JSON lines or Parquet, one revision each; columns as in docs/memory.md. A file is read whole and checked whole
before anything of it is kept: a line that is wrong refuses the file, and says where.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from neural_trader_governance.errors import DataError, InputError, StorageError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_memory import limits
from neural_trader_memory.memory import Remembered
from neural_trader_memory.records import Record

FILE_BYTES_MAX: Final = 256 << 20
ROWS_MAX: Final = 200_000
LINE_BYTES_MAX: Final = 256 << 10


class MemoryRow(BaseModel):
    """One revision in a file. Only `kind` and `text` are needed; unknown names are refused.

    What another desk says of ids, trust and audit entries is read for checking, and never believed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    text: str
    symbols: list[str] = Field(default_factory=list[str])
    data: dict[str, JsonValue] | None = None
    event_time: UtcTime | None = None
    importance: float | None = None
    expires_at: UtcTime | None = None
    regime: list[float] | None = None
    memory_id: str = ""
    rev: int = 1
    causes: list[str] = Field(default_factory=list[str])
    state: str = "live"
    agent: str = ""
    known_time: UtcTime | None = None
    source: str = ""
    trust: str = ""
    origin: str = ""
    about_seq: int | None = None
    prev_hash: str = ""
    content_hash: str = ""
    audit_seq: int | None = None
    audit_hash: str = ""
    embedder: str = ""


def write_rows(path: Path, memories: Iterable[Remembered]) -> int:
    """Writes memories to a new file, `.jsonl` or `.parquet` by its name; returns how many.

    Raises:
        InputError: the name says neither format, or the file is there already.
        StorageError: it cannot be written.
    """
    rows = [row_of(each) for each in memories]
    parquet = _is_parquet(path)
    try:
        with path.open("xb") as file:
            if parquet:
                _frame(rows).write_parquet(file)
            else:
                file.writelines(line(row) for row in rows)
    except FileExistsError:
        raise InputError("file_exists", f"{path} is there already", "choose another name") from None
    except OSError as error:
        raise StorageError(
            "cannot_write", f"{path} cannot be written ({error})", "check the folder"
        ) from error
    return len(rows)


def line(row: dict[str, Any]) -> bytes:
    """Returns a row as a JSON line."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_rows(path: Path) -> list[MemoryRow]:
    """Reads and checks a file.

    Raises:
        InputError: it is missing, too large, or of neither format.
        DataError: `invalid_memory`, a line is not a memory; `altered_memory`, one does not match the content
            hash that stands beside it.
    """
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise InputError(
                "file_too_large", f"{path} has {size:,} bytes, at most {FILE_BYTES_MAX:,}", "split the file"
            )
        raw = list(_parquet_rows(path) if _is_parquet(path) else _json_rows(path))
    except OSError as error:
        raise InputError("file_unreadable", f"{path} cannot be read ({error})", "check its name") from None
    return [_check(number, each) for number, each in raw]


def _is_parquet(path: Path) -> bool:
    if path.suffix not in {".jsonl", ".parquet"}:
        raise InputError("unknown_format", f"{path.name} is of no known format", "name it .jsonl or .parquet")
    return path.suffix == ".parquet"


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number in range(1, ROWS_MAX + 2):
            text = file.readline(LINE_BYTES_MAX + 1)
            if not text:
                return
            if len(text) > LINE_BYTES_MAX:
                raise _invalid(number, f"it has more than {LINE_BYTES_MAX:,} bytes")
            if not text.strip():
                continue
            try:
                yield number, json.loads(text)
            except (ValueError, RecursionError) as error:
                raise _invalid(number, f"it is not JSON ({error!s:.120})") from None
    raise _too_many(path)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    import polars as pl

    try:
        lazy = pl.scan_parquet(path)
        if lazy.select(pl.len()).collect().item() > ROWS_MAX:
            raise _too_many(path)
        rows = lazy.collect().to_dicts()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(
            "invalid_file", f"{path.name} is no Parquet file ({error!s:.200})", "export it again"
        ) from None
    for number, row in enumerate(rows, 1):
        given = {name: value for name, value in row.items() if value is not None}
        if isinstance(given.get("data"), str):
            try:
                given["data"] = json.loads(given["data"]) if given["data"] else None
            except (ValueError, RecursionError) as error:
                raise _invalid(number, f"its data is not JSON ({error!s:.120})") from None
        yield number, given


def _check(number: int, raw: Any) -> MemoryRow:
    try:
        row = MemoryRow.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise _invalid(number, f"{where:.80}: {first['msg']}") from None
    try:
        limits.validate_kind(row.kind)
        limits.validate_text(row.text)
        limits.validate_symbols(row.symbols)
        limits.validate_data(row.data)
        limits.validate_importance(row.importance)
        limits.validate_regime(row.regime)
        limits.validate_causes(row.causes)
    except InputError as error:
        raise _invalid(number, error.what) from None
    # A line with everything that was hashed can be held against its hash: a text that was changed on the way
    # is then known for what it is.
    complete = row.content_hash and row.agent and row.known_time and row.event_time
    if complete and _record(row).content_hash != row.content_hash:
        raise DataError(
            "altered_memory",
            f"line {number}: memory {row.memory_id:.80} does not match its content hash",
            "export it again; or remove content_hash to import the words as they are",
        )
    return row


def _record(row: MemoryRow) -> Record:
    fields: dict[str, Any] = {name: getattr(row, name) for name in Record.__slots__}
    fields["data"] = limits.validate_data(row.data)
    fields["symbols"] = limits.validate_symbols(row.symbols)
    fields["causes"] = tuple(row.causes)
    fields["regime"] = limits.validate_regime(row.regime)
    return Record(**fields)


def row_of(memory: Remembered) -> dict[str, Any]:
    """Returns a memory as a row of JSON."""
    origin = memory.provenance
    return {
        "memory_id": memory.memory_id,
        "rev": memory.rev,
        "agent": origin.agent,
        "kind": memory.kind,
        "text": memory.text,
        "symbols": list(memory.symbols),
        "data": memory.data or None,
        "event_time": format_time(memory.event_time),
        "known_time": format_time(memory.known_time),
        "source": origin.source,
        "trust": origin.trust,
        "state": memory.state,
        "importance": memory.importance,
        "expires_at": memory.expires_at and format_time(memory.expires_at),
        "causes": list(memory.causes),
        "origin": origin.origin,
        "regime": None if memory.regime is None else list(memory.regime),
        "about_seq": origin.about_seq,
        "prev_hash": origin.prev_hash,
        "content_hash": origin.content_hash,
        "audit_seq": origin.audit_seq,
        "audit_hash": origin.audit_hash,
        "embedder": origin.embedder,
    }


def _frame(rows: list[dict[str, Any]]) -> Any:
    import polars as pl

    text, texts = pl.String(), pl.List(pl.String())
    kinds: dict[str, Any] = {name: pl.Int64() for name in ("rev", "about_seq", "audit_seq")} | {
        "importance": pl.Float64(),
        "symbols": texts,
        "causes": texts,
        "regime": pl.List(pl.Float32()),
    }
    flat = [row | {"data": json.dumps(row["data"]) if row["data"] else None} for row in rows]
    return pl.DataFrame(flat, schema={name: kinds.get(name, text) for name in MemoryRow.model_fields})


def _invalid(number: int, what: str) -> DataError:
    return DataError(
        "invalid_memory",
        f"line {number} is not a memory: {what}",
        "correct it; nothing of the file was imported",
    )


def _too_many(path: Path) -> InputError:
    return InputError("too_many_rows", f"{path.name} has more than {ROWS_MAX:,} lines", "split the file")
