"""Embedding a whole store anew with another model, while nothing is lost and nothing waits for the end.

New vectors gather in a table beside the store, a batch a commit: a run that is stopped goes on where it was.
When all are there they become the store's next version in one commit. Until then every reader sees the old
vectors; from then on a server with the old model is refused (`embedder_mismatch`), and never mixed in.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from neural_trader_governance.errors import InputError
from neural_trader_memory.embedders.port import Embedder
from neural_trader_memory.glossary import explain
from neural_trader_memory.schema import DIMENSION_KEY, EMBEDDER_KEY, TABLE, migrate, pyarrow, schema
from neural_trader_memory.table import connect, locate

STAGE = "memories_reindex"
BATCH = 64
Told = Callable[[float], Awaitable[None]]
_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What was done.

    Attributes:
        embedded: Rows that this run embedded; fewer than `rows` where an earlier one had begun.
    """

    rows: int
    embedded: int
    embedder_before: str
    embedder: str
    dimension: int


async def reindex(uri: str, embedder: Embedder, told: Told) -> Reindexed:
    """Embeds every row of a store with `embedder`; does nothing where its vectors are that one's already.

    Writes by other processes are taken along, up to the commit. What one of them writes in that very moment
    is found in the version before it, and taken along too.

    Args:
        uri: The store.
        embedder: The model that it shall be searched with.
        told: Hears how far the work is, 0 to 1.

    Raises:
        InputError: there is no store yet (`no_memory`).
        HostError: the embedder's weights are missing.
    """
    database = await connect(locate(uri))
    try:
        table = await database.open_table(TABLE)
    except ValueError:
        raise InputError(
            "no_memory", f"there is no memory at {uri}", "remember something first; it needs no index yet"
        ) from None
    await migrate(table)
    before = await _embedder_of(table)
    embedded = 0
    if before != (embedder.name, embedder.dimension):
        stage = await _stage(database, embedder)
        done = await _keys(stage)
        total = max(int(await table.count_rows()), 1)
        while fresh := [key for key in await _keys(table) if key not in done]:
            wanted = set(fresh)
            async for rows in _rows(table, wanted):
                await stage.add(await _embed(rows, embedder))
                done |= {_key(row) for row in rows}
                embedded += len(rows)
                await told(min(len(done) / total, 1.0))
        whole = await stage.query().to_arrow()
        made = schema(embedder.name, embedder.dimension)
        table = await database.create_table(TABLE, data=whole.cast(made), schema=made, mode="overwrite")
    embedded += await _take_along(database, table, embedder)
    if STAGE in (await database.list_tables()).tables:
        await database.drop_table(STAGE)
    await told(1.0)
    return Reindexed(int(await table.count_rows()), embedded, before[0], embedder.name, embedder.dimension)


async def embedder_at(uri: str) -> tuple[str, int] | None:
    """Returns name and dimension of the model whose vectors a store holds; None where there is no store."""
    try:
        table = await (await connect(locate(uri))).open_table(TABLE)
    except ValueError:
        return None
    return await _embedder_of(table)


async def _stage(database: Any, embedder: Embedder) -> Any:
    """Returns the table of new vectors: that of a run that was stopped, if it was for this model."""
    try:
        stage = await database.open_table(STAGE)
    except ValueError:
        return await database.create_table(STAGE, schema=schema(embedder.name, embedder.dimension))
    if await _embedder_of(stage) == (embedder.name, embedder.dimension):
        return stage
    await database.drop_table(STAGE)
    return await database.create_table(STAGE, schema=schema(embedder.name, embedder.dimension))


async def _take_along(database: Any, table: Any, embedder: Embedder) -> int:
    """Embeds what the last version of another model holds and this table does not; returns how many."""
    old = await database.open_table(TABLE)
    ours = (embedder.name, embedder.dimension)
    versions = sorted((int(each["version"]) for each in await old.list_versions()), reverse=True)
    for version in versions:
        await old.checkout(version)
        if await _embedder_of(old) != ours:
            break
    else:
        return 0
    here = await _keys(table)
    late = {key for key in await _keys(old) if key not in here}
    count = 0
    async for rows in _rows(old, late):
        await table.add(await _embed(rows, embedder))
        count += len(rows)
    return count


async def _rows(table: Any, wanted: set[_Key]) -> AsyncGenerator[list[dict[str, Any]]]:
    """Yields the wanted rows in batches, without their vectors; each key once."""
    left = set(wanted)
    columns = [name for name in (await table.schema()).names if name != "vector"]
    waiting: list[dict[str, Any]] = []
    async for batch in await table.query().select(columns).to_batches():
        for row in batch.to_pylist():
            if _key(row) in left:
                left.discard(_key(row))
                waiting.append(row)
            if len(waiting) == BATCH:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


async def _embed(rows: list[dict[str, Any]], embedder: Embedder) -> Any:
    vectors = await embedder.embed([explain(row["text"]) for row in rows])
    made = [
        row | {"embedder": embedder.name, "vector": vector} for row, vector in zip(rows, vectors, strict=True)
    ]
    return pyarrow().Table.from_pylist(made, schema=schema(embedder.name, embedder.dimension))


async def _keys(table: Any) -> set[_Key]:
    rows = await table.query().select(["agent", "memory_id", "content_hash"]).to_arrow()
    return {_key(row) for row in rows.to_pylist()}


def _key(row: dict[str, Any]) -> _Key:
    return row["agent"], row["memory_id"], row["content_hash"]


async def _embedder_of(table: Any) -> tuple[str, int]:
    metadata: dict[bytes, bytes] = (await table.schema()).metadata or {}
    return metadata.get(EMBEDDER_KEY, b"?").decode(), int(metadata.get(DIMENSION_KEY, b"0"))
