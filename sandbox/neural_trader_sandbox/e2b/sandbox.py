"""The e2b backend: untrusted code in a sandbox of an E2B service, one for each run."""

import asyncio
import hashlib
import importlib
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import InputError, NetworkError, NeuralTraderError
from neural_trader_sandbox.e2b import probe
from neural_trader_sandbox.e2b.boxes import Box, own_boot_id
from neural_trader_sandbox.e2b.bundle import Bundle, bundle
from neural_trader_sandbox.e2b.failures import asking
from neural_trader_sandbox.e2b.runs import Conversation, E2BInstance, E2BStream, as_streams
from neural_trader_sandbox.e2b.settings import E2BSettings
from neural_trader_sandbox.local.instances import pack_job
from neural_trader_sandbox.local.sandbox import check_limits
from neural_trader_sandbox.port import Job, Limits, SandboxReport, SandboxResult, Watch

if TYPE_CHECKING:
    from e2b_code_interpreter import AsyncSandbox  # pyright: ignore[reportMissingTypeStubs]  # no py.typed

_log = structlog.get_logger(__name__)
_OWN_ENTRIES = frozenset({"neural_trader_sandbox.script", "neural_trader_sandbox.e2b.canaries"})
_HOME, _HOST, _PROCESS, _BOX = (f"neural-trader-{name}" for name in ("home", "host", "process", "box"))
_LIST_MAX = 1000
_AGE_MIN_S = 15.0  # a warm sandbox with less to live is not worth a run


