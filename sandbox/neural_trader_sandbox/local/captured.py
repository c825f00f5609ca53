"""Standard output and error of the guest, as frames on its data socket."""

import io
import socket
from contextlib import AbstractContextManager

from neural_trader_sandbox import frames


class Captured(io.TextIOBase):
    """A text stream that is sent line by line until its allowance is spent; the rest is dropped.

    Args:
        wire: The data socket.
        kind: `frames.STDOUT` or `frames.STDERR`.
        allowance_bytes: What may be sent, until `renew`.
        lock: Held while a frame is written; reentrant, and one for all that write to this wire.
    """

    def __init__(
        self, wire: socket.socket, kind: int, allowance_bytes: int, lock: AbstractContextManager[object]
    ) -> None:
        self.lock = lock
        self._wire, self._kind = wire, kind
        self._allowance_bytes = self._left = allowance_bytes
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def writable(self) -> bool:
        """True, as for any standard output."""
        return True

    def write(self, text: str, /) -> int:
        """Keep what the allowance covers; sent at a line's end."""
        with self.lock:
            if self._left > 0:
                data = text.encode(errors="replace")[: self._left]
                self._left -= len(data)
                self._pending.append(data)
                self._pending_bytes += len(data)
                if self._pending_bytes > 4096 or "\n" in text or self._left == 0:
                    self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what is pending."""
        with self.lock:
            if self._pending_bytes:
                data = b"".join(self._pending)
                self._pending, self._pending_bytes = [], 0
                self._wire.sendall(frames.pack(self._kind, data))

    def renew(self) -> None:
        """Begin a new allowance."""
        self._left = self._allowance_bytes
