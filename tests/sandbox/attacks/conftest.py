"""What the attacks are after, what must be the same afterwards, and the table of what stopped them."""

import contextlib
import os
import platform
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.attacks.controls import Controls
from tests.sandbox.attacks.controls import controls as start_controls

SECRET = "the-desk's-secret-" + "7f3a"
_OUTCOMES = pytest.StashKey[dict[str, list[tuple[str, str]]]]()
_DEADLINE_S = 15.0


class Prey:
    """Real things of the host that an attack may name, and proof that it did not reach them."""

    def __init__(self, folder: Path) -> None:
        self._secret = folder / "secret"
        self._secret.write_text(SECRET)
        self._secret.chmod(0o644)
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._path = socket.socket(socket.AF_UNIX)
        self._path.bind(str(folder / "socket"))
        self._path.listen()
        self._abstract_name = f"neural-trader-prey-{os.getpid()}-{folder.name}"
        self._abstract = socket.socket(socket.AF_UNIX)
        self._abstract.bind("\0" + self._abstract_name)
        self._abstract.listen()
        self._servers = (self._tcp, self._path, self._abstract)
        for server in self._servers:
            server.setblocking(False)
        self._victim = self._start_victim()

    def fill(self, source: str) -> str:
        """Put this prey's names into an attack's source."""
        words = {
            "port": self._tcp.getsockname()[1],
            "secret": self._secret,
            "socket": self._path.getsockname(),
            "abstract": self._abstract_name,
            "victim": self._victim.pid,
            "uid": os.getuid(),
            "machine": platform.machine(),
            "clone": 220 if platform.machine() == "aarch64" else 56,
        }
        for word, value in words.items():
            source = source.replace(f"@{word}@", str(value))
        return source

    def harm(self) -> list[str]:
        """What an attack reached; empty where it reached nothing."""
        found = ["the victim ended"] if self._victim.poll() is not None else []
        for server in self._servers:
            with contextlib.suppress(BlockingIOError):
                server.accept()[0].close()
                found.append(f"a connection came to {server.getsockname()!r}")
        if self._secret.read_text() != SECRET or self._secret.stat().st_nlink != 1:
            found.append("the secret file changed")
        return found

    def recover(self) -> None:
        """Stand again after a control, which may reach everything."""
        if self._victim.poll() is not None:
            self._end_victim()
            self._victim = self._start_victim()
        self.harm()

    def close(self) -> None:
        """Give everything back."""
        self._end_victim()
        for server in self._servers:
            server.close()

    def _end_victim(self) -> None:
        self._victim.kill()
        self._victim.communicate()

    def _start_victim(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prey]:
    found = Prey(tmp_path_factory.mktemp("prey"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def controls() -> Iterator[Controls]:
    with start_controls() as started:
        yield started


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> dict[str, list[tuple[str, str]]]:
    """Attack and mechanism, by kind; the terminal's summary prints them."""
    return pytestconfig.stash.setdefault(_OUTCOMES, defaultdict(list))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line a kind; with -v or -s, one line an attack."""
    found = config.stash.get(_OUTCOMES, None)
    if not found:
        return
    total = sum(len(rows) for rows in found.values())
    escapes = [name for rows in found.values() for name, answer in rows if answer.startswith("WON")]
    terminalreporter.section(
        f"{total} attacks on the sandbox, {len(escapes)} escapes {escapes or ''}".strip()
    )
    for kind, rows in found.items():
        counts = Counter(_short(answer) for _, answer in rows)
        said = ", ".join(f"{answer} {count}" for answer, count in counts.most_common())
        terminalreporter.write_line(f"{kind:<22}{len(rows):>4}  {said}")
        if config.get_verbosity() > 0 or config.getoption("capture") == "no":
            for name, answer in rows:
                terminalreporter.write_line(f"    {name:<50} {answer}")


def _short(answer: str) -> str:
    words = (
        ("killed by seccomp", "seccomp"),
        ("stopped after wall_time_s", "wall_time_s"),
        ("killed after cpu_time_s", "cpu_time_s"),
        ("killed by SIG", answer.split()[2].rstrip(":") if answer.startswith("killed by SIG") else ""),
        ("the guest ended without", "GuestExited"),
    )
    return next((short for start, short in words if answer.startswith(start)), answer.partition(":")[0])


def descendants(root: int) -> set[int]:
    """Processes below `root`."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {root}


def _descriptors() -> list[str]:
    """What this process holds open, but for the doors of the control group that is prepared next."""
    held: list[str] = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [target for target in held if not target.endswith("/cgroup.procs")]


class Steady:
    """What a desk at rest holds: it must hold no more after any attack."""

    def __init__(self) -> None:
        self._descriptors: int | None = None
        self._processes: int = 0

    def check(self) -> None:
        """Compare with the first call's; processes may take a moment to go."""
        descriptors = len(_descriptors())
        if self._descriptors is None:
            self._processes = self._settled()
            self._descriptors = descriptors
            return
        deadline = time.monotonic() + _DEADLINE_S
        while descriptors > self._descriptors and time.monotonic() < deadline:
            time.sleep(0.01)  # a thread makes the next control group and has a file of it open
            descriptors = len(_descriptors())
        assert descriptors <= self._descriptors
        if descriptors < self._descriptors:  # something of an earlier test of this process has ended
            self._settled()
            self._descriptors = min(self._descriptors, len(_descriptors()))
        deadline = time.monotonic() + _DEADLINE_S
        while len(descendants(os.getpid())) > self._processes:
            assert time.monotonic() < deadline, "processes were left over"
            time.sleep(0.005)  # a condition with a deadline: the kernel offers nothing to wait on here

    @staticmethod
    def _settled() -> int:
        counts: list[int] = []
        while len(counts) < 10 or len(set(counts[-10:])) > 1:
            counts.append(len(descendants(os.getpid())))
            time.sleep(0.02)  # the pool fills while nobody waits
        return counts[-1]


@pytest.fixture(scope="module")
def steady() -> Steady:
    return Steady()
