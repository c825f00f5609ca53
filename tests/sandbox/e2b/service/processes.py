"""Commands of a test sandbox: real processes, each locked in as the local backend locks a guest (`cell`)."""

import asyncio
import contextlib
import functools
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal

from tests.sandbox.e2b.service.disk import Disk

from neural_trader_sandbox.local.visible import visible

CELL = str(Path(__file__).with_name("cell.py"))
CHUNK_BYTES = 32 << 10
NOT_FOUND = 127
Event = tuple[Literal["stdout", "stderr"], bytes] | tuple[Literal["end"], int]


NO_SHELL = (
    "this test service runs `python …` only, locked in as the local backend locks a guest, where nothing"
    " can be executed: {} is not found\n"
)


@functools.cache
def plan() -> str:
    """What a command sees of this host, as `cell` takes it: an interpreter and the packages, not our own."""
    seen = visible(("numpy", "polars", "numba"))
    own = os.path.join(seen.own_root, "neural_trader_sandbox")
    paths = [path for path in seen.paths if path != own]
    places = [path for path in seen.sys_path if path != seen.own_root or own in paths]
    return json.dumps({"visible": paths, "sys_path": places, "own_root": seen.own_root})


def python_argv(command: str, args: list[str]) -> tuple[list[str], list[str]] | None:
    """Options and program of `python …` in what the SDK sends (`bash -l -c "…"`); None for all else."""
    if command.endswith("bash") and args[:2] == ["-l", "-c"] and len(args) == 3:
        try:
            words = shlex.split(args[2])
        except ValueError:
            return None
    else:
        words = [command, *args]
    if words[:1] == ["exec"]:
        words = words[1:]
    if any(word and not word.strip("|&;<>()") for word in words):
        return None  # that would be the shell's work
    is_python = bool(words) and os.path.basename(words[0]).rstrip("0123456789.") == "python"
    if not is_python:
        return None
    program = next(
        (at for at, word in enumerate(words) if at and (word in ("-c", "-m", "-V") or word[:1] != "-")), 0
    )
    return (words[1:program], words[program:]) if program else None


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
            self._said.append(("stderr", NO_SHELL.format(self.args[-1:] or self.command).encode()))
            self._said.append(("end", NOT_FOUND))
            return
        options, program = argv
        disk.give_to_commands()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *options, "-S", CELL, plan(), str(disk.root), disk.path(self.cwd), *program),
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
        """Send it a signal; any that it could have handled ends it too, as its parent ends."""
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
