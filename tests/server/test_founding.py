"""Founding: idempotent, private, and never a second history under one key."""

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import ConfigurationError, IntegrityError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found, open_desk
from neural_trader_server.founding import is_founded
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

Command = Callable[..., "CompletedProcess[str]"]


def found_again(home: Home) -> list[str]:
    services = Services(home, Settings(), WallClock())
    try:
        return found(services).made
    finally:
        services.close()


def test_a_founded_home_has_private_keys_a_policy_and_two_entries(home: Home) -> None:
    assert is_founded(home)
    for key in (home.log_key, home.approver_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    report = verify_store(home.desk_db, home.log_vkey.read_text())
    assert report.ok
    assert report.size == 2


def test_founding_again_changes_nothing(home: Home) -> None:
    before = {path: path.read_bytes() for path in (home.log_key, home.approver_key, home.policy_file)}
    assert found_again(home) == []
    assert {path: path.read_bytes() for path in before} == before
    assert verify_store(home.desk_db, home.log_vkey.read_text()).size == 2


def test_a_policy_that_a_person_edited_is_not_overwritten(home: Home) -> None:
    edited = home.policy_file.read_text() + "\n// mine\n"
    home.policy_file.write_text(edited)
    assert found_again(home) == []
    assert home.policy_file.read_text() == edited


def test_another_agent_is_permitted_by_founding_and_goes_on_the_record(home: Home) -> None:
    services = Services(home, Settings(agent="agent-2"), WallClock())
    try:
        assert found(services).made == ["the account paper with the agent agent-2"]
    finally:
        services.close()
    assert verify_store(home.desk_db, home.log_vkey.read_text()).size == 3


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
    assert verify_store(home.desk_db, home.log_vkey.read_text()).size == 2


@pytest.mark.anyio
async def test_an_edited_policy_is_on_the_record_once_a_server_starts(home: Home) -> None:
    async def start() -> tuple[str, list[LoggedEntry]]:
        async with open_desk(home, Settings()) as services:
            await services.start()
            with services.store.read() as connection:
                entries = [read_entry(connection, seq) for seq in range(services.store.head().size)]
            return services.policy.digest, [one for one in entries if one.type == EntryType.POLICY_ACTIVATE]

    before, activated = await start()
    assert [entry.payload for entry in activated] == [{"policy_digest": before}]
    home.policy_file.write_text(home.policy_file.read_text().replace("> 5000000", "> 4000000"))
    after, activated = await start()
    assert after != before
    assert activated[-1].payload == {"policy_digest": after, "replaces": before}
    assert len((await start())[1]) == 2, "starting again with the same policy records nothing"
