"""`neural-trader audit …` as a compliance officer types it, each command its own process."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


Run = Callable[..., str]


@pytest.fixture
def run(starter: Any) -> Run:
    """`run(home, *words, code=0)`: what the command said on stdout."""

    def run(home: Path, *arguments: object, code: int = 0) -> str:
        found = starter.run(*map(str, arguments), environment={**os.environ, "NEURAL_TRADER_HOME": str(home)})
        assert found.returncode == code, found.stdout + found.stderr
        return str(found.stdout)

    return run


def test_a_proof_is_written_checked_with_a_key_alone_and_refused_when_altered(
    home: Path, tmp_path: Path, run: Run
) -> None:
    run(home, "init")
    proof = tmp_path / "entry.tlog-proof"
    run(home, "audit", "prove", 1, "--out", proof)
    assert proof.read_text() == run(home, "audit", "prove", 1)
    key = tmp_path / "pinned.vkey"
    key.write_text((home / "keys" / "log.vkey").read_text())
    elsewhere = tmp_path / "elsewhere"
    found = run(elsewhere, "audit", "verify", "--proof", proof, "--vkey", key, "--json")
    assert json.loads(found)["seq"] == 1
    assert not elsewhere.exists(), "checking needs no home"
    proof.write_text(proof.read_text().replace("index 1", "index 2"))
    run(elsewhere, "audit", "verify", "--proof", proof, "--vkey", key, code=1)
    run(elsewhere, "audit", "verify", "--proof", proof, code=2)


def test_a_log_whose_key_was_rotated_verifies_from_the_first_key_and_from_the_new_one(
    home: Path, tmp_path: Path, run: Run
) -> None:
    run(home, "init")
    first = tmp_path / "first.vkey"
    first.write_text((home / "keys" / "log.vkey").read_text())
    run(home, "keys", "rotate", "log")
    run(home, "audit", "export", tmp_path / "out")
    for place in ((), (tmp_path / "out",)):
        assert json.loads(run(home, "audit", "verify", *place, "--vkey", first, "--json"))["ok"]
    assert (home / "keys" / "log.vkey").read_text() != first.read_text(), "the pin moved on"
    assert json.loads(run(home, "audit", "verify", "--json"))["ok"]
    text = run(home, "audit", "search", "--type", "key.rotate", "--until", "2100-01-01", "--json")
    (entry,) = json.loads(text)["entries"]
    shown = json.loads(run(home, "audit", "show", entry["seq"]))
    new = tmp_path / "new.vkey"
    new.write_text(shown["payload"]["rotation"]["new_vkey"])
    assert json.loads(run(home, "audit", "verify", tmp_path / "out", "--vkey", new, "--json"))["ok"]
    assert (
        json.loads(run(home, "audit", "archive", tmp_path / "archive", "--keep-days", 0, "--json"))["end"]
        == 0
    )
    assert json.loads(run(home, "audit", "archives", "--json")) == {"archives": []}
    run(home, "audit", "archive", tmp_path / "archive", code=2)


def test_a_second_key_is_switched_on_locked_and_checked_by_whoever_pins_both(
    home: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home, "init")
    monkeypatch.setenv("NEURAL_TRADER_LOG_PASSPHRASE", "correct horse battery")
    run(home, "keys", "lock", "log")
    made = json.loads(run(home, "keys", "mldsa", "--json"))
    run(home, "keys", "mldsa", code=1)
    states = {each["key"]: each["state"] for each in json.loads(run(home, "keys", "list", "--json"))["keys"]}
    assert states["log-mldsa"] == states["log"] == "locked"
    shown = json.loads(run(home, "audit", "show", made["seq"]))
    assert (shown["type"], shown["payload"]["vkey"]) == ("key.add", made["vkey"])
    run(home, "keys", "unlock", "log-mldsa")
    run(home, "keys", "unlock", "log")
    run(home, "keys", "rotate", "log", "--overlap", 0)  # the second key stays while the first one changes
    run(home, "audit", "export", tmp_path / "out")
    first, second = tmp_path / "log.vkey", tmp_path / "mldsa.vkey"
    first.write_text((home / "keys" / "log.vkey").read_text())
    second.write_text(made["vkey"])
    both = ("--vkey", first, "--mldsa-vkey", second)
    elsewhere = tmp_path / "elsewhere"
    assert json.loads(run(elsewhere, "audit", "verify", tmp_path / "out", *both, "--json"))["ok"]
    assert json.loads(run(home, "audit", "verify", "--json"))["ok"]
    run(home, "audit", "prove", made["seq"], "--out", tmp_path / "one.tlog-proof")
    run(elsewhere, "audit", "verify", "--proof", tmp_path / "one.tlog-proof", *both)
    # A log that goes on without it, as whoever stole only the first key would write it, is named.
    (home / "keys" / "log-mldsa.key").rename(tmp_path / "taken.key")
    run(home, "keys", "rotate", "log", "--overlap", 0)
    run(home, "audit", "export", tmp_path / "out")
    found = json.loads(run(elsewhere, "audit", "verify", tmp_path / "out", *both, "--json", code=1))
    assert "is not signed by" in found["problems"][0]["what"]
    run(elsewhere, "audit", "verify", tmp_path / "out", "--vkey", first)
