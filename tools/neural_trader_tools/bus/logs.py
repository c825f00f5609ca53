"""Logs of the bus in this process: what a family remembers, here in memory; on disk see `disk_log`."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from neural_trader_tools.bus.events import BusEvent, decode
from neural_trader_tools.bus.port import Bounds, Published, Span

_TRIMMED_AT_ONCE = 1_000


class Entry(msgspec.Struct, gc=False):
    """What is to be kept: an event and its bytes."""

    subject: str
    message_id: str
    data: bytes
    event: BusEvent | None = None
    """None where it was read from a file and nobody asked for it yet."""
    seq: int = 0


def event_of(entry: Entry) -> BusEvent:
    """Returns what an entry holds.

    Raises:
        DataError: what a file holds is no event.
    """
    if entry.event is None:
        entry.event = decode(entry.data)
    return entry.event


_GONE = Entry("", "", b"")


class Log(Protocol):
    """What one family remembers, and where durable names stand."""

    shared: bool
    """Other processes may write it: look again, and off the event loop."""

    def append(self, entries: Sequence[Entry]) -> list[Published]:
        """Stores entries in order and gives them their sequences; one whose id is remembered is not stored.

        Raises:
            StorageError: the disk refused; none was stored.
        """
        ...

    def read(self, after: int, limit: int, passes: Callable[[str], bool]) -> tuple[list[Entry], int]:
        """Returns the next entries whose subject passes, and the sequence up to which this looked.

        Raises:
            StorageError: the file cannot be read.
        """
        ...

    def span(self) -> Span:
        """Returns the sequences that are kept."""
        ...

    def newest(self, subject: str) -> Entry | None:
        """Returns the newest entry of a subject."""
        ...

    def position(self, durable: str) -> tuple[str, int] | None:
        """Returns the filter and the acknowledged sequence of a durable name."""
        ...

    def keep_position(self, durable: str, subject_filter: str, seq: int) -> None:
        """Remembers where a durable name stands."""
        ...

    def close(self) -> None:
        """Closes what is open."""
        ...


class MemoryLog:
    """Remembers while the process lives; ids as long as their entries."""

    shared = False

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._entries: list[Entry] = []
        self._gone = 0  # of the list's entries, at its beginning
        self._seqs: dict[str, int] = {}
        self._last = 0
        self._bytes = 0
        self._positions: dict[str, tuple[str, int]] = {}

    def append(self, entries: Sequence[Entry]) -> list[Published]:
        """Stores entries; see `Log.append`."""
        answers: list[Published] = []
        kept, seqs, bounds = self._entries, self._seqs, self._bounds
        for entry in entries:
            known = seqs.get(entry.message_id)
            if known is not None:
                answers.append(Published(known, True))
                continue
            self._last += 1
            entry.seq = seqs[entry.message_id] = self._last
            kept.append(entry)
            self._bytes += len(entry.data)
            answers.append(Published(self._last))
            while len(kept) - self._gone > bounds.entries_max or (
                self._bytes > bounds.bytes_max and len(kept) - self._gone > 1
            ):
                oldest = kept[self._gone]
                del seqs[oldest.message_id]
                self._bytes -= len(oldest.data)
                kept[self._gone] = _GONE
                self._gone += 1
        if self._gone > _TRIMMED_AT_ONCE and self._gone * 2 > len(kept):
            del kept[: self._gone]
            self._gone = 0
        return answers

    def read(self, after: int, limit: int, passes: Callable[[str], bool]) -> tuple[list[Entry], int]:
        """Reads entries; see `Log.read`."""
        found: list[Entry] = []
        entries = self._entries
        for place in range(max(self._gone, len(entries) - (self._last - after)), len(entries)):
            entry = entries[place]
            if passes(entry.subject):
                found.append(entry)
                if len(found) == limit:
                    return found, entry.seq
        return found, max(after, self._last)

    def span(self) -> Span:
        """Returns the span; see `Log.span`."""
        return Span(self._last - (len(self._entries) - self._gone) + 1, self._last)

    def newest(self, subject: str) -> Entry | None:
        """Returns the newest entry of a subject; see `Log.newest`."""
        newest_first = reversed(self._entries)
        return next((entry for entry in newest_first if entry.seq and entry.subject == subject), None)

    def position(self, durable: str) -> tuple[str, int] | None:
        """Returns a position; see `Log.position`."""
        return self._positions.get(durable)

    def keep_position(self, durable: str, subject_filter: str, seq: int) -> None:
        """Keeps a position; see `Log.keep_position`."""
        self._positions[durable] = (subject_filter, seq)

    def close(self) -> None:
        """Does nothing: there is nothing to close."""
