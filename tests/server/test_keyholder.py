"""The keyholder: where a passphrase comes from, in which order, and what is said without one."""

import getpass
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import pytest
from keyring.errors import PasswordDeleteError

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_server import keyholder
from neural_trader_server.home import Home
from neural_trader_server.keyholder import KeyRole, load_key, load_person_key

FROM_PERSON, FROM_ENVIRONMENT, FROM_KEYRING = "typed by a person", "environment-1", "keyring-canary"
CHEAP = 2**10


class Chest(keyring.backend.KeyringBackend):
    """A keyring in memory: a real backend of the library, as an operating system would bring one."""

    priority = 1  # type: ignore[assignment]  # the library reads a plain number

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.held[(service, username)] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.held.pop((service, username), None) is None:
            raise PasswordDeleteError(username)


@pytest.fixture
def chest() -> Iterator[Chest]:
    before, own = keyring.get_keyring(), Chest()
    keyring.set_keyring(own)
    yield own
    keyring.set_keyring(before)


@pytest.fixture
def no_keyring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def lock(home: Home) -> Callable[[KeyRole, str], Path]:
    def with_passphrase(role: KeyRole, passphrase: str) -> Path:
        path = keyholder.key_path(home, role)
        SigningKey.load(path).replace(path, passphrase, cost=CHEAP)
        return path

    return with_passphrase


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody sits at a terminal and types this."""

    def types(answer: str) -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

        def typed(prompt: str = "", stream: Any = None) -> str:
            return answer

        monkeypatch.setattr(getpass, "getpass", typed)

    return types


def test_an_unlocked_key_opens_without_any_question(home: Home, no_keyring: None) -> None:
    assert load_person_key(home, "approver").vkey == home.approver_vkey.read_text().strip()


def test_a_persons_key_asks_the_person_before_environment_and_keyring(
    home: Home,
    lock: Callable[[KeyRole, str], Path],
    chest: Chest,
    at_a_terminal: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = lock(KeyRole.APPROVER, FROM_PERSON)
    keyholder.keep_passphrase(keyholder.vkey_of(path), FROM_KEYRING)
    monkeypatch.setenv("NEURAL_TRADER_APPROVER_PASSPHRASE", FROM_ENVIRONMENT)
    at_a_terminal(FROM_PERSON)
    assert load_person_key(home, "approver").vkey == home.approver_vkey.read_text().strip()
    at_a_terminal("")  # Enter: look elsewhere
    with pytest.raises(ConfigurationError) as caught:
        load_person_key(home, "approver")
    assert caught.value.code == "wrong_passphrase"  # the environment's


def test_a_processs_key_needs_no_terminal(
    home: Home,
    lock: Callable[[KeyRole, str], Path],
    chest: Chest,
    at_a_terminal: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = lock(KeyRole.LOG, FROM_ENVIRONMENT)
    at_a_terminal("never asked for")
    monkeypatch.setenv("NEURAL_TRADER_LOG_PASSPHRASE", FROM_ENVIRONMENT)
    assert load_key(path, KeyRole.LOG).vkey == home.log_vkey.read_text().strip()


def test_the_keyring_is_the_last_resort_and_each_key_has_its_own_account(
    home: Home, lock: Callable[[KeyRole, str], Path], chest: Chest
) -> None:
    path = lock(KeyRole.ISSUER, FROM_KEYRING)
    keyholder.keep_passphrase(home.approver_vkey.read_text().strip(), "the approver's own")
    with pytest.raises(ConfigurationError) as caught:
        load_person_key(home, KeyRole.ISSUER)
    assert caught.value.code == "key_locked"
    keyholder.keep_passphrase(keyholder.vkey_of(path), FROM_KEYRING)
    assert load_person_key(home, KeyRole.ISSUER).vkey == home.issuer_vkey.read_text().strip()
    assert {service for service, _ in chest.held} == {"neural-trader"}


def test_a_locked_key_without_terminal_environment_or_keyring_says_what_to_do(
    home: Home, lock: Callable[[KeyRole, str], Path], no_keyring: None
) -> None:
    lock(KeyRole.APPROVER, FROM_PERSON)
    with pytest.raises(ConfigurationError) as caught:
        load_person_key(home, "approver")
    assert caught.value.code == "key_locked"
    assert "NEURAL_TRADER_APPROVER_PASSPHRASE" in caught.value.next_step


def test_a_machine_without_a_keyring_is_named_and_nothing_is_locked(
    home: Home, no_keyring: None, here: Callable[..., Any]
) -> None:
    before = home.approver_key.read_bytes()
    with pytest.raises(HostError) as caught:
        keyholder.keep_passphrase("a+b+c", FROM_KEYRING)
    assert caught.value.code == "no_keyring"
    ended = here("keys", "lock", "approver", "--keyring", NEURAL_TRADER_APPROVER_PASSPHRASE=FROM_ENVIRONMENT)
    assert ended.returncode == 3
    assert "no_keyring" in ended.stderr
    assert home.approver_key.read_bytes() == before


def test_lock_list_and_unlock_at_the_command_line(home: Home, chest: Chest, here: Callable[..., Any]) -> None:
    def states() -> dict[str, str]:
        return {row["key"]: row["state"] for row in json.loads(here("keys", "list", "--json").stdout)["keys"]}

    assert states() == {"approver": "not locked", "issuer": "not locked", "log": "not locked"}
    variable = {"NEURAL_TRADER_APPROVER_PASSPHRASE": FROM_KEYRING}
    assert here("keys", "lock", "approver").returncode == 1  # nobody gave a passphrase
    assert here("keys", "lock", "approver", "--keyring", **variable).returncode == 0
    assert states()["approver"] == "locked"
    assert load_person_key(home, "approver").vkey == home.approver_vkey.read_text().strip()
    assert here("keys", "unlock", "approver").returncode == 0  # from the keyring
    assert states()["approver"] == "not locked"
    assert chest.held == {}
    assert here("keys", "lock", "../../etc/passwd").returncode == 1
    assert here("keys", "rotate", "approver").returncode == 1


def test_the_desk_opens_with_a_locked_log_key_and_rotates_it(home: Home, here: Callable[..., Any]) -> None:
    variable = {"NEURAL_TRADER_LOG_PASSPHRASE": FROM_ENVIRONMENT}
    assert here("keys", "lock", "log", **variable).returncode == 0
    refused = here("audit", "tail", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "key_locked"
    assert here("audit", "tail", "--json", **variable).returncode == 0
    rotated = here("keys", "rotate", "log", "--overlap", "0", "--json", **variable)
    assert rotated.returncode == 0
    new = json.loads(rotated.stdout)
    assert Path(new["vkey_file"]).read_text().strip() == new["new_vkey"] != new["old_vkey"]
    assert keyholder.is_locked(home.log_key)
    assert here("audit", "verify", "--json").returncode == 0


def test_secrets_stay_out_of_what_the_commands_print_and_log(
    home: Home, chest: Chest, here: Callable[..., Any]
) -> None:
    secret = home.approver_key.read_text().split("+", 4)[4].strip()  # base64 may hold a "+" itself
    debug = {"NEURAL_TRADER_LOG_LEVEL": "debug"}
    said = ""
    for words, passphrase in (
        (("keys", "lock", "approver", "--keyring"), FROM_KEYRING),
        (("keys", "unlock", "approver"), "a-wrong-canary"),
        (("keys", "list"), ""),
        (("keys", "unlock", "approver", "--json"), FROM_KEYRING),
        (("doctor",), FROM_KEYRING),
    ):
        ended = here(*words, NEURAL_TRADER_APPROVER_PASSPHRASE=passphrase, **debug)
        said += ended.stdout + ended.stderr
    assert "wrong_passphrase" in said
    for canary in (secret, FROM_KEYRING, "a-wrong-canary"):
        assert canary not in said


def test_init_on_a_terminal_offers_a_passphrase_and_never_echoes_it(tmp_path: Path) -> None:
    """A real terminal: what is typed must lock both keys, and must not appear on the screen."""
    home = tmp_path / "typed-home"
    base = {name: value for name, value in os.environ.items() if not name.startswith("NEURAL_TRADER_")}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "neural_trader_server", "init"],
        env=base | {"NEURAL_TRADER_HOME": str(home)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen, answers = "", ["Enter: none", "The same again"]
    try:
        while select.select([ours], [], [], 60)[0]:
            screen += os.read(ours, 4096).decode(errors="replace")
            if answers and answers[0] in screen:
                answers.pop(0)
                os.write(ours, f"{FROM_PERSON}\n".encode())
    except OSError:
        pass  # the other side closed the terminal
    finally:
        os.close(ours)
    assert process.wait(60) == 0, screen
    assert answers == []
    assert FROM_PERSON not in screen
    own = Home(home)
    assert keyholder.is_locked(own.approver_key)
    assert keyholder.is_locked(own.issuer_key)
    assert not keyholder.is_locked(own.log_key)
    assert SigningKey.load(own.approver_key, FROM_PERSON).vkey == own.approver_vkey.read_text().strip()
