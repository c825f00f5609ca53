"""Journal segments: Arrow IPC streams of one kind of event, every batch with its checksum.

A segment is a plain Arrow stream (`pyarrow.ipc.open_stream` and `polars.read_ipc_stream` read it). A batch's
metadata holds a CRC-32 of its content, so that a tail which a power cut left half written, or full of zeros,
is told from rows that were written.
"""

import io
import os
import zlib
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

# Typed by hand: the package ships no stubs.
import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
from pyarrow import ipc  # pyright: ignore[reportMissingTypeStubs]

from neural_trader_tools.market.feed.ticks import Amendment, BarTick, Gap, Quote, Trade

_pa: Any = pa
_ipc: Any = ipc


class Quarantined(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="quarantine"):
    """Something that a rule or the decoder refused, kept as it came, with the reason."""

    symbol: str
    """Empty where the message could not be read."""
    reason: str
    content: bytes
    """The tick in Python's notation, or the message's own bytes, up to a bound."""
    ts_event_ns: int
    ts_recv_ns: int


Entry = Trade | Quote | BarTick | Amendment | Gap | Quarantined

_INT64 = _pa.int64()
_NS = _pa.timestamp("ns", "UTC")
_TIMES = [("event_time", _NS), ("known_time", _NS)]


def _schema(*columns: tuple[str, Any]) -> Any:
    return _pa.schema([*columns, ("flags", _pa.string())])


def _floats(*names: str) -> list[tuple[str, Any]]:
    return [(name, _pa.float64()) for name in names]


_TEXT = _pa.string()
SCHEMAS: dict[str, Any] = {
    "trade": _schema(
        ("symbol", _TEXT),
        *_floats("price", "size"),
        *_TIMES,
        ("trade_id", _TEXT),
        ("venue", _TEXT),
        ("conditions", _pa.list_(_TEXT)),
    ),
    "quote": _schema(
        ("symbol", _TEXT), *_floats("bid", "bid_size", "ask", "ask_size"), *_TIMES, ("venue", _TEXT)
    ),
    "bar": _schema(
        ("symbol", _TEXT), ("interval", _TEXT), *_floats("open", "high", "low", "close", "volume"), *_TIMES
    ),
    "amendment": _schema(
        ("symbol", _TEXT),
        ("trade_id", _TEXT),
        ("venue", _TEXT),
        *_floats("price", "size"),
        *_TIMES,
        ("new_trade_id", _TEXT),
    ),
    "gap": _schema(("symbol", _TEXT), *_TIMES, ("reason", _TEXT)),
    "quarantine": _schema(("symbol", _TEXT), ("reason", _TEXT), ("content", _pa.binary()), *_TIMES),
}
"""Columns in the order of the structs' fields. A gap's event_time is its start, its known_time its end."""

CONTENT_BYTES_MAX = 65_536
METADATA_BYTES_MAX = 1_024
"""What a checksum takes beside its batch, and more."""
MEMORY_BYTES = 262_144
"""Where batches are written, one after the other; as much as stays in a core's cache."""
SYMBOL_LENGTH_MAX = 40
UNSTORABLE = (_pa.ArrowException, ValueError, OverflowError, TypeError)
"""What Arrow raises over a value that a column cannot hold."""

KINDS: dict[type[Entry], str] = {
    Trade: "trade",
    Quote: "quote",
    BarTick: "bar",
    Amendment: "amendment",
    Gap: "gap",
    Quarantined: "quarantine",
}


class Damage(msgspec.Struct, frozen=True):
    """Where a segment stops being readable, and why."""

    offset: int
    bytes_after: int
    reason: str


