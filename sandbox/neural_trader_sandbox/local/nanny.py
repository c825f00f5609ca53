"""The nanny: parent of one guest. It holds the leash, the clock and the guest's end; it runs no guest code.

Descriptors from here on: 3 the data socket (guest), 4 the leash (nanny), 5 the host's /proc until the
user namespace is mapped, then the doors to the guest's control groups.
"""

import contextlib
import json
import os
import resource
import select
import signal
import struct
import time
from typing import NoReturn

from neural_trader_sandbox import frames
from neural_trader_sandbox.local import guest, kernel

DATA, LEASH, PROC = 3, 4, 5
CLOCK = struct.Struct("<d")
"""Host to nanny: something has been handed over; its seconds of wall clock. 0: it has been answered."""
_OUTSIDE = 65534
_NAMESPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWNET
)
"""The guest leaves the cgroup namespace itself, once it is in its groups."""
_HEADROOM = 1024
"""Threads that others of the user may start meanwhile, and the most that a bomb can start."""


def main(
    data: int,
    leash: int,
    proc: int,
    doors: list[int],
    limits: dict[str, int],
    profile: str,
    readable: list[str],
) -> NoReturn:
    """Enter fresh namespaces, fork the guest into them, and watch it to its end."""
    wire = data
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _deny_for_guest()
        kernel.die_with_parent()
        doors = _arrange(data, leash, proc, doors)
        wire = DATA
        kernel.close_from(PROC + 1 + len(doors))
        parent = os.getpid()
        if profile == "full":
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
            kernel.unshare(_NAMESPACES)
            kernel.map_identity(PROC, guest.UID, _OUTSIDE, _OUTSIDE)
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
            parent = 0  # the guest's namespace does not know this process
        else:
            hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            wanted = limits["threads"] + _tasks(os.getuid()) + _HEADROOM
            limits["threads"] = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        os.close(PROC)
        gate, opener = os.pipe()
        child = kernel.fork()
    except kernel.DeniedError as denied:
        with contextlib.suppress(OSError):
            refuse(wire, denied.primitive, denied.reason)
        os._exit(1)
    except BaseException as error:  # nothing may escape into the zygote's loop
        with contextlib.suppress(OSError):
            refuse(wire, "nanny", f"{type(error).__name__}: {error}")
        os._exit(1)
    if child == 0:
        os.close(LEASH)
        os.close(opener)
        guest.main(DATA, gate, doors, limits, profile, readable, parent)
    try:
        kernel.die_with_parent()
        kernel.drop_capabilities()
        guest_fd = kernel.pidfd(child)
        os.write(opener, b"1")
    except BaseException as error:  # a guest without a watch never gets past the gate
        os.kill(child, signal.SIGKILL)
        primitive = error.primitive if isinstance(error, kernel.DeniedError) else "nanny"
        with contextlib.suppress(OSError):
            refuse(DATA, primitive, str(error))
        os._exit(1)
    for fd in (DATA, gate, opener, *doors):
        os.close(fd)
    _watch(child, guest_fd)


def refuse(data: int, primitive: str, reason: str) -> None:
    """Tell the host that this child could not be locked."""
    os.write(data, frames.pack_json(frames.REFUSED, {"primitive": primitive, "reason": reason[:2000]}))


def _deny_for_guest() -> None:
    """`guest:NAME` denies a primitive from here on only, so that tests reach the later locks too."""
    prefixed = [name for name in kernel.denied_on_purpose if name.startswith("guest:")]
    kernel.denied_on_purpose.update(name.removeprefix("guest:") for name in prefixed)


def _tasks(user: int) -> int:
    """About how many threads run as `user`: without a namespace, RLIMIT_NPROC counts all of them."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == user:
                    count += os.stat(f"/proc/{entry.name}/task").st_nlink - 2
    return count


def _arrange(data: int, leash: int, proc: int, doors: list[int]) -> list[int]:
    """Put the descriptors that remain in their places; stdio becomes /dev/null. Returns the doors'."""
    spare = [os.dup(fd) for fd in (data, leash, proc, *doors)]
    high = [os.dup2(fd, 100 + i) for i, fd in enumerate(spare)]
    for target, fd in enumerate(high, DATA):
        os.dup2(fd, target)
    null = os.open("/dev/null", os.O_RDWR)
    for stdio in (0, 1, 2):
        os.dup2(null, stdio)
    return list(range(PROC + 1, PROC + 1 + len(doors)))


def _watch(child: int, guest_fd: int) -> NoReturn:
    """Kill the guest on the wall clock or when the host lets go; then say how it ended."""
    poll = select.poll()
    poll.register(guest_fd, select.POLLIN)
    poll.register(LEASH, select.POLLIN | select.POLLRDHUP)
    deadline: float | None = None
    timed_out = False
    while True:
        wait_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        events = dict(poll.poll(wait_ms))
        if guest_fd in events:
            break
        if LEASH in events:
            message = os.read(LEASH, CLOCK.size)
            if len(message) == CLOCK.size:
                (wall_time_s,) = CLOCK.unpack(message)
                deadline = time.monotonic() + wall_time_s if wall_time_s else None
                continue
        elif deadline is None or time.monotonic() < deadline:
            continue
        else:
            timed_out = True
        os.kill(child, signal.SIGKILL)
        break
    _, status, usage = os.wait4(child, 0)
    verdict = {
        "timed_out": timed_out,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
        "rss_max_bytes": usage.ru_maxrss * 1024,
    }
    with contextlib.suppress(OSError):
        os.write(LEASH, json.dumps(verdict).encode())
    os._exit(0)
