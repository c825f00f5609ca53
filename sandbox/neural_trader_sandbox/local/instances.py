"""One locked child, as the host sees it: hand over the job, read the answer, say how it ended."""

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel
from pydantic import BaseModel, ConfigDict, ValidationError

from neural_trader_governance.errors import InputError
from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import Answer, ReadyFrame, RefusedFrame, read
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.local.nanny import START
from neural_trader_sandbox.local.zygotes import unavailable
from neural_trader_sandbox.port import Fault, Job, Limits, SandboxResult, Status

BACKEND: Final = "local"
_READY_TIMEOUT_S = 30.0
_GRACE_S = 2.0
_VERDICT_TIMEOUT_S = 5.0
_SIGNALS = {4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
_SIGSYS, _SIGKILL, _SIGXCPU = 31, 9, 24


class _Verdict(BaseModel):
    """What the nanny says when the guest has ended."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    timed_out: bool
    signal: int
    exit_code: int
    cpu_s: float
    rss_max_bytes: int


class LocalInstance:
    """A single-use child of the zygote; implements `port.SandboxInstance`.

    Args:
        instance_id: For logs and `LocalSandbox.kill`.
        limits: Its kernel limits are in force already; the others are checked here.
        data: Non-blocking stream to the guest: nothing on it can be trusted after the ready frame.
        leash: Non-blocking stream to the nanny; closing it kills the guest.
        forget: Called once with the id when the instance is over.
    """

    def __init__(
        self,
        instance_id: str,
        limits: Limits,
        data: socket.socket,
        leash: socket.socket,
        forget: Callable[[str], object],
    ) -> None:
        self._id = instance_id
        self._limits = limits
        self._forget = forget
        self._data = data
        self._leash = leash
        self._layers: tuple[str, ...] = ()
        self._is_spent = False
        self._is_running = False
        self._is_killed = False

    def adopt(self, limits: Limits) -> None:
        """Take other limits of time and output; those that the kernel enforces are set for good."""
        self._limits = limits

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `LocalSandbox.kill`."""
        return self._id

    async def ready(self) -> None:
        """Wait until the child is locked in.

        Raises:
            HostError: It could not be locked (`sandbox_unavailable`).
            EOFError: It has gone without a word: its zygote ended.
        """
        if self._layers:
            return
        try:
            with anyio.fail_after(_READY_TIMEOUT_S):
                kind, size = frames.HEADER.unpack(await self._read(frames.HEADER.size))
                payload = await self._read(min(size, self._limits.frame_bytes))
        except TimeoutError:
            raise unavailable("lock", f"the child was not locked after {_READY_TIMEOUT_S:g} s") from None
        if kind == frames.READY:
            self._layers = tuple(read(ReadyFrame, payload, 4).layers)
        else:
            refused = read(RefusedFrame, payload, 4)
            raise unavailable(refused.primitive, refused.reason)

    async def run(self, job: Job) -> SandboxResult:
        """Run the job; the instance is spent afterwards. See `port.SandboxInstance.run`."""
        limits = self._limits
        if self._is_spent:
            raise InputError(
                "sandbox_instance_spent", "an instance runs one job only", "create another instance"
            )
        message = pack_job(job, limits)
        self._is_spent = self._is_running = True
        started = time.monotonic()
        answer = Answer(limits)
        broken: str | None = None
        verdict: _Verdict | None = None
        in_time = False
        try:
            with anyio.move_on_after(limits.wall_time_s + _GRACE_S):
                try:
                    await self._converse(message, job, limits, answer)
                except FrameError as error:
                    broken = str(error)
                in_time = True
            # a guest that answered and would not end was cut off by its nanny: the clock, not a result
            in_time = in_time and time.monotonic() - started < limits.wall_time_s
            complete = answer.ended and broken is None and in_time
            if not complete and broken is None and in_time:
                verdict = await self._verdict()
        finally:
            self.close()
        wall_ms = (time.monotonic() - started) * 1000
        if complete:
            status, fault = ("ok", None) if answer.fault is None else ("error", answer.fault)
        elif broken is not None:
            status, fault = "error", Fault("FrameError", f"the guest broke the framing: {broken}")
        else:
            status, fault = self._ending(verdict, limits, in_time)
        return SandboxResult(
            status=status,
            stdout=answer.output(frames.STDOUT),
            stderr=answer.output(frames.STDERR),
            error=fault,
            wall_ms=wall_ms,
            backend=BACKEND,
            layers=self._layers,
            value=answer.value if status == "ok" else None,
            columns=answer.columns if status == "ok" else {},
        )

    async def kill(self) -> None:
        """End the child now; a run in progress answers ``killed``."""
        self._is_killed = self._is_spent = True
        if not self._is_running:
            self.close()
            return
        for end in (self._leash, self._data):  # wakes the run, which closes them itself
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Let go of the leash: the nanny kills whatever still runs. Harmless when repeated."""
        self._is_spent = True
        self._is_running = False
        self._leash.close()
        self._data.close()
        self._forget(self._id)

    async def _converse(self, message: bytes, job: Job, limits: Limits, answer: Answer) -> None:
        """Hand over, then read to the end of the stream."""
        with contextlib.suppress(OSError):  # a guest that is gone is found out by reading
            await self._write(self._leash, START.pack(limits.wall_time_s))
            await self._write(self._data, message)
            for table in job.tables.values():
                await self._write(self._data, table)
        try:
            while not answer.ended:
                kind, size = frames.HEADER.unpack(await self._read(frames.HEADER.size))
                answer.expect(kind, size)
                answer.take(kind, await self._read(size))
            await self._read(1)
            raise FrameError("a byte after the last frame")
        except (EOFError, ConnectionError):
            return

    async def _write(self, wire: socket.socket, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[wire.send(view[: frames.CHUNK_BYTES]) :]
            except BlockingIOError:
                await anyio.wait_writable(wire)

    async def _read(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view = memoryview(buffer)
        done = 0
        while done < size:
            try:
                count = self._data.recv_into(view[done : done + frames.CHUNK_BYTES])
            except BlockingIOError:
                await anyio.wait_readable(self._data)
                continue
            if count == 0:
                raise EOFError
            done += count
        await anyio.lowlevel.checkpoint()  # a flood of small frames must not starve the desk
        return buffer

    async def _verdict(self) -> _Verdict | None:
        heard = b""
        with anyio.move_on_after(_VERDICT_TIMEOUT_S):
            while len(heard) < 4096:
                await anyio.wait_readable(self._leash)
                try:
                    part = self._leash.recv(4096)
                except OSError:
                    break
                if not part:
                    break
                heard += part
        try:
            return _Verdict.model_validate_json(heard)
        except ValidationError:
            return None

    def _ending(self, verdict: _Verdict | None, limits: Limits, in_time: bool) -> tuple[Status, Fault]:
        """Status and reason of a guest that ended without a complete answer."""
        if self._is_killed:
            return "killed", Fault("Killed", "killed by the caller")
        if not in_time or (verdict is not None and verdict.timed_out):
            return "timeout", Fault("Timeout", f"stopped after wall_time_s {limits.wall_time_s:g}")
        if verdict is None:
            return "killed", Fault("Killed", "its zygote ended; run again")
        if verdict.signal == _SIGSYS:
            return "killed", Fault("Killed", "killed by seccomp: a system call that the sandbox forbids")
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


def pack_job(job: Job, limits: Limits) -> bytes:
    """The job's first frame; its tables follow as they are.

    Raises:
        InputError: It is not JSON, too deep or too large.
    """
    tables = [[name, len(data)] for name, data in job.tables.items()]
    head = {
        "entry": job.entry,
        "arguments": job.arguments,
        "tables": tables,
        "output_bytes": limits.output_bytes,
    }
    try:
        message = frames.pack_json(frames.JOB, head)
        frames.unpack_json(message[frames.HEADER.size :], limits.json_depth)
    except FrameError as error:
        raise InputError(
            "sandbox_job_invalid", f"the job's arguments are {error}", "pass finite JSON values only"
        ) from None
    size, table_bytes = len(message) - frames.HEADER.size, sum(len(data) for data in job.tables.values())
    for name, actual, bound in (
        ("arguments", size, limits.frame_bytes),
        ("tables", table_bytes, limits.tables_bytes),
    ):
        if actual > bound:
            raise InputError(
                "sandbox_job_too_large",
                f"the job's {name} have {actual} bytes, the limit is {bound}",
                "send less, or put bulk data into tables" if name == "arguments" else "send fewer rows",
            )
    return message
