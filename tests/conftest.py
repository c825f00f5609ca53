"""Fixtures that every test may use."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import NoReturn

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process a test starts compiles every module again
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: two threads of it starve a busy machine

import pytest
from hypothesis import settings
from tests.compiling import compile_all

from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample

# Nothing gates on wall time; CI draws the same examples every time, a developer draws new ones.
settings.register_profile("here", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("here")


# Tests of `Surroundings` pin this process's clocks; loops of session fixtures run on beside them, and a timer
# set by a pinned clock would wait for years.
asyncio.BaseEventLoop.time = lambda self, monotonic=time.monotonic: monotonic()


# A shell that starts the suite in the background has it ignore Ctrl-C, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Fills the caches of machine code before the workers of a whole run start; see tests/compiling.py."""
    is_controller = getattr(config.option, "numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ
    if is_controller and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        compile_all()


LONGEST = (
    "flows/test_wheel.py",
    "tools/backtest/test_check.py",
    "sandbox/test_contract.py",
    "flows/test_demo.py",
    "sandbox/attacks/test_attacks.py",
    "flows/test_story.py",
    "memory/test_memory.py",
    "governance/policy/test_proofs.py",
    "sandbox/local/test_fail_closed.py",
    "server/test_command_line.py",
    "sandbox/e2b/test_ends.py",
    "sandbox/local/test_streams.py",
    "flows/test_taint.py",
    "tools/backtest/test_portfolio_orders.py",
)
"""Files that take longest come first, else one worker has such a file left when the others have finished."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the longest files to the front; the order is the same in every worker."""
    root = Path(__file__).parent
    place = {root / file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


@pytest.fixture
def anyio_backend() -> str:
    """Runs `@pytest.mark.anyio` tests on asyncio, the loop the server uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], NoReturn]:
    """Ends a test whose host lacks something: a visible skip, but in CI, which has it all, a failure.

    A skip that is decided by the code under test would otherwise hide that the code broke.
    """

    def end(reason: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have what this needs: {reason}")
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session")
def sample_archive_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive folder with the real sample prices, fetched once; copy it before writing to it."""
    root = tmp_path_factory.mktemp("sample") / "archive"
    fetch_sample(Archive(root))
    return root


class Started:
    """Our command line in a process that `starter_process.py` forked; used as a `subprocess.Popen` is."""

    def __init__(self, told: int, fds: tuple[int, int, int]) -> None:
        self._told = os.fdopen(told, "rb", buffering=0)
        self.pid = int(self._told.readline())
        self.returncode: int | None = None
        self.stdin = os.fdopen(fds[0], "w") if fds[0] >= 0 else None
        self.stdout = os.fdopen(fds[1]) if fds[1] >= 0 else None
        self.stderr = os.fdopen(fds[2]) if fds[2] >= 0 else None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Starter:
    """Starts our command line in processes of their own that need not import anything first."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def _fork(
        self, words: tuple[str, ...], environment: Mapping[str, str], folder: Path | None, fds: list[int]
    ) -> int:
        told, tell = os.pipe()
        request = {"words": words, "environment": dict(environment), "folder": str(folder or Path.cwd())}
        socket.send_fds(self._control, [json.dumps(request).encode()], [*fds, tell])
        os.close(tell)
        return told

    def popen(self, *words: str, environment: Mapping[str, str] = os.environ, stdin: bool = False) -> Started:
        """Starts a command with pipes for what it says, and for what it hears or nothing to hear."""
        (heard, say), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
        told = self._fork(words, environment, None, [heard, out_end, err_end])
        for fd in (heard, out_end, err_end, *(() if stdin else (say,))):
            os.close(fd)
        return Started(told, (say if stdin else -1, out, err))

    def run(
        self,
        *words: str,
        environment: Mapping[str, str] = os.environ,
        stdin: str = "",
        folder: Path | None = None,
        timeout_s: float = 120,
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end."""
        with (
            tempfile.TemporaryFile() as heard,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            heard.write(stdin.encode())
            heard.seek(0)
            fds = [each.fileno() for each in (heard, out, err)]
            process = Started(self._fork(words, environment, folder, fds), (-1, -1, -1))
            try:
                status = process.wait(timeout_s)
            finally:
                process.kill()
            said: list[str] = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
        return subprocess.CompletedProcess(list(words), status, *said)


@pytest.fixture(scope="session")
def starter() -> Generator[Starter]:
    """What starts our command line in another process; most of a second sooner than an interpreter does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    script = Path(__file__).parent / "starter_process.py"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEURAL_TRADER_")}
    process = subprocess.Popen(
        [sys.executable, str(script), str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        # No thread but Python's own may run where it forks.
        env=kept | {"_RJEM_MALLOC_CONF": "background_thread:false"},
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    yield Starter(ours)
    ours.close()
    assert process.wait(30) == 0
