"""One test sandbox: who it is, when it ends, its disk, its kernels and its processes."""

import asyncio
import itertools
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.sandbox.e2b.service.disk import HOME, Disk
from tests.sandbox.e2b.service.kernels import Kernel
from tests.sandbox.e2b.service.processes import Process

from neural_trader_sandbox.port import Sandbox


@dataclass(slots=True)
class Context:
    """A code interpreter context: a kernel with a name."""

    context_id: str
    language: str
    kernel: Kernel

    def as_json(self) -> dict[str, str]:
        """As `/contexts` answers it."""
        return {"id": self.context_id, "language": self.language, "cwd": self.kernel.cwd}


class Machine:
    """A sandbox as the service sees it.

    Args:
        order: The body of `POST /v2/sandboxes`.
        sandbox: The local backend, whose locked children are the kernels.
        envd_version: As the service announces it.
        disk: Its own.
        clock_skew_s: How far its clock is from the true time.
    """

    def __init__(
        self, order: dict[str, Any], sandbox: Sandbox, envd_version: str, disk: Disk, clock_skew_s: float
    ) -> None:
        network: dict[str, Any] = order.get("network") or {}
        self.sandbox_id = "i" + uuid.uuid4().hex[:19]
        self.order = order
        self.template: str = order["templateID"]
        self.metadata: dict[str, str] = order.get("metadata") or {}
        self.env: dict[str, str] = {"HOME": HOME, "PATH": "/usr/bin:/bin", **(order.get("envVars") or {})}
        self.access_token = "ea_" + secrets.token_hex(16)
        self.traffic_token = (
            None if network.get("allowPublicTraffic", True) else "ta_" + secrets.token_hex(16)
        )
        self.envd_version = envd_version
        self.started = datetime.now(UTC)
        self.end = self.started
        self.disk = disk
        self.contexts: dict[str, Context] = {}
        self.processes: dict[int, Process] = {}
        self.is_paused = False
        self.ended_by: str | None = None
        self.clock_skew_s = clock_skew_s
        self._sandbox = sandbox
        self._pids = itertools.count(100)
        self._alarm: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self.live_for(order.get("timeout", 15))

    @property
    def is_running(self) -> bool:
        """It answers."""
        return self.ended_by is None and not self.is_paused

    def live_for(self, seconds: float) -> None:
        """End on its own after so many seconds from now; `autoPause` pauses it instead."""
        if self._alarm is not None:
            self._alarm.cancel()
        self.end = datetime.now(UTC) + timedelta(seconds=seconds)
        self._alarm = asyncio.get_running_loop().call_later(seconds, self._time_is_up)

    def pause(self) -> None:
        """Answer nothing until somebody connects; what runs goes on, unlike the real pause."""
        self.is_paused = True
        if self._alarm is not None:
            self._alarm.cancel()

    async def kill(self, reason: str) -> None:
        """End it and everything in it. Killing twice is harmless."""
        if self.ended_by is not None:
            return
        self.ended_by = reason
        if self._alarm is not None:
            self._alarm.cancel()
        await asyncio.gather(
            *(context.kernel.kill() for context in self.contexts.values()),
            *(process.kill() for process in self.processes.values()),
        )
        self.disk.remove()

    def context(self, context_id: str | None) -> Context | None:
        """The context of that id; None is the default one, which is made when it is first asked for."""
        if context_id is None:
            found = next((c for c in self.contexts.values() if c.context_id.startswith("default-")), None)
            return found or self.add_context("python", HOME, "default-")
        return self.contexts.get(context_id)

    def add_context(self, language: str, cwd: str, prefix: str = "") -> Context:
        """A new context; its kernel starts with its first code."""
        context = Context(prefix + str(uuid.uuid4()), language, self._kernel(cwd))
        self.contexts[context.context_id] = context
        return context

    async def restart(self, context: Context) -> None:
        """A new kernel in the same context."""
        await context.kernel.kill()
        context.kernel = self._kernel(context.kernel.cwd)

    async def start_process(
        self,
        command: str,
        args: list[str],
        env: dict[str, str],
        cwd: str | None,
        tag: str | None,
        *,
        has_stdin: bool,
    ) -> Process:
        """A new process of this sandbox."""
        process = Process(next(self._pids), command, args, env, cwd or HOME, tag)
        self.processes[process.pid] = process
        await process.start(self.disk, self.env, has_stdin=has_stdin)
        return process

    def _kernel(self, cwd: str) -> Kernel:
        return Kernel(self._sandbox, self.disk, self.env, Disk.path(cwd), self.clock_skew_s)

    def _time_is_up(self) -> None:
        if self.order.get("autoPause"):
            self.pause()
        else:
            self._ending = asyncio.get_running_loop().create_task(self.kill("timeout"))
