"""One job in one locked child: hand it over, read the answer, say how it ended."""

import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np

from neural_trader_governance.errors import InputError
from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import Answer
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.local.children import BACKEND, GRACE_S, LARGE_BYTES, Child, Verdict
from neural_trader_sandbox.port import Fault, Job, Limits, SandboxResult, Watch
from neural_trader_sandbox.tables import Table
from neural_trader_sandbox.watching import Watching


class LocalInstance:
    """A single-use child of the zygote; implements `port.SandboxInstance`.

    Args:
        child: Locked, or about to be.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self._is_spent = False

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `LocalSandbox.kill`."""
        return self.child.child_id

    async def run(self, job: Job, *, watch: Watch | None = None) -> SandboxResult:
        """Run the job; the instance is spent afterwards. See `port.SandboxInstance.run`."""
        child, limits = self.child, self.child.limits
        if self._is_spent or child.is_over:
            raise InputError(
                "sandbox_instance_spent", "an instance runs one job only", "create another instance"
            )
        message = pack_job(job, limits, watch=watch is not None)
        self._is_spent = child.is_busy = True
        started = time.monotonic()
        watching = None if watch is None else Watching(watch, limits)
        answer = Answer(limits, watching)
        broken: str | None = None
        verdict: Verdict | None = None
        in_time = False
        try:
            with anyio.move_on_after(limits.wall_time_s + GRACE_S):
                try:
                    await self._converse(message, job, answer)
                except FrameError as error:
                    broken = str(error)
                in_time = True
            # a guest that answered and would not end was cut off by its nanny: the clock, not a result
            in_time = in_time and time.monotonic() - started < limits.wall_time_s
            complete = answer.ended and broken is None and in_time
            if not complete and broken is None and in_time:
                verdict = await child.verdict()
        finally:
            child.close()
        if watching is not None:
            watching.close()
        wall_ms = (time.monotonic() - started) * 1000
        if complete:
            status, fault = ("ok", None) if answer.fault is None else ("error", answer.fault)
        elif broken is not None:
            status, fault = "error", Fault("FrameError", f"the guest broke the framing: {broken}")
        else:
            status, fault = child.ending(verdict, in_time)
        return SandboxResult(
            status=status,
            stdout=answer.output(frames.STDOUT),
            stderr=answer.output(frames.STDERR),
            error=fault,
            wall_ms=wall_ms,
            backend=BACKEND,
            layers=child.layers,
            value=answer.value if status == "ok" else None,
            columns=answer.columns if status == "ok" else {},
        )

    async def kill(self) -> None:
        """End the child now; a run in progress answers ``killed``."""
        self.child.kill()
        await anyio.lowlevel.checkpoint()

    async def _converse(self, message: bytes, job: Job, answer: Answer) -> None:
        """Hand over, then read to the end of the stream."""
        child = self.child
        await child.set_clock(child.limits.wall_time_s)
        await hand_over(child, message, job)
        try:
            while not answer.ended:
                kind, size = frames.HEADER.unpack(await child.read(frames.HEADER.size))
                answer.expect(kind, size)
                if kind == frames.COLUMN:
                    column = np.empty(size // 8)  # numpy asks for huge pages: fewer faults
                    await child.read_into(column.view(np.uint8).data)
                    answer.take_column(column)
                    continue
                payload = await child.read(size)
                if kind == frames.RESULT and size > LARGE_BYTES:
                    await anyio.to_thread.run_sync(answer.take, kind, payload)
                else:
                    answer.take(kind, payload)
            await child.read(1)
            raise FrameError("a byte after the last frame")
        except (EOFError, ConnectionError):
            return


async def hand_over(child: Child, message: bytes, job: Job) -> None:
    """Write a packed job to the guest, then pass it descriptors that read its tables."""
    await child.write(message)
    if job.tables:
        tables = [await anyio.to_thread.run_sync(Table.of, table) for table in job.tables.values()]
        await child.write_descriptors(tables)


def pack_job(job: Job, limits: Limits, *, stream: bool = False, watch: bool = False) -> bytes:
    """The job's first frame; its tables follow.

    Args:
        job: What to run.
        limits: Bounds of its size and depth.
        stream: Its entry returns the handler of messages.
        watch: Its entry may report how far it is.

    Raises:
        InputError: It is not JSON, too deep or too large.
    """
    tables = [
        [name, len(data), data.layout if isinstance(data, Table) else None]
        for name, data in job.tables.items()
    ]
    head = {
        "entry": job.entry,
        "arguments": job.arguments,
        "tables": tables,
        "output_bytes": limits.output_bytes,
        "stream": stream,
        "watch": watch,
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
