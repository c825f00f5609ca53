"""Control groups: bounds on what a guest really uses, where this host delegates a subtree to the server.

Version 2 is used where its tree offers the controllers, else version 1; both are found from what is
mounted and writable. Every guest has a group of its own, made before it is forked and removed when it is
over; a crashed server's groups are swept away by the next one. See cgroups(7) and systemd's
"Control Group APIs and Delegation".
"""

import contextlib
import errno
import itertools
import os
import queue
import re
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)
REQUIRED = ("memory", "pids")
_WANTED = (*REQUIRED, "cpu")
_PREFIX = "neural-trader-"
_DESK = f"{_PREFIX}desk"
_OURS = re.compile(rf"{_PREFIX}(\d+)-(\d+)-(\d+)-\d+$")
_PERIOD_US = 100_000
_REMOVE_TIMEOUT_S = 2.0
_RETRY_S, _RETRY_MAX_S = 0.005, 1.0
_numbers = itertools.count(1)


class UndelegatedError(Exception):
    """This host lets the server make no groups; the message says why."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """Where groups can be made.

    Attributes:
        version: 1 or 2, of the control group interface.
        folders: Our own folder for each controller; version 2 has one for all.
    """

    version: int
    folders: dict[str, str]

    @property
    def controllers(self) -> tuple[str, ...]:
        """Which of memory, pids and cpu are bounded here."""
        return tuple(name for name in _WANTED if name in self.folders)


def find() -> Delegation:
    """Look for a subtree that is ours to use.

    Raises:
        UndelegatedError: There is none.
    """
    mounts, own = _mounts(), _own_paths()
    reasons: list[str] = []
    if "" in mounts and "" in own:
        try:
            return _find_v2(*mounts[""], own[""])
        except (UndelegatedError, OSError) as error:
            reasons.append(f"cgroup v2: {error}")
    if any(name in mounts for name in REQUIRED):
        try:
            return _find_v1({n: (*mounts[n], own[n]) for n in _WANTED if n in mounts and n in own})
        except (UndelegatedError, OSError) as error:
            reasons.append(f"cgroup v1: {error}")
    raise UndelegatedError("; ".join(reasons) or "no control groups are mounted")


def _mounts() -> dict[str, tuple[str, str]]:
    """The root and the mount point of each version 1 controller's hierarchy, and of version 2 as ``""``."""
    found: dict[str, tuple[str, str]] = {}
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            root, point = (re.sub(r"\\(\d{3})", _unescape, text) for text in before.split()[3:5])
            kind, _, options = after.split(maxsplit=2)
            names = {"cgroup2": [""], "cgroup": options.strip().split(",")}.get(kind, [])
            found.update(dict.fromkeys(names, (root, point)))
    return found


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def _own_paths() -> dict[str, str]:
    found: dict[str, str] = {}
    with open("/proc/self/cgroup") as lines:
        for line in lines:
            _, names, path = line.rstrip("\n").split(":", 2)
            found.update(dict.fromkeys(names.split(","), path))
    return found


def _folder(root: str, point: str, own: str) -> str:
    prefix = root.rstrip("/")
    if ".." in own.split("/") or not (own == root or own.startswith(f"{prefix}/")):
        raise UndelegatedError(f"the group {own} of this process lies outside what is mounted")
    folder = os.path.normpath(f"{point}/{own[len(prefix) :]}")
    if not os.access(folder, os.W_OK):
        raise UndelegatedError(f"{folder} is not writable for user {os.geteuid()}")
    return folder


def _find_v1(places: dict[str, tuple[str, str, str]]) -> Delegation:
    if os.path.isdir("/run/systemd/system"):
        raise UndelegatedError("systemd owns the hierarchies and delegates none of version 1")
    folders = {name: _folder(*place) for name, place in places.items()}
    missing = [name for name in REQUIRED if name not in folders]
    if missing:
        raise UndelegatedError(f"no hierarchy of {', '.join(missing)}")
    return Delegation(1, folders)


