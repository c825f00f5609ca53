"""Tallies: how often each tool was called, how it ended and how long it took, over all workers of a server.

The numbers lie in memory that worker processes share after a fork, as the rates' buckets do: whichever worker
answers a scrape tells what all of them did, and what a worker counted outlives it.
"""

import bisect
import fcntl
import mmap
import struct
import tempfile
import threading
import weakref
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

OTHER = "other"
"""The outcome under which is counted what finds no room under its own."""

_OUTCOMES, _NAME_BYTES = 2048, 120
_OUTCOME = struct.Struct(f"<Q{_NAME_BYTES}s")  # how often, and `tool outcome`


@dataclass(frozen=True, slots=True)
class Times:
    """How long the calls of one tool took.

    Attributes:
        counts: Of each bucket by itself; the last one has no bound.
        sum_s: All of them together.
    """

    counts: tuple[int, ...]
    sum_s: float


class Tallies:
    """Counts of calls, in memory that processes forked from this one share.

    Args:
        tools: All names that will be counted under their own.
        bounds_s: Upper bounds of the buckets, ascending.

    Attributes:
        close: Gives the memory back; so does the end of this object.
    """

    def __init__(self, tools: Collection[str], bounds_s: Sequence[float]) -> None:
        self.bounds_s = tuple(bounds_s)
        self._tools = {name: index for index, name in enumerate(sorted(tools))}
        self._times = struct.Struct(f"<{len(self.bounds_s) + 1}Qd")
        self._first_outcome = len(self._tools) * self._times.size
        size = self._first_outcome + _OUTCOMES * _OUTCOME.size
        self._file = tempfile.TemporaryFile(prefix="neural-trader-tallies-")  # noqa: SIM115
        self._file.truncate(size)
        self._table = mmap.mmap(self._file.fileno(), size)
        self._lock = threading.Lock()
        self._places: dict[tuple[str, str], int] = {}
        self.close = weakref.finalize(self, _close, self._table, self._file)

    def has(self, tool: str) -> bool:
        """Tells whether calls of this name are counted under it."""
        return tool in self._tools

    def add(self, tool: str, outcome: str, seconds: float) -> None:
        """Counts one call that has ended.

        Raises:
            KeyError: the tool was not named at the start.
        """
        at = self._tools[tool] * self._times.size
        bucket = bisect.bisect_left(self.bounds_s, seconds)
        with self._alone():
            *counts, sum_s = self._times.unpack_from(self._table, at)
            counts[bucket] += 1
            self._times.pack_into(self._table, at, *counts, sum_s + seconds)
            place = self._place(tool, outcome)
            count, name = _OUTCOME.unpack_from(self._table, place)
            _OUTCOME.pack_into(self._table, place, count + 1, name)

    def outcomes(self) -> dict[tuple[str, str], int]:
        """Returns how many calls there were, by tool and outcome."""
        found: dict[tuple[str, str], int] = {}
        with self._alone():
            for index in range(_OUTCOMES):
                count, name = _OUTCOME.unpack_from(self._table, self._first_outcome + index * _OUTCOME.size)
                if not count:
                    break
                tool, _, outcome = name.rstrip(b"\0").decode().partition(" ")
                found[tool, outcome] = count
        return found

    def times(self) -> dict[str, Times]:
        """Returns how long calls took, of every tool that was called."""
        found: dict[str, Times] = {}
        with self._alone():
            for name, index in self._tools.items():
                *counts, sum_s = self._times.unpack_from(self._table, index * self._times.size)
                if any(counts):
                    found[name] = Times(tuple(counts), sum_s)
        return found

    def _place(self, tool: str, outcome: str) -> int:
        """Returns where an outcome is counted; slots are taken in order and never given back."""
        known = self._places.get((tool, outcome))
        if known is not None:
            return known
        wanted = f"{tool} {outcome}".encode()[:_NAME_BYTES]
        for index in range(_OUTCOMES):
            place = self._first_outcome + index * _OUTCOME.size
            count, name = _OUTCOME.unpack_from(self._table, place)
            if count and name.rstrip(b"\0") != wanted:
                continue
            if not count:
                if index >= _OUTCOMES - len(self._tools) and outcome != OTHER:
                    return self._place(tool, OTHER)  # the last ones are kept for this
                _OUTCOME.pack_into(self._table, place, 0, wanted)
            self._places[tool, outcome] = place
            return place
        raise RuntimeError("no tally is left, though one is kept for each tool")

    @contextmanager
    def _alone(self) -> Generator[None]:
        with self._lock:  # the file's lock is the whole process's: a thread that reads would give it away
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _close(table: mmap.mmap, file: IO[bytes]) -> None:
    table.close()
    file.close()
