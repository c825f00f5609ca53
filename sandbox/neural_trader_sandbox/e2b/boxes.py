"""One sandbox of the service with its one guest process: checked, loaded, spoken to, killed."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

import anyio
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neural_trader_governance.errors import ConfigurationError, NeuralTraderError
from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import ReadyFrame, RefusedFrame, plain_text, read
from neural_trader_sandbox.e2b import recipe
from neural_trader_sandbox.e2b.bundle import Bundle, python_arguments
from neural_trader_sandbox.e2b.failures import BUILD, asking, translated
from neural_trader_sandbox.e2b.pipes import Pipe
from neural_trader_sandbox.e2b.runner import ENVIRONMENT
from neural_trader_sandbox.e2b.settings import E2BSettings
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.port import Limits

if TYPE_CHECKING:
    from e2b_code_interpreter import AsyncSandbox  # pyright: ignore[reportMissingTypeStubs]  # it ships no py.typed

_log = structlog.get_logger(__name__)
MICROVM: Final = "e2b:microvm"
UNPROVEN: Final = "e2b:unproven"
_KILL_ATTEMPTS = 3
_READY_BYTES = 1 << 16
_BUNDLES_MAX = 64
_CHECK = """
import hashlib as _h, importlib.metadata as _m, json as _j, os as _o, sys as _s, time as _t, zipfile as _zip
def _v(name):
    try: return _m.version(name)
    except Exception: return ""
def _b():
    try:
        with open("/proc/sys/kernel/random/boot_id") as file: return file.read().strip()
    except OSError: return ""
def _d(folder):
    try: names = [n for n in _o.listdir(folder) if len(n) == 68 and n.endswith(".zip")]
    except OSError: return []
    return [d for d in (_z(folder + "/" + n) for n in names[:MAX]) if d]
def _z(path):
    hasher = _h.sha256()
    try:
        with _zip.ZipFile(path) as file:
            for name in sorted(file.namelist()):
                data = file.read(name)
                hasher.update(f"{name}\\0{len(data)}\\0".encode() + data)
    except Exception: return ""
    return hasher.hexdigest()
print(_j.dumps({"python": _s.executable, "versions": {n: _v(n) for n in ("numpy", "polars", "numba")},
                "boot_id": _b(), "bundles": _d(FOLDER), "time": _t.time()}))
"""


def check_in(folder: str) -> str:
    """The source of the check, for what lies in our folder of a sandbox; it prints a `Greeting`."""
    return _CHECK.replace("FOLDER", repr(folder)).replace("MAX", str(_BUNDLES_MAX))


class _Ready(ReadyFrame):
    kernels_compiled: int = Field(default=0, ge=0, lt=1 << 20)


class Greeting(BaseModel):
    """What a fresh sandbox says of itself, before a stranger's code was ever in it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    python: str = Field(pattern=r"^/[^\x00-\x1f\x7f]{1,500}$")
    versions: dict[str, str]
    boot_id: str = Field(max_length=64)
    bundles: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(max_length=_BUNDLES_MAX)
    time: float


