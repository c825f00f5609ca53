"""Commands of a test sandbox: real processes, each in a cell."""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal

from tests.sandbox.e2b.service.disk import Disk

import neural_trader_sandbox

PACKAGE_ROOT = str(Path(neural_trader_sandbox.__file__ or "").parent.parent)
CELL = str(Path(__file__).with_name("cell.py"))
CHUNK_BYTES = 32 << 10
NOT_FOUND = 127
Event = tuple[Literal["stdout", "stderr"], bytes] | tuple[Literal["end"], int]


def python_argv(command: str, args: list[str]) -> list[str] | None:
    """The arguments of `python …` in what the SDK sends (`bash -l -c "…"`); None for any other command."""
    if command.endswith("bash") and args[:2] == ["-l", "-c"] and len(args) == 3:
        try:
            words = shlex.split(args[2])
        except ValueError:
            return None
    else:
        words = [command, *args]
    if words[:1] == ["exec"]:
        words = words[1:]
    is_python = bool(words) and os.path.basename(words[0]).rstrip("0123456789.") == "python"
    return [sys.executable, *words[1:]] if is_python else None


class Process:
    """One command. Only `python …` exists; every other name ends with 127, as a shell would say it.

    Attributes:
        pid: As envd numbers it.
        command, args, env, cwd, tag: As it was asked for.
    """

    def __init__(
        self, pid: int, command: str, args: list[str], env: dict[str, str], cwd: str, tag: str | None
    ) -> None:
        self.pid, self.command, self.args, self.env, self.cwd, self.tag = pid, command, args, env, cwd, tag
        self._process: asyncio.subprocess.Process | None = None
        self._said: list[Event] = []
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_over(self) -> bool:
        """It has ended and all it said is known."""
        return bool(self._said) and self._said[-1][0] == "end"

    @property
    def said(self) -> int:
        """How many events there have been."""
        return len(self._said)

    async def start(self, disk: Disk, env: dict[str, str], *, has_stdin: bool) -> None:
        """Start it in a cell of that disk."""
        argv = python_argv(self.command, self.args)
        if argv is None:
            self._said.append(("stderr", f"{self.args[-1:] or self.command}: command not found\n".encode()))
            self._said.append(("end", NOT_FOUND))
            return
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", CELL, PACKAGE_ROOT, str(disk.root), disk.path(self.cwd), *argv),
            stdin=asyncio.subprocess.PIPE if has_stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            env=env | self.env,
            start_new_session=True,
        )
        self._tasks = [asyncio.create_task(self._watch(self._process))]

    async def events(self, since: int = 0) -> AsyncGenerator[Event, None]:
        """What it has said and will say, up to and with its end."""
        number = since
        while True:
            async with self._news:
                while len(self._said) <= number:
                    await self._news.wait()
            yield self._said[number]
            if self._said[number][0] == "end":
                return
            number += 1

    async def feed(self, data: bytes | None) -> bool:
        """Standard input; None closes it. False where it takes none."""
        stdin = self._process.stdin if self._process is not None and not self.is_over else None
        if stdin is None or stdin.is_closing():
            return False
        with contextlib.suppress(ConnectionError):
            if data is None:
                stdin.close()
            else:
                stdin.write(data)
                await stdin.drain()
        return True

    def signal(self, number: int) -> None:
        """Send it and its own children a signal."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def kill(self) -> None:
        """End it, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await asyncio.gather(*self._tasks)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(self._pump(process.stdout, "stdout"), self._pump(process.stderr, "stderr"))
        code = await process.wait()
        self.signal(signal.SIGKILL)
        await self._say(("end", code))

    async def _pump(self, source: asyncio.StreamReader, kind: Literal["stdout", "stderr"]) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._say((kind, data))

    async def _say(self, event: Event) -> None:
        async with self._news:
            self._said.append(event)
            self._news.notify_all()
