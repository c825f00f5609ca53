"""One job, or one stream of messages, in one sandbox of the service."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import anyio
from pydantic import JsonValue

from neural_trader_governance.errors import InputError, NeuralTraderError, StrategyError
from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import Answer, MessageAnswer
from neural_trader_sandbox.e2b.boxes import Box
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.local.instances import pack_job
from neural_trader_sandbox.port import Fault, Job, Limits, SandboxResult, Status, Watch
from neural_trader_sandbox.watching import Watching

BACKEND: Final = "e2b"
GRACE_S: Final = 30
"""How much longer than its wall clock the service keeps a sandbox by itself."""

Discard = Callable[[Box], Awaitable[None]]
Agreed = Callable[[], Awaitable[None]]


class Conversation:
    """Asks a box and reads what it answers, within the wall clock; what every run and stream shares.

    Args:
        box: Loaded, and given nothing yet.
        limits: Of the whole.
        discard: Kills the box, however that goes.
        agreed: Raises where data may not leave for the service, or not any more.
    """

    def __init__(self, box: Box, limits: Limits, discard: Discard, agreed: Agreed) -> None:
        self.box = box
        self.limits = limits
        self._discard = discard
        self._agreed = agreed
        self.is_busy = False

    async def ask(self, answer: Answer, pieces: list[bytes], *, first: bool, keep: bool) -> SandboxResult:
        """Hand pieces over and read until the answer is complete.

        Args:
            answer: Takes the frames.
            pieces: Of bytes.
            first: The limits go before them.
            keep: The box goes on after an answer that is ``ok``.

        Raises:
            ConfigurationError: Consent was taken back; nothing was handed over, and the box is killed.
        """
        self.is_busy = True
        started = time.monotonic()
        is_kept = False
        try:
            await self._agreed()
            status, fault = await self._outcome(answer, pieces, first)
            wall_ms = (time.monotonic() - started) * 1000
            is_kept = keep and status == "ok"
        finally:
            self.is_busy = False
            if not is_kept:
                await self._discard(self.box)
        return SandboxResult(
            status=status,
            stdout=answer.output(frames.STDOUT),
            stderr=answer.output(frames.STDERR),
            error=fault,
            wall_ms=wall_ms,
            backend=BACKEND,
            layers=self.box.layers,
            value=answer.value if status == "ok" else None,
            columns=answer.columns if status == "ok" else {},
            charged_ms=self.box.take_charge_ms(),
            notes=self.box.notes,
        )

    async def end(self) -> None:
        """Kill the box; what is being asked answers ``killed``."""
        self.box.is_killed = True
        await self._discard(self.box)

    async def _outcome(self, answer: Answer, pieces: list[bytes], first: bool) -> tuple[Status, Fault | None]:
        box, wall_time_s = self.box, self.limits.wall_time_s
        in_time = False
        try:
            await box.prolong(wall_time_s + GRACE_S)
            with anyio.move_on_after(wall_time_s):
                if first:
                    await box.begin(self.limits)
                for piece in pieces:
                    await box.pipe.write(piece)
                while not answer.ended:
                    kind, size = frames.HEADER.unpack(await box.pipe.read(frames.HEADER.size))
                    answer.expect(kind, size)
                    answer.take(kind, await box.pipe.read(size))
                in_time = True
        except FrameError as error:
            return "error", Fault("FrameError", f"the guest broke the framing: {error}")
        except EOFError:
            return self._ending()
        except NeuralTraderError as error:
            return ("killed", _by_caller()) if box.is_killed else ("killed", _of(error))
        if box.is_killed:
            return "killed", _by_caller()
        if not in_time:
            return "timeout", Fault("Timeout", f"stopped after wall_time_s {wall_time_s:g}")
        return ("ok", None) if answer.fault is None else ("error", answer.fault)

    def _ending(self) -> tuple[Status, Fault]:
        """Status and reason of a guest that ended without a complete answer."""
        box, code = self.box, self.box.pipe.exit_code
        if box.is_killed:
            return "killed", _by_caller()
        if code is None:
            failure = box.pipe.failure
            if failure is None:
                return "killed", Fault("Killed", "the sandbox ended; run it again")
            return "killed", _of(box.explain(failure))
        if 0 <= code < 128:
            return "error", Fault("GuestExited", f"the guest ended without a result, exit code {code}")
        return "killed", Fault(
            "Killed",
            f"the guest was ended by a signal (exit code {code}): cpu_time_s {self.limits.cpu_time_s},"
            f" memory_bytes {self.limits.memory_bytes}, or a crash",
        )


def _by_caller() -> Fault:
    return Fault("Killed", "killed by the caller")


def _of(error: NeuralTraderError) -> Fault:
    return Fault(type(error).__name__, f"{error.code}: {error.what}; {error.next_step}")


class E2BInstance:
    """A sandbox of the service for one job; implements `port.SandboxInstance`."""

    def __init__(self, conversation: Conversation, check_entry: Callable[[Job], None]) -> None:
        self._conversation = conversation
        self._check_entry = check_entry
        self._is_spent = False

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `E2BSandbox.kill`."""
        return self._conversation.box.box_id

    async def run(self, job: Job, *, watch: Watch | None = None) -> SandboxResult:
        """Run the job; the sandbox is killed afterwards. See `port.SandboxInstance.run`."""
        limits = self._conversation.limits
        if self._is_spent or self._conversation.box.is_over:
            raise InputError(
                "sandbox_instance_spent", "an instance runs one job only", "create another instance"
            )
        self._check_entry(job)
        job = as_streams(job)
        message = pack_job(job, limits, watch=watch is not None)
        self._is_spent = True
        pieces = [message, *map(bytes, job.tables.values())]
        watching = None if watch is None else Watching(watch, limits)
        result = await self._conversation.ask(Answer(limits, watching), pieces, first=True, keep=False)
        if watching is not None:
            watching.close()
        return result

    async def kill(self) -> None:
        """End it now; a run in progress answers ``killed``."""
        self._is_spent = True
        await self._conversation.end()


