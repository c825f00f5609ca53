"""The guest process: locks itself in, then runs one entry of untrusted code, then ends.

Everything before `serve` is ours and fails closed; from `serve` on, every byte that leaves here is a
stranger's.
"""

import contextlib
import importlib
import io
import os
import resource
import socket
import stat
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn, cast

from neural_trader_sandbox import frames
from neural_trader_sandbox.columns import Layout, frame_over
from neural_trader_sandbox.local import kernel, landlock, seccomp
from neural_trader_sandbox.local.captured import Captured
from neural_trader_sandbox.local.conversation import converse
from neural_trader_sandbox.local.profiles import LAYERS
from neural_trader_sandbox.local.reports import Report, reporting

UID = 1000
STRATEGY = "<strategy>"
_TMP = "/tmp"  # noqa: S108 - a tmpfs of this process's own
_TMP_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_STACK_BYTES = 8 << 20
_NOTHING: Mapping[str, Report] = {}


def main(
    data: int,
    gate: int,
    doors: list[int],
    limits: dict[str, int],
    profile: str,
    readable: list[str],
    parent: int,
) -> NoReturn:
    """Lock, report ready, read the job, run it, end.

    Args:
        data: The socket to the host.
        gate: A pipe that the nanny writes to when it is locked itself and watches.
        doors: Open `cgroup.procs` files of the groups to live in.
        limits: The numbers of `port.Limits`.
        profile: See `profiles.py`.
        readable: Paths that may be read.
        parent: The nanny's process id, as this process sees it.
    """
    wire = socket.socket(fileno=data)
    try:
        kernel.die_with_parent()
        if os.getppid() != parent:
            raise kernel.DeniedError("prctl:1", "the nanny has gone")
        if os.read(gate, 1) != b"1":
            os._exit(1)  # the nanny says why
        os.close(gate)
        for door in doors:
            kernel.join_group(door)
        kernel.new_session()
        os.umask(0o077)
        if profile == "full":
            _isolate(limits, readable)
        else:
            os.chdir("/")
        _lock(limits, profile, readable)
    except kernel.DeniedError as denied:
        _refuse(wire, denied.primitive, denied.reason)
    except BaseException as error:  # any failure to lock is a refusal
        _refuse(wire, "lock", f"{type(error).__name__}: {error}")
    try:
        wire.sendall(frames.pack_json(frames.READY, {"layers": LAYERS[profile]}))
        serve(wire, limits, _descriptors)
    except BaseException:  # the host is gone or the guest broke the wire: either way the end
        os._exit(1)
    os._exit(0)


def _refuse(wire: socket.socket, primitive: str, reason: str) -> NoReturn:
    with contextlib.suppress(OSError):
        wire.sendall(frames.pack_json(frames.REFUSED, {"primitive": primitive, "reason": reason[:2000]}))
    os._exit(1)


def _isolate(limits: dict[str, int], readable: list[str]) -> None:
    """What only namespaces allow: a /tmp and a host name of its own, groups that start at its own."""
    kernel.unshare(kernel.CLONE_NEWCGROUP)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    # packages that lie below /tmp, such as a virtual environment of a test, stay visible there
    kept = {path: kernel.clone_tree(path) for path in readable if path.startswith(_TMP + "/")}
    size = f"size={limits['tmp_bytes']},nr_inodes={limits['tmp_inodes']},mode=700"
    kernel.mount("tmpfs", _TMP, "tmpfs", _TMP_FLAGS, size)
    for path, tree in kept.items():
        _mount_point(path, stat.S_ISDIR(os.fstat(tree).st_mode))
        kernel.attach_tree(tree, path)
    os.chdir(_TMP)
    kernel.set_host_name("sandbox")
    if os.getpid() != 1 or os.getresuid() != (UID,) * 3:
        raise kernel.DeniedError("unshare", f"process {os.getpid()} as {os.getresuid()} is not alone")


def _lock(limits: dict[str, int], profile: str, readable: list[str]) -> None:
    """What holds in every profile."""
    _limit(limits)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if 0 in (*os.getresuid(), *os.getresgid()):
        raise kernel.DeniedError("setuid", "still root")
    landlock.restrict(readable, [_TMP, "/dev/null"] if profile == "full" else ["/dev/null"])
    seccomp.install(os.getpid())


def _mount_point(path: str, is_folder: bool) -> None:
    os.makedirs(path if is_folder else os.path.dirname(path), exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o400))


