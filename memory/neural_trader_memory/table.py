"""The LanceDB table under the memory: schema, scope, rows in and rows out.

LanceDB, pyarrow and pandas take more than a second to import, so nothing here is imported before the table is
first used. pyarrow has no type stubs: it and the open table are `Any` here, and nowhere else.
"""

import functools
import importlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import structlog
from anyio import to_thread

from neural_trader_governance.errors import (
    ConfigurationError,
    IntegrityError,
    NeuralTraderError,
    StorageError,
)
from neural_trader_governance.terms.clocks import format_time
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.records import Kind, Record

TABLE = "memories"
FORMAT = "1"
FRAGMENTS_MAX = 20  # one write is one fragment; at 300 of them a query takes 60 ms instead of 4
ROWS_A_FRAGMENT = 50  # compaction rewrites every small fragment: at equal steps that would be quadratic
PRUNE_AFTER = timedelta(hours=1)  # longer than any read; until then old versions can still be read
NEVER = timedelta(days=36_500)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that one call may see. Every part narrows; none can widen, whatever its text is."""

    agent: str
    as_of: datetime
    kind: Kind | None = None
    symbols: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Returns the SQL condition: this agent's rows, known by `as_of` and not superseded then."""
        moment = f"TIMESTAMP '{format_time(self.as_of)}'"
        parts = [
            f"agent = {quote(self.agent)}",
            f"known_time <= {moment}",
            f"(superseded_at IS NULL OR superseded_at > {moment})",
        ]
        if self.kind:
            parts.append(f"kind = {quote(self.kind)}")
        if self.symbols:
            parts.append(f"array_has_any(symbols, [{', '.join(map(quote, self.symbols))}])")
        return " AND ".join(parts)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with what the store keeps beside it."""

    record: Record
    content_hash: str
    audit_seq: int | None
    audit_hash: str
    embedder: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What ranking reads, ordered by (known_time, memory_id): texts and their vectors, row for row."""

    memory_ids: list[str]
    texts: list[str]
    vectors: Vectors


def quote(text: str) -> str:
    """Returns a SQL string literal; a quote is doubled, which is the only escape that DataFusion knows."""
    return "'" + text.replace("'", "''") + "'"


class MemoryTable:
    """One table of one embedder's vectors, opened on first use; several processes may hold it at once.

    Not guaranteed: that a row shows in a search whose `as_of` is the very instant of its writing, while the
    write is still on its way to the disk.
    """

    def __init__(self, uri: str, embedder: str, dimension: int) -> None:
        self.uri = locate(uri)
        self._embedder = embedder
        self._dimension = dimension
        self._table: Any = None
        self._opening = anyio.Lock()

    async def append(self, stored: StoredRecord, vector: Vectors) -> None:
        """Commits one row; compacts where fragments have piled up."""
        record = stored.record
        row = {name: getattr(record, name) for name in record.__slots__} | {
            "symbols": list(record.symbols),
            "superseded_at": None,
            "content_hash": stored.content_hash,
            "audit_seq": stored.audit_seq,
            "audit_hash": stored.audit_hash,
            "embedder": stored.embedder,
            "vector": vector,
        }
        async with self._use() as table:
            pyarrow = _pyarrow()
            await table.add(pyarrow.Table.from_pylist([row], schema=_schema(self._embedder, self._dimension)))
        await self._compact()

    async def candidates(self, scope: Scope) -> Candidates:
        """Returns every row in scope, with only the columns that ranking needs."""
        columns = ["memory_id", "agent", "known_time", "text", "vector"]
        async with self._use() as table:
            rows = await table.query().where(scope.where).select(columns).to_arrow()
        rows = rows.sort_by([("known_time", "ascending"), ("memory_id", "ascending")]).combine_chunks()
        _check_scope(rows, scope)
        flat = rows.column("vector").combine_chunks()
        values = np.asarray(flat.flatten() if len(rows) else [], dtype=np.float32)
        return Candidates(
            rows.column("memory_id").to_pylist(),
            rows.column("text").to_pylist(),
            values.reshape(len(rows), self._dimension),
        )

    async def fetch(self, scope: Scope, memory_ids: list[str]) -> dict[str, StoredRecord]:
        """Returns the named rows that are in scope, by id."""
        if not memory_ids:
            return {}
        where = f"{scope.where} AND memory_id IN ({', '.join(map(quote, memory_ids))})"
        columns = [name for name in _schema(self._embedder, self._dimension).names if name != "vector"]
        async with self._use() as table:
            rows = await table.query().where(where).select(columns).to_arrow()
        _check_scope(rows, scope)
        return {row["memory_id"]: self._stored(row) for row in rows.to_pylist()}

    async def count(self, scope: Scope | None = None) -> int:
        """Returns how many rows are in scope, or in the whole table."""
        async with self._use() as table:
            return int(await table.count_rows(scope.where if scope else None))

    def _stored(self, row: dict[str, Any]) -> StoredRecord:
        fields: dict[str, Any] = {name: row[name] for name in Record.__slots__}
        fields["symbols"] = tuple(row["symbols"])
        return StoredRecord(
            record=Record(**fields),
            content_hash=row["content_hash"],
            audit_seq=row["audit_seq"],
            audit_hash=row["audit_hash"],
            embedder=row["embedder"],
            dimension=self._dimension,
        )

    @asynccontextmanager
    async def _use(self) -> AsyncGenerator[Any]:
        """Opens the table where needed and gives every failure of the store one face."""
        try:
            async with self._opening:
                if self._table is None:
                    self._table = await self._open()
            yield self._table
        except NeuralTraderError:
            raise
        except (OSError, RuntimeError, ValueError) as error:  # what LanceDB's Rust core raises
            raise StorageError(
                "memory_unavailable",
                f"the memory at {self.uri} could not be read or written: {error!s:.300}",
                "check that the folder is writable and the disk not full, then try again",
            ) from error

    async def _open(self) -> Any:
        lancedb = await to_thread.run_sync(importlib.import_module, "lancedb")
        # Each read sees what other processes have committed.
        database = await lancedb.connect_async(self.uri, read_consistency_interval=timedelta(0))
        try:
            table = await database.open_table(TABLE)
        except ValueError:  # not there yet; LanceDB has no error class of its own for it
            schema = _schema(self._embedder, self._dimension)
            try:
                table = await database.create_table(TABLE, schema=schema, exist_ok=True)
            except (OSError, RuntimeError, ValueError):
                table = await database.open_table(TABLE)  # another process was first
        self._check_embedder((await table.schema()).metadata or {})
        return table

    def _check_embedder(self, metadata: dict[bytes, bytes]) -> None:
        name = metadata.get(b"neural_trader.embedder", b"?").decode()
        dimension = metadata.get(b"neural_trader.dimension", b"?").decode()
        if (name, dimension) != (self._embedder, str(self._dimension)):
            raise ConfigurationError(
                "embedder_mismatch",
                f"the memory at {self.uri} holds vectors of {name} ({dimension} dimensions), and this server "
                f"embeds with {self._embedder} ({self._dimension}); their distances mean nothing together",
                f"use {name} again, or move that folder away to begin an empty memory",
            )

    async def _compact(self) -> None:
        """Joins fragments, then drops old versions; a failure costs speed, never a row, so it is logged."""
        try:
            stats = await self._table.stats()
            fragments = int(stats["fragment_stats"]["num_fragments"])
            if fragments < FRAGMENTS_MAX + int(stats["num_rows"]) // ROWS_A_FRAGMENT:
                return
            # Two calls: where a tagged version lies in the prune window, `optimize` raises before it has
            # updated the indices. So compaction never prunes, and pruning has nothing else to lose.
            await self._table.optimize(cleanup_older_than=NEVER)
            await self._table.optimize(cleanup_older_than=PRUNE_AFTER)
        except (OSError, RuntimeError, ValueError) as error:  # such as another process compacting at once
            _log.info("memory_compaction_skipped", reason=str(error)[:200])


