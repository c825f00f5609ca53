"""`neural-trader backtest sweep`, as a person runs it: interrupted, resumed, refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SLOW = """
def signals(bars, fast: int = 20):
    total = 0
    for number in range(2_000_000):
        total += number
    return (bars["close"].rolling_mean(fast) > bars["close"]).cast(float)
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("NEURAL_TRADER_HOME", str(tmp_path / "home"))
    return [sys.executable, "-m", "neural_trader_server"]


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(command: list[str], tmp_path: Path) -> None:
    assert ask(*command, "init").returncode == 0
    assert ask(*command, "data", "fetch", "sample").returncode == 0
    strategy = tmp_path / "slow.py"
    strategy.write_text(SLOW)
    words = [
        *command,
        "backtest",
        "sweep",
        str(strategy),
        "--symbol",
        "AAPL",
        "--param",
        "fast=2:61",
        "--json",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "home" / "sweeps"
    deadline = time.monotonic() + 200
    while not list(folder.glob("*/part-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    answer, notices = process.communicate(timeout=60)
    (run_id,) = (path.name for path in folder.iterdir())
    assert (process.returncode, answer) == (130, "")
    assert f"--resume {run_id}" in notices
    kept = {path.name for path in (folder / run_id).iterdir()}
    done = ask(*command, "backtest", "sweep", "--resume", run_id, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, found["state"], found["run_id"], found["trials"]) == (0, "completed", run_id, 60)
    assert kept < {path.name for path in (folder / run_id).iterdir()}
    words[words.index("fast=2:61")] = "fsat=2:61"
    refused = ask(*words)
    assert refused.returncode == 1
    assert "did you mean 'fast'" in json.loads(refused.stdout)["error"]["next_step"]
