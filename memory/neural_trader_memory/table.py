"""The LanceDB table under the memory: rows in and rows out.

LanceDB, pyarrow and pandas take more than a second to import, so nothing here is imported before the table is
first used. pyarrow has no type stubs: it and the open table are `Any` here, and nowhere else.
"""

import importlib
import math
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
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
from neural_trader_memory import indices, narrowing
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.narrowing import Wide
from neural_trader_memory.recall import Candidates, Key, Question
from neural_trader_memory.records import REGIME_DIMENSION, TRUSTED
from neural_trader_memory.revisions import ADDED_COLUMNS, COLUMNS, Scope, head, quote, visible
from neural_trader_memory.rows import StoredRecord, arrow_rows, read_row
from neural_trader_memory.schema import DIMENSION_KEY, EMBEDDER_KEY, TABLE, migrate, pyarrow, schema

FRAGMENTS_MAX = 20  # one write is one fragment; at 300 of them a query takes 60 ms instead of 4
# Compaction rewrites every fragment below a million rows, so in larger tables it comes later.
ROWS_A_FRAGMENT = 5_000
UNINDEXED_SHARE = 0.05  # what no index holds is looked at row by row
PRUNE_AFTER = timedelta(hours=1)  # longer than any read; until then old versions can still be read
NEVER = timedelta(days=36_500)
_NO_REGIME = np.full(REGIME_DIMENSION, np.nan, "<f4").tobytes()
_RANKED = ("event_time", "text", "vector", "importance", "regime")

_SAID = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")

