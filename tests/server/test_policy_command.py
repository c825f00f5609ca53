"""`neural-trader policy` and `audit verify --replay`, as people type them."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.policy.bundles import BundleFolder
from neural_trader_governance.policy.contexts import ORDINARY
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def raised(home: Home, tmp_path: Path) -> Path:
    """The home's policy with a limit of 60,000 USD."""
    file = tmp_path / "raised.cedar"
    text = home.policy_file.read_text()
    assert text.count("> 5000000 && !context.overrides") == 1
    file.write_text(text.replace("> 5000000 && !context.overrides", "> 6000000 && !context.overrides"))
    return file


def answer(done: "CompletedProcess[str]", code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def decide(home: Home, said: dict[str, Any] | None = None) -> tuple[int, str]:
    """Judges a large order by the policy in force, as another process of the home would; logs it."""
    order = ORDINARY.model_copy(
        update={"notional_cents": 5_500_000, "approvals": 2, "approvals_independent": 1}
    )
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.unit() as unit:
            verdict = services.policy.current(unit.connection).decide(order)
            payload = {
                "context": order.model_dump(mode="json"),
                "decision": verdict.decision,
                "rules": [reason.rule for reason in verdict.reasons],
                "policy_digest": verdict.policy_digest,
                **(said or {}),
            }
            entry = AuditEntry.by(services.caller, EntryType.POLICY_DECISION, payload=payload)
            return unit.append(entry), verdict.decision
    finally:
        services.close()


def test_a_bound_is_raised_checked_activated_and_taken_back(
    home: Home, command: Command, raised: Path
) -> None:
    assert answer(command("policy", "check", str(raised), "--json"))["ok"]
    assert decide(home)[1] == "deny"
    first = answer(command("policy", "status", "--json"))
    done = answer(command("policy", "activate", str(raised), "--comment", "the board", "--json"))
    assert (done["version"], done["replaces"]) == (2, first["policy_digest"])
    assert done["proof"]["ok"]
    assert decide(home)[1] == "allow"
    status = answer(command("policy", "status", "--json"))
    assert status["versions"][0]["comment"] == "the board"
    assert not status["draft_differs"], "an unedited draft follows the policy in force"
    back = answer(command("policy", "activate", first["policy_digest"][:12], "--json"))
    assert (back["version"], back["policy_digest"]) == (3, first["policy_digest"])
    assert decide(home)[1] == "deny"


def test_a_policy_with_a_hole_needs_an_explicit_word(home: Home, command: Command, tmp_path: Path) -> None:
    hole = tmp_path / "hole.cedar"
    hole.write_text(home.policy_file.read_text().replace("{ context.halted }", "{ false }"))
    refused = answer(command("policy", "activate", str(hole), "--json"), code=1)
    assert refused["error"]["code"] == "policy_not_proved"
    assert "halted_never_trades" in refused["error"]["what"]
    assert len(answer(command("policy", "status", "--json"))["versions"]) == 1
    assert answer(command("policy", "activate", str(hole), "--accept-refuted", "--json"))["version"] == 2


def test_prove_exits_1_with_the_order_and_diff_shows_it_both_ways(
    home: Home, command: Command, raised: Path
) -> None:
    assert answer(command("policy", "prove", str(raised), "--json"))["ok"]
    proof = answer(command("policy", "prove", str(raised), "--as-written", "--json"), code=1)
    (refuted,) = [finding for finding in proof["findings"] if finding["status"] == "refuted"]
    assert refuted["name"] == "notional_within_limit"
    assert refuted["verdict"]["decision"] == "allow"
    assert refuted["order"]["notional_cents"] == 5_000_001
    words = command("policy", "diff", str(home.policy_file), str(raised)).stdout
    assert "50,000.01 USD" in words
    assert "There is no order that default.cedar allows and raised.cedar does not (proved)." in words
    found = answer(command("policy", "diff", str(home.policy_file), str(raised), "--json"))
    assert (found["loosened"]["status"], found["tightened"]["status"]) == ("found", "none")


def test_a_decision_is_replayed_and_a_false_one_and_a_lost_bundle_are_found(
    home: Home, command: Command, raised: Path
) -> None:
    good, _ = decide(home)
    assert answer(command("policy", "replay", str(good), "--json"))["identical"]
    whole = answer(command("audit", "verify", "--replay", "--json"))
    assert whole["replay"] == {"decisions": 1, "identical": 1, "before_bundles": 0, "problems": []}
    bad, _ = decide(home, said={"decision": "allow", "rules": []})
    wrong = answer(command("policy", "replay", str(bad), "--json"), code=1)
    assert (wrong["outcome"], wrong["decision_recomputed"]) == ("different", "deny")
    assert answer(command("audit", "verify", "--json"))["ok"], "the log itself is whole"
    report = answer(command("audit", "verify", "--replay", "--json"), code=1)
    assert [problem["seq"] for problem in report["problems"]] == [bad]
    folder = str(home.path / "export")
    assert command("audit", "export", folder).returncode == 0
    exported = answer(command("audit", "verify", folder, "--replay", "--json"), code=1)
    assert [problem["seq"] for problem in exported["problems"]] == [bad]
    digest = answer(command("policy", "status", "--json"))["policy_digest"]
    BundleFolder(home.bundles).path_of(digest).unlink()
    lost = answer(command("audit", "verify", "--replay", "--json"), code=1)
    assert {problem["seq"] for problem in lost["problems"]} == {good, bad}
    status = answer(command("policy", "status", "--json"), code=1)
    assert "does not exist" in status["problem"]


def test_an_entry_that_is_no_decision_is_refused_in_one_line(home: Home, command: Command) -> None:
    refused = answer(command("policy", "replay", "0", "--json"), code=1)
    assert refused["error"]["code"] == "not_a_decision"
