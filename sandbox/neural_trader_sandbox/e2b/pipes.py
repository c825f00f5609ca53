"""The pipe to the guest: base64 lines of one process in the sandbox, read as the bytes they stand for.

Everything that arrives was chosen by a stranger, or by whoever runs the service.
"""

import asyncio
import base64
import binascii
import uuid
from collections.abc import Mapping, Sequence
from shlex import join
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from neural_trader_sandbox.e2b.failures import asking
from neural_trader_sandbox.e2b.runner import PIECE_BYTES
from neural_trader_sandbox.e2b.settings import E2BSettings
from neural_trader_sandbox.frames import FrameError

if TYPE_CHECKING:
    from e2b import AsyncCommandHandle
    from e2b_code_interpreter import AsyncSandbox  # pyright: ignore[reportMissingTypeStubs]  # it ships no py.typed

_LINE_CHARACTERS = 4 * ((PIECE_BYTES + 2) // 3)
_BUFFER_BYTES = 1 << 20
_INLINE_BYTES = 256 << 10
_STDERR_CHARACTERS = 2000


class Pipe:
    """Speaks with one process; holds at most a little more than what is being read.

    Attributes:
        complaint: The beginning of what the process wrote to its standard error.
        exit_code: Once it ended and the service said so.
        failure: Why the connection to it ended, where it did not end in order.
        is_ended: It will say nothing more.
    """

    def __init__(self, sandbox: "AsyncSandbox", settings: E2BSettings) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self.complaint = ""
        self.exit_code: int | None = None
        self.failure: Exception | None = None
        self.is_ended = False
        self._handle: AsyncCommandHandle[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._text = ""
        self._bytes = bytearray()
        self._wanted = 0
        self._broken: str | None = None
        self._news = anyio.Event()
        self._room = anyio.Event()

    async def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process; its end is noticed from here on."""
        self._handle = await self._sandbox.commands.run(
            "exec " + join(command),
            background=True,
            envs=dict(environment),
            on_stdout=self._take,
            on_stderr=self._complain,
            stdin=True,
            timeout=0,
            request_timeout=self._settings.start_timeout_s,
            retain_output=False,
        )
        self._watch = asyncio.create_task(self._await_end(self._handle))

    async def read(self, size: int) -> bytearray:
        """Exactly `size` bytes.

        Raises:
            EOFError: The process ended, or is out of reach.
            FrameError: What it sends are not our lines.
        """
        self._wanted = size
        while len(self._bytes) < size:
            if self._broken is not None:
                raise FrameError(self._broken)
            if self.is_ended:
                raise EOFError
            self._news = anyio.Event()
            self._room.set()
            await self._news.wait()
        data = self._bytes[:size]
        del self._bytes[:size]
        self._room.set()
        await anyio.lowlevel.checkpoint()  # a flood of small frames must not starve the desk
        return data

    async def write(self, data: bytes) -> None:
        """Hand bytes over; many of them go through a file.

        Raises:
            NetworkError: The service does not take them.
        """
        if len(data) <= _INLINE_BYTES:
            await self.write_line(b"=" + base64.b64encode(data))
            return
        path = f"{self._settings.folder}/{uuid.uuid4().hex}"
        limit_s = self._settings.start_timeout_s
        async with asking(self._settings, "uploading data", limit_s):
            await self._sandbox.files.write(  # pyright: ignore[reportUnknownMemberType]  # IO[Unknown]
                path, data, request_timeout=limit_s
            )
        await self.write_line(f"@{path}".encode())

    async def write_line(self, line: bytes) -> None:
        """Hand one line over as it is."""
        handle = self._handle
        if handle is None or self.is_ended:
            return  # it is found out by reading
        async with asking(self._settings, "writing to the sandbox", self._settings.request_timeout_s):
            await handle.send_stdin(line + b"\n")

    def end(self) -> None:
        """Wake whoever reads: nothing more is coming."""
        self.is_ended = True
        self._news.set()
        self._room.set()

    async def close(self) -> None:
        """Let go of the connection; the process ends with its sandbox."""
        self.end()
        if self._watch is not None:
            self._watch.cancel()
        if self._handle is not None:
            await self._handle.disconnect()

    async def _take(self, text: str) -> None:
        """Decode what arrived; returning is what lets the next piece come."""
        self._text += text
        *lines, self._text = self._text.split("\n")
        try:
            for line in lines:
                if len(line) > _LINE_CHARACTERS:
                    raise ValueError("a line is too long")
                self._bytes += base64.b64decode(line.encode("ascii"), validate=True)
            if len(self._text) > _LINE_CHARACTERS:
                raise ValueError("a line is too long")
        except (binascii.Error, ValueError) as error:
            self._broken = f"not a line of ours: {str(error)[:100]}"
            self._text = ""
        self._news.set()
        while len(self._bytes) > max(_BUFFER_BYTES, self._wanted) and not self.is_ended:
            self._room = anyio.Event()
            await self._room.wait()

    def _complain(self, text: str) -> None:
        self.complaint += text[: max(0, _STDERR_CHARACTERS - len(self.complaint))]

    async def _await_end(self, handle: "AsyncCommandHandle[Any]") -> None:
        from e2b import CommandExitException

        try:
            await handle.wait()
            self.exit_code = 0
        except CommandExitException as ended:
            self.exit_code = ended.exit_code
        except Exception as error:  # whatever the connection died of
            self.failure = error
        finally:
            self.end()
