"""`neural-trader audit …` as a compliance officer types it, each command its own process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _run(home: Path, *arguments: object, code: int = 0) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "neural_trader_server", *map(str, arguments)],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout


def test_a_proof_is_written_checked_with_a_key_alone_and_refused_when_altered(
    home: Path, tmp_path: Path
) -> None:
    _run(home, "init")
    proof = tmp_path / "entry.tlog-proof"
    _run(home, "audit", "prove", 1, "--out", proof)
    assert proof.read_text() == _run(home, "audit", "prove", 1)
    key = tmp_path / "pinned.vkey"
    key.write_text((home / "keys" / "log.vkey").read_text())
    elsewhere = tmp_path / "elsewhere"
    found = _run(elsewhere, "audit", "verify", "--proof", proof, "--vkey", key, "--json")
    assert json.loads(found)["seq"] == 1
    assert not elsewhere.exists(), "checking needs no home"
    proof.write_text(proof.read_text().replace("index 1", "index 2"))
    _run(elsewhere, "audit", "verify", "--proof", proof, "--vkey", key, code=1)
    _run(elsewhere, "audit", "verify", "--proof", proof, code=2)


def test_a_log_whose_key_was_rotated_verifies_from_the_first_key_and_from_the_new_one(
    home: Path, tmp_path: Path
) -> None:
    _run(home, "init")
    first = tmp_path / "first.vkey"
    first.write_text((home / "keys" / "log.vkey").read_text())
    _run(home, "keys", "rotate", "log")
    _run(home, "audit", "export", tmp_path / "out")
    for place in ((), (tmp_path / "out",)):
        assert json.loads(_run(home, "audit", "verify", *place, "--vkey", first, "--json"))["ok"]
    assert (home / "keys" / "log.vkey").read_text() != first.read_text(), "the pin moved on"
    assert json.loads(_run(home, "audit", "verify", "--json"))["ok"]
    text = _run(home, "audit", "search", "--type", "key.rotate", "--until", "2100-01-01", "--json")
    (entry,) = json.loads(text)["entries"]
    shown = json.loads(_run(home, "audit", "show", entry["seq"]))
    new = tmp_path / "new.vkey"
    new.write_text(shown["payload"]["rotation"]["new_vkey"])
    assert json.loads(_run(home, "audit", "verify", tmp_path / "out", "--vkey", new, "--json"))["ok"]
    assert (
        json.loads(_run(home, "audit", "archive", tmp_path / "archive", "--keep-days", 0, "--json"))["end"]
        == 0
    )
    assert json.loads(_run(home, "audit", "archives", "--json")) == {"archives": []}
    _run(home, "audit", "archive", tmp_path / "archive", code=2)