class Encoder:
    """Turns entries of one kind into the bytes of one Arrow batch."""

    def __init__(self, kind: str) -> None:
        self._schema = SCHEMAS[kind]
        made = next(each for each, name in KINDS.items() if name == kind)
        self._getters = [attrgetter(field) for field in made.__struct_fields__]
        _pa.array([0.0])  # the first of a process imports pandas, a second that no first tick shall wait
        empty = io.BytesIO()
        with _ipc.new_stream(_pa.PythonFile(empty, mode="w"), self._schema):
            pass
        self.header = empty.getvalue()[:-8]
        """The stream's first message, its schema, without the end marker that follows in an empty stream."""
        self._begin(0)

    def batch(self, entries: Sequence[Entry], flags: Sequence[str]) -> bytes:
        """Returns the message that holds these entries; at least one."""
        # Column by column: a tuple of each row would have the garbage collector look at the whole process.
        columns = [*(list(map(get, entries)) for get in self._getters), flags]
        arrays = [
            # Integers and then a view of them: half of what Arrow takes to make timestamps.
            _pa.array(column, _INT64).view(field.type) if field.type == _NS else _pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        batch = _pa.record_batch(arrays, schema=self._schema)
        size_max = _ipc.get_record_batch_size(batch) + METADATA_BYTES_MAX
        if self._sink.tell() + size_max > self._memory.size:
            self._begin(size_max)
        start = self._sink.tell() or len(self.header)  # the writer puts the schema before its first batch
        self._writer.write_batch(batch, custom_metadata={"crc32": str(_checksum(batch))})
        return self._memory.slice(start, self._sink.tell() - start).to_pybytes()

    def _begin(self, size_max: int) -> None:
        """Begins anew in memory with room for a batch; Python's files would cost as much as the writing."""
        self._memory = _pa.allocate_buffer(max(MEMORY_BYTES, len(self.header) + size_max))
        self._sink = _pa.FixedSizeBufferWriter(self._memory)
        self._writer = _ipc.new_stream(self._sink, self._schema)


def read_segment(path: Path, kind: str) -> tuple[Any, int, Damage | None]:
    """Reads a segment as far as it is whole.

    Returns:
        Its rows as a `pyarrow.Table`, the offset up to which the file is good, and the damage after it.

    Raises:
        OSError: the file cannot be opened.
    """
    # Not mapped into memory: a writer whose disk is full takes back what it wrote, under the reader.
    content = path.read_bytes()
    size = len(content)
    batches: list[Any] = []
    good = 0
    damage: Damage | None = None
    if size:
        file = _pa.BufferReader(content)
        try:
            reader = _ipc.open_stream(file)
            if not reader.schema.equals(SCHEMAS[kind]):
                raise ValueError(f"its schema is not that of {kind} events")
            good = file.tell()
            while (batch := _next(reader)) is not None:
                batches.append(batch)
                good = file.tell()
            if good < size:  # zeros look like the end of a stream
                raise ValueError("something follows the last batch")
        except (_pa.ArrowException, OSError, ValueError, KeyError) as error:
            damage = Damage(good, size - good, str(error)[:200])
    table = _pa.Table.from_batches(batches, SCHEMAS[kind])
    return table, good, damage


def _next(reader: Any) -> Any | None:
    try:
        read = reader.read_next_batch_with_custom_metadata()
    except StopIteration:
        return None
    stated = dict(read.custom_metadata or {}).get(b"crc32", b"")
    if stated != str(_checksum(read.batch)).encode():
        raise ValueError("a batch's checksum does not match")
    return read.batch


def _checksum(batch: Any) -> int:
    """Returns the CRC-32 of a batch's row counts, nulls and buffers: all that its values depend on."""
    crc = zlib.crc32(str(batch.num_rows).encode())
    for column in batch.columns:
        for array in (column, column.values) if _pa.types.is_list(column.type) else (column,):
            crc = zlib.crc32(f"{len(array)} {array.null_count}".encode(), crc)
        for buffer in column.buffers():
            crc = zlib.crc32(b"-" if buffer is None else memoryview(buffer), crc)
    return crc


def write_fully(handle: int, data: bytes, offset: int) -> None:
    """Writes all of `data` at `offset`.

    Raises:
        OSError: the disk refused; a part may have been written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def unstorable(entry: Entry) -> Quarantined:
    """Returns what the quarantine keeps of an entry that Arrow cannot hold."""
    return quarantined(entry, "unstorable", 0)


def quarantined(entry: Entry, reason: str, recv_ns: int) -> Quarantined:
    """Returns what the quarantine keeps of an event: all of it, as text, since its fields may be bad."""
    symbol = entry.symbol.encode("ascii", "replace").decode()[:SYMBOL_LENGTH_MAX]
    content = repr(entry).encode("utf-8", "backslashreplace")[:CONTENT_BYTES_MAX]
    return Quarantined(symbol, reason, content, recv_ns, recv_ns)
