"""The local backend: untrusted code in a pre-forked, pre-locked, single-use child of a zygote."""

import contextlib
import errno
import itertools
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import structlog

from neural_trader_governance.errors import ConfigurationError, HostError, InputError
from neural_trader_sandbox.local import probe, zygotes
from neural_trader_sandbox.local.cgroups import Groups
from neural_trader_sandbox.local.children import BACKEND, Child
from neural_trader_sandbox.local.instances import LocalInstance, pack_job
from neural_trader_sandbox.local.profiles import Profile
from neural_trader_sandbox.local.streams import LocalStream
from neural_trader_sandbox.port import Fault, Job, Limits, SandboxReport, SandboxResult, Watch

_log = structlog.get_logger(__name__)
_OWN_ENTRIES = frozenset({"neural_trader_sandbox.script", "neural_trader_sandbox.canaries"})
_ATTEMPTS = 3
_BACKOFF_S, _BACKOFF_MAX_S = 0.05, 1.0
_LOCKED_AT_ONCE = 8
"""Children that are forked and locked at the same time: hundreds at once would all be late, and one zygote
that hangs would let its requests pile up until asking it blocks."""
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS})


class LocalSandbox:
    """Runs untrusted code on this Linux host; implements `port.Sandbox`.

    Nothing starts before the first call. The zygote is started again whenever it has ended. One object
    serves one event loop at a time.

    Args:
        preload: Modules that the zygote imports once; entries must lie in them. A module may define
            ``warm_up()``, called after its import (compiled kernels end up in the cache), and
            ``warm_later()``, an iterator whose steps are taken while nothing is asked of the zygote.
        warm: Children kept locked and waiting.
        cache_dir: Private folder for compiled kernels, so that later starts are fast. None: the user's
            cache folder.
        start_timeout_s: How long imports and warm-up may take.
        ready_timeout_s: How long a child may take to be locked; a zygote that is later hangs, and is replaced
            with all its children.
        profile: `landlock` is weaker, for hosts without user namespaces; it is never chosen by itself.
        deny: Primitives that must fail, for tests: it can only make the sandbox stricter.
    """

    def __init__(
        self,
        preload: Sequence[str],
        *,
        warm: int = 2,
        cache_dir: Path | None = None,
        start_timeout_s: float = 180.0,
        ready_timeout_s: float = 15.0,
        profile: Profile = "full",
        deny: Iterable[str] = (),
    ) -> None:
        self._preload = tuple(preload)
        self._warm = warm
        self._cache_dir = cache_dir
        self._start_timeout_s = start_timeout_s
        self._ready_timeout_s = ready_timeout_s
        self._failures = 0
        self._profile: Profile = profile
        self._deny = tuple(deny)
        self._starting = anyio.Lock()
        self._zygote: zygotes.Zygote | None = None
        self._is_bounded = False  # a layer that was in force does not go away unnoticed
        self._locking = anyio.Semaphore(_LOCKED_AT_ONCE)
        self._pool: deque[Child] = deque()
        self._pool_key: Limits | None = None
        self._live: dict[str, Child] = {}
        self._numbers = itertools.count(1)

    async def probe(self) -> SandboxReport:
        """Attack real children with canaries: every layer, and what was tried. A missing one never raises."""
        return await probe.probe(self)

    async def warm(self) -> None:
        """Starts the zygote ahead of the first run. What this host lacks is that run's to tell."""
        with contextlib.suppress(HostError, ConfigurationError):
            await self._running_zygote()

    async def create(self, limits: Limits = Limits()) -> LocalInstance:  # noqa: B008 - a frozen value
        """A locked child with these limits; one that runs no job is given back with `kill`.

        Raises:
            HostError: This host lacks a layer (`sandbox_unavailable`).
            ConfigurationError: A module to preload is missing.
        """
        check_limits(limits)
        return LocalInstance(await self._locked_child(limits, pooled=True))

    async def run(
        self,
        job: Job,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        *,
        watch: Watch | None = None,
    ) -> SandboxResult:
        """Run one job in a child of its own; see `port.Sandbox.run`. A missing layer is status ``refused``.

        Raises:
            InputError: The job is malformed, too large, or names an entry that is not preloaded.
            ConfigurationError: A module to preload is missing.
        """
        self._check_entry(job)
        pack_job(job, limits)
        started = time.monotonic()
        try:
            instance = await self.create(limits)
        except HostError as error:
            return SandboxResult(
                status="refused",
                error=Fault("HostError", str(error)),
                wall_ms=(time.monotonic() - started) * 1000,
                backend=BACKEND,
            )
        try:
            return await instance.run(job, watch=watch)
        finally:
            instance.child.close()
            self._refill(limits)

    async def open_stream(self, job: Job, limits: Limits = Limits()) -> LocalStream:  # noqa: B008 - a frozen value
        """A guest that answers message by message; see `port.Sandbox.open_stream`. It takes no warm child.

        Raises:
            InputError: The job is malformed, too large, or names an entry that is not preloaded.
            HostError: This host lacks a layer, or has no room for another child (`sandbox_unavailable`).
            ConfigurationError: A module to preload is missing.
            StrategyError: The entry returned no handler (`sandbox_guest_failed`).
        """
        self._check_entry(job)
        check_limits(limits)
        message = pack_job(job, limits, stream=True)
        child = await self._locked_child(limits, pooled=False)
        stream = LocalStream(child)
        await stream.open(job, message)
        return stream

    async def kill(self, instance_id: str | None = None) -> None:
        """End one instance, or every one; an unknown id is one that has ended already."""
        if instance_id is None:
            self._drain()
        chosen = list(self._live.values()) if instance_id is None else [self._live.get(instance_id)]
        for child in chosen:
            if child is not None:
                child.kill()
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """End everything and give every process and descriptor back; a later call starts afresh."""
        await self.kill()
        zygote, self._zygote = self._zygote, None
        self._is_bounded = False
        if zygote is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(zygote.close)

    @property
    def profile(self) -> Profile:
        """What its runs are locked in by."""
        return self._profile

    async def host_uid(self) -> int:
        """The user id that the host sees the zygote and its children run as."""
        return (await self._running_zygote()).host_uid

    async def groups(self) -> Groups | str:
        """Where its runs' control groups are made, or why there are none."""
        return (await self._running_zygote()).groups

    async def _running_zygote(self) -> zygotes.Zygote:
        async with self._starting:
            if self._zygote is not None and self._zygote.is_alive:
                return self._zygote
            if self._zygote is not None:
                _log.warning("sandbox zygote ended; starting another", pid=self._zygote.pid)
                await self._discard(self._zygote)
            if self._failures:
                await anyio.sleep(min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(self._failures, 10)))
            try:
                zygote = await zygotes.start(
                    self._preload, self._cache_dir, self._deny, self._start_timeout_s, self._profile
                )
            except HostError as error:
                if error.facts.get("primitive") == "start":  # it died; a missing layer is just missing
                    self._failures += 1
                raise
            if self._is_bounded and isinstance(zygote.groups, str):
                await anyio.to_thread.run_sync(zygote.close)
                raise zygotes.unavailable("cgroup", f"there were control groups before: {zygote.groups}")
            self._is_bounded = not isinstance(zygote.groups, str)
            self._zygote = zygote
            return zygote

    async def _discard(self, zygote: zygotes.Zygote) -> None:
        if zygote is self._zygote:
            self._failures += 1  # until one of its successors has locked a child
            self._zygote = None
            self._drain()
            await anyio.to_thread.run_sync(zygote.close)

    def _check_entry(self, job: Job) -> None:
        module = job.entry.partition(":")[0]
        if ":" not in job.entry or not (module in self._preload or module in _OWN_ENTRIES):
            raise InputError(
                "sandbox_entry_unknown",
                f"the entry {job.entry!r} is not package.module:function in a preloaded module",
                f"use one of {', '.join(self._preload) or 'no module'}, or preload its module",
            )

    async def _locked_child(self, limits: Limits, *, pooled: bool) -> Child:
        async with self._locking:
            return await self._lock_child(limits, pooled=pooled)

    async def _lock_child(self, limits: Limits, *, pooled: bool) -> Child:
        failed = 0
        while failed < _ATTEMPTS:
            zygote = await self._running_zygote()
            child = warm = self._take_warm(limits) if pooled else None
            try:
                if child is None:
                    child = self._spawn(zygote, limits)
                await child.ready(self._ready_timeout_s)
            except (EOFError, OSError) as error:  # TimeoutError is one of them
                if isinstance(error, OSError) and error.errno in _NO_MORE:
                    raise zygotes.unavailable("descriptors", str(error)) from None
                _log.warning("sandbox child ended before its job", error=repr(error))
                if child is not None:
                    child.close()
                if warm is None or isinstance(error, TimeoutError):
                    failed += 1  # a fresh child too, or none in time: its zygote is ending, or hangs
                    await self._discard(zygote)
                continue
            except BaseException:
                if child is not None:
                    child.close()
                raise
            self._failures = 0
            return child
        why = f"{_ATTEMPTS} zygotes in a row ended, or hung, before a child was locked"
        raise zygotes.unavailable("start", why)

    def _spawn(self, zygote: zygotes.Zygote, limits: Limits) -> Child:
        data, leash, group = zygote.spawn(limits)
        name = f"local-{next(self._numbers)}"

        def forget(child_id: str) -> None:
            if self._live.pop(child_id, None) is not None:
                zygote.give_back(group)

        child = Child(name, limits, data, leash, forget, group)
        self._live[name] = child
        return child

    def _take_warm(self, limits: Limits) -> Child | None:
        if self._pool and self._pool_key == _kernel_limits(limits):
            child = self._pool.popleft()
            child.limits = limits  # of time and output; those that the kernel enforces are the same
            return child
        return None

    def _refill(self, limits: Limits) -> None:
        """Keep `warm` children with the limits that were asked for last; they lock while nobody waits."""
        zygote = self._zygote
        if zygote is None or not zygote.is_alive:
            return
        key = _kernel_limits(limits)
        if key != self._pool_key:
            self._drain()
            self._pool_key = key
        try:
            while len(self._pool) < self._warm:
                self._pool.append(self._spawn(zygote, key))
        except OSError as error:
            _log.warning("sandbox pool not refilled", error=str(error))

    def _drain(self) -> None:
        while self._pool:
            self._pool.popleft().close()


def _kernel_limits(limits: Limits) -> Limits:
    """Only what is in force before the job comes; the rest travels with the job."""
    default = Limits()
    return replace(limits, wall_time_s=default.wall_time_s, output_bytes=default.output_bytes)


def check_limits(limits: Limits) -> None:
    """Pass limits that a run can be held to.

    Raises:
        InputError: One is too small, too large or no number (`sandbox_limit_invalid`).
    """
    for name, least in (
        ("wall_time_s", 0.001),
        ("cpu_time_s", 1),
        ("memory_bytes", 64 << 20),
        ("resident_bytes", 16 << 20),
        ("tmp_bytes", 4096),
        ("tmp_inodes", 2),
        ("file_bytes", 0),
        ("output_bytes", 0),
        ("frame_bytes", 1024),
        ("columns_bytes", 0),
        ("tables_bytes", 0),
        ("json_depth", 2),
        ("open_files", 8),
        ("threads", 1),
    ):
        value = getattr(limits, name)
        if not least <= value < 2**62:  # NaN fails both
            raise InputError(
                "sandbox_limit_invalid",
                f"{name} is {value}, the least is {least}",
                f"give {name} a larger value",
            )