def _limit(limits: dict[str, int]) -> None:
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["cpu_time_s"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["threads"]),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
    ):
        kernel.set_limit(which, value)


Heads = list[tuple[str, int, Layout | None]]
Tables = Callable[[socket.socket, Heads], dict[str, BinaryIO]]


def _descriptors(wire: socket.socket, tables: Heads) -> dict[str, BinaryIO]:
    """The host passes a descriptor for each table, beside one byte."""
    if not tables:
        return {}
    _, fds, _, _ = socket.recv_fds(wire, 1, len(tables), socket.MSG_CMSG_CLOEXEC)
    return {name: os.fdopen(fd, "rb", buffering=0) for (name, *_), fd in zip(tables, fds, strict=True)}


def in_line(wire: socket.socket, tables: Heads) -> dict[str, BinaryIO]:
    """The tables' bytes follow the job, for a guest that shares no kernel with the host."""
    return {name: io.BytesIO(frames.read_exact(wire, size)) for name, size, _ in tables}


def serve(wire: socket.socket, limits: dict[str, int], receive: Tables) -> None:
    """Read one job, run it, answer.

    Args:
        wire: To the host.
        limits: Bound what is read (`frame_bytes`, `json_depth`).
        receive: How the tables come: `in_line`, or as this backend's host passes them.
    """
    kind, size = frames.HEADER.unpack(frames.read_exact(wire, frames.HEADER.size))
    if kind != frames.JOB or size > limits["frame_bytes"]:
        raise frames.FrameError("not a job")
    job = frames.unpack_json(frames.read_exact(wire, size), limits["json_depth"])
    received = receive(wire, job["tables"])
    lock = threading.RLock()
    out = Captured(wire, frames.STDOUT, job["output_bytes"], lock)
    err = Captured(wire, frames.STDERR, job["output_bytes"], lock)
    sys.stdout, sys.stderr = out, err
    try:
        tables = _tables(job["tables"], received)
        entry = _entry(job["entry"])
        more = reporting(entry, Report(wire, lock)) if job["watch"] else _NOTHING
        returned = entry(job["arguments"], tables, **more)
        if job["stream"]:
            del job, tables  # the handler may live for weeks
            converse(wire, returned, limits, (out, err))
        value, columns = returned
        named = {str(name): _floats(name, column) for name, column in columns.items()}
        heads = [[name, len(data) // 8] for name, data in named.items()]
        head = frames.pack_json(frames.RESULT, {"value": value, "columns": heads})
    except BaseException as error:  # strangers raise what they like, SystemExit included
        last = [frames.pack_json(frames.FAULT, _fault(error))]
    else:
        last = [head]
        for data in named.values():  # not joined: a column may be large
            last += [frames.HEADER.pack(frames.COLUMN, len(data)), data]
    out.flush()
    err.flush()
    for frame in last:
        wire.sendall(frame)
    wire.shutdown(socket.SHUT_WR)


def _entry(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return cast("Callable[..., Any]", getattr(sys.modules[module], function))


def _tables(heads: Heads, streams: dict[str, BinaryIO]) -> dict[str, Any]:
    """Data frames by name; no descriptor stays open."""
    tables: dict[str, Any] = {}
    for name, size, layout in heads:
        with streams[name] as stream:
            if layout is None:
                tables[name] = importlib.import_module("polars").read_ipc_stream(stream)
            else:
                tables[name] = frame_over(kernel.map_private(stream.fileno(), size), layout)
    return tables


def _floats(name: object, column: Any) -> memoryview:
    numpy = importlib.import_module("numpy")
    array = numpy.ascontiguousarray(column, dtype="<f8")
    if array.ndim != 1:
        raise TypeError(f"column {name!r} has {array.ndim} dimensions, not one")
    return memoryview(array).cast("B")


def _fault(error: BaseException) -> dict[str, object]:
    try:
        message = str(error)
    except BaseException:  # a stranger's __str__
        message = "(its message cannot be read)"
    frames_of = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames_of if frame.f_code.co_filename == STRATEGY]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and error.filename == STRATEGY:
        line, message = error.lineno, error.msg
    name = type(error).__name__
    return {
        "type": _plain(name)[:100],
        "message": _plain(message)[:2000],
        "line": line if isinstance(line, int) and 0 < line < 2**31 else None,
    }


def _plain(text: str) -> str:
    return text.encode(errors="replace").decode()


assert struct.calcsize("P") == 8  # noqa: S101 - the filter and the frames are for 64-bit machines
