"""The sandbox port: what every backend offers, and the values that cross it.

A guest entry is named ``package.module:function`` and is called inside the locked child as
``entry(arguments, tables)``; it returns ``(value, columns)``. Where somebody watches, one that has a
parameter `report` is given a function there, to be called with the finished part. Everything that comes
back was chosen by a stranger: this package checks its form (sizes, types, depth), the caller must check its
meaning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from neural_trader_sandbox.tables import Table

Status = Literal["ok", "error", "timeout", "killed", "refused"]
"""ok: the entry returned. error: the guest raised, or broke the framing. timeout: the wall clock
stopped it. killed: a limit, the seccomp filter or the caller did. refused: this host lacks a layer,
so the code never ran."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; crossing any of them ends the run, never the desk.

    Attributes:
        wall_time_s: Seconds from the moment the job is handed over, or a stream's message; the guest cannot
            move this clock.
        cpu_time_s: Seconds of processor time (RLIMIT_CPU).
        memory_bytes: Address space (RLIMIT_AS), the preloaded modules included; polars needs about 1 GiB.
        resident_bytes: Memory really in use, /tmp included, where a control group bounds it (layer
            ``cgroup``).
        tmp_bytes: Size of the private /tmp, which is gone after the run.
        tmp_inodes: Files and folders in the private /tmp.
        file_bytes: Largest single file (RLIMIT_FSIZE).
        output_bytes: Kept bytes of stdout and, separately, of stderr, in one result; the rest is dropped.
        frame_bytes: Largest single frame in either direction, tables excepted.
        columns_bytes: All returned columns together.
        tables_bytes: All tables handed in together.
        json_depth: Deepest nesting of a JSON frame.
        open_files: RLIMIT_NOFILE.
        threads: RLIMIT_NPROC; new processes are forbidden whatever this says.
    """

    wall_time_s: float = 30.0
    cpu_time_s: int = 30
    memory_bytes: int = 2 << 30
    resident_bytes: int = 2 << 30
    tmp_bytes: int = 64 << 20
    tmp_inodes: int = 256
    file_bytes: int = 32 << 20
    output_bytes: int = 64 << 10
    frame_bytes: int = 1 << 20
    columns_bytes: int = 256 << 20
    tables_bytes: int = 512 << 20
    json_depth: int = 32
    open_files: int = 64
    threads: int = 16


def _no_tables() -> dict[str, bytes | Table]:
    return {}


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of untrusted work.

    Attributes:
        entry: ``package.module:function``, in one of the backend's preloaded modules.
        arguments: JSON for the entry; NaN and infinity are not JSON.
        tables: Arrow IPC streams by name; the entry receives polars data frames. A `Table` is written once
            for any number of runs.
    """

    entry: str
    arguments: dict[str, JsonValue]
    tables: Mapping[str, bytes | Table] = field(default_factory=_no_tables)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the guest failed: untrusted text, already cut to size and stripped of control characters.

    Attributes:
        type: The exception's class name.
        message: Its text, at most 2,000 characters.
        line: Line in the user's source (frames whose filename is ``<strategy>``), where there is one.
    """

    type: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One mechanism of the isolation, as a canary attack found it.

    Attributes:
        name: Such as ``seccomp`` or ``network``.
        holds: The canary was stopped.
        detail: What was tried and what answered.
        next_step: What to do on this host where it does not hold; otherwise empty, or advice.
    """

    name: str
    holds: bool
    detail: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What a probe found. ``ok`` is true only if every layer holds; otherwise nothing will run.

    Attributes:
        backend: Which backend was probed.
        ok: Every layer holds.
        layers: All that a run will have, and what was tried.
        notes: What a person should know beside them: an optional layer that is not in force and how to get
            it, a weaker profile.
        charged_ms: How long sandboxes lived for it that a service charges for.
    """

    backend: str
    ok: bool
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    charged_ms: float = 0.0


def _no_columns() -> dict[str, NDArray[np.float64]]:
    return {}


@dataclass(frozen=True, slots=True, eq=False)
class SandboxResult:
    """How a run ended. ``value`` and ``columns`` are set only when ``status`` is ``ok``, and are untrusted.

    Attributes:
        status: See `Status`.
        stdout: Captured, cut at ``output_bytes``, control characters and ANSI sequences removed.
        stderr: The same for standard error.
        error: Why the status is not ``ok``.
        wall_ms: Milliseconds from hand-over to the end.
        backend: Which backend ran it.
        layers: Names of the layers that were in force for this very run; empty when refused.
        value: The JSON that the entry returned.
        columns: One-dimensional float64 arrays by name; NaN is allowed here.
        charged_ms: Milliseconds that a service charges for, such as the whole life of a sandbox that was
            made for this run; 0 where nobody charges.
        notes: What a person should know beside it, such as a template that should be built again.
    """

    status: Status
    stdout: str = ""
    stderr: str = ""
    error: Fault | None = None
    wall_ms: float = 0.0
    backend: str = ""
    layers: tuple[str, ...] = ()
    value: JsonValue = None
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=_no_columns)
    charged_ms: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """What a guest that still runs lets be known: how far it says it is, or what it printed. Untrusted.

    Attributes:
        fraction: The finished part, 0 … 1, never less than the one before; None where this is text.
        stream: Where `text` was printed; None where this is a fraction.
        text: Whole lines (one that is longer than 4,096 bytes, and the last, come in parts), cut and cleaned
            like `SandboxResult.stdout`.
    """

    fraction: float | None = None
    stream: Literal["stdout", "stderr"] | None = None
    text: str = ""


Watch = Callable[[Progress], None]
"""Called in the event loop while a run goes on, so it must be quick. One that raises is not called again, and
the run goes on."""


class SandboxInstance(Protocol):
    """One locked, single-use place to run one job in."""

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `Sandbox.kill`."""
        ...

    async def run(self, job: Job, *, watch: Watch | None = None) -> SandboxResult:
        """Run the job; the instance is spent afterwards.

        Args:
            job: What to run.
            watch: Told of progress and prints as they come; all of them before this returns.

        Raises:
            InputError: The job itself is malformed (`sandbox_job_invalid`) or too large
                (`sandbox_job_too_large`), or the instance is spent (`sandbox_instance_spent`).
        """
        ...

    async def kill(self) -> None:
        """End it now; a run in progress answers ``killed``. Killing twice is harmless."""
        ...


