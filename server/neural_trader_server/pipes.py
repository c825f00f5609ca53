"""Pipes: stdin and stdout of a server whose client is at their other ends, without a thread for every line.

The SDK reads a line, writes one and flushes it in three jumps to a thread and back, which is most of what a
call over stdio takes. A pipe or a socket says itself when it can be read or written, so the event loop can do
it; what cannot say so (a file, a terminal) is still read and written by threads. The messages are the SDK's.

While a server runs, descriptor 0 is empty and 1 leads to stderr, as the SDK has it: what a library prints, or
a child reads, is not the protocol's.
"""

import fcntl
import os
import select
import socket
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

import anyio
import anyio.to_thread

_CHUNK_BYTES = 1 << 16
_AT_ONCE_BYTES = select.PIPE_BUF
"""What a pipe takes without waiting once it says that it can be written (pipe(7))."""


class LinesIn:
    """The lines that come through a descriptor; ends with it, and so does a line that was not finished.

    Args:
        descriptor: Nobody else may read it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._tells = _tells_when_ready(descriptor)
        self._lines: list[bytes] = []  # newest first
        self._begun: list[bytes] = []

    def __aiter__(self) -> "LinesIn":
        return self

    async def __anext__(self) -> str:
        """Returns the next line with its end, what is no UTF-8 replaced."""
        while not self._lines:
            read = await self._read()
            if not read:
                if not self._begun:
                    raise StopAsyncIteration
                read = b"\n"
            *whole, rest = read.split(b"\n")
            if whole:
                whole[0] = b"".join((*self._begun, whole[0]))
                self._begun.clear()
                self._lines = whole[::-1]
            if rest:
                self._begun.append(rest)
        return self._lines.pop().decode("utf-8", "replace") + "\n"

    async def _read(self) -> bytes:
        if not self._tells:
            return await anyio.to_thread.run_sync(os.read, self._descriptor, _CHUNK_BYTES)
        while True:
            await anyio.wait_readable(self._descriptor)
            try:
                return os.read(self._descriptor, _CHUNK_BYTES)
            except BlockingIOError:  # its other holder made it so, and the kernel was wrong
                continue


class LinesOut:
    """Writes to a descriptor, and waits for a reader that is slow without keeping the loop from others.

    Args:
        descriptor: Nobody else may write to it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._tells = _tells_when_ready(descriptor)
        self._waiting = bytearray()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        self._socket = socket.socket(fileno=os.dup(descriptor)) if is_socket else None

    async def write(self, text: str) -> None:
        """Takes text for the next `flush`."""
        self._waiting += text.encode()

    async def flush(self) -> None:
        """Returns once everything is with the kernel.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        while self._waiting:
            written = self._write_now() if self._tells else await self._write_in_thread()
            del self._waiting[:written]
            if self._waiting and not written:
                await anyio.wait_writable(self._descriptor)

    def close(self) -> None:
        """Gives back what this object opened; the descriptor stays."""
        if self._socket is not None:
            self._socket.close()

    def _write_now(self) -> int:
        """Writes what can be written at once; returns how many bytes that were."""
        try:
            if self._socket is not None:
                return self._socket.send(self._waiting, socket.MSG_DONTWAIT)
            if not self._poll.poll(0):
                return 0
            return os.write(self._descriptor, bytes(self._waiting[:_AT_ONCE_BYTES]))
        except BlockingIOError:
            return 0

    async def _write_in_thread(self) -> int:
        return await anyio.to_thread.run_sync(os.write, self._descriptor, bytes(self._waiting))


@dataclass(frozen=True, slots=True)
class Streams:
    """The two ends that a client speaks to."""

    stdin: LinesIn
    stdout: LinesOut


@contextmanager
def standard_streams() -> Generator[Streams | None]:
    """Takes stdin and stdout for the protocol alone, and gives them back; None where they are others."""
    if not (_is_standard(sys.stdin, 0) and _is_standard(sys.stdout, 1)):
        yield None  # somebody put other streams in their place
        return
    own_in, own_out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (0, 1))
    try:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        stdout = LinesOut(own_out)
        try:
            yield Streams(LinesIn(own_in), stdout)
        finally:
            stdout.close()
    finally:
        os.dup2(own_in, 0)
        os.dup2(own_out, 1)
        os.close(own_in)
        os.close(own_out)


def _is_standard(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (AttributeError, OSError, ValueError):
        return False


def _tells_when_ready(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
