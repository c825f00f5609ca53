"""The weaker profile: chosen by name only, named in every result, and attacked by the suite's own attacks."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.sandbox.local import hosts

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_sandbox.backends import open_sandbox
from neural_trader_sandbox.local.profiles import LAYERS, PROFILES, Profile
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

WEAKER = {
    "/proc and ptrace: see a parent",
    "/proc and ptrace: be the host's user",  # where it runs as an ordinary user
    "files and links: follow a magic link to a descriptor",  # it opens /dev/null, which may be read
    "fork and threads: thread bomb",  # 40 threads are fewer than the user's headroom; a group stops it
}
"""Attacks that this profile does not stop, all of which docs/sandbox.md owns up to."""
ALWAYS_WEAKER = {"/proc and ptrace: see a parent", "files and links: follow a magic link to a descriptor"}
AS_ROOT = os.geteuid() == 0
USERS = [
    pytest.param(None, id="root" if AS_ROOT else "this user"),
    pytest.param(hosts.SOMEBODY, id="a plain user", marks=pytest.mark.skipif(not AS_ROOT, reason="is one")),
]


@pytest.fixture(scope="module", params=USERS)
def attacked(request: pytest.FixtureRequest, lacking: Callable[[str], NoReturn]) -> dict[str, Any]:
    """What each attack of the suite got, by the same user outside as inside (root: 65534 inside)."""
    with hosts.folder_of(request.param) as folder:
        program = [sys.executable, "-B", "-m", "tests.sandbox.local.landlock_attacks", str(folder)]
        done = subprocess.run(
            [*hosts.readable(folder, lacking, request.param), *program],
            env=hosts.environment(folder), cwd="/", capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_attack_suite_wins_no_more_than_is_documented(
    sandbox: LocalSandbox, attacked: dict[str, Any]
) -> None:
    del sandbox
    attacks: dict[str, list[Any]] = attacked["attacks"]
    assert len(attacks) >= 200
    won = {name for name, (mechanism, _, _) in attacks.items() if mechanism.startswith("WON")}
    assert ALWAYS_WEAKER <= won <= WEAKER
    assert {name: harm for name, (_, harm, _) in attacks.items() if harm} == {}
    assert {layers[0] for _, _, layers in attacks.values()} == {"profile:landlock"}
    assert not {layer for _, _, layers in attacks.values() for layer in layers} & {"namespaces", "filesystem"}
    left = set(attacked["left"]) - {"interpreter"}
    assert (attacked["honest"], left) == (7, {"kernels", "secret", "socket"})


def test_its_report_holds_and_warns(sandbox: LocalSandbox, attacked: dict[str, Any]) -> None:
    del sandbox
    assert attacked["ok"]
    assert any("weaker than full" in note for note in attacked["notes"])


def test_it_is_chosen_by_name_only() -> None:
    assert Settings().sandbox_profile == "full"
    for sandbox in (LocalSandbox([]), open_sandbox("local", [])):
        assert isinstance(sandbox, LocalSandbox)
        assert sandbox.profile == "full"
    chosen = open_sandbox("local", [], profile="landlock")
    assert isinstance(chosen, LocalSandbox)
    assert chosen.profile == "landlock"
    assert "profile:landlock" not in LAYERS["full"]
    with pytest.raises(ValueError, match="sandbox_profile"):
        Settings.model_validate({"sandbox_profile": "none"})


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "hello.py"
    path.write_text("print('hello')\n")
    return path


def command(folder: Path, before: list[str], *words: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [*before, sys.executable, "-B", "-m", "neural_trader_server", *words],
        env=hosts.environment(folder) | {"NEURAL_TRADER_HOME": str(folder / "home")},
        cwd="/", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout), done.stderr


def test_the_commands_take_it_by_name_and_say_so(
    sandbox: LocalSandbox, script: Path, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    before = hosts.readable(tmp_path, lacking)
    code, ran, _ = command(tmp_path, before, "sandbox", "run", str(script), "--profile", "landlock", "--json")
    assert (code, ran["status"], ran["stdout"]) == (0, "ok", "hello\n"), ran
    assert ran["layers"][0] == "profile:landlock"
    code, report, _ = command(tmp_path, before, "sandbox", "doctor", "--profile", "landlock", "--json")
    assert (code, report["ok"]) == (0, True), report
    assert "weaker than full" in report["notes"][0]
    [profile] = [layer for layer in report["layers"] if layer["name"] == "profile:landlock"]
    assert "go back to the profile full" in profile["next_step"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_settings_choose_it(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Profile] = []

    def record(backend: str, preload: Sequence[str], *, profile: Profile) -> LocalSandbox:
        chosen.append(profile)
        assert backend == "local"
        return LocalSandbox(preload, profile=profile)

    monkeypatch.setattr("neural_trader_sandbox.backends.open_sandbox", record)
    settings = Settings(sandbox_profile=profile)
    with contextlib.closing(Services(Home(tmp_path), settings, WallClock())) as services:
        services.sandbox_with(())
    assert chosen == [profile]


@pytest.mark.slow
def test_the_settings_choose_it_and_the_desks_doctor_warns(
    sandbox: LocalSandbox, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    before = hosts.readable(tmp_path, lacking)
    before += ["env", "NEURAL_TRADER_SANDBOX_PROFILE=landlock"]
    _, report, _ = command(tmp_path, before, "doctor", "--json")
    checks = {check["name"]: check for check in report["checks"]}
    warned = checks["sandbox profile:landlock"]
    assert (warned["ok"], "weaker than full" in warned["detail"]) == (True, True)
    assert warned["next_step"]
    assert "sandbox namespaces" not in checks


def test_an_interpreter_that_its_user_cannot_read_is_a_refusal(
    sandbox: LocalSandbox, script: Path, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    if not hosts.interpreter_hidden():
        lacking("these tests do not run as root from an interpreter in root's own home")
    code, ran, _ = command(tmp_path, [], "sandbox", "run", str(script), "--profile", "landlock", "--json")
    assert (code, ran["status"], ran["stdout"]) == (3, "refused", "")
    assert "readable" in ran["error"]["message"]
    assert "user 65534 cannot read" in ran["error"]["message"]