def _find_v2(root: str, point: str, own: str) -> Delegation:
    available = _read(os.path.join(point, "cgroup.controllers")).split()
    if any(name not in available for name in REQUIRED):
        raise UndelegatedError(f"{point} offers {' '.join(available) or 'no controller'}")
    folder = _folder(root, point, own)
    if os.path.isdir("/run/systemd/system"):
        # the server may have been put into a leaf below the delegated group: by us, or by DelegateSubgroup=
        choices = (folder, os.path.dirname(folder))
        folder = next((path for path in choices if _is_delegated(path)), "")
        if not folder:
            raise UndelegatedError(f"systemd has not delegated {choices[0]}")
    elif os.path.basename(folder) == _DESK:
        folder = os.path.dirname(folder)
    enabled = _enable(folder)
    missing = [name for name in REQUIRED if name not in enabled]
    if missing:
        raise UndelegatedError(f"{folder} has no {', '.join(missing)}")
    return Delegation(2, dict.fromkeys(enabled, folder))


def _is_delegated(folder: str) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return os.access(folder, os.W_OK)
    return False


def _enable(folder: str) -> list[str]:
    """Let groups below `folder` have controllers; processes may then live in its leaves only."""
    wanted = [name for name in _WANTED if name in _read(f"{folder}/cgroup.controllers").split()]
    switch = f"{folder}/cgroup.subtree_control"
    if set(wanted) - set(_read(switch).split()):
        text = " ".join(f"+{name}" for name in wanted)
        try:
            _write(switch, text)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            os.makedirs(f"{folder}/{_DESK}", exist_ok=True)
            _write(f"{folder}/{_DESK}/cgroup.procs", "0")
            try:
                _write(switch, text)
            except OSError as again:
                raise UndelegatedError(f"other processes live in {folder}: {again.strerror}") from None
    return [name for name in _read(switch).split() if name in _WANTED]


class Group:
    """One guest's group.

    Args:
        version: Of the interface.
        folders: This group's folder for each controller.

    Attributes:
        doors: Descriptors for `kernel.join_group`, one a hierarchy.
    """

    def __init__(self, version: int, folders: dict[str, str]) -> None:
        self._version = version
        self._folders = folders
        self._paths = list(dict.fromkeys(folders.values()))
        self.doors: list[int] = []
        for path in self._paths:
            os.mkdir(path, 0o755)

    def bound(self, memory_bytes: int, tasks: int) -> None:
        """Set or change the limits: memory in use with /tmp, tasks at once, and one processor."""
        memory, pids, cpu = (self._folders.get(name) for name in _WANTED)
        if self._version == 2:
            _write(f"{memory}/memory.max", str(memory_bytes))
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap accounting
                _write(f"{memory}/memory.swap.max", "0")
            _write(f"{memory}/memory.oom.group", "1")
        else:
            _write(f"{memory}/memory.limit_in_bytes", str(memory_bytes))
            with contextlib.suppress(FileNotFoundError):
                _write(f"{memory}/memory.memsw.limit_in_bytes", str(memory_bytes))
        _write(f"{pids}/pids.max", str(tasks))
        if cpu is not None and self._version == 2:
            _write(f"{cpu}/cpu.max", f"{_PERIOD_US} {_PERIOD_US}")
        elif cpu is not None:
            _write(f"{cpu}/cpu.cfs_quota_us", str(_PERIOD_US))

    def open_doors(self) -> None:
        """Open its `cgroup.procs`, so that they can be handed to whoever is to join."""
        for path in self._paths:
            self.doors.append(os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))

    def close_doors(self) -> None:
        """Let go of them."""
        while self.doors:
            os.close(self.doors.pop())

    @property
    def oom_kills(self) -> int:
        """How many of its processes were killed for its memory."""
        file = "memory.events" if self._version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            words = _read(f"{self._folders['memory']}/{file}").split()
            return int(words[words.index("oom_kill") + 1])
        return 0

    def remove(self) -> bool:
        """End whatever is left in it; False where that takes another moment."""
        self.close_doors()
        left = [path for path in self._paths if not _remove(path)]
        return not left


