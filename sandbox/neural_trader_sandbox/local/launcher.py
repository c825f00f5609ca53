"""The first process: builds the private root, becomes nobody, starts the zygote, ends it with the server.

It runs as ``python -s -P -S -B -c BOOTSTRAP`` with an empty environment and one inherited descriptor,
the control socket. It never sees untrusted code.
"""

import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn, cast

from neural_trader_sandbox.local import kernel, landlock, root

NOBODY = 65534
BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from neural_trader_sandbox.local.launcher import main; main(int(sys.argv[2]))"
)
MESSAGE_BYTES = 1 << 17


def main(control_fd: int) -> NoReturn:
    """Read the plan, lock this process in, fork the zygote, and wait for either end."""
    control = socket.socket(fileno=control_fd)
    try:
        plan = cast("dict[str, Any]", json.loads(control.recv(MESSAGE_BYTES)))
        kernel.denied_on_purpose.update(plan["deny"])
        proc, readable = _lock(plan) if plan["profile"] == "full" else _lock_in_place(plan)
        os.close(kernel.pidfd(os.getpid()))  # without it the zygote could not be watched
        child = kernel.fork()
    except kernel.DeniedError as denied:
        refuse(control, denied.primitive, denied.reason)
    except Exception as error:  # whatever fails here, the answer is a refusal and an exit
        refuse(control, "launcher", f"{type(error).__name__}: {error}")
    if child == 0:
        from neural_trader_sandbox.local import zygote

        zygote.main(control, proc, plan, readable)
    os.close(proc)
    _watch(control, child, plan["own_cache"])


def refuse(control: socket.socket, primitive: str, reason: str) -> NoReturn:
    """Tell the host what is missing and end."""
    control.send(json.dumps({"refused": primitive, "reason": reason[:4000]}).encode())
    os._exit(1)


def _lock(plan: dict[str, Any]) -> tuple[int, list[str]]:
    """Leave the host's file system and identity; returns the host's /proc and what a guest may read."""
    kernel.architecture()
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    uid, gid = os.getuid(), os.getgid()
    is_root = os.geteuid() == 0 and is_mapped(NOBODY)
    if is_root:
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
    else:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
        kernel.map_identity(proc, NOBODY, uid, gid)
    visible = [*plan["visible"], *root.mapped_libraries()]
    readable = root.build(visible, plan["cache"])
    if is_root:
        kernel.become(NOBODY)
    kernel.drop_capabilities()
    if os.getresuid() != (NOBODY,) * 3 or os.getresgid() != (NOBODY,) * 3:
        raise kernel.DeniedError("setuid", f"still running as {os.getresuid()}")
    return proc, readable


def _lock_in_place(plan: dict[str, Any]) -> tuple[int, list[str]]:
    """The same without any namespace: nobody where this is root, else this very user."""
    kernel.architecture()
    landlock.require_alone()
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if 0 in (*os.getresuid(), *os.getresgid()):
        if not is_mapped(NOBODY):
            raise kernel.DeniedError("setuid", f"this container maps no user {NOBODY}")
        kernel.become(NOBODY)
    kernel.drop_capabilities()
    if 0 in (*os.getresuid(), *os.getresgid()):
        raise kernel.DeniedError("setuid", "still running as root")
    kernel.require("readable")
    for path in plan["sys_path"]:
        if not os.access(path, os.R_OK):
            raise kernel.DeniedError("readable", f"user {os.getuid()} cannot read {path}")
    if plan["cache"] is None or not os.access(plan["cache"], os.W_OK | os.X_OK):
        plan["cache"] = plan["own_cache"] = f"/tmp/neural-trader-kernels-{os.urandom(8).hex()}"  # noqa: S108
        os.mkdir(plan["cache"], 0o700)  # a name nobody knew before; it goes with this process
    paths = [*plan["visible"], *root.mapped_libraries(), *root.DEVICES]
    return proc, [path for path in dict.fromkeys(paths) if os.access(path, os.R_OK)]


def is_mapped(uid: int) -> bool:
    """Whether this user namespace has `uid`; a container's root may be a lone, unprivileged user."""
    with open("/proc/self/uid_map") as lines:
        ranges = [[int(word) for word in line.split()] for line in lines]
    return any(first <= uid < first + count for first, _, count in ranges)


def _watch(control: socket.socket, child: int, own_cache: str | None) -> NoReturn:
    """End the zygote, and with it its whole process namespace, when the server goes."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the terminal's Ctrl-C is the server's business
    zygote_fd = kernel.pidfd(child)
    poll = select.poll()
    poll.register(zygote_fd, select.POLLIN)
    poll.register(control, select.POLLRDHUP)
    poll.poll()
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if own_cache is not None:
        import shutil  # here alone: the launcher starts faster without it

        shutil.rmtree(own_cache, ignore_errors=True)
    sys.stderr.flush()
    os._exit(0 if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else 1)
