"""The contract check of others: mcp-contract compares what is served with what agents were told before."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONTRACT = Path(__file__).with_name("mcp-contract.json")
SERVE = ("-m", "neural_trader_server", "serve", "--toolsets", "all")
NAMED = "neural-trader serve --toolsets all"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that the first server founds."""
    return tmp_path_factory.mktemp("contract") / "home"


def contract(home: Path, verb: str, file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    tool = shutil.which("mcp-contract", path=str(Path(sys.executable).parent))
    assert tool is not None, "mcp-contract is a development dependency: run make setup"
    return subprocess.run(
        [tool, verb, "--file", str(file), *options, "--", sys.executable, *SERVE],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_no_agent_that_was_built_against_the_recorded_contract_breaks(place: Path) -> None:
    if os.environ.get("NEURAL_TRADER_SNAPSHOTS") == "renew":
        made = contract(place, "snapshot", CONTRACT, "--quiet")
        assert made.returncode == 0, made.stderr
        recorded: dict[str, Any] = json.loads(CONTRACT.read_text())
        CONTRACT.write_text(json.dumps(recorded | {"command": NAMED}, indent=1, ensure_ascii=False) + "\n")
    held = contract(place, "check", CONTRACT, "--json")
    assert held.returncode == 0, f"{held.stdout}\nif that is meant: make snapshots"


def test_a_tool_or_an_argument_that_agents_know_and_that_is_gone_is_found(
    place: Path, tmp_path: Path
) -> None:
    known: dict[str, Any] = json.loads(CONTRACT.read_text())
    known["tools"][0]["name"] = "artifact_ask"
    known["tools"][1]["arguments"].append({"name": "page", "required": False, "type": "integer"})
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(known))
    broken = contract(place, "check", file)
    assert broken.returncode == 1, broken.stdout
    assert "artifact_ask" in broken.stdout
    assert "page" in broken.stdout
