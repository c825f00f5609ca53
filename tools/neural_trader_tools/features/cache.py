"""Computed features, kept for an hour: by what the data is, not by what it is called.

A key holds the data's version, which is a digest of every row and revision, so that another archive, a new
bar or a correction is another key; the window as it was read; and the feature's canonical expression, which
names its definition and all its parameters. Definitions live as long as the process, and so does the cache.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

TTL_S: Final = 3600.0
BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Key:
    """What a column of values depends on, all of it.

    Attributes:
        data_version: `Archive.data_version` of the symbol and interval.
        symbol: As the archive spells it.
        interval: Bar length.
        end: The window's end, exclusive; the start is cut off afterwards.
        as_of: Only what was known then.
        expression: Canonical; empty for the bars' times.
    """

    data_version: str
    symbol: str
    interval: str
    end: datetime | None
    as_of: datetime | None
    expression: str


class FeatureCache:
    """A bounded store of columns, the least lately used dropped first; any thread may use it.

    Args:
        bytes_max: How much memory the columns may take.
        ttl_s: How long a column is good for, in seconds.
        now_s: A clock that never goes back.
    """

    def __init__(
        self, bytes_max: int = BYTES_MAX, ttl_s: float = TTL_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._held: OrderedDict[Key, tuple[float, pl.DataFrame, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """How much memory the columns take."""
        return self._bytes

    def get(self, key: Key) -> "pl.DataFrame | None":
        """Returns what was put under this key within the last `ttl_s`, else None."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            if self._now_s() - found[0] >= self._ttl_s:
                self._drop(key)
                return None
            self._held.move_to_end(key)
            return found[1]

    def put(self, key: Key, columns: "pl.DataFrame") -> None:
        """Keeps columns, but none that take a quarter of all room: one symbol drives out no others."""
        size = int(columns.estimated_size())
        if 4 * size > self._bytes_max:
            return
        with self._lock:
            if key in self._held:
                self._drop(key)
            self._held[key] = (self._now_s(), columns, size)
            self._bytes += size
            while self._bytes > self._bytes_max:
                self._drop(next(iter(self._held)))

    def _drop(self, key: Key) -> None:
        self._bytes -= self._held.pop(key)[2]


CACHE: Final = FeatureCache()
"""The process's."""
