"""A locked child that answers message by message, as the host sees it."""

import time

import anyio
import anyio.lowlevel
import anyio.to_thread
from pydantic import JsonValue

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import MessageAnswer
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.local.children import BACKEND, GRACE_S, LARGE_BYTES, Child
from neural_trader_sandbox.local.instances import hand_over
from neural_trader_sandbox.port import Fault, Job, SandboxResult, Status

_CHUNK_BYTES = 64 << 10


class LocalStream:
    """A child of the zygote that holds a handler of messages; implements `port.SandboxStream`.

    Its clock runs only while a message waits for its answer: the host tells the nanny over the leash,
    which the guest does not hold.

    Args:
        child: Locked, and given no job yet.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._received = bytearray()
        self._answer = MessageAnswer(child.limits, 0)
        self._number = 0
        self._end = "it was closed"

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `LocalSandbox.kill`."""
        return self._child.child_id

    async def open(self, job: Job, message: bytes) -> None:
        """Hand over a packed job and wait until its entry has returned the handler.

        Raises:
            StrategyError: There is no handler (`sandbox_guest_failed`).
        """
        result = await self._ask(job, message)
        if result.status != "ok":
            fault = result.error or Fault("", result.status)
            where = "" if fault.line is None else f" in line {fault.line}"
            raise StrategyError(
                "sandbox_guest_failed",
                f"the guest ended before it took a message: {fault.type}: {fault.message}{where}",
                f"correct {job.entry} or its arguments, then open the stream again",
                status=result.status,
                type=fault.type,
                line=fault.line,
            )

    async def send(self, message: JsonValue) -> SandboxResult:
        """Hand over one message and wait for its answer; see `port.SandboxStream.send`.

        Raises:
            InputError: As the port says, or another message waits for its answer (`sandbox_stream_busy`).
        """
        if self._child.is_over:
            raise InputError(
                "sandbox_stream_ended", f"the stream takes no more messages: {self._ended()}", "open another"
            )
        if self._child.is_busy:
            raise InputError(
                "sandbox_stream_busy",
                "another message waits for its answer",
                "send one message at a time, or open one stream for each sender",
            )
        packed = self._pack(message)
        self._number += 1
        # what the entry printed comes with the first answer
        before = self._answer if self._number == 1 else None
        self._answer = MessageAnswer(self._child.limits, self._number, before)
        return await self._ask(None, packed)

    async def aclose(self) -> None:
        """End the guest; a message that waits is answered ``killed``. Harmless when repeated."""
        if self._child.is_busy:
            self._child.kill()
        else:
            self._child.close()
        await anyio.lowlevel.checkpoint()

    def _ended(self) -> str:
        return "it was killed by the caller" if self._child.is_killed else self._end

    def _pack(self, message: JsonValue) -> bytes:
        limits = self._child.limits
        try:
            packed = frames.pack_json(frames.MESSAGE, message)
            frames.unpack_json(packed[frames.HEADER.size :], limits.json_depth)
        except FrameError as error:
            raise InputError(
                "sandbox_job_invalid", f"the message is {error}", "pass finite JSON values only"
            ) from None
        size = len(packed) - frames.HEADER.size
        if size > limits.frame_bytes:
            raise InputError(
                "sandbox_job_too_large",
                f"the message has {size} bytes, the limit is {limits.frame_bytes}",
                "send less, or put bulk data into the job's tables",
            )
        return packed

    async def _ask(self, job: Job | None, packed: bytes) -> SandboxResult:
        """Hand over a packed job or message; close the child unless its answer is complete and in time."""
        child, answer = self._child, self._answer
        child.is_busy = True
        started = time.monotonic()
        outcome: tuple[Status, Fault | None] | None = None
        try:
            outcome = await self._outcome(job, packed, started)
        finally:
            status, fault = outcome or ("killed", None)
            child.is_busy = False
            if status != "ok":
                self._end = fault.message if fault is not None else "waiting for an answer was cancelled"
                child.close()
        return SandboxResult(
            status=status,
            stdout=answer.output(frames.STDOUT),
            stderr=answer.output(frames.STDERR),
            error=fault,
            wall_ms=(time.monotonic() - started) * 1000,
            backend=BACKEND,
            layers=child.layers,
            value=answer.value if status == "ok" else None,
        )

    async def _outcome(self, job: Job | None, packed: bytes, started: float) -> tuple[Status, Fault | None]:
        child, answer, wall_time_s = self._child, self._answer, self._child.limits.wall_time_s
        in_time = False
        with anyio.move_on_after(wall_time_s + GRACE_S):
            try:
                await self._exchange(job, packed)
            except FrameError as error:
                return "error", Fault("FrameError", f"the guest broke the framing: {error}")
            except (EOFError, ConnectionError):
                pass
            in_time = time.monotonic() - started < wall_time_s
        if answer.ended and in_time and not child.is_killed:
            return ("ok", None) if answer.fault is None else ("error", answer.fault)
        return child.ending(await child.verdict() if in_time else None, in_time)

    async def _exchange(self, job: Job | None, packed: bytes) -> None:
        """Hand over, then read until the answer is complete.

        Raises:
            FrameError: The guest broke the framing, or had answered before it was asked.
            EOFError: It has ended.
        """
        child, answer = self._child, self._answer
        while self._receive():
            self._take(answer)
            await anyio.lowlevel.checkpoint()
        self._take(answer)
        if self._received and self._received[0] not in (frames.STDOUT, frames.STDERR):
            raise FrameError("the beginning of an answer that nobody asked for")
        answer.is_asked = True
        await child.set_clock(child.limits.wall_time_s)
        if job is None:
            await child.write(packed)
        else:
            await hand_over(child, packed, job)
        while not answer.ended:
            await anyio.wait_readable(child.data)
            self._receive()
            if len(self._received) > LARGE_BYTES:
                await anyio.to_thread.run_sync(self._take, answer)
            else:
                self._take(answer)
        await child.set_clock(0)

    def _receive(self) -> bool:
        """Take in some of what has arrived; False where nothing has."""
        try:
            data = self._child.data.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            raise EOFError
        self._received += data
        return True

    def _take(self, answer: MessageAnswer) -> None:
        """Read the frames that are complete, up to the answer."""
        received, head = self._received, frames.HEADER.size
        while not answer.ended and len(received) >= head:
            kind, size = frames.HEADER.unpack_from(received)
            answer.expect(kind, size)
            if len(received) < head + size:
                return
            payload = received[head : head + size]
            del received[: head + size]
            answer.take(kind, payload)
