"""Runs our command line in processes that it forks: each is a process of its own, but has imported already.

Imports take a second of every command, and tests start hundreds. Started by the fixture `starter`; reads
requests from the socket that its first argument names:

    {"words": [...], "environment": {...}, "folder": "..."} with four descriptors: stdin, stdout, stderr, and
    where the process's id and later its exit status go, one line each.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import sys
from typing import Any, NoReturn

from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.cli import main

PRELOAD = (
    "neural_trader_server.listening",
    "neural_trader_server.endpoint",
    "neural_trader_server.alerting",
    "neural_trader_server.cosigning",
    "neural_trader_server.enactment",
    "neural_trader_server.leasing",
    "neural_trader_server.logs",
    "neural_trader_server.settings",
    "neural_trader_server.witness_service",
    "neural_trader_tools.brokers.paper",
    "httpx",
    "mcp.server.auth.middleware.bearer_auth",
    "mcp.server.streamable_http_manager",
    "rich.console",
    "rich.table",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)


def serve(control: socket.socket) -> None:
    """Forks a process for each request until the other side closes; reports how each one ended."""
    ends: dict[int, tuple[int, int]] = {}  # by pidfd: the process's id, and where its status goes
    asked = control.fileno()
    while True:
        ready: list[int] = select.select([asked, *ends], [], [])[0]
        for pidfd in [each for each in ready if each in ends]:
            pid, told = ends.pop(pidfd)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _tell(told, status)
            os.close(told)
            os.close(pidfd)
        if asked not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not message:
            return
        stdin, stdout, stderr, told = fds
        pid = os.fork()
        if pid == 0:
            for fd in (asked, told, *ends, *(each for _, each in ends.values())):
                os.close(fd)
            _be(json.loads(message), (stdin, stdout, stderr))
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        _tell(told, pid)
        ends[os.pidfd_open(pid)] = pid, told


def _tell(told: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked has gone
        os.write(told, b"%d\n" % number)


def _be(request: dict[str, Any], standard: tuple[int, int, int]) -> NoReturn:
    """Becomes the command."""
    for number, fd in enumerate(standard):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv[1:] = request["words"]
    main()
    sys.exit(0)


if __name__ == "__main__":
    for name in (*PRELOAD, *(f"neural_trader_tools.{spec.module}" for spec in CATALOGUE)):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
