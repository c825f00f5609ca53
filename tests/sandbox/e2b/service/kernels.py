"""A kernel of the code interpreter: a locked child of the local backend, and what it says."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal, cast

from pydantic import JsonValue
from tests.sandbox.e2b.service.disk import Disk

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_sandbox.port import Job, Limits, Sandbox, SandboxStream

LIMITS = Limits(
    wall_time_s=20.0,  # of one message
    cpu_time_s=600,
    memory_bytes=4 << 30,
    tmp_bytes=1 << 30,
    tmp_inodes=4096,
    file_bytes=512 << 20,
    frame_bytes=1 << 30,
    threads=64,
    open_files=256,
)
MODULE = "tests.sandbox.e2b.service.guest"
Event = tuple[Literal["stdout", "stderr", "result", "error", "number_of_executions", "end"], Any]
"""stdout, stderr: bytes. result: text. error: name, value, traceback. end: True, or False where it died."""


class ChildEndedError(Exception):
    """The locked child takes no more messages."""


class Kernel:
    """One locked child that keeps its names between cells; started with the first.

    Args:
        sandbox: The local backend, with `MODULE` preloaded.
        disk: Of the test sandbox; copied in before each cell, and out while it runs.
        env: Environment of the test sandbox.
        cwd: Where it runs.
        clock_skew_s: Added to its clock.
    """

    def __init__(
        self, sandbox: Sandbox, disk: Disk, env: dict[str, str], cwd: str, clock_skew_s: float
    ) -> None:
        self._sandbox, self._disk, self._env, self.cwd = sandbox, disk, env, cwd
        self._clock_skew_s = clock_skew_s
        self._stream: SandboxStream | None = None
        self._talking = asyncio.Lock()
        self._running = asyncio.Lock()
        self._copied: dict[str, tuple[int, int]] = {}
        self._said: list[Event] = []
        self._news = asyncio.Condition()
        self._pump: asyncio.Task[None] | None = None
        self.is_over = False

    async def run(self, code: str, env: dict[str, str]) -> AsyncGenerator[Event, None]:
        """Run a cell and say what it says; the next waits until this one has ended, heard or not."""
        await self._running.acquire()
        said: list[Event] = []
        self._said = said
        try:
            await self._begin({"do": "code", "code": code, "env": dict(env), "cwd": self.cwd})
            self._pump = asyncio.get_running_loop().create_task(self._listen())
        except (NeuralTraderError, ChildEndedError) as error:
            await self._say(("stderr", f"the kernel could not be started: {error}\n".encode()))
            await self._end(is_alive=False)
        number = 0
        while True:
            async with self._news:
                while len(said) <= number:
                    await self._news.wait()
            yield said[number]
            if said[number][0] == "end":
                return
            number += 1

    async def kill(self) -> None:
        """End the child; a cell in progress ends unexpectedly."""
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
        if self._stream is not None:
            await self._stream.aclose()
        await self._end(is_alive=False)

    async def _begin(self, order: dict[str, JsonValue]) -> None:
        if self._stream is None:
            arguments: dict[str, JsonValue] = {"env": dict(self._env), "clock_skew_s": self._clock_skew_s}
            self._stream = await self._sandbox.open_stream(Job(f"{MODULE}:open_guest", arguments), LIMITS)
        now = self._disk.states()
        changed = [path for path, state in now.items() if self._copied.get(path) != state]
        files: dict[str, JsonValue] = dict.fromkeys(self._copied.keys() - now.keys())
        files |= {
            path: base64.b64encode(self._disk.host_path(path).read_bytes()).decode() for path in changed
        }
        self._copied = now
        await self._tell({"do": "files", "folders": list[JsonValue](self._disk.folders()), "files": files})
        await self._tell(order)

    async def _listen(self) -> None:
        try:
            while True:
                answer = cast("dict[str, Any]", await self._tell({"do": "poll"}))
                for path, data in answer["files"].items():
                    self._take_file(path, data)
                for kind, value in answer["events"]:
                    if kind == "end":
                        await self._end(is_alive=True)
                        return
                    await self._say(
                        (kind, base64.b64decode(value) if kind in ("stdout", "stderr") else value)
                    )
        except (NeuralTraderError, ChildEndedError):
            await self._end(is_alive=False)

    async def _tell(self, message: dict[str, JsonValue]) -> JsonValue:
        async with self._talking:
            if self._stream is None or self.is_over:
                raise ChildEndedError("there is no child")
            answer = await self._stream.send(message)
        if answer.status != "ok":
            raise ChildEndedError(str(answer.error))
        return answer.value

    def _take_file(self, path: str, data: str | None) -> None:
        there = self._disk.host_path(path)
        if data is None:
            there.unlink(missing_ok=True)
            self._copied.pop(path, None)
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(base64.b64decode(data))
            state = there.stat()
            self._copied[path] = (state.st_mtime_ns, state.st_size)

    async def _say(self, event: Event) -> None:
        async with self._news:
            self._said.append(event)
            self._news.notify_all()

    async def _end(self, *, is_alive: bool) -> None:
        self.is_over = self.is_over or not is_alive
        if self._running.locked():
            await self._say(("end", is_alive))
            self._running.release()