class Box:
    """A sandbox of the service; `E2BSandbox` makes them.

    Args:
        settings: Of the backend.
        sandbox: The SDK's.
        box_id: For logs and `E2BSandbox.kill`.
        made_s: When it was asked for, on the monotonic clock.

    Attributes:
        pipe: To its guest process.
        greeting: What it said when it was checked.
        clock_skew_s: How far its clock is from ours, at least.
        layers: What isolates it.
        notes: What a person should know about it.
        is_killed: The caller ended it.
        is_over: It is, or is being, killed.
    """

    def __init__(self, settings: E2BSettings, sandbox: "AsyncSandbox", box_id: str, made_s: float) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self.box_id = box_id
        self.pipe = Pipe(sandbox, settings)
        self.greeting: Greeting | None = None
        self.clock_skew_s = 0.0
        self.layers: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.is_killed = self.is_over = False
        self._made_s = made_s
        self._until_s = made_s + settings.lifetime_s
        self._ended_s: float | None = None
        self._charged_s = made_s
        self._holding: asyncio.Task[None] | None = None
        self._killed = asyncio.Event()

    @property
    def destination(self) -> str:
        """The service."""
        return self._settings.destination

    def take_charge_ms(self) -> float:
        """How long it has lived since this was last asked: what the service charges for."""
        now = self._ended_s or time.monotonic()
        since, self._charged_s = now - self._charged_s, now
        return max(since, 0.0) * 1000

    @property
    def remaining_s(self) -> float:
        """Until the service ends it by itself."""
        return self._until_s - time.monotonic()

    async def is_alive(self) -> bool:
        """It answers, and so does its runner as far as anybody knows."""
        if self.is_over or self.pipe.is_ended:
            return False
        try:
            async with asking(self._settings, "looking for a sandbox", self._settings.request_timeout_s):
                return await self._sandbox.is_running()
        except NeuralTraderError:
            return False

    async def check(self) -> None:
        """Run the smallest code there is: are our packages there, is it another kernel?

        Raises:
            ConfigurationError: The template is not ours (`e2b_template_unfit`).
            NetworkError: It does not answer.
        """
        settings = self._settings
        domain = self._sandbox.sandbox_domain
        if domain != settings.domain and not domain.endswith("." + settings.domain):
            raise ConfigurationError(
                "e2b_domain_differs",
                f"the service put the sandbox at {plain_text(domain)[:100]}, not at {settings.domain}",
                "if that is yours, set e2b_domain to it and consent again",
            )
        before = time.time()
        async with asking(settings, "checking a sandbox", settings.start_timeout_s):
            execution = await self._sandbox.run_code(
                check_in(settings.folder), timeout=settings.start_timeout_s
            )
        after = time.time()
        said = "".join(execution.logs.stdout).strip()
        try:
            greeting = Greeting.model_validate_json(said)
        except ValidationError:
            fault = execution.error.name if execution.error is not None else said
            raise ConfigurationError(
                "e2b_template_unfit",
                f"the template {settings.template} did not run our check: {plain_text(fault)[:200]}",
                BUILD,
            ) from None
        wrong = [
            f"{name} {plain_text(greeting.versions.get(name) or 'missing')[:40]}"
            f" (needed: {' or '.join(sorted(versions))})"
            for name, versions in recipe.VERSIONS.items()
            if greeting.versions.get(name) not in versions
        ]
        if wrong:
            raise ConfigurationError(
                "e2b_template_unfit", f"the template {settings.template} has {', '.join(wrong)}", BUILD
            )
        self.greeting = greeting
        self.clock_skew_s = max(before - greeting.time, greeting.time - after, 0.0)
        apart = greeting.boot_id != "" and greeting.boot_id != own_boot_id()
        self.layers = (MICROVM if apart else UNPROVEN, "internet_off", "wall_clock")

    async def load(self, bundle: Bundle, preload: tuple[str, ...]) -> None:
        """Start the runner, until it has imported our modules; uploads them unless the template has them.

        The sandbox says which it has, by the digest of their content, before a stranger's code was in it. One
        that lies runs something else than we sent: then its answers are false, which they may always be.

        Raises:
            ConfigurationError: A module could not be imported there (`e2b_template_unfit`).
            NetworkError: It does not answer, or ended.
        """
        settings, greeting = self._settings, self.greeting
        assert greeting is not None, "checked first"  # noqa: S101 - `E2BSandbox` calls in this order
        is_there = bundle.digest in greeting.bundles
        if not is_there:
            path = f"{settings.folder}/{bundle.digest}.zip"
            async with asking(settings, "uploading our modules", settings.start_timeout_s):
                await self._sandbox.files.write(path, bundle.data)  # pyright: ignore[reportUnknownMemberType]  # IO[Unknown]
        arguments = python_arguments("main", settings.folder, bundle.digest, preload)
        async with asking(settings, "starting the runner", settings.start_timeout_s):
            await self.pipe.start([greeting.python, *arguments], ENVIRONMENT)
            try:
                kind, size = frames.HEADER.unpack(await self.pipe.read(frames.HEADER.size))
                payload = await self.pipe.read(min(size, _READY_BYTES))
                ready = read(_Ready, payload, 4) if kind == frames.READY else None
                reason = "" if ready is not None else read(RefusedFrame, payload, 4).reason
            except (EOFError, FrameError) as error:
                ready, reason = None, self.pipe.complaint[-500:].strip() or str(error) or "it ended"
        if ready is None:
            raise ConfigurationError(
                "e2b_template_unfit",
                f"our runner did not start in {settings.template}: {plain_text(reason)[-500:]}",
                BUILD,
            )
        self.layers += tuple(plain_text(layer) for layer in ready.layers)
        if ready.kernels_compiled:
            lacks = "kernels for another processor or numba" if is_there else "not the engine of this release"
            self.notes = (
                f"{ready.kernels_compiled} kernels were compiled before the run, which the service charges:"
                f" the template {settings.template} has {lacks}; {BUILD}",
            )

    async def begin(self, limits: Limits) -> None:
        """Say which limits the guest is to set, before its job."""
        names = ("cpu_time_s", "file_bytes", "open_files", "memory_bytes", "frame_bytes", "json_depth")
        await self.pipe.write_line(json.dumps({name: getattr(limits, name) for name in names}).encode())

    async def prolong(self, seconds: float) -> None:
        """Have the service keep it for so long from now, where it would end sooner."""
        if self.remaining_s >= seconds:
            return
        life_s = max(int(seconds) + 1, self._settings.lifetime_s)
        async with asking(self._settings, "prolonging a sandbox", self._settings.request_timeout_s):
            await self._sandbox.set_timeout(life_s)
        self._until_s = time.monotonic() + life_s

    def hold(self, agreed: Callable[[], Awaitable[None]]) -> None:
        """Have the service keep it until it is killed, this process is no more, or nobody agrees to it."""
        self._holding = asyncio.create_task(self._hold(agreed))

    async def _hold(self, agreed: Callable[[], Awaitable[None]]) -> None:
        while not self.is_over:
            await anyio.sleep(self._settings.lifetime_s / 3)
            with contextlib.suppress(NeuralTraderError):  # the next try may be in time
                await agreed()
                await self.prolong(self._settings.lifetime_s)

    def explain(self, error: Exception) -> NeuralTraderError:
        """What became of the connection to it, in our words."""
        return translated(error, self._settings, "running")

    async def kill(self) -> None:
        """End it at the service, whatever happens to the caller; a second call waits for the first."""
        if self.is_over:
            with anyio.CancelScope(shield=True):
                await self._killed.wait()
            return
        self.is_over = True
        self.pipe.end()
        if self._holding is not None:
            self._holding.cancel()
        try:
            await self._kill()
        finally:
            self._killed.set()

    async def _kill(self) -> None:
        settings = self._settings
        with anyio.CancelScope(shield=True):
            for attempt in range(_KILL_ATTEMPTS):
                try:
                    async with asking(settings, "killing a sandbox", settings.request_timeout_s):
                        await self._sandbox.kill()
                    break
                except NeuralTraderError as error:  # the service ends it when its lifetime is over
                    _log.warning("e2b sandbox not killed", box=self.box_id, attempt=attempt, error=error.what)
            self._ended_s = time.monotonic()
            with anyio.move_on_after(settings.request_timeout_s):
                await self.pipe.close()


def own_boot_id() -> str:
    """This machine's; two that differ are two kernels."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "none"
