"""Known: what was read of the store and is asked again at every call, kept until something is committed.

    roles = Known(store, lambda connection, name: roles_of(connection, name, issuer=issuer))
    roles.of("alice")          # reads, and verifies what it reads
    roles.of("alice")          # three microseconds, unless any process committed anything meanwhile

Nothing is ever staler than a read that had begun in the same moment: the version is asked first.
"""

import sqlite3
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from neural_trader_governance.store import Store

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

_KEPT_MAX = 1024  # keys come from callers; who brings more of them reads more often


class Known(Generic[KeyT, ValueT]):
    """Values by key, as they stood at the store's present version; safe for many threads.

    Args:
        store: What is read.
        read: Reads a value; what it raises is not kept.
    """

    def __init__(self, store: Store, read: Callable[[sqlite3.Connection, KeyT], ValueT]) -> None:
        self._store = store
        self._read = read
        self._kept: tuple[int, dict[KeyT, ValueT]] = (-1, {})

    def of(self, key: KeyT) -> ValueT:
        """Returns the value as it stands now.

        Raises:
            StorageError: the store is closed, or cannot be read.
        """
        version = self._store.version()
        known, kept = self._kept
        if known != version or len(kept) >= _KEPT_MAX:
            kept = {}
            self._kept = (version, kept)
        try:
            return kept[key]
        except KeyError:
            with self._store.read() as connection:
                value = kept[key] = self._read(connection, key)
            return value