_log = structlog.get_logger(__name__)


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
        self._appended = 0  # rows by this process since it last compacted
        self._sampled: tuple[tuple[str, int], Sequence[str]] | None = None
        self._opening = anyio.Lock()

    async def append(self, rows: Sequence[tuple[StoredRecord, Vectors]]) -> None:
        """Commits rows with their vectors, all or none; compacts where fragments have piled up."""
        async with self._use() as table:
            await table.add(arrow_rows(rows, self._embedder, self._dimension))
        self._appended += len(rows)
        await self._compact()

    async def wide(self, scope: Scope, *, present: bool) -> Wide | None:
        """Returns the size of a scope that holds too many rows to score each of them, else None.

        Args:
            scope: Who asks, and as of when.
            present: Whether it is asked about this very moment, for which indices will do. Any other moment
                is read row by row, because an index knows what came after it.
        """
        async with self._use() as table:
            indexed = present and (await indices.inspect(table)).searchable
            return await narrowing.measure(table, scope, present=indexed)

    async def candidates(self, scope: Scope) -> Candidates:
        """Returns every memory in scope, with only the columns that ranking needs."""
        async with self._use() as table:
            return self._candidates(await _ranked_rows(table, scope.where), scope)

    async def narrowed(self, wide: Wide, question: Question) -> Candidates:
        """Returns those of a wide scope that may answer best, with the words of others to compare with."""
        async with self._use() as table:
            asks_by_text = question.vector is not None and question.regime is None and not question.context
            found: Candidates | None = None
            if wide.present and asks_by_text:
                names = await narrowing.look_up(table, wide, question)
                found = self._candidates(await _ranked_rows(table, wide.among(names)), wide.scope)
            # Where most of what was looked up has expired or was corrected since, what it hid is to be found.
            if found is None or len(found.keys) < narrowing.KEPT // 2:
                names = await narrowing.scan(table, wide, question)
                found = self._candidates(await _ranked_rows(table, wide.among(names)), wide.scope)
            return replace(found, background=await self._background(table, wide))

    async def _background(self, table: Any, wide: Wide) -> Sequence[str]:
        if not wide.present:
            return await narrowing.sample_texts(table, wide)
        # How rare words are changes slowly: read again when there is a tenth more.
        key = (wide.scope.chosen, int(math.log(max(wide.trusted, 1), 1.1)))
        if self._sampled is None or self._sampled[0] != key:
            self._sampled = (key, await narrowing.sample_texts(table, wide))
        return self._sampled[1]

    def _candidates(self, rows: Any, scope: Scope) -> Candidates:
        _check_scope(rows, scope)
        order = [(name, "ascending") for name in ("known_time", "memory_id", "rev")]
        rows = rows.sort_by(order).combine_chunks()
        counted = visible(rows, scope)
        if len(counted) < len(rows):
            rows = rows.take(pyarrow().array(counted, "int64"))
        vectors = rows.column("vector").combine_chunks()
        values = np.asarray(vectors.flatten() if len(rows) else [], dtype=np.float32)
        regimes = b"".join(each or _NO_REGIME for each in rows.column("regime").to_pylist())
        return Candidates(
            keys=list(
                zip(
                    rows.column("memory_id").to_pylist(), rows.column("content_hash").to_pylist(), strict=True
                )
            ),
            texts=rows.column("text").to_pylist(),
            vectors=values.reshape(len(rows), self._dimension),
            kinds=rows.column("kind").to_pylist(),
            trusted=np.array([each in TRUSTED for each in rows.column("trust").to_pylist()], np.bool_),
            event_us=np.asarray(rows.column("event_time").cast("int64"), np.int64),
            importance=np.array(rows.column("importance").to_pylist(), np.float64),
            regimes=np.frombuffer(regimes, "<f4").reshape(len(rows), REGIME_DIMENSION),
        )

    async def fetch(self, scope: Scope, keys: Sequence[Key]) -> dict[Key, StoredRecord]:
        """Returns the named rows of the agent that were known at `as_of`, whatever became of them since."""
        if not keys:
            return {}
        names = ", ".join(quote(name) for name, _ in keys)
        rows = await self._rows(f"{scope.known} AND memory_id IN ({names})")
        _check_scope(rows, scope)
        found = {(row["memory_id"], row["content_hash"]): row for row in rows.to_pylist()}
        return {key: self._stored(found[key]) for key in keys if key in found}

    async def find(self, scope: Scope, memory_id: str) -> StoredRecord | None:
        """Returns a memory as it stood at `as_of`; None where it was unknown, forgotten or expired then."""
        rows = await self._rows(f"{scope.known} AND memory_id = {quote(memory_id)}")
        _check_scope(rows, scope)
        newest = head(rows.to_pylist())
        return self._stored(newest) if newest is not None and scope.admits(newest) else None

    async def revisions(self, scope: Scope, memory_id: str | None = None) -> list[StoredRecord]:
        """Returns all revisions of a memory, or of all, that were known at `as_of`, the oldest first."""
        one = "" if memory_id is None else f" AND memory_id = {quote(memory_id)}"
        rows = await self._rows(scope.known + one)
        _check_scope(rows, scope)
        listed = sorted(
            rows.to_pylist(),
            key=lambda row: (row["known_time"], row["rev"], row["memory_id"], row["content_hash"]),
        )
        return [self._stored(row) for row in listed]

    async def select(self, scope: Scope, condition: str) -> list[StoredRecord]:
        """Returns the memories in scope whose newest revision meets a condition, oldest first.

        Args:
            scope: Who asks, and as of when.
            condition: SQL over the columns.
        """
        met = await self._rows(f"({scope.known}) AND ({condition})")
        _check_scope(met, scope)
        if not len(met):
            return []
        names = ", ".join(map(quote, dict.fromkeys(met.column("memory_id").to_pylist())))
        by_name: dict[str, list[dict[str, Any]]] = {}
        for row in (await self._rows(f"{scope.known} AND memory_id IN ({names})")).to_pylist():
            by_name.setdefault(row["memory_id"], []).append(row)
        hashes = set(met.column("content_hash").to_pylist())
        newest = [found for rows in by_name.values() if (found := head(rows)) is not None]
        chosen = [row for row in newest if row["content_hash"] in hashes and scope.admits(row)]
        chosen.sort(key=lambda row: (row["known_time"], row["memory_id"]))
        return [self._stored(row) for row in chosen]

    async def read_all(self, where: str | None = None) -> AsyncGenerator[StoredRecord]:
        """Yields every row of every agent, all revisions, in no order: for upkeep, never for an agent."""
        async with self._use() as table:
            query = table.query()
            if where is not None:
                query = query.where(where)
            async for batch in await query.select(self._columns()).to_batches():
                for row in batch.to_pylist():
                    yield self._stored(row)

    async def count(self, scope: Scope | None = None) -> int:
        """Returns how many memories are in scope, or how many rows the whole table has."""
        async with self._use() as table:
            if scope is None:
                return int(await table.count_rows())
            rows = await table.query().where(scope.where).select([*COLUMNS, *ADDED_COLUMNS]).to_arrow()
        return len(visible(rows, scope))

    async def version(self) -> int:
        """Returns the table's version: whatever is committed to it makes the next one."""
        async with self._use() as table:
            return int(await table.version())

    def _columns(self) -> list[str]:
        return [name for name in schema(self._embedder, self._dimension).names if name != "vector"]

    async def _rows(self, where: str) -> Any:
        async with self._use() as table:
            return await table.query().where(where).select(self._columns()).to_arrow()

    def _stored(self, row: dict[str, Any]) -> StoredRecord:
        return read_row(row, self._dimension)

    @asynccontextmanager
    async def _use(self) -> AsyncGenerator[Any]:
        """Opens the table where needed and gives every failure of the store one face."""
        try:
            async with self._opening:
                if self._table is None:
                    self._table = await self._open()
                else:  # another process may have embedded everything anew with another model
                    self._check_embedder((await self._table.schema()).metadata or {})
            yield self._table
        except NeuralTraderError:
            raise
        except (OSError, RuntimeError, ValueError) as error:  # what LanceDB's Rust core raises
            raise _unavailable(self.uri, error) from error

    async def _open(self) -> Any:
        database = await connect(self.uri)
        try:
            table = await database.open_table(TABLE)
        except ValueError:  # not there yet; LanceDB has no error class of its own for it
            try:
                made = schema(self._embedder, self._dimension)
                table = await database.create_table(TABLE, schema=made, exist_ok=True)
            except (OSError, RuntimeError, ValueError):
                table = await database.open_table(TABLE)  # another process was first
        self._check_embedder((await table.schema()).metadata or {})
        await migrate(table)
        return table

    def _check_embedder(self, metadata: dict[bytes, bytes]) -> None:
        name = metadata.get(EMBEDDER_KEY, b"?").decode()
        dimension = metadata.get(DIMENSION_KEY, b"?").decode()
        if (name, dimension) != (self._embedder, str(self._dimension)):
            raise ConfigurationError(
                "embedder_mismatch",
                f"the memory at {self.uri} holds vectors of {name} ({dimension} dimensions), and this server "
                f"embeds with {self._embedder} ({self._dimension}); their distances mean nothing together",
                f"use {name} again, or embed everything anew with `neural-trader memory reindex`",
            )

    async def _compact(self) -> None:
        """Joins fragments, then drops old versions; a failure costs speed, never a row, so it is logged."""
        try:
            stats = await self._table.stats()
            fragments, rows = int(stats["fragment_stats"]["num_fragments"]), int(stats["num_rows"])
            many = self._appended >= max(indices.ROWS_MIN, UNINDEXED_SHARE * rows)
            if fragments < FRAGMENTS_MAX + rows // ROWS_A_FRAGMENT and not many:
                return
            self._appended = 0
            # Two calls: where a tagged version lies in the prune window, `optimize` raises before it has
            # updated the indices. So compaction never prunes, and pruning has nothing else to lose.
            await self._table.optimize(cleanup_older_than=NEVER)
            await self._table.optimize(cleanup_older_than=PRUNE_AFTER)
            await indices.ensure(self._table)
        except (OSError, RuntimeError, ValueError) as error:  # such as another process compacting at once
            _log.info("memory_compaction_skipped", reason=str(error)[:200])


async def connect(uri: str) -> Any:
    """Returns a connection on which each read sees what other processes have committed."""
    lancedb = await to_thread.run_sync(importlib.import_module, "lancedb")
    return await lancedb.connect_async(uri, read_consistency_interval=timedelta(0))


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


def _unavailable(uri: str, error: Exception) -> StorageError:
    if "://" not in uri or uri.startswith("file://"):
        return StorageError(
            "memory_unavailable",
            f"the memory at {uri} could not be read or written: {error!s:.300}",
            "check that the folder is writable and the disk not full, then try again",
        )
    # Of an object store's error, which is a page of Rust, what the service said is what helps.
    said = _SAID.search(str(error))
    what = said.group(1) if said else str(error)[:300]
    return StorageError(
        "memory_unavailable",
        f"the memory at {uri:.200} could not be read or written: {what}",
        "check the address and the credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,"
        " AWS_REGION, and AWS_ENDPOINT where it is not AWS), and that the service can be reached",
    )


async def _ranked_rows(table: Any, where: str) -> Any:
    return await table.query().where(where).select([*COLUMNS, *ADDED_COLUMNS, *_RANKED]).to_arrow()


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
