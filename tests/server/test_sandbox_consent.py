"""A person's consent, before anything leaves for a service: file, record, terminal."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.redaction import redact
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server import remote_sandbox
from neural_trader_server.app import Services
from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.home import Home
from neural_trader_server.remote_sandbox import (
    consented,
    e2b_settings,
    give_consent,
    read_consent,
    revoke_consent,
)
from neural_trader_server.settings import Settings

Command = Callable[..., "CompletedProcess[str]"]
WHERE = "e2b.app"


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.delenv("E2B_API_KEY", raising=False)


def services_of(home: Home) -> Services:
    return Services(home, Settings(), WallClock())


def entries(home: Home) -> list[dict[str, object]]:
    """Payloads of the log's consent entries."""
    services = services_of(home)
    with closing(services), services.store.read() as connection:
        rows = connection.execute("SELECT entry FROM audit_entries ORDER BY seq").fetchall()
    found = [json.loads(row[0]) for row in rows]
    return [entry["payload"] for entry in found if entry["type"] == "sandbox.consent"]


def test_consent_is_bound_to_its_destination_recorded_and_revocable(home: Home) -> None:
    require = consented(services_of(home))
    with pytest.raises(ConfigurationError, match=r"sandbox_consent_missing.*consent e2b"):
        require(WHERE)
    with closing(services_of(home)) as services:
        give_consent(services, WHERE)
        require(WHERE)
        with pytest.raises(ConfigurationError, match=r"sandbox_consent_missing.*only for e2b.app"):
            require("elsewhere.example")
        assert revoke_consent(services)
        assert not revoke_consent(services)
    with pytest.raises(ConfigurationError, match="sandbox_consent_missing"):
        require(WHERE)
    assert entries(home) == [
        {"backend": "e2b", "consent": True, "destination": WHERE},
        {"backend": "e2b", "consent": False},
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"v":1', '"v":2'),
        ("{", '{"also":1,'),
        ('"e2b"', '"other"'),
        ("}", ""),
        ("{", " " * 5000 + "{"),
        (WHERE, ""),
    ],
)
def test_a_file_that_is_not_exactly_a_consent_is_none(home: Home, old: str, new: str) -> None:
    with closing(services_of(home)) as services:
        give_consent(services, WHERE)
    text = home.e2b_consent.read_text(encoding="utf-8")
    assert old in text
    home.e2b_consent.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="sandbox_consent_invalid"):
        consented(services_of(home))(WHERE)


def test_a_file_that_others_may_write_is_none(home: Home) -> None:
    with closing(services_of(home)) as services:
        give_consent(services, WHERE)
    assert home.e2b_consent.stat().st_mode & 0o777 == 0o600
    home.e2b_consent.chmod(0o666)
    with pytest.raises(ConfigurationError, match="sandbox_consent_invalid"):
        read_consent(home)


def test_no_tool_can_consent() -> None:
    assert [spec.name for spec in CATALOGUE if "consent" in spec.name] == []


def test_the_command_asks_at_a_terminal_only_and_yes_is_a_persons_own_word(
    home: Home, command: Command
) -> None:
    asked = command("sandbox", "consent", "e2b")
    assert (asked.returncode, "nobody is at the terminal" in asked.stderr) == (1, True), asked.stderr
    assert WHERE in asked.stderr
    assert "source text of every strategy" in asked.stderr
    assert not home.e2b_consent.exists()
    given = command("sandbox", "consent", "e2b", "--yes", "--json")
    assert json.loads(given.stdout)["consent"]["destination"] == WHERE
    assert read_consent(home) is not None
    assert command("sandbox", "consent", "e2b", "--revoke").stdout.strip() == "Revoked."
    assert read_consent(home) is None


