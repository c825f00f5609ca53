"""Many processes on one home, and processes that die: one log, nothing acknowledged is lost."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from neural_trader_governance.audit.verify import AuditReport, verify_store
from neural_trader_governance.signing.keys import SigningKey

APPENDER = Path(__file__).parent / "appending_process.py"


@pytest.fixture
def key(tmp_path: Path, signer: SigningKey) -> Path:
    path = tmp_path / "log.key"
    signer.save(path)
    return path


def _start(database: Path, key: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(APPENDER), str(database), str(key), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _acknowledged(lines: str) -> dict[int, str]:
    """Reads the lines that were written in full; the kill may cut the last one."""
    whole = lines[: lines.rfind("\n") + 1]
    return {int(seq): leaf for seq, leaf in (line.split() for line in whole.splitlines())}


def _check(database: Path, vkey: str, acknowledged: dict[int, str]) -> AuditReport:
    report = verify_store(database, vkey)
    assert report.ok, report.problems
    with closing(sqlite3.connect(database)) as connection:
        stored = {
            seq: leaf.hex() for seq, leaf in connection.execute("SELECT seq, leaf_hash FROM audit_entries")
        }
        noted = {row[0] for row in connection.execute("SELECT seq FROM notes")}
    assert acknowledged.items() <= stored.items()
    assert noted == set(stored), "a row without its leaf, or a leaf without its row"
    return report


def test_six_processes_at_once_write_one_log(tmp_path: Path, key: Path, signer: SigningKey) -> None:
    database = tmp_path / "desk.db"
    processes = [_start(database, key, f"agent-{number}", 40) for number in range(6)]
    acknowledged: dict[int, str] = {}
    for process in processes:
        lines, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        mine = _acknowledged(lines)
        assert not mine.keys() & acknowledged.keys()
        acknowledged |= mine
    assert sorted(acknowledged) == list(range(240))
    assert _check(database, signer.vkey, acknowledged).size == 240


def _kill_and_check(rounds: int, tmp_path: Path, key: Path, vkey: str) -> int:
    database, chance = tmp_path / "desk.db", random.Random(7)  # noqa: S311 - a seeded schedule of kills
    acknowledged: dict[int, str] = {}
    for _ in range(rounds):
        process = _start(database, key, "victim", 100_000)
        assert process.stdout is not None
        # Killed after so many acknowledgements, at a moment that nothing aligns with the commits.
        head = "".join(process.stdout.readline() for _ in range(chance.randrange(1, 60)))
        process.send_signal(signal.SIGKILL)
        lines, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        acknowledged |= _acknowledged(head + lines)
        report = _check(database, vkey, acknowledged)
        assert report.size >= len(acknowledged)
    assert len(acknowledged) >= rounds
    return len(acknowledged)


def test_a_killed_process_loses_nothing_that_it_acknowledged(
    tmp_path: Path, key: Path, signer: SigningKey
) -> None:
    _kill_and_check(15, tmp_path, key, signer.vkey)


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path: Path, key: Path, signer: SigningKey) -> None:
    _kill_and_check(100, tmp_path, key, signer.vkey)


def test_one_process_dies_and_another_carries_on_at_once(
    tmp_path: Path, key: Path, signer: SigningKey
) -> None:
    database = tmp_path / "desk.db"
    victim, survivor = _start(database, key, "victim", 100_000), _start(database, key, "survivor", 60)
    assert victim.stdout is not None
    head = "".join(victim.stdout.readline() for _ in range(20))
    victim.kill()
    killed, _ = victim.communicate(timeout=60)
    lived, _ = survivor.communicate(timeout=60)
    assert survivor.returncode == 0
    acknowledged = _acknowledged(head + killed) | _acknowledged(lived)
    assert len(_acknowledged(lived)) == 60
    _check(database, signer.vkey, acknowledged)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the disk's failures; install it")
@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ("fdatasync:error=EIO", 25),
        ("fdatasync:error=ENOSPC", 30),
        ("pwrite64:error=EIO", 150),
        ("pwrite64:error=ENOSPC", 151),
    ],
)
def test_one_failed_write_or_sync_stops_the_store_for_good(
    tmp_path: Path, key: Path, signer: SigningKey, fault: str, first: int
) -> None:
    database = tmp_path / "desk.db"
    trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={fault.split(':')[0]}"]
    command = [*trace, "-e", f"inject={fault}:when={first}"]
    command += [sys.executable, str(APPENDER), str(database), str(key), "victim", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "ptrace" in done.stderr.lower() and not done.stdout:
        pytest.skip(f"this host does not let strace attach: {done.stderr.strip()[:200]}")
    # Injected once: every later call would succeed, which is what makes it dangerous.
    said = done.stderr.splitlines()[-1]
    assert (done.returncode, said) == (3, " ".join(["audit_write_failed"] * 4))
    acknowledged = _acknowledged(done.stdout)
    assert acknowledged
    _check(database, signer.vkey, acknowledged)