class Groups:
    """One zygote's groups. A thread of its own makes the next and removes the last, off the fast path.

    Args:
        delegation: Where they can be made.

    Raises:
        OSError: They cannot be made after all.
    """

    def __init__(self, delegation: Delegation) -> None:
        self.delegation = delegation
        pid = os.getpid()
        name = f"{_PREFIX}{_pid_namespace()}-{pid}-{_started(pid)}-{next(_numbers)}"
        self._bases = {key: f"{folder}/{name}" for key, folder in delegation.folders.items()}
        self._numbers = itertools.count(1)
        self._spent: deque[Group] = deque()
        self._work: queue.SimpleQueue[Group | tuple[int, int] | threading.Event | None] = queue.SimpleQueue()
        self._ready: deque[tuple[tuple[int, int], Group]] = deque()
        self._is_closed = False
        for folder in set(delegation.folders.values()):
            sweep(folder)
        for path in dict.fromkeys(self._bases.values()):
            os.mkdir(path, 0o755)
        if delegation.version == 2:
            base = next(iter(self._bases.values()))
            _write(f"{base}/cgroup.subtree_control", " ".join(f"+{key}" for key in self._bases))
        self._keeper = threading.Thread(target=self._keep, name="sandbox-cgroups", daemon=True)
        self._keeper.start()

    def take(self, memory_bytes: int, tasks: int) -> Group:
        """A group with these limits.

        Raises:
            OSError: It could not be made; nothing may run without it.
        """
        bounds = (memory_bytes, tasks)
        self._work.put(bounds)
        with contextlib.suppress(IndexError):
            prepared, group = self._ready.popleft()
            if prepared == bounds:
                return group
            self._work.put(group)
        return self._make(bounds)

    def give_back(self, group: Group) -> None:
        """Remove a group whose guest is over, or about to be."""
        if self._is_closed:
            group.remove()
        else:
            self._work.put(group)

    def flush(self, timeout_s: float = _REMOVE_TIMEOUT_S) -> bool:
        """Wait until every group that was given back is gone; False where that takes longer."""
        done = threading.Event()
        self._work.put(done)
        return self._is_closed or done.wait(timeout_s)

    def close(self) -> None:
        """Remove every group; the processes in them have ended, or are ended now."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.put(None)
        self._keeper.join()
        for _, group in self._ready:
            group.remove()
        for path in dict.fromkeys(self._bases.values()):
            _remove_tree(path, _REMOVE_TIMEOUT_S)

    def _make(self, bounds: tuple[int, int]) -> Group:
        number = next(self._numbers)
        folders = {key: f"{base}/{number}" for key, base in self._bases.items()}
        group = Group(self.delegation.version, folders)
        try:
            group.bound(*bounds)
            group.open_doors()
        except OSError:
            group.remove()
            raise
        return group

    def _keep(self) -> None:
        waiting: list[threading.Event] = []
        retry_s = _RETRY_S
        while True:
            try:
                # a guest that is still ending keeps its group: ask again soon, even if nothing else happens
                work = self._work.get(timeout=retry_s if self._spent else None)
                retry_s = _RETRY_S
            except queue.Empty:
                retry_s = min(2 * retry_s, _RETRY_MAX_S)
            else:
                if work is None:
                    return
                if isinstance(work, Group):
                    self._spent.append(work)
                elif isinstance(work, threading.Event):
                    waiting.append(work)
                elif not self._ready:
                    self._prepare(work)
            for _ in range(len(self._spent)):
                group = self._spent.popleft()
                if not group.remove():
                    self._spent.append(group)
            while waiting and not self._spent:
                waiting.pop().set()

    def _prepare(self, bounds: tuple[int, int]) -> None:
        try:
            self._ready.append((bounds, self._make(bounds)))
        except OSError as error:
            _log.warning("no control group could be prepared", error=str(error))


def sweep(folder: str) -> None:
    """Remove the groups that servers of this process namespace left behind when they crashed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            match = _OURS.match(name)
            if match is None or int(match[1]) != _pid_namespace():
                continue
            if _started(int(match[2])) != int(match[3]):
                _log.info("sweeping a dead server's control groups", group=name)
                _remove_tree(os.path.join(folder, name), _REMOVE_TIMEOUT_S)


def _remove_tree(base: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError):
            for entry in os.scandir(base):
                if entry.is_dir(follow_symlinks=False):
                    _remove(entry.path)
        if _remove(base):
            return
        if time.monotonic() > deadline:
            _log.warning("a control group cannot be removed", group=base)
            return
        time.sleep(0.005)


def _remove(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            if os.path.exists(f"{path}/cgroup.kill"):
                _write(f"{path}/cgroup.kill", "1")
            else:
                for pid in map(int, _read(f"{path}/cgroup.procs").split()):
                    if pid > 0:  # 0: of another process namespace
                        os.kill(pid, signal.SIGKILL)
        return False
    return True


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _started(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 where there is none."""
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return -1


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