def test_a_run_and_doctor_without_consent_send_nothing_and_name_the_command(
    home: Home, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "script.py"
    file.write_text("print(1)", encoding="utf-8")
    run = command("sandbox", "run", str(file), "--backend", "e2b", "--json", E2B_API_KEY="e2b_key_of_nobody")
    failure = json.loads(run.stdout)["error"]
    assert (run.returncode, failure["code"]) == (1, "sandbox_consent_missing"), run.stderr
    assert remote_sandbox.COMMAND in failure["next_step"]
    doctor = command("sandbox", "doctor", "--backend", "e2b", "--json", E2B_API_KEY="e2b_key_of_nobody")
    assert (doctor.returncode, json.loads(doctor.stdout)["ok"]) == (3, False)
    assert "sandbox_consent_missing" in doctor.stdout


def test_the_key_comes_from_settings_or_environment_and_is_a_secret(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert e2b_settings(home, Settings()).api_key is None
    monkeypatch.setenv("E2B_API_KEY", "e2b_from_the_environment")
    found = e2b_settings(home, Settings()).api_key
    assert found is not None
    assert found.get_secret_value() == "e2b_from_the_environment"
    assert "e2b_from_the_environment" not in redact("the key e2b_from_the_environment leaked")
    own = e2b_settings(home, Settings.model_validate({"e2b_api_key": "e2b_of_ours_alone"})).api_key
    assert own is not None
    assert own.get_secret_value() == "e2b_of_ours_alone"


def test_a_wrong_setting_names_itself(home: Home) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("e2b_api_url")):
        e2b_settings(home, Settings.model_validate({"e2b_api_url": "http://example.com"}))


def test_a_desk_with_the_local_backend_imports_no_sdk(home: Home) -> None:
    code = (
        "import sys\nfrom neural_trader_server.app import Services\n"
        "from neural_trader_server.home import Home\nfrom neural_trader_server.settings import Settings\n"
        "from neural_trader_governance.terms.clocks import WallClock\nimport pathlib\n"
        f"s = Services(Home(pathlib.Path({os.fspath(home.path)!r})), Settings(), WallClock())\n"
        "s.sandbox\nprint([n for n in sys.modules if n.split('.')[0] in ('e2b', 'e2b_code_interpreter')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_without_its_entry_in_the_log_is_no_consent(home: Home) -> None:
    with closing(services_of(home)) as services:
        require = consented(services)
        give_consent(services, WHERE)
        given = home.e2b_consent.read_bytes()
        require(WHERE)
        for forged in (given.replace(WHERE.encode(), b"evil.example"), given):
            if forged == given:
                revoke_consent(services)  # and whoever kept a copy puts it back
            home.e2b_consent.write_bytes(forged)
            home.e2b_consent.chmod(0o600)
            with pytest.raises(ConfigurationError, match=r"sandbox_consent_unrecorded"):
                require("evil.example" if forged != given else WHERE)


def test_what_a_file_that_is_gone_allowed_can_still_be_revoked(home: Home) -> None:
    with closing(services_of(home)) as services:
        give_consent(services, WHERE)
        home.e2b_consent.unlink()
        assert revoke_consent(services)
        assert not revoke_consent(services)


def test_the_key_comes_from_the_keyring_last(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "filed.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Keyring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, username):\n"
        "        return {('neural-trader', 'e2b'): 'e2b_from_the_keyring'}.get((service, username))\n"
        "    def set_password(self, service, username, password): raise NotImplementedError\n",
        encoding="utf-8",
    )
    code = (
        "import pathlib\nfrom neural_trader_server.home import Home\n"
        "from neural_trader_server.remote_sandbox import e2b_settings\n"
        "from neural_trader_server.settings import Settings\n"
        f"s = e2b_settings(Home(pathlib.Path({os.fspath(home.path)!r})), Settings())\n"
        "print(s.api_key, s.api_key.get_secret_value() if s.api_key else None)\n"
    )

    def found(**variables: str) -> str:
        known = dict(os.environ) | {"PYTHONPATH": os.fspath(tmp_path)} | variables
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=known, check=False
        )
        return done.stdout.strip() or done.stderr

    assert found(PYTHON_KEYRING_BACKEND="filed.Keyring") == "********** e2b_from_the_keyring"
    assert found(PYTHON_KEYRING_BACKEND="filed.Keyring", E2B_API_KEY="e2b_e") == "********** e2b_e"
    assert found(PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring") == "None None"


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("\n", False), ("n\n", False)])
def test_a_person_at_a_terminal_is_shown_what_leaves_and_asked(home: Home, answer: str, agreed: bool) -> None:
    import pty

    pid, fd = pty.fork()
    if pid == 0:
        os.environ["NEURAL_TRADER_HOME"] = os.fspath(home.path)
        words = ["-m", "neural_trader_server", "sandbox", "consent", "e2b"]
        os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - our own command line
    said = b""
    try:
        while True:
            piece = os.read(fd, 4096)
            said += piece
            if b"[y/N]" in piece:
                os.write(fd, answer.encode())
    except OSError:  # the terminal's other end is closed
        pass
    os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert (code, read_consent(home) is not None) == (0 if agreed else 1, agreed), said
    assert b"prices and other tables" in said
