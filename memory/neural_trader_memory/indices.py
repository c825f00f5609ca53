"""Which indices a table of memories has, by its size: none while it is small, and all of them from then on.

Below `ROWS_MIN` a scan is as quick as an index, and exact. From there on: an IVF index of 8-bit scalars for
vectors (one-bit quantisation lost a quarter of the neighbours and more), trees and bitmaps for what scopes
filter by, an inverted index for words. What was appended since is found without any index, and enters it at
the next compaction.
"""

import importlib
from dataclasses import dataclass
from typing import Any, Final

import structlog

ROWS_MIN: Final = 20_000
GROWTH: Final = 2
"""The vector index is trained anew when the table has so many times the rows that it was trained on."""
ROWS_A_PART: Final = 400
"""Of the vector index. As the size to aim at, never as a number of parts: given that, LanceDB 0.40 goes by a
size of its own when rows enter the index, joined 2,500 parts into 31, and a query looked at every row."""
NPROBES: Final = 80
"""Parts that a query looks at. 40 do for a million rows; of 100,000, narrowed to a tenth, they found .97."""
REFINE: Final = 2
DISTANCE: Final = "cosine"

_TRAINED: Final = "vector_parts_at_"
_OF_VECTORS: Final = "vector_"
# What narrows to few rows, and nothing else: an index whose answer is nearly every row (known by now, not
# expired) costs a search 25 ms at a million rows, and without it only the rows that are left are tested.
_TREES: Final = ("memory_id", "content_hash")
_BITMAPS: Final = ("agent", "kind", "trust", "rev")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a table has now.

    Attributes:
        trained_rows: Rows that the vector index was trained on; 0 where there is none.
    """

    names: frozenset[str]
    trained_rows: int

    @property
    def searchable(self) -> bool:
        """Whether vectors and words can be looked up instead of scanned."""
        return self.trained_rows > 0 and "text_idx" in self.names


async def inspect(table: Any) -> Indexed:
    """Returns the indices of a table."""
    names = frozenset(each.name for each in await table.list_indices())
    trained = [int(name.removeprefix(_TRAINED)) for name in names if name.startswith(_TRAINED)]
    return Indexed(names, max(trained, default=0))


async def ensure(table: Any) -> list[str]:
    """Makes the indices that a table of this size should have and lacks; returns the names of the new ones.

    Several processes may do it at once: one of them is first, the others' error is the caller's to log.
    Searches go on meanwhile, and writes of other processes too.
    """
    rows = int(await table.count_rows())
    if rows < ROWS_MIN:
        return []
    index = importlib.import_module("lancedb.index")
    here = await inspect(table)
    made: list[str] = []
    wanted: list[tuple[str, Any]] = [(name, index.BTree()) for name in _TREES]
    wanted += [(name, index.Bitmap()) for name in _BITMAPS]
    wanted += [("symbols", index.LabelList()), ("text", index.FTS(with_position=False))]
    for column, config in wanted:
        if f"{column}_idx" not in here.names:
            await table.create_index(column, config=config, name=f"{column}_idx")
            made.append(f"{column}_idx")
    if rows >= GROWTH * here.trained_rows:
        # The new one first: between the two steps there is always one to search with.
        name = f"{_TRAINED}{rows}"
        config = index.IvfSq(
            distance_type=DISTANCE,
            target_partition_size=ROWS_A_PART,
            sample_rate=32,
            max_iterations=10,
        )
        await table.create_index("vector", config=config, name=name)
        for old in here.names:
            if old.startswith(_OF_VECTORS) and old != name:
                await table.drop_index(old)
        made.append(name)
    if made:
        _log.info("memory_indices_made", rows=rows, names=made)
    return made
