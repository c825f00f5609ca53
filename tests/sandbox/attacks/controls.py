"""The same code outside: each control is a fork of one bare interpreter, in a session and folder of its own.

An interpreter for each of three hundred controls took half of the suite's time to start.
"""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from typing import Any, NoReturn

TIMEOUT_S = 20.0
_MOST_BYTES = 1 << 20


class Controls:
    """Runs sources without a sandbox. Usable until closed.

    Args:
        server: The process that forks.
    """

    def __init__(self, server: "subprocess.Popen[bytes]") -> None:
        self._server = server

    def run(self, source: str, timeout_s: float, environment: dict[str, str]) -> tuple[int | None, str]:
        """Returns the exit status as `subprocess` gives it, None where it ran on, and what it printed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            own = {"TMPDIR": folder, **environment}
            order = {"source": source, "timeout_s": timeout_s, "folder": folder, "environment": own}
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
            self._server.stdin.flush()
            status, said = json.loads(self._server.stdout.readline())
        return status, said


@contextlib.contextmanager
def controls() -> Generator[Controls]:
    words = [sys.executable, __file__]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as server:
        try:
            yield Controls(server)
        finally:
            server.kill()


def _be(order: dict[str, Any], said: int) -> NoReturn:
    """Becomes one control: what a fresh interpreter with this source would be."""
    try:
        os.setsid()
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        nothing, writer = os.pipe()
        os.close(writer)
        for number, fd in enumerate((nothing, said, said)):
            os.dup2(fd, number)
        os.closerange(3, 64)
        sys.stdout = open(1, "w", errors="replace", closefd=False)  # noqa: SIM115  # for this process's life
        sys.stderr = open(2, "w", errors="replace", closefd=False)  # noqa: SIM115
        names: dict[str, Any] = {"__name__": "__main__", "tables": {}}
        try:
            exec(compile(order["source"], "<strategy>", "exec"), names)  # noqa: S102  # a control's purpose
            answer = ["won" if names.get("result") else "nothing", repr(names.get("result"))[:200]]
        except BaseException as error:  # attacks raise what they like
            answer = [type(error).__name__, str(error)[:500]]
        sys.stdout.flush()
        os.write(1, b"\n@@" + json.dumps(answer).encode())
    finally:
        os._exit(0)


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _be(order, writer)
        os.close(writer)
        deadline, said = time.monotonic() + order["timeout_s"], b""
        ended, waiting = os.pidfd_open(child), [reader]
        while (left := deadline - time.monotonic()) > 0:
            ready = select.select([*waiting, ended], [], [], left)[0]
            if reader in ready:
                part = os.read(reader, 1 << 16)
                said = (said + part)[-_MOST_BYTES:]
                if not part:  # it may go on, without a voice
                    waiting.clear()
            elif ready:
                break
        os.close(reader)
        os.close(ended)
        if left <= 0:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer = [status if left > 0 else None, said.decode(errors="replace")]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