class E2BStream:
    """A sandbox of the service that holds a handler of messages; implements `port.SandboxStream`.

    Each message is a request to the service and back: tens of milliseconds, where the local backend needs
    some tens of microseconds. Good for bars of minutes and days.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._number = 0
        self._answer = MessageAnswer(conversation.limits, 0)

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `E2BSandbox.kill`."""
        return self._conversation.box.box_id

    async def open(self, job: Job, message: bytes) -> None:
        """Hand over a packed job and wait until its entry has returned the handler.

        Raises:
            StrategyError: There is no handler (`sandbox_guest_failed`).
        """
        self._answer.is_asked = True
        result = await self._conversation.ask(
            self._answer, [message, *map(bytes, job.tables.values())], first=True, keep=True
        )
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
        """Hand over one message and wait for its answer; see `port.SandboxStream.send`."""
        talk = self._conversation
        if talk.box.is_over:
            raise InputError("sandbox_stream_ended", "the stream takes no more messages", "open another")
        if talk.is_busy:
            raise InputError(
                "sandbox_stream_busy",
                "another message waits for its answer",
                "send one message at a time, or open one stream for each sender",
            )
        packed = _pack(message, talk.limits)
        self._number += 1
        before = self._answer if self._number == 1 else None
        self._answer = MessageAnswer(talk.limits, self._number, before)
        self._answer.is_asked = True
        return await talk.ask(self._answer, [packed], first=False, keep=True)

    async def aclose(self) -> None:
        """End the guest. Closing twice is harmless."""
        await self._conversation.end()

    def take_charge_ms(self) -> float:
        """How long its sandbox lived since the last answer: the service charges for waiting too."""
        return self._conversation.box.take_charge_ms()


def as_streams(job: Job) -> Job:
    """The job with its tables as Arrow IPC streams: nothing of this machine's memory can be shared there."""
    return replace(job, tables={name: bytes(table) for name, table in job.tables.items()})


def _pack(message: JsonValue, limits: Limits) -> bytes:
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
