"""A home that an earlier version made opens with this one: its orders, its log and its policy.

`fixtures/home-43ebfaf.tar.xz` was made by the code of that commit, before policies, people and budgets were
signed: one order filled, one working, one preview that waited for approval. Its keys sign nothing else.
"""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from mcp import Client

from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
RunCommand = Callable[..., "CompletedProcess[str]"]
MADE = Path(__file__).parent / "fixtures" / "home-43ebfaf.tar.xz"
FILLED, WORKING = "nt_0550fcb91d48", "nt_ccba04526316"


@pytest.fixture
def home(tmp_path: Path, sample_archive_root: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The earlier version's home, with the sample's prices."""
    own = Home(tmp_path / "home")
    with tarfile.open(MADE) as made:
        made.extractall(own.path, filter="data")
    shutil.copytree(sample_archive_root, own.archive)
    monkeypatch.setenv("NEURAL_TRADER_HOME", str(own.path))
    return own


async def buy(home: Home) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Buys one share through a server; returns its state or the error, the verdict, and every order."""
    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services, toolsets="all")) as client,
    ):
        order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "after the upgrade"}
        previewed = (await client.call_tool("orders_preview", order)).structured_content
        assert previewed is not None
        done = await client.call_tool("orders_submit", {"preview_id": previewed["preview_id"]})
        listed = (await client.call_tool("orders_list", {})).structured_content
        assert listed is not None
        answer: dict[str, Any] | None = done.structured_content
        said = str(answer["state"] if answer else getattr(done.content[0], "text", ""))
        states = {each["client_order_id"]: each["state"] for each in listed["orders"]}
        return said, previewed["verdict"], states


def replayed(command: RunCommand) -> dict[str, Any]:
    verified = command("audit", "verify", "--replay", "--json")
    facts: dict[str, Any] = json.loads(verified.stdout)
    assert verified.returncode == 0, facts
    assert facts["ok"] is True
    return facts["replay"]


async def test_an_earlier_home_whose_policy_nobody_changed_trades_on_at_once(
    home: Home, command: RunCommand, tmp_path: Path
) -> None:
    said, verdict, states = await buy(home)
    assert (said, verdict["decision"]) == ("filled", "allow")
    assert (states[FILLED], states[WORKING]) == ("filled", "accepted")
    assert "principal_permitted" in home.policy_file.read_text(), "the draft is this version's default"
    replay = replayed(command)
    assert replay["before_bundles"] == 5
    assert replay["identical"] == replay["decisions"] - 5 > 0
    assert command("audit", "export", str(tmp_path / "export")).returncode == 0
    exported = command("audit", "verify", str(tmp_path / "export"), "--replay", "--json")
    assert json.loads(exported.stdout)["replay"] == replay
    assert command("orders", "cancel", WORKING).returncode == 0


async def test_an_earlier_home_with_a_policy_of_its_own_denies_until_a_person_chose_and_keeps_the_edits(
    home: Home, command: RunCommand
) -> None:
    edited = home.policy_file.read_text().replace("5000000", "4000000")
    home.policy_file.write_text(edited)
    said, verdict, states = await buy(home)
    assert said.startswith("preview_denied: ")
    assert [reason["rule"] for reason in verdict["reasons"]] == ["policy_unavailable"]
    assert "neural-trader policy activate FILE`, or `policy activate default`" in json.dumps(verdict)
    assert (states[FILLED], states[WORKING]) == ("filled", "accepted")
    refused = command("policy", "activate", str(home.policy_file))
    assert refused.returncode == 1
    assert "invalid_policy: the policy is not usable: message_rate names" in refused.stderr
    assert "neural-trader policy activate default" in refused.stderr
    done = command("policy", "activate", "default", "--json")
    assert done.returncode == 0, done.stderr
    assert home.policy_file.read_text() == edited, "nobody's edits are lost"
    assert (await buy(home))[0] == "filled"
    assert replayed(command)["before_bundles"] == 5