class SandboxStream(Protocol):
    """A guest that answers message by message, for paper and live trading; one message at a time.

    The job's entry is called once as ``entry(arguments, tables)`` and returns the handler of messages:
    a function that takes one JSON value and returns one. `Limits.wall_time_s` bounds each answer,
    `Limits.output_bytes` what is printed for each, the other limits the guest's whole life.
    """

    @property
    def instance_id(self) -> str:
        """Names it in logs and in `Sandbox.kill`."""
        ...

    async def send(self, message: JsonValue) -> SandboxResult:
        """Hand over one message and wait for its answer, which is the result's `value`.

        Any status but ``ok`` ends the stream: a handler that raised, answered too late or was killed is
        not asked again. What was printed since the last answer comes with the result.

        Raises:
            InputError: The message is not JSON (`sandbox_job_invalid`) or exceeds `Limits.frame_bytes`
                (`sandbox_job_too_large`), the stream has ended (`sandbox_stream_ended`), or another
                message waits for its answer (`sandbox_stream_busy`).
        """
        ...

    async def aclose(self) -> None:
        """End the guest. Closing twice is harmless."""
        ...


class Sandbox(Protocol):
    """Where strangers' code runs. Nothing is started before the first call.

    No method raises because of what guest code does: that is a `SandboxResult`. Cancelling any call
    kills the guest it was waiting for.
    """

    async def probe(self) -> SandboxReport:
        """Attack a real instance with canaries and report every layer; never raises for a missing one."""
        ...

    async def create(self, limits: Limits = ...) -> SandboxInstance:
        """Prepare an instance with these limits.

        Raises:
            HostError: This host lacks a layer (`sandbox_unavailable`).
        """
        ...

    async def run(self, job: Job, limits: Limits = ..., *, watch: Watch | None = None) -> SandboxResult:
        """Create an instance, run one job in it, discard it; `watch` as in `SandboxInstance.run`.

        Raises:
            InputError: As in `SandboxInstance.run`.
        """
        ...

    async def open_stream(self, job: Job, limits: Limits = ...) -> SandboxStream:
        """Start a guest that answers message by message; it is ready, its entry has returned the handler.

        Raises:
            InputError: As in `SandboxInstance.run`.
            HostError: This host lacks a layer (`sandbox_unavailable`).
            StrategyError: The entry raised, ended, was late or returned no handler (`sandbox_guest_failed`).
        """
        ...

    async def kill(self, instance_id: str | None = None) -> None:
        """End one instance, or every one."""
        ...

    async def aclose(self) -> None:
        """End every instance and give everything back; the object can be used again afterwards."""
        ...
