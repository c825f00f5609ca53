"""The desk mounted inside another process: the example agent, as anybody would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import neural_trader_server

ROOT = Path(__file__).parents[2]
STEPS = [
    *("status_get", "market_search", "features_compute", "strategy_check", "backtest_start", "backtest_get"),
    *("memory_write", "orders_preview", "orders_submit", "portfolio_get"),
]


def test_the_example_agent_goes_from_a_search_to_a_filled_order(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "examples/agent_loop.py", str(tmp_path / "home")],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("NEURAL_TRADER_")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == STEPS
    assert "'symbol': 'MSFT'" in lines[1]
    assert "'state': 'filled'" in lines[-2]
    assert not done.stderr


def test_the_names_to_mount_it_are_there_and_no_other() -> None:
    for name in neural_trader_server.__all__:
        assert getattr(neural_trader_server, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = neural_trader_server.nope  # pyright: ignore[reportAttributeAccessIssue]
