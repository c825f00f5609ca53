"""The columns of the table, and how a store of an earlier format gets the later ones.

The first format ends at `embedder`; the second adds six columns, all of them empty in the rows of the first.
Adding them rewrites no row: it is one new version of the table, and readers of the old one go on.
"""

import functools
import importlib
from typing import Any

TABLE = "memories"
FORMAT = "2"
EMBEDDER_KEY = b"neural_trader.embedder"
DIMENSION_KEY = b"neural_trader.dimension"


def pyarrow() -> Any:
    """Returns pyarrow, imported at its first use; it has no type stubs."""
    return importlib.import_module("pyarrow")


@functools.lru_cache(maxsize=4)
def schema(embedder: str, dimension: int) -> Any:
    """Returns the Arrow schema of a table that holds this embedder's vectors."""
    arrow = pyarrow()
    text, whole, moment = arrow.string(), arrow.int64(), arrow.timestamp("us", tz="UTC")
    field = arrow.field
    return arrow.schema(
        [
            field("memory_id", text, nullable=False),
            field("rev", whole, nullable=False),
            field("agent", text, nullable=False),
            field("kind", text, nullable=False),
            field("text", text, nullable=False),
            field("symbols", arrow.list_(text), nullable=False),
            field("data", text, nullable=False),
            field("event_time", moment, nullable=False),
            field("known_time", moment, nullable=False),
            field("superseded_at", moment),  # always null: a later revision says it (`revisions`)
            field("source", text, nullable=False),
            field("trust", text, nullable=False),
            field("about_seq", whole),
            field("prev_hash", text, nullable=False),
            field("content_hash", text, nullable=False),
            field("audit_seq", whole),
            field("audit_hash", text, nullable=False),
            field("embedder", text, nullable=False),
            field("vector", arrow.list_(arrow.float32(), dimension), nullable=False),
            *added_fields(),
        ],
        metadata={
            b"neural_trader.format": FORMAT.encode(),
            EMBEDDER_KEY: embedder.encode(),
            DIMENSION_KEY: str(dimension).encode(),
        },
    )


def added_fields() -> list[Any]:
    """Returns the columns of the second format; null where a row was written in the first."""
    arrow = pyarrow()
    return [
        arrow.field("importance", arrow.float64()),
        arrow.field("expires_at", arrow.timestamp("us", tz="UTC")),
        arrow.field("causes", arrow.list_(arrow.string())),
        arrow.field("origin", arrow.string()),
        arrow.field("state", arrow.string()),
        # Not a list of floats: LanceDB takes any such column for one of vectors, and refuses rows without.
        arrow.field("regime", arrow.binary()),
    ]


async def migrate(table: Any) -> None:
    """Adds what an earlier format lacks; does nothing on a table of this one.

    Several processes may do it at once: whoever comes second finds the columns there.
    """
    missing = await _missing(table)
    if not missing:
        return
    try:
        await table.add_columns(pyarrow().schema(missing))
    except (OSError, RuntimeError, ValueError):
        if await _missing(table):
            raise


async def _missing(table: Any) -> list[Any]:
    names = set((await table.schema()).names)
    return [each for each in added_fields() if each.name not in names]
