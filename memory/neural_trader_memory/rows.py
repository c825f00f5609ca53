"""A record as a row of the table, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.records import Record
from neural_trader_memory.schema import pyarrow, schema


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with what the store keeps beside it."""

    record: Record
    content_hash: str
    audit_seq: int | None
    audit_hash: str
    embedder: str
    dimension: int


def stored_row(stored: StoredRecord, vector: Vectors) -> dict[str, Any]:
    """Returns the row that keeps a record with its vector."""
    record = stored.record
    return {name: getattr(record, name) for name in record.__slots__} | {
        "symbols": list(record.symbols),
        "causes": list(record.causes),
        "regime": None if record.regime is None else np.array(record.regime, "<f4").tobytes(),
        "superseded_at": None,
        "content_hash": stored.content_hash,
        "audit_seq": stored.audit_seq,
        "audit_hash": stored.audit_hash,
        "embedder": stored.embedder,
        "vector": vector,
    }


def arrow_rows(rows: Sequence[tuple[StoredRecord, Vectors]], embedder: str, dimension: int) -> Any:
    """Returns records with their vectors as an Arrow table of `schema`, a column at a time."""
    arrow, fields = pyarrow(), schema(embedder, dimension)
    made = [stored_row(stored, vector) for stored, vector in rows]
    vectors = np.asarray([vector for _, vector in rows], np.float32).reshape(len(rows), dimension)
    columns = [
        arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), dimension)
        if field.name == "vector"
        else arrow.array([row[field.name] for row in made], field.type)
        for field in fields
    ]
    return arrow.Table.from_arrays(columns, schema=fields)


def read_row(row: dict[str, Any], dimension: int) -> StoredRecord:
    """Returns what `stored_row` kept; a row of the first format has no later columns."""
    fields: dict[str, Any] = {name: row.get(name) for name in Record.__slots__}
    fields["symbols"] = tuple(row["symbols"])
    fields["causes"] = tuple(row.get("causes") or ())
    fields["origin"] = row.get("origin") or ""
    fields["state"] = row.get("state") or "live"
    fields["regime"] = read_regime(row.get("regime"))
    return StoredRecord(
        record=Record(**fields),
        content_hash=row["content_hash"],
        audit_seq=row["audit_seq"],
        audit_hash=row["audit_hash"],
        embedder=row["embedder"],
        dimension=dimension,
    )


def read_regime(kept: bytes | None) -> tuple[float, ...] | None:
    """Returns a regime vector from its bytes, 32-bit floats, little-endian."""
    return None if kept is None else tuple(np.frombuffer(kept, "<f4").tolist())
