"""Processes around a desk that is killed: its exchange, and the pipe that it speaks through."""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

from tests.flows.killed_desk import CASH, STAND_IN, START, SYMBOLS

from neural_trader_server.cli import main as neural_trader

for name in ("neural_trader_server.exchanging", "neural_trader_server.listening", "uvicorn"):
    importlib.import_module(name)  # before the forks, not in each


@contextlib.contextmanager
def exchange(home: Path, archive: Path) -> Generator[dict[str, Any]]:
    """Runs `exchange serve` in a fork; yields what it says of itself."""
    home.mkdir(parents=True)
    (home / "archive").symlink_to(archive)
    said, telling = os.pipe()
    words = ["exchange", "serve", "--port", "0", "--every-s", "0", "--json", "--start", START]
    words += ["--calendar", "24/7", "--fill-at-last", "--cash", str(CASH), "--per-minute", "0"]
    words += [word for symbol in (*SYMBOLS, STAND_IN) for word in ("--symbol", symbol)]
    pid = os.fork()
    if pid == 0:
        _be_exchange(home, words, telling)
    os.close(telling)
    try:
        with os.fdopen(said) as lines:
            line = lines.readline()
            assert line, "the exchange ended before it served"
            yield json.loads(line)
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def _be_exchange(home: Path, words: list[str], telling: int) -> NoReturn:
    os.dup2(telling, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ["NEURAL_TRADER_HOME"] = str(home)
    sys.argv[1:] = words
    try:
        neural_trader()
    finally:
        os._exit(0)


class Lines:
    """Lines of a pipe, with patience."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = b""

    def next(self, patience_s: float) -> str | None:
        """Returns the next line; None where none came in time, or none will."""
        until = time.monotonic() + patience_s
        while b"\n" not in self._bytes:
            if not select.select([self._descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            piece = os.read(self._descriptor, 65_536)
            if not piece:
                return None
            self._bytes += piece
        line, _, self._bytes = self._bytes.partition(b"\n")
        return line.decode()
