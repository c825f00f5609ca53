"""The archive's frames: their columns, their content digest, and merging with revisions.

Every frame is bitemporal: `event_time` says which bar or action a row is about, `known_time` when that
version of it could first be known. A correction is a new row with a later `known_time`; nothing is
ever overwritten, so a read `as_of` a moment sees what could be seen then.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

PRICE_COLUMNS = ("open", "high", "low", "close")
VALUE_COLUMNS = (*PRICE_COLUMNS, "volume")
UTC_MICROSECONDS = pl.Datetime("us", "UTC")
BAR_SCHEMA = pl.Schema(
    {
        "event_time": UTC_MICROSECONDS,
        "known_time": UTC_MICROSECONDS,
        **dict.fromkeys(VALUE_COLUMNS, pl.Float64()),
    }
)
ACTION_SCHEMA = pl.Schema(
    {
        "event_time": UTC_MICROSECONDS,
        "known_time": UTC_MICROSECONDS,
        "kind": pl.String(),
        "value": pl.Float64(),
    }
)
"""`split`: new shares per old share (2.0 for 2:1). `dividend`: cash per share, on the ex-date's basis."""

BAR_KEY = ("event_time",)
ACTION_KEY = ("event_time", "kind")


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of incoming rows: the whole frame after the merge, and the counts."""

    frame: pl.DataFrame
    rows_new: int
    rows_revised: int
    rows_unchanged: int
    added: pl.DataFrame
    """The rows that the merge added: new ones and revisions, with the known_time that they got."""

    @property
    def changed(self) -> bool:
        """True where the merge added anything."""
        return self.rows_new + self.rows_revised > 0


def empty(schema: pl.Schema) -> pl.DataFrame:
    """Returns a frame of that schema without rows."""
    return pl.DataFrame(schema=schema)


def known_at(frame: pl.DataFrame, as_of: datetime | None, key: Sequence[str]) -> pl.DataFrame:
    """Returns, per key, the newest revision with `known_time` <= `as_of` (all time where None)."""
    visible = frame if as_of is None else frame.filter(pl.col("known_time") <= as_of)
    return visible.unique(subset=list(key), keep="last", maintain_order=True)


def merge(
    stored: pl.DataFrame, incoming: pl.DataFrame, key: Sequence[str], revised_at: datetime | None
) -> Merged:
    """Adds incoming rows to stored ones as bitemporal facts.

    Identical to the newest stored revision: nothing happens. New key: the row enters with its own
    known_time. Changed values: a revision. Its known_time is its own where that is later than the
    stored one's and `revised_at` is None (the source says when it was known), else `revised_at`.

    Args:
        stored: Sorted by key, then known_time.
        incoming: The same schema; at most one row per key.
        key: The columns that say what a row is about.
        revised_at: The import's time, for sources that do not say when they changed a row.

    Returns:
        The merged frame, sorted by key then known_time.
    """
    values = [name for name in stored.columns if name not in (*key, "known_time")]
    newest = known_at(stored, None, key).select(
        *key,
        pl.col("known_time").alias("known_time_stored"),
        *(pl.col(name).alias(f"{name}_stored") for name in values),
        pl.lit(True).alias("is_stored"),
    )
    joined = incoming.join(newest, on=list(key), how="left", nulls_equal=True, maintain_order="left")
    is_stored = pl.col("is_stored").fill_null(value=False)
    same = pl.all_horizontal(*(pl.col(name).eq_missing(pl.col(f"{name}_stored")) for name in values))
    fresh = joined.filter(~is_stored)
    changed = joined.filter(is_stored & ~same)
    after = pl.col("known_time_stored") + pl.duration(microseconds=1)
    own = pl.col("known_time") if revised_at is None else pl.lit(revised_at, dtype=UTC_MICROSECONDS)
    changed = changed.with_columns(pl.max_horizontal(own, after).alias("known_time"))
    order = [*key, "known_time"]
    added = pl.concat([fresh.select(stored.columns), changed.select(stored.columns)])
    frame = pl.concat([stored, added]).sort(order, maintain_order=True)
    unchanged = incoming.height - fresh.height - changed.height
    return Merged(frame, fresh.height, changed.height, unchanged, added.sort(order, maintain_order=True))


def digest(frame: pl.DataFrame) -> str:
    """Returns SHA-256 over names and little-endian values: the same content, the same digest.

    It does not depend on Parquet's encoding or on library versions.
    """
    content = hashlib.sha256()
    for name in frame.columns:
        column = frame.get_column(name)
        content.update(f"{name}:{column.dtype}\n".encode())
        if column.dtype == pl.String:
            content.update("\0".join(column.cast(pl.String).to_list()).encode())
        else:
            numbers = column.to_physical().to_numpy()
            content.update(np.ascontiguousarray(numbers.astype(numbers.dtype.newbyteorder("<"))).tobytes())
    return content.hexdigest()
