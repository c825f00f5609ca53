"""A desk at our exchange, killed at random points while it trades; `make kill-orders` does so 1,000 times."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def killed(archive: Path, *words: str) -> dict[str, Any]:
    """Runs the harness in a process of its own, which has no thread when it forks."""
    command = [sys.executable, "-m", "tests.flows.killing", "--archive", str(archive), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout) | {"status": done.returncode}


def test_a_killed_desk_loses_nothing_and_doubles_nothing_at_an_exchange(sample_archive_root: Path) -> None:
    figures = killed(sample_archive_root, "--kills", "8")
    assert figures["found"] == []
    assert (figures["lost"], figures["doubled"], figures["status"]) == (0, 0, 0)
    assert figures["restarts_compared"] >= 3
    assert figures["exchange_orders"] > 0
    assert figures["streams_heard"] > 0, "every second life follows the news of orders, too"
    assert figures["submissions_cut"] > 0


def test_a_desk_that_submits_first_and_records_then_is_caught(sample_archive_root: Path) -> None:
    figures = killed(sample_archive_root, "--kills", "200", "--wrong", "named-anew", "--until", "doubled")
    assert figures["lost"] > 0
    assert figures["doubled"] > 0
    assert figures["status"] == 3
