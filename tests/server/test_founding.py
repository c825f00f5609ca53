"""Founding: idempotent, private, and never a second history under one key."""

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from neural_trader_governance import principals
from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import ConfigurationError, IntegrityError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.founding import founding, is_founded
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.orders.accounts import open_account, permit_agent

Command = Callable[..., "CompletedProcess[str]"]

FOUNDING = 4
"""Entries of a founding: the policy, the account, the owner and the first agent."""


def found_again(home: Home) -> list[str]:
    services = Services(home, Settings(), WallClock())
    try:
        return found(services).made
    finally:
        services.close()


def test_a_founded_home_has_private_keys_a_policy_and_its_first_people(home: Home) -> None:
    assert is_founded(home)
    for key in (home.log_key, home.approver_key, home.issuer_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    report = verify_store(home.desk_db, home.log_vkey.read_text())
    assert report.ok
    assert report.size == FOUNDING


def test_founding_again_changes_nothing(home: Home) -> None:
    before = {path: path.read_bytes() for path in (home.log_key, home.approver_key, home.policy_file)}
    assert found_again(home) == []
    assert {path: path.read_bytes() for path in before} == before
    assert verify_store(home.desk_db, home.log_vkey.read_text()).size == FOUNDING


def test_a_policy_that_a_person_edited_is_not_overwritten(home: Home) -> None:
    edited = home.policy_file.read_text() + "\n// mine\n"
    home.policy_file.write_text(edited)
    assert found_again(home) == []
    assert home.policy_file.read_text() == edited


def test_another_agent_is_permitted_by_founding_and_goes_on_the_record(home: Home) -> None:
    services = Services(home, Settings(agent="agent-2"), WallClock())
    try:
        assert found(services).made == [
            "the account paper with the agent agent-2",
            "the enrolment of the agent agent-2",
        ]
    finally:
        services.close()
    assert verify_store(home.desk_db, home.log_vkey.read_text()).size == FOUNDING + 2


def test_a_lost_log_is_never_begun_again_under_the_same_key(home: Home) -> None:
    for path in home.path.glob("desk.db*"):
        path.unlink()
    with pytest.raises(IntegrityError) as caught:
        found_again(home)
    assert caught.value.code == "audit_log_missing"


def test_a_founding_that_was_interrupted_is_finished_with_the_same_key(home: Home) -> None:
    pending = home.log_key.with_name("log.key.new")
    home.log_key.rename(pending)
    key = pending.read_bytes()
    assert not is_founded(home)
    found_again(home)
    assert home.log_key.read_bytes() == key
    assert not pending.exists()
    assert verify_store(home.desk_db, home.log_vkey.read_text()).ok


def enrolled(home: Home) -> dict[str, tuple[str, ...]]:
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.read() as connection:
            people = principals.list_enrolments(connection, issuer=services.issuer)
        return {each.subject: each.roles for each in people}
    finally:
        services.close()


def test_founding_enrols_the_owner_with_every_role_and_the_agent_as_a_trader(home: Home) -> None:
    assert enrolled(home) == {
        "person owner": ("admin", "approver", "reader", "researcher", "trader"),
        "agent agent-1": ("trader",),
    }
    services = Services(home, Settings(), WallClock())
    with services.store.read() as connection:
        keys = principals.approver_keys(connection, issuer=services.issuer)
    services.close()
    assert {name: key.vkey for name, key in keys.items()} == {"owner": home.approver_vkey.read_text().strip()}


def test_a_home_that_was_founded_before_there_was_an_issuer_gets_one_when_it_is_opened(
    tmp_path: Path,
) -> None:
    old = Home(tmp_path / "old")
    services = Services(old, Settings(), WallClock())
    with founding(old), services.store.unit() as unit:  # as it was done then: nobody is enrolled
        open_account(
            unit.connection,
            account="paper",
            cash=Decimal(1),
            currency="USD",
            opened_time="2026-01-01T00:00:00Z",
        )
        permit_agent(unit.connection, account="paper", agent="agent-7")
    services.close()
    for path in (old.issuer_key, old.issuer_vkey):
        path.unlink()
    assert not is_founded(old)
    made = found_again(old)
    assert "the issuer's key pair" in made
    assert is_founded(old)
    assert set(enrolled(old)) == {"person owner", "agent agent-1", "agent agent-7"}


def test_a_home_that_lost_its_issuer_is_never_given_another_one(home: Home) -> None:
    for path in (home.issuer_key, home.issuer_vkey):
        path.unlink()
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            found_again(home)
        assert caught.value.code == "issuer_changed"
        assert not is_founded(home)


def test_the_private_keys_of_people_may_live_elsewhere(home: Home) -> None:
    for path in (home.issuer_key, home.approver_key):
        path.unlink()
    assert is_founded(home)
    assert found_again(home) == []


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        found_again(Home(tmp_path / "home"))
    assert caught.value.code == "home_not_writable"


def test_three_processes_that_found_one_home_at_once_make_one_desk(command: Command, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        started = [pool.submit(command, "init", "--json") for _ in range(3)]
        done = [one.result() for one in started]
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert len({json.loads(one.stdout)["log_vkey"] for one in done}) == 1
    home = Home(tmp_path / "new-home")
    assert verify_store(home.desk_db, home.log_vkey.read_text()).size == FOUNDING
