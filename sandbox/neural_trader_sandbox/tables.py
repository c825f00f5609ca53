"""Tables on their way to guests: Arrow IPC streams, written once, then sealed for everybody."""

import fcntl
import os
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import IO

_SEALS = (
    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    if sys.platform == "linux"
    else 0
)


class Table:
    """An Arrow IPC stream in memory that nobody can change any more; any number of runs may read it.

    On Linux it is a sealed memory file (memfd_create(2)): a guest of the local backend reads the very pages
    that the host wrote, through a descriptor that can only read. ``bytes(table)`` is a copy.

    Args:
        write: Writes the stream into the file it is given.
    """

    def __init__(self, write: Callable[[IO[bytes]], object]) -> None:
        with _memory() as file:
            write(file)
            file.flush()
            self._size = os.fstat(file.fileno()).st_size
            self._fd = _seal(file.fileno())
        weakref.finalize(self, os.close, self._fd)

    @classmethod
    def of(cls, table: "bytes | Table") -> "Table":
        """The table itself, or one that holds these bytes."""
        return table if isinstance(table, Table) else cls(lambda file: file.write(table))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        parts: list[bytes] = []
        done = 0
        while done < self._size:
            parts.append(os.pread(self._fd, self._size - done, done))
            done += len(parts[-1])
        return b"".join(parts)

    def open(self) -> int:
        """A descriptor of its own that can only read, at the start; the caller closes it.

        Never the same one for two guests: they would share its position.
        """
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)


def _memory() -> IO[bytes]:
    if sys.platform != "linux":  # where no local backend reads it
        return tempfile.TemporaryFile()
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    return os.fdopen(os.memfd_create("table", flags), "wb", buffering=0)


def _seal(fd: int) -> int:
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return os.dup(fd)
