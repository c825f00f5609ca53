"""One locked child, as the host holds it: its two wires, its clock, and how it ended."""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import anyio.lowlevel
from pydantic import BaseModel, ConfigDict, ValidationError

from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import ReadyFrame, RefusedFrame, read
from neural_trader_sandbox.local.cgroups import Group
from neural_trader_sandbox.local.nanny import CLOCK
from neural_trader_sandbox.local.profiles import CGROUP
from neural_trader_sandbox.local.zygotes import unavailable
from neural_trader_sandbox.port import Fault, Limits, Status
from neural_trader_sandbox.tables import Table

BACKEND: Final = "local"
GRACE_S: Final = 2.0
"""How much later than the nanny the host ends a guest by itself."""

LARGE_BYTES: Final = 1 << 16
"""What is longer is read in a thread: a megabyte of tiny JSON lists takes a tenth of a second."""

_VERDICT_TIMEOUT_S = 5.0
_SIGNALS = {4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
_SIGSYS, _SIGKILL, _SIGXCPU = 31, 9, 24


class Verdict(BaseModel):
    """What the nanny says when the guest has ended."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    timed_out: bool
    signal: int
    exit_code: int
    cpu_s: float
    rss_max_bytes: int


class Child:
    """A locked child and its nanny.

    Args:
        child_id: For logs and `LocalSandbox.kill`.
        limits: Its kernel limits are in force already; the others are the host's to check.
        data: Non-blocking stream to the guest: nothing on it can be trusted after the ready frame.
        leash: Non-blocking stream to the nanny; closing it kills the guest.
        forget: Called with the id when the child is over.
        group: Its control group, where the host delegates them.

    Attributes:
        limits: As given; `wall_time_s` and `output_bytes` may be exchanged until it is used.
        data: As given, for whoever converses with the guest.
        layers: Names of the layers in force; empty until it is `ready`.
        is_busy: Somebody waits for an answer, and will close the child after a `kill`.
        is_killed: The caller ended it.
        is_over: Its wires are closed.
    """

    def __init__(
        self,
        child_id: str,
        limits: Limits,
        data: socket.socket,
        leash: socket.socket,
        forget: Callable[[str], object],
        group: Group | None = None,
    ) -> None:
        self.child_id = child_id
        self.limits = limits
        self.data = data
        self.layers: tuple[str, ...] = ()
        self.is_busy = self.is_killed = self.is_over = self._has_let_go = False
        self._leash = leash
        self._forget = forget
        self.group = group
        self._oom_kills = 0

    async def ready(self, timeout_s: float) -> None:
        """Wait until the child is locked in.

        Raises:
            HostError: It could not be locked (`sandbox_unavailable`).
            EOFError: It has gone: its zygote ended.
            TimeoutError: It was not locked in `timeout_s` seconds: its zygote hangs.
        """
        if self.layers:
            return
        with anyio.fail_after(timeout_s):
            kind, size = frames.HEADER.unpack(await self.read(frames.HEADER.size))
            payload = await self.read(min(size, self.limits.frame_bytes))
        if kind == frames.READY:
            layers = read(ReadyFrame, payload, 4).layers
            ended = select.poll()
            ended.register(self.data, select.POLLRDHUP)
            if ended.poll(0):  # it waited, warm, and did not outlive its zygote
                raise EOFError
            self.layers = (*layers, *([] if self.group is None else [CGROUP]))
        else:
            refused = read(RefusedFrame, payload, 4)
            raise unavailable(refused.primitive, refused.reason)

    async def set_clock(self, wall_time_s: float) -> None:
        """Tell the nanny when to kill: so many seconds from now; 0 stops its clock. The guest has no say."""
        with contextlib.suppress(OSError):  # a nanny that is gone is found out by reading
            await _write(self._leash, CLOCK.pack(wall_time_s))

    async def write(self, data: bytes) -> None:
        """Hand bytes to the guest; one that is gone is found out by reading."""
        with contextlib.suppress(OSError):
            await _write(self.data, data)

    async def write_descriptors(self, tables: Sequence[Table]) -> None:
        """Hand over one descriptor for each table, beside one byte."""
        fds: list[int] = []
        try:
            fds += [table.open() for table in tables]
            while True:
                try:
                    socket.send_fds(self.data, [b"\0"], fds)
                    return
                except BlockingIOError:
                    await anyio.wait_writable(self.data)
                except ConnectionError:  # a guest that is gone is found out by reading
                    return
        finally:
            for fd in fds:
                os.close(fd)

    async def read(self, size: int) -> bytearray:
        """Exactly `size` bytes of the guest's.

        Raises:
            EOFError: It has ended.
        """
        buffer = bytearray(size)
        await self.read_into(memoryview(buffer))
        return buffer

    async def read_into(self, view: memoryview) -> None:
        """Fill `view` with what the guest sends.

        Raises:
            EOFError: It has ended.
        """
        size, done = len(view), 0
        while done < size:
            try:
                count = self.data.recv_into(view[done : done + frames.CHUNK_BYTES])
            except BlockingIOError:
                await anyio.wait_readable(self.data)
                continue
            if count == 0:
                raise EOFError
            done += count
            await anyio.lowlevel.checkpoint()  # neither a flood of frames nor a large one may starve the desk

    async def verdict(self) -> Verdict | None:
        """What the nanny says of the guest's end; None where it says nothing."""
        heard = b""
        with anyio.move_on_after(_VERDICT_TIMEOUT_S) as waited:
            while len(heard) < 4096:
                await anyio.wait_readable(self._leash)
                try:
                    part = self._leash.recv(4096)
                except OSError:
                    break
                if not part:
                    break
                heard += part
        self._has_let_go = waited.cancelled_caught
        try:
            verdict = Verdict.model_validate_json(heard)
        except ValidationError:
            return None
        if self.group is not None and verdict.signal == _SIGKILL:
            self._oom_kills = self.group.oom_kills
        return verdict

    def ending(self, verdict: Verdict | None, in_time: bool) -> tuple[Status, Fault]:
        """Status and reason of a guest that ended without a complete answer."""
        limits = self.limits
        if self.is_killed:
            return "killed", Fault("Killed", "killed by the caller")
        if not in_time or (verdict is not None and verdict.timed_out):
            return "timeout", Fault("Timeout", f"stopped after wall_time_s {limits.wall_time_s:g}")
        if self._has_let_go:
            return "error", Fault("GuestExited", "the guest let go of its socket and went on; it was stopped")
        if verdict is None:
            return "killed", Fault("Killed", "its zygote ended; run again")
        if verdict.signal == _SIGSYS:
            return "killed", Fault("Killed", "killed by seccomp: a system call that the sandbox forbids")
        if self._oom_kills:
            used = f"memory past resident_bytes {limits.resident_bytes}, /tmp included"
            return "killed", Fault("Killed", f"killed by its control group: {used}")
        used_up = verdict.cpu_s >= limits.cpu_time_s - 0.5
        if verdict.signal == _SIGXCPU or (verdict.signal == _SIGKILL and used_up):
            return "killed", Fault("Killed", f"killed after cpu_time_s {limits.cpu_time_s}")
        if verdict.signal:
            name = _SIGNALS.get(verdict.signal, f"signal {verdict.signal}")
            if verdict.signal == _SIGKILL:
                reason = "by the host, which may be out of memory"
            else:
                reason = f"a crash; native code often ends so at memory_bytes {limits.memory_bytes}"
            return "killed", Fault("Killed", f"killed by {name}: {reason}")
        return "error", Fault(
            "GuestExited", f"the guest ended without a result, exit code {verdict.exit_code}"
        )

    def kill(self) -> None:
        """End it now, in the caller's name; whoever waits for its answer wakes up."""
        self.is_killed = True
        if not self.is_busy:
            self.close()
            return
        for end in (self._leash, self.data):  # wakes whoever waits, who closes them
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the leash: the nanny kills whatever still runs. Harmless when repeated."""
        self.is_over = True
        self.is_busy = False
        self._leash.close()
        self.data.close()
        self._forget(self.child_id)


async def _write(wire: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[wire.send(view[: frames.CHUNK_BYTES]) :]
        except BlockingIOError:
            await anyio.wait_writable(wire)
