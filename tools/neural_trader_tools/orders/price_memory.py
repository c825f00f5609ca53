"""Price memory: what was read of a symbol, kept until the clock moves or the symbol's data change.

Each decision values every holding of the desk inside the transaction for which others wait; to read bars and
splits again each time would take milliseconds a symbol. A key holds the moment asked for and the digests of
the symbol's data, so that what is remembered is what would be read.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.archive import Archive

REMEMBERED_MAX = 4_000
State = tuple[str, datetime, tuple[str, ...]]
"""A symbol, a moment, and the digests of its data."""
_T = TypeVar("_T")
_memories: WeakKeyDictionary[Archive, "PriceMemory"] = WeakKeyDictionary()


class PriceMemory:
    """What was read of one archive; safe to share between threads, which at worst read twice."""

    def __init__(self) -> None:
        """Use `memory_of`, which gives every reader of an archive the same one."""
        self._read: dict[Hashable, object] = {}

    def recall(
        self, kind: str, state: Hashable, read: Callable[[], _T], still: Callable[[], bool] = lambda: True
    ) -> _T:
        """Returns what `read` returned for this kind and state before, else reads.

        Kept is what was read unless the state is None, or is not `still` the one that it was read in.
        """
        if state is None:
            return read()
        key = (kind, state)
        if key in self._read:
            return cast("_T", self._read[key])
        value = read()
        if still():
            if len(self._read) >= REMEMBERED_MAX:
                self._read = {}
            self._read[key] = value
        return value


def memory_of(archive: Archive) -> PriceMemory:
    """Returns the memory of an archive; it goes with it."""
    return _memories.setdefault(archive, PriceMemory())


def state_of(archive: Archive, symbol: str, now: datetime) -> State | None:
    """Returns what a symbol's prices at a moment depend on; None where it is not listed."""
    try:
        instrument = archive.instrument(symbol)
        versions = tuple(archive.data_version(symbol, each) for each in instrument.intervals)
    except DataError:
        return None
    return (symbol, now, versions)
