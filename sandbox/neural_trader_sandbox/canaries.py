"""Harmless attacks that a probe runs inside a real child: each says what stopped it.

Guest side, standard library only. An attack that gets through answers ``open``; what the host makes of
the answers is in `local/probe.py`.
"""

import ctypes
import errno
import os
import resource
import socket
import threading
from collections.abc import Callable
from typing import Any


def attack(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Try each attack once.

    Args:
        arguments: `paths` that must not be readable, `folder` on the host that everybody may write to,
            `own_tmp` (whether /tmp is the guest's own), `landlock_path`, `host_pid`, `port` of a listener
            on the host's loopback, `memory_bytes`, `file_bytes`, `open_files`.
        tables: None are needed.

    Returns:
        The outcome by name of the attack: ``blocked: …`` or ``open: …``.
    """
    del tables
    attacks: dict[str, Callable[[], object]] = {
        **{f"read {path}": _reader(path) for path in arguments["paths"]},
        "landlock": _reader(arguments["landlock_path"]),
        "write outside /tmp": lambda: open("/usr/lib/neural-trader-canary", "w").close(),
        "write to a folder of the host": lambda: open(f"{arguments['folder']}/canary", "x").close(),
        "connect": lambda: socket.create_connection(("127.0.0.1", arguments["port"]), 1).close(),
        "unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "fork": lambda: os.fork() or os._exit(0),
        "signal": lambda: os.kill(arguments["host_pid"], 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "own process id": lambda: _expect(os.getpid() == 1 and os.getppid() == 0, "it is process 1"),
        "set uid": lambda: os.setuid(0),
        "host name": lambda: _expect(os.uname().nodename == "sandbox", "it is a name of its own"),
        "descriptors": _only_own_descriptors,
        "environment": lambda: _expect(
            not set(os.environ) - set(arguments["environment"]), "it holds constants only"
        ),
        "memory": lambda: bytearray(arguments["memory_bytes"]),
        "file size": lambda: _write("/tmp/large", arguments["file_bytes"] + 4096),  # noqa: S108 - the guest's own tmpfs
        "files": lambda: [os.dup(3) for _ in range(arguments["open_files"] + 1)],
        "raise limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)),
    }
    if not arguments["own_tmp"]:
        del attacks["own process id"], attacks["host name"], attacks["file size"]
    return {name: _outcome(attempt) for name, attempt in attacks.items()}, {}


def forbidden_call(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Call ptrace, which must end the process."""
    del tables
    ctypes.CDLL(None).syscall(ctypes.c_long(arguments["number"]), 0, 0, 0, 0)
    return "open: ptrace returned", {}


def hoard(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Use more memory than the control group allows, which must end the process."""
    del tables
    held = b"x" * int(arguments["bytes"])
    return f"open: it holds {len(held)} bytes", {}


def crowd(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Start more threads than the control group allows."""
    del tables
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(int(arguments["threads"])):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        return f"blocked: {error} after {len(started)}", {}
    finally:
        done.set()
    return f"open: it started {len(started)} threads", {}


def spin(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Never return."""
    del arguments, tables
    while True:
        pass


class _BlockedError(Exception):
    """The attack found what it hoped not to find."""


def _expect(holds: bool, what: str) -> None:
    if holds:
        raise _BlockedError(what)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return f"blocked: {errno.errorcode.get(error.errno or 0, 'error')}"
    except _BlockedError as answer:
        return f"blocked: {answer}"
    except (MemoryError, ValueError) as error:
        return f"blocked: {type(error).__name__} {error}".strip()
    return "open: it succeeded"


def _reader(path: str) -> Callable[[], object]:
    def attempt() -> None:
        if os.path.isdir(path):
            os.listdir(path)
        else:
            with open(path, "rb") as file:
                file.read(1)

    return attempt


def _write(path: str, size: int) -> None:
    try:
        with open(path, "wb") as file:
            while file.tell() < size:
                file.write(bytes(1 << 20))
    finally:
        os.unlink(path)


def _only_own_descriptors() -> None:
    alive: list[int] = []
    for fd in range(64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        alive.append(fd)
    _expect(alive == [0, 1, 2, 3], f"only {alive}")
