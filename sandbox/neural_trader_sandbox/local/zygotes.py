"""The host's end of a zygote: start it, ask it for children, end it."""

import array
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anyio
import anyio.to_thread
import platformdirs
import structlog

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_sandbox.local import cgroups
from neural_trader_sandbox.local.launcher import BOOTSTRAP, MESSAGE_BYTES, NOBODY, is_mapped
from neural_trader_sandbox.local.profiles import Profile
from neural_trader_sandbox.local.remedies import next_step
from neural_trader_sandbox.local.visible import visible
from neural_trader_sandbox.port import Limits

_log = structlog.get_logger(__name__)
_END_TIMEOUT_S = 5.0
_SEND_BYTES = 1 << 20
"""What a guest may write ahead of the host's reading; the kernel's net.core.wmem_max bounds it too."""
_ALWAYS = ("neural_trader_sandbox.script", "neural_trader_sandbox.canaries")


def unavailable(primitive: str, reason: str) -> HostError:
    """The error for a missing layer, with what to do about it."""
    what = f"the sandbox needs {primitive} and this host answers: {reason}"
    return HostError("sandbox_unavailable", what, next_step(primitive), primitive=primitive)


class Zygote:
    """A running zygote. Its processes end when this object is closed, collected, or its owner dies.

    Attributes:
        groups: Where its children's control groups are made, or why there are none.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, groups: cgroups.Groups | str
    ) -> None:
        self.groups = groups
        self._process = process
        self._control = control
        self._finalizer = weakref.finalize(self, _end, process, control, groups)

    @property
    def pid(self) -> int:
        """Process id of the launcher, whose end is the end of all."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """False once the zygote or its launcher has ended."""
        if not self._finalizer.alive or self._process.poll() is not None:
            return False
        poll = select.poll()
        poll.register(self._control, select.POLLRDHUP)
        return not poll.poll(0)

    @property
    def host_uid(self) -> int:
        """The user id that the host sees the zygote run as."""
        with open(f"/proc/{self.pid}/status") as lines:
            line = next(line for line in lines if line.startswith("Uid:"))
        return int(line.split()[1])

    def spawn(self, limits: Limits) -> tuple[socket.socket, socket.socket, cgroups.Group | None]:
        """Ask for one child: its data socket and the leash to its nanny, both non-blocking, and its group.

        Raises:
            OSError: The zygote has gone, has left a hundred requests unread, or this process has no
                descriptors left.
        """
        numbers = {k: v for k, v in asdict(limits).items() if isinstance(v, int)}
        groups = None if isinstance(self.groups, str) else self.groups
        group = None if groups is None else groups.take(limits.resident_bytes, limits.threads)
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            if groups is not None and group is not None:
                ours.callback(groups.give_back, group)
            data, their_data = socket.socketpair()
            ours.enter_context(data)
            theirs.enter_context(their_data)
            their_data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            leash, their_leash = socket.socketpair()
            ours.enter_context(leash)
            theirs.enter_context(their_leash)
            passed = [their_data.fileno(), their_leash.fileno()]
            if group is not None:
                theirs.callback(group.close_doors)
                passed += group.doors
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))]
            self._control.sendmsg([json.dumps(numbers).encode()], rights)
            data.setblocking(False)
            leash.setblocking(False)
            ours.pop_all()
        return data, leash, group

    def give_back(self, group: cgroups.Group | None) -> None:
        """Remove the group of a child that is over."""
        if group is not None and not isinstance(self.groups, str):
            self.groups.give_back(group)

    def close(self) -> None:
        """End the zygote and every child; blocks for some milliseconds. Closing twice is harmless."""
        self._finalizer()


def _end(process: subprocess.Popen[bytes], control: socket.socket, groups: cgroups.Groups | str) -> None:
    control.close()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if not isinstance(groups, str):
        groups.close()


async def start(
    preload: Sequence[str],
    cache: Path | None,
    deny: Sequence[str],
    timeout_s: float,
    profile: Profile = "full",
) -> Zygote:
    """Start a zygote and wait until it has imported its modules.

    Raises:
        HostError: This host lacks a layer, or the interpreter did not start (`sandbox_unavailable`).
        ConfigurationError: A module to preload is missing.
    """
    if sys.platform != "linux":
        raise unavailable("platform", f"{sys.platform} has neither namespaces, Landlock nor seccomp")
    started = time.monotonic()
    try:
        errors = os.memfd_create("sandbox-stderr", os.MFD_CLOEXEC)
    except OSError as error:
        raise unavailable("descriptors", str(error)) from None
    try:
        try:
            zygote, control = await anyio.to_thread.run_sync(_launch, preload, cache, deny, errors, profile)
        except OSError as error:  # no descriptors for its sockets
            raise unavailable("descriptors", str(error)) from None
        try:
            answer = await _hear(control, timeout_s)
        except BaseException:
            zygote.close()
            raise
        if answer.get("ready") is not True:
            await anyio.to_thread.run_sync(zygote.close)
            said = os.pread(errors, 4000, 0).decode(errors="replace").strip()
            reason = (
                str(answer.get("reason", ""))
                or f"the interpreter ended; it said: {said[-1500:] or 'nothing'}"
            )
            raise unavailable(str(answer.get("refused", "start")), reason)
    finally:
        os.close(errors)
    _log.debug("sandbox zygote ready", pid=zygote.pid, start_s=round(time.monotonic() - started, 3))
    return zygote


def _launch(
    preload: Sequence[str], cache: Path | None, deny: Sequence[str], errors: int, profile: Profile
) -> tuple[Zygote, socket.socket]:
    seen, folder = visible(preload), prepare_cache(cache)
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = {
        "preload": [*_ALWAYS, *preload],
        "visible": seen.paths,
        "sys_path": seen.sys_path,
        "cache": None if folder is None else str(folder),
        "own_cache": None,
        "deny": list(deny),
        "profile": profile,
    }
    groups = _groups()
    command = [sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8", "-c", BOOTSTRAP, seen.own_root]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
            [*command, str(theirs.fileno())],
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except OSError as error:
        control.close()
        if not isinstance(groups, str):
            groups.close()
        raise unavailable("start", f"{sys.executable or 'no interpreter'}: {error}") from None
    finally:
        theirs.close()
    message = json.dumps(plan).encode()
    zygote = Zygote(process, control, groups)
    if len(message) > MESSAGE_BYTES:
        zygote.close()
        raise unavailable("start", f"the plan of visible paths has {len(message)} bytes")
    with contextlib.suppress(OSError):  # it has ended already; the missing answer says so
        control.send(message)
    control.setblocking(False)
    return zygote, control


def _groups() -> cgroups.Groups | str:
    try:
        return cgroups.Groups(cgroups.find())
    except (cgroups.UndelegatedError, OSError) as reason:
        return str(reason)


async def _hear(control: socket.socket, timeout_s: float) -> dict[str, object]:
    """The zygote's first message; empty where it ended without one."""
    try:
        with anyio.fail_after(timeout_s):
            await anyio.wait_readable(control)
    except TimeoutError:
        raise unavailable("start", f"the zygote was not ready after {timeout_s:g} s") from None
    try:
        message = control.recv(MESSAGE_BYTES)
    except OSError:
        return {}
    return dict(json.loads(message)) if message else {}


def prepare_cache(chosen: Path | None) -> Path | None:
    """A folder that only the zygote's user can write: it holds compiled kernels.

    Args:
        chosen: The owner's choice. None: the user's cache folder, or no cache where there is none.

    Raises:
        ConfigurationError: The chosen folder cannot be made (`sandbox_cache_unusable`).
    """
    cache = chosen or Path(platformdirs.user_cache_dir("neural-trader")) / "sandbox"
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.geteuid() == 0 and is_mapped(NOBODY):
            os.chown(cache, NOBODY, NOBODY)
        cache.chmod(0o700)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # says nothing about the folder
        if chosen is None:
            _log.warning(
                "no cache folder: kernels are compiled at every start", path=str(cache), error=str(error)
            )
            return None
        raise ConfigurationError(
            "sandbox_cache_unusable",
            f"the folder {cache} for compiled kernels cannot be used: {error.strerror}",
            "choose a folder that this user owns",
        ) from None
    return cache.absolute()
