"""Tables on their way to guests: written once, then sealed for everybody."""

import ctypes
import fcntl
import io
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any

from neural_trader_sandbox.columns import Layout, arrays_over, frame_over, lay_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEALS = (
    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    if sys.platform == "linux"
    else 0
)


class Table:
    """A table in memory that nobody can change any more; any number of runs may read it.

    On Linux it is a sealed memory file (memfd_create(2)): a guest of the local backend reads the very pages
    that the host wrote, through a descriptor that can only read. It holds an Arrow IPC stream, or plain
    columns (`of_columns`), which such a guest maps and does not even copy.

    Args:
        write: Writes an Arrow IPC stream into the file it is given.

    Attributes:
        layout: How its columns lie in memory; None: it is an Arrow IPC stream.
    """

    def __init__(self, write: Callable[[IO[bytes]], object]) -> None:
        with _memory() as file:
            write(file)
            file.flush()
            self._size = os.fstat(file.fileno()).st_size
            self._fd = _seal(file.fileno())
        self.layout: Layout | None = None
        weakref.finalize(self, os.close, self._fd)

    @classmethod
    def of(cls, table: "bytes | Table") -> "Table":
        """The table itself, or one that holds these bytes."""
        return table if isinstance(table, Table) else cls(lambda file: file.write(table))

    @classmethod
    def of_columns(cls, columns: "Mapping[str, NDArray[Any]]") -> "Table":
        """A table of plain columns; see `columns.lay_out` for what they may be.

        Raises:
            ValueError: A column of another type, shape or length.
        """
        layout, parts = lay_out(columns)
        table = cls(lambda file: [_write_all(file, part) for part in parts])
        table.layout = layout
        return table

    def arrays(self) -> "dict[str, NDArray[Any]] | None":
        """Its columns as arrays over its own pages; None where there are none, or no such mapping.

        Private ones: an array may be written to, which changes neither the table nor what a guest reads. They
        live as long as an array does, longer than the table where need be.
        """
        if self.layout is None or sys.platform != "linux":
            return None
        from neural_trader_sandbox.local import kernel  # Linux's

        try:
            memory = kernel.map_private(self._fd, self._size)
        except kernel.DeniedError:
            return None
        weakref.finalize(memory, kernel.unmap, ctypes.addressof(memory), self._size)
        return arrays_over(memory, self.layout)

    def __len__(self) -> int:
        """Bytes of memory."""
        return self._size

    def __bytes__(self) -> bytes:
        """The table as an Arrow IPC stream, a copy."""
        data = self._content()
        if self.layout is None:
            return data
        stream = io.BytesIO()
        frame_over(data, self.layout).write_ipc_stream(stream)
        return stream.getvalue()

    def _content(self) -> bytes:
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


def _write_all(file: IO[bytes], part: memoryview) -> None:
    while part:  # one write takes less than 2 GiB
        part = part[file.write(part) :]


def _memory() -> IO[bytes]:
    if sys.platform != "linux":  # where no local backend reads it
        return tempfile.TemporaryFile()
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    return os.fdopen(os.memfd_create("table", flags), "wb", buffering=0)


def _seal(fd: int) -> int:
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return os.dup(fd)
