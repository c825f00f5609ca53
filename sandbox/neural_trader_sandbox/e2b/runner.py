"""The guest's runner inside a sandbox of the service: imports what is trusted, says so, then runs one job.

It is started as a process of its own, with a fixed hash seed. What the local guest has on a socket, this
one has on its standard streams: base64 lines, each a piece of the same frames. The job's tables lie in
files beside it. Standard library, and the preloaded modules; no lock of the local backend exists here: the
virtual machine around this process is the wall, and the limits below are only a fence in front of it.
"""

import base64
import contextlib
import importlib
import json
import os
import resource
import socket
import sys
from typing import Any, BinaryIO, Final, NoReturn, cast

from neural_trader_sandbox import frames

ENVIRONMENT: Final = {
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own
    "LANG": "C.UTF-8",
    "MKL_NUM_THREADS": "1",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/nonexistent",
    "POLARS_MAX_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "TMPDIR": "/tmp",  # noqa: S108 - as above
    "TZ": "UTC",
    "_RJEM_MALLOC_CONF": "background_thread:false",
}
"""All that a guest finds in `os.environ`, NUMBA_CACHE_DIR excepted.

Kernels are compiled for any processor of the architecture: the machine that builds a template is another
than those that run its sandboxes. They compute the same bits (docs/sandbox.md).
"""

_OWN = ("neural_trader_sandbox.script", "neural_trader_sandbox.e2b.canaries")
PIECE_BYTES: Final = 24 << 10
"""The most that one line holds before it is encoded."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 38, 4
_STACK_BYTES = 8 << 20


class Lines:
    """Standard input and output as the stream of bytes that `frames` and `guest` expect of a socket.

    A line of input is ``=`` and base64, or ``@`` and the path of a file whose bytes stand there.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._due = memoryview(b"")

    def limits(self) -> dict[str, int]:
        """Reads the first line, which is JSON."""
        return cast("dict[str, int]", json.loads(self._source.readline()))

    def recv_into(self, buffer: memoryview, /) -> int:
        """Some bytes of the host's; 0 at the end."""
        while not self._due:
            line = self._source.readline()
            if not line:
                return 0
            if line[:1] == b"@":
                with open(line[1:].strip().decode(), "rb") as file:
                    self._due = memoryview(file.read())
            else:
                self._due = memoryview(base64.b64decode(line[1:]))
        count = min(len(buffer), len(self._due))
        buffer[:count] = self._due[:count]
        self._due = self._due[count:]
        return count

    def sendall(self, data: bytes | memoryview, /) -> None:
        """All of it to the host."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            self._sink.write(base64.b64encode(view[start : start + PIECE_BYTES]) + b"\n")
        self._sink.flush()

    def shutdown(self, _: int, /) -> None:
        """Nothing more will be sent."""
        self._sink.flush()


def main() -> NoReturn:
    """Import, report, wait for the job, run it, end. `sys.argv`: cache folder, modules to preload."""
    cache, *preload = sys.argv[1:]
    lines = Lines(*_own_streams())
    try:
        compiled = _prepare(cache, preload)
        from neural_trader_sandbox.local import guest

        layers = _layers()
    except BaseException as error:  # an import may raise anything; the answer is a refusal
        refusal = {"primitive": "preload", "reason": f"{type(error).__name__}: {error}"[:2000]}
        lines.sendall(frames.pack_json(frames.REFUSED, refusal))
        os._exit(1)
    lines.sendall(frames.pack_json(frames.READY, {"layers": layers, "kernels_compiled": compiled}))
    try:
        limits = lines.limits()
        if "limits" in layers:
            _limit(limits)
        guest.serve(cast(socket.socket, lines), limits, guest.in_line)
    except BaseException:  # the host is gone or the guest broke the wire: either way the end
        os._exit(1)
    os._exit(0)


def compile_kernels() -> None:
    """Fill the cache of a template that is being built; says how many kernels. `sys.argv` as `main`."""
    cache, *preload = sys.argv[1:]
    sys.stdout.write(f"{_prepare(cache, preload, whole=True)} kernels compiled\n")


def _prepare(cache: str, preload: list[str], *, whole: bool = False) -> int:
    """Import and warm up under the guest's environment; returns how many kernels were not in the cache.

    With `whole` also what a local sandbox leaves for its idle time.
    """
    os.environ.clear()
    os.environ.update(ENVIRONMENT | {"NUMBA_CACHE_DIR": cache})
    sys.argv[:] = ["<sandbox>"]
    os.umask(0o077)
    modules = [importlib.import_module(name) for name in (*_OWN, *preload)]
    warming = [warm_up for module in modules if callable(warm_up := getattr(module, "warm_up", None))]
    if "numba" not in sys.modules:
        for warm_up in warming:
            warm_up()
        return 0
    with importlib.import_module("numba.core.event").install_recorder("numba:compile") as recorder:
        for warm_up in warming:
            warm_up()
        for module in modules if whole else ():
            for _ in getattr(module, "warm_later", tuple)():
                pass
    return sum(event.is_start for _, event in recorder.buffer)


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keeps the standard streams for ourselves; native code that prints reaches nobody."""
    try:
        source, sink = os.dup(sys.stdin.fileno()), os.dup(sys.stdout.fileno())
    except OSError:  # an interpreter within another program has no descriptors
        return cast(BinaryIO, sys.stdin.buffer), cast(BinaryIO, sys.stdout.buffer)
    silence = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(silence, fd)
    return os.fdopen(source, "rb"), os.fdopen(sink, "wb", buffering=0)


def _layers() -> list[str]:
    """What can be put up here in front of the service's own wall; named in every result."""
    import ctypes

    layers = ["environment"]
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        layers.append("no_new_privs")  # E2B's user may sudo; this process may not any more
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        layers.append("limits")
    return layers


def _limit(limits: dict[str, int]) -> None:
    for which, value in (
        (resource.RLIMIT_CPU, limits["cpu_time_s"] + int(sum(os.times()[:2])) + 1),  # imports used some
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_STACK, _STACK_BYTES),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
    ):
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))