class E2BSandbox:
    """Runs untrusted code at an E2B service; implements `port.Sandbox`.

    Nothing is contacted before the first call, and nothing leaves this machine before `consent` agreed.
    A missing consent, key or template raises; what happens to a sandbox in the middle of a run is a result.

    Args:
        settings: Where, and how long.
        preload: Modules that entries may lie in; those that are ours are uploaded.
        consent: Called, in a thread, with the destination before anything is sent there, and again before
            each job and message; raises where no person agreed.
    """

    def __init__(self, settings: E2BSettings, preload: Sequence[str], consent: Callable[[str], None]) -> None:
        self._settings = settings
        self._preload = tuple(preload)
        self._consent = consent
        self._bundle: Bundle | None = None
        self._live: dict[str, Box] = {}
        self._pool: deque[Box] = deque()
        self._has_swept = False
        self._owed_ms = 0.0
        self._refilling: asyncio.Task[None] | None = None
        self._making: dict[str, asyncio.Task[AsyncSandbox]] = {}
        self._unwanted: set[str] = set()
        self._ends = 0

    async def fill(self) -> None:
        """Make as many sandboxes wait as the settings say; the next runs need not."""
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.create_task(self._refill())
        await asyncio.shield(self._refilling)

    async def probe(self) -> SandboxReport:
        """Attack real sandboxes with canaries; what keeps us from it is a layer that does not hold."""
        return await probe.probe(self)

    async def create(self, limits: Limits = Limits()) -> E2BInstance:  # noqa: B008 - a frozen value
        """A sandbox that is loaded and waits; one that runs no job is given back with `kill`.

        Raises:
            ConfigurationError: Consent, key or template are missing.
            NetworkError: The service is out of reach, busy, or out of order.
        """
        check_limits(limits)
        talk = Conversation(await self._take(), limits, self._discard, self._agreed)
        return E2BInstance(talk, self._check_entry)

    async def run(
        self,
        job: Job,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        *,
        watch: Watch | None = None,
    ) -> SandboxResult:
        """Run one job in a sandbox of its own; see `port.Sandbox.run`.

        Raises:
            InputError: The job is malformed, too large, or names an entry that is not preloaded.
            ConfigurationError: As `create`.
            NetworkError: As `create`.
        """
        return (await self.run_in_box(job, limits, watch))[0]

    async def run_in_box(
        self, job: Job, limits: Limits, watch: Watch | None = None
    ) -> tuple[SandboxResult, Box]:
        """As `run`, with the sandbox that it ran in, which is over."""
        self._check_entry(job)
        check_limits(limits)
        pack_job(job, limits)
        box = await self._take()
        try:
            talk = Conversation(box, limits, self._discard, self._agreed)
            result = await E2BInstance(talk, self._check_entry).run(job, watch=watch)
        finally:
            await self._discard(box)
        if self._settings.warm and not box.is_killed and (self._refilling is None or self._refilling.done()):
            self._refilling = asyncio.create_task(self._refill())
        return self._with_owed(result), box

    async def open_stream(self, job: Job, limits: Limits = Limits()) -> E2BStream:  # noqa: B008 - a frozen value
        """A guest that answers message by message; see `port.Sandbox.open_stream` and `E2BStream`.

        Raises:
            InputError: As `run`.
            ConfigurationError: As `create`.
            NetworkError: As `create`.
            StrategyError: The entry returned no handler (`sandbox_guest_failed`).
        """
        self._check_entry(job)
        check_limits(limits)
        job = as_streams(job)
        message = pack_job(job, limits, stream=True)
        box = await self._take()
        stream = E2BStream(Conversation(box, limits, self._discard, self._agreed))
        try:
            await stream.open(job, message)
        except BaseException:
            await self._discard(box)
            raise
        box.hold(self._agreed)
        return stream

    async def kill(self, instance_id: str | None = None) -> None:
        """End one sandbox, or every one; an unknown id is one that has ended already."""
        chosen = list(self._live.values()) if instance_id is None else [self._live.get(instance_id)]
        if instance_id is None:
            self._ends += 1
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for box in chosen:
                    if box is not None:
                        box.is_killed = True
                        group.start_soon(self._discard, box)
                if instance_id is None:
                    for box_id, making in self._making.items():
                        group.start_soon(self._unmake, box_id, making)

    async def aclose(self) -> None:
        """End every sandbox of ours; a later call starts afresh."""
        if self._refilling is not None:
            self._refilling.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._refilling])
        await self.kill()
        while self._pool:
            self._owed_ms += self._pool.popleft().take_charge_ms()

    def take_charge_ms(self) -> float:
        """What sandboxes cost that no run used and none was charged for."""
        owed, self._owed_ms = self._owed_ms, 0.0
        return owed

    async def _take(self) -> Box:
        ends = self._ends
        await self._agreed()
        self._settings.connection()
        if not self._has_swept:
            self._has_swept = True
            await self._sweep()
        while self._pool:
            box = self._pool.popleft()
            if box.remaining_s > _AGE_MIN_S and await box.is_alive():
                return box
            await self._drop_unused(box)
        return await self._make(ends)

    async def _agreed(self) -> None:
        """Asks again each time: a person may have taken it back; then what waits does not wait on."""
        try:
            await anyio.to_thread.run_sync(self._consent, self._settings.destination)
        except NeuralTraderError:
            while self._pool:
                await self._drop_unused(self._pool.popleft())
            raise

    async def _make(self, ends: int) -> Box:
        """Make, check and load one sandbox; whatever fails or is cancelled, it does not stay behind.

        Args:
            ends: How often all were ended when it was asked for; once more, and it is not made.
        """
        settings = self._settings
        await self._agreed()
        await anyio.to_thread.run_sync(importlib.import_module, "e2b_code_interpreter")  # a second of work
        from e2b_code_interpreter import AsyncSandbox  # pyright: ignore[reportMissingTypeStubs]  # no py.typed

        if self._bundle is None:
            self._bundle = await anyio.to_thread.run_sync(bundle, self._preload)
        box_id, made_s = f"e2b-{uuid.uuid4().hex[:12]}", time.monotonic()
        marks = self._marks() | {_BOX: box_id}
        if ends != self._ends:
            raise _ended_early(settings)
        making = asyncio.create_task(
            AsyncSandbox.create(
                template=settings.template,
                timeout=settings.lifetime_s,
                metadata=marks,
                allow_internet_access=False,
                lifecycle={"on_timeout": "kill"},
                **self._connection(),
            )
        )
        self._making[box_id] = making
        try:
            async with asking(settings, "making a sandbox", settings.start_timeout_s):
                made = await asyncio.shield(making)  # a request that is let go may be answered all the same
                if box_id in self._unwanted:
                    raise _ended_early(settings)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._unmake(box_id, making)
            raise
        finally:
            self._making.pop(box_id, None)
            self._unwanted.discard(box_id)
        box = Box(settings, made, box_id, made_s)
        self._live[box_id] = box
        try:
            await box.check()
            await box.load(self._bundle, self._preload)
        except BaseException as error:
            await self._discard(box)
            if asyncio.current_task() is self._refilling:  # otherwise its caller is charged for the wait
                self._owed_ms += box.take_charge_ms()
            if box.is_killed and isinstance(error, NeuralTraderError):
                raise _ended_early(settings) from None
            raise
        return box

    async def _unmake(self, box_id: str, making: "asyncio.Task[AsyncSandbox]") -> None:
        """Kills a sandbox that nobody wants any more while it is being made."""
        settings = self._settings
        self._unwanted.add(box_id)
        await asyncio.wait([making], timeout=settings.request_timeout_s)
        if not making.done() or making.cancelled() or making.exception() is not None:
            making.cancel()
            await self._kill_marked({_BOX: box_id})  # it may have been made all the same
            return
        await Box(settings, making.result(), box_id, time.monotonic()).kill()

    async def _discard(self, box: Box) -> None:
        try:
            await box.kill()
        finally:
            self._live.pop(box.box_id, None)  # until then `kill` and `aclose` wait for it

    async def _drop_unused(self, box: Box) -> None:
        await self._discard(box)
        self._owed_ms += box.take_charge_ms()

    async def _refill(self) -> None:
        while len(self._pool) < self._settings.warm:
            try:
                self._pool.append(await self._make(self._ends))
            except NeuralTraderError as error:  # the run that is over stays what it was
                _log.warning("no warm e2b sandbox", error=error.what)
                return

    async def _sweep(self) -> None:
        """Kill what earlier processes of this desk on this machine left behind."""
        await self._kill_marked({_HOME: self._settings.home_id, _HOST: _host()}, only_orphans=True)

    async def _kill_marked(self, marks: dict[str, str], *, only_orphans: bool = False) -> None:
        from e2b import SandboxQuery
        from e2b_code_interpreter import AsyncSandbox  # pyright: ignore[reportMissingTypeStubs]  # no py.typed

        settings, connection = self._settings, self._connection()
        try:
            async with asking(settings, "listing sandboxes", settings.request_timeout_s):
                pages = AsyncSandbox.list(query=SandboxQuery(metadata=marks), limit=100, **connection)
                listed: list[Any] = []
                while pages.has_next and len(listed) < _LIST_MAX:
                    listed += await pages.next_items()
                for each in listed:
                    found = dict(each.metadata or {})
                    if any(found.get(name) != value for name, value in marks.items()):
                        continue  # the service's filter is not what protects other people's sandboxes
                    if only_orphans and _is_alive(found.get(_PROCESS, "")):
                        continue
                    await AsyncSandbox.kill(each.sandbox_id, **connection)
        except NeuralTraderError as error:
            _log.warning("stray e2b sandboxes not looked for", error=error.what)

    def _marks(self) -> dict[str, str]:
        return {_HOME: self._settings.home_id, _HOST: _host(), _PROCESS: str(os.getpid())}

    def _connection(self) -> Any:
        return self._settings.connection()

    def _with_owed(self, result: SandboxResult) -> SandboxResult:
        """Charges the run for warm sandboxes that expired before it."""
        owed = self.take_charge_ms()
        return replace(result, charged_ms=result.charged_ms + owed) if owed else result

    def _check_entry(self, job: Job) -> None:
        module = job.entry.partition(":")[0]
        if ":" not in job.entry or not (module in self._preload or module in _OWN_ENTRIES):
            raise InputError(
                "sandbox_entry_unknown",
                f"the entry {job.entry!r} is not package.module:function in a preloaded module",
                f"use one of {', '.join(self._preload) or 'no module'}, or preload its module",
            )


def _host() -> str:
    """Tells this machine, and this container, from others that share the account, and says nothing else.

    A process id means something within one namespace of one running kernel only: elsewhere ours looks dead.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()} {own_boot_id()} {namespace}".encode()).hexdigest()[:16]


def _ended_early(settings: E2BSettings) -> NetworkError:
    return NetworkError(
        "e2b_sandbox_gone",
        f"the sandbox at {settings.destination} was killed before it was ready",
        "run it again",
    )


def _is_alive(process: str) -> bool:
    if not process.isdecimal() or not 0 < int(process) < 2**31:
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
