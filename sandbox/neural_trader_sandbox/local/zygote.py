"""The zygote: imports the preloaded modules once, then forks a fresh child for every run.

It is process 1 of its own process namespace, so that its end is the end of everything below it. It
runs trusted modules only, holds no secret (its environment was empty when it was started), and must
have a single thread, because a fork copies only the one that forks.
"""

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NoReturn, cast

from neural_trader_sandbox import columns
from neural_trader_sandbox.local import kernel, launcher, nanny, root

ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - the guest's private tmpfs
    "LANG": "C.UTF-8",
    "MKL_NUM_THREADS": "1",
    "NUMBA_CACHE_DIR": root.CACHE,
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/nonexistent",
    "POLARS_MAX_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "TMPDIR": "/tmp",  # noqa: S108 - as above
    "TZ": "UTC",
    "_RJEM_MALLOC_CONF": "background_thread:false,dirty_decay_ms:-1,thp:always",
}
"""See `environment`."""

_DESCRIPTORS_MAX = 8
_IDLE_THREADS = frozenset({"polars-ooc-clea"})
"""Polars 2 starts one at import that sleeps on its queue until something spills to disk; a fork leaves
it behind, asleep, with no lock held."""
_IDLE_MS = 300
"""After so long without a message the next step of `warm_later` is taken; a fork may wait for its end."""


def main(control: socket.socket, proc: int, plan: dict[str, Any], readable: list[str]) -> NoReturn:
    """Import, report, then fork on every message until the control socket closes."""
    profile = str(plan["profile"])
    try:
        kernel.die_with_parent()
        os.environ.clear()
        os.environ.update(environment(profile))
        sys.path[:] = plan["sys_path"]
        sys.argv[:] = ["<sandbox>"]
        if profile != "full" and plan["cache"] is not None:
            os.environ["NUMBA_CACHE_DIR"] = plan["cache"]
        later = _import(plan["preload"])
        os.environ["NUMBA_CACHE_DIR"] = root.CACHE  # a guest learns no path of the host's from it
        _demand_one_thread(proc)
    except kernel.DeniedError as denied:
        launcher.refuse(control, denied.primitive, denied.reason)
    except BaseException as error:  # an import may raise anything; the answer is a refusal
        launcher.refuse(control, "preload", f"{type(error).__name__}: {error}")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps nannies and orphans
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": True}).encode())
    _serve(control, proc, profile, readable, later)


def environment(profile: str) -> dict[str, str]:
    """All that a guest finds in `os.environ`; without a root of its own, no folder is its own either."""
    if profile == "full":
        return ENVIRONMENT
    return {**ENVIRONMENT, "HOME": "/nonexistent", "TMPDIR": "/nonexistent"}


def _import(names: list[str]) -> Iterator[object]:
    """Imports and warms up the modules; returns the steps that can wait until nobody does."""
    modules = [importlib.import_module(name) for name in names]
    for module in modules:
        warm_up = getattr(module, "warm_up", None)
        if callable(warm_up):
            warm_up()
    if "polars" in sys.modules:
        columns.warm_up()  # what polars imports late it would import anew in every guest
    return _steps(modules)


def _steps(modules: list[ModuleType]) -> Iterator[object]:
    for module in modules:
        warm_later = cast("Callable[[], Iterator[object]] | None", getattr(module, "warm_later", None))
        if warm_later is not None:
            yield from warm_later()


def _demand_one_thread(proc: int) -> None:
    if running := _running_threads(proc):
        raise kernel.DeniedError("single_thread", f"the preloaded modules left threads: {running}")


def _running_threads(proc: int) -> list[str]:
    """Names of threads beside this one that a fork could catch holding a lock."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self belongs to root
    try:
        return [name for name in map(_thread(proc), _threads(proc)) if name not in _IDLE_THREADS][1:]
    finally:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _threads(proc: int) -> list[str]:
    folder = os.open("self/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return sorted(os.listdir(folder), key=int)
    finally:
        os.close(folder)


def _thread(proc: int) -> Callable[[str], str]:
    def name(task: str) -> str:
        fd = os.open(f"self/task/{task}/comm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            return os.read(fd, 64).decode(errors="replace").strip()
        finally:
            os.close(fd)

    return name


def _warm_in_idle_time(control: socket.socket, proc: int, later: Iterator[object]) -> bool:
    """Takes the steps that are left while no message waits; returns whether all are done."""
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    while not waiting.poll(_IDLE_MS):
        try:
            next(later)
        except (
            Exception
        ):  # StopIteration, or a step that failed: what is not loaded a guest compiles for itself
            break
    else:
        return False
    _demand_one_thread(proc)  # what would be forked with a lock held; the server starts another zygote
    gc.collect()
    gc.freeze()
    return True


def _serve(
    control: socket.socket, proc: int, profile: str, readable: list[str], later: Iterator[object]
) -> NoReturn:
    space = socket.CMSG_SPACE(4 * _DESCRIPTORS_MAX)
    is_warm = False
    while True:
        is_warm = is_warm or _warm_in_idle_time(control, proc, later)
        message, ancillary, _, _ = control.recvmsg(launcher.MESSAGE_BYTES, space)
        if not message:
            os._exit(0)  # the server is gone, and with process 1 every child
        received = array.array("i")
        for _, _, data in ancillary:
            received.frombytes(data)
        data_fd, leash_fd, *doors = received
        limits = cast("dict[str, int]", json.loads(message))
        try:
            child = kernel.fork()
        except kernel.DeniedError as denied:
            child = -1
            with contextlib.suppress(OSError):
                nanny.refuse(data_fd, denied.primitive, denied.reason)
        if child == 0:
            nanny.main(data_fd, leash_fd, proc, doors, limits, profile, readable)
        for fd in received:
            os.close(fd)