def locate(uri: str) -> str:
    """Returns a path as an absolute one and an object store's address as it is.

    Raises:
        ConfigurationError: the address is of a hosted LanceDB, which would hold the agent's memory elsewhere.
    """
    if uri.startswith("db://"):
        raise ConfigurationError(
            "memory_uri_unsupported",
            f"{uri:.80} names a hosted database",
            "give a folder or an s3:// address",
        )
    # LanceDB takes a bare word that begins with "db" for its cloud, so a path is always made absolute.
    return uri if "://" in uri else str(Path(uri).absolute())


def _check_scope(rows: Any, scope: Scope) -> None:
    # The condition was already applied by the store: this is the second lock on the door.
    if not len(rows):
        return
    newest: datetime = importlib.import_module("pyarrow.compute").max(rows.column("known_time")).as_py()
    if rows.column("agent").unique().to_pylist() != [scope.agent] or newest > scope.as_of:
        raise IntegrityError(
            "memory_scope_broken",
            "the store returned a row outside the agent's namespace or after as_of",
            "stop using this memory and report it",
        )


def _pyarrow() -> Any:
    return importlib.import_module("pyarrow")


@functools.lru_cache(maxsize=4)
def _schema(embedder: str, dimension: int) -> Any:
    pyarrow = _pyarrow()
    text, whole, moment = pyarrow.string(), pyarrow.int64(), pyarrow.timestamp("us", tz="UTC")
    field = pyarrow.field
    return pyarrow.schema(
        [
            field("memory_id", text, nullable=False),
            field("rev", whole, nullable=False),
            field("agent", text, nullable=False),
            field("kind", text, nullable=False),
            field("text", text, nullable=False),
            field("symbols", pyarrow.list_(text), nullable=False),
            field("data", text, nullable=False),
            field("event_time", moment, nullable=False),
            field("known_time", moment, nullable=False),
            field("superseded_at", moment),
            field("source", text, nullable=False),
            field("trust", text, nullable=False),
            field("about_seq", whole),
            field("prev_hash", text, nullable=False),
            field("content_hash", text, nullable=False),
            field("audit_seq", whole),
            field("audit_hash", text, nullable=False),
            field("embedder", text, nullable=False),
            field("vector", pyarrow.list_(pyarrow.float32(), dimension), nullable=False),
        ],
        metadata={
            b"neural_trader.format": FORMAT.encode(),
            b"neural_trader.embedder": embedder.encode(),
            b"neural_trader.dimension": str(dimension).encode(),
        },
    )
