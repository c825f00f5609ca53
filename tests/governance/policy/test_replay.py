"""Replay: a decision is recomputed from the log and the bundle alone, and a false one is found."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.bundles import BundleFolder, PolicyBundle
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY, PolicyEngine
from neural_trader_governance.policy.examples import ORDINARY
from neural_trader_governance.policy.replay import decisions, exported_decisions, replay_all, replay_seq
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
STRICTER = POLICY.replace("> 5000000 &&", "> 4000000 &&")
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")
CALLER = Caller("alice", "agent-1")


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    made, issuer = BundleFolder(tmp_path / "bundles"), SigningKey.generate("desk.example/issuer")
    for policy in (POLICY, STRICTER):
        bundle = PolicyBundle.sign(
            issuer, policy=policy, schema=SCHEMA, created=datetime(2026, 11, 22, tzinfo=UTC)
        )
        made.keep(bundle, issuer.verifying_key)
    return made


@pytest.fixture
def decide(store: Store) -> Callable[..., int]:
    """Judges an order as the desk does and logs it; `said` overrides what the entry says."""

    def run(policy: str = POLICY, said: dict[str, Any] | None = None, **facts: Any) -> int:
        context = ORDINARY.model_copy(update=facts)
        verdict = PolicyEngine(policy, SCHEMA).decide(context)
        payload: dict[str, Any] = {
            "context": context.model_dump(mode="json"),
            "decision": verdict.decision,
            "rules": [reason.rule for reason in verdict.reasons],
            "policy_digest": verdict.policy_digest,
            **(said or {}),
        }
        with store.unit() as unit:
            return unit.append(AuditEntry.by(CALLER, EntryType.POLICY_DECISION, payload=payload))

    return run


def replay(store: Store, seq: int, folder: BundleFolder) -> tuple[str, str | None, tuple[str, ...]]:
    with store.read() as connection:
        again = replay_seq(connection, seq, folder)
    return again.outcome, again.decision_recomputed, again.rules_recomputed


def test_decisions_of_every_kind_and_of_two_policies_are_identical(
    store: Store, folder: BundleFolder, decide: Callable[..., int]
) -> None:
    large = {"notional_cents": 4_500_000, "approvals": 1}
    cases = [
        decide(),
        decide(notional_cents=1_000_001),
        decide(halted=True, restricted=True),
        decide(POLICY, **large),
        decide(STRICTER, **large),
        decide(notional_cents=9_000_000, approvals=2, approvals_independent=1, overrides=("max_notional",)),
    ]
    answers = [replay(store, seq, folder) for seq in cases]
    assert [answer[0] for answer in answers] == ["identical"] * len(cases)
    assert [answer[1] for answer in answers] == ["allow", "needs_approval", "deny", "allow", "deny", "allow"]
    assert set(answers[2][2]) == {"halted", "restricted_symbol"}


@pytest.mark.parametrize(
    "said",
    [
        {"decision": "allow", "rules": []},
        {"rules": ["halted"]},
        {"rules": ["restricted_symbol", "halted"]},
        {"context": ORDINARY.model_dump(mode="json")},
        {"context": {}},
    ],
)
def test_an_entry_that_says_something_else_is_different(
    store: Store, folder: BundleFolder, decide: Callable[..., int], said: dict[str, Any]
) -> None:
    outcome, decision, _ = replay(store, decide(said=said, halted=True, restricted=True), folder)
    assert outcome == "different"
    assert decision is not None


def test_an_entry_whose_bundle_is_gone_is_not_replayable(
    store: Store, folder: BundleFolder, decide: Callable[..., int]
) -> None:
    seq = decide(STRICTER)
    folder.path_of(PolicyEngine(STRICTER, SCHEMA).digest).unlink()
    assert replay(store, seq, folder)[0] == "not_replayable"
    with store.read() as connection:
        again = replay_seq(connection, seq, folder)
    assert not again.ok
    assert "does not exist" in again.detail


def test_a_bundle_that_was_changed_replays_nothing(
    store: Store, folder: BundleFolder, decide: Callable[..., int]
) -> None:
    seq = decide()
    path = folder.path_of(PolicyEngine(POLICY, SCHEMA).digest)
    path.write_text(path.read_text().replace("context.halted }", "!context.halted }"))
    assert replay(store, seq, folder)[0] == "not_replayable"


def test_a_denial_for_want_of_a_policy_has_nothing_to_compute(
    store: Store, folder: BundleFolder, decide: Callable[..., int]
) -> None:
    said = {"decision": "deny", "rules": ["policy_unavailable"], "policy_digest": ""}
    assert replay(store, decide(said=said), folder)[0] == "failed_closed"
    allowed = {"decision": "allow", "rules": ["policy_unavailable"], "policy_digest": ""}
    assert replay(store, decide(said=allowed), folder)[0] == "not_replayable", "nothing was ever allowed so"


def test_what_is_no_decision_is_refused(store: Store, folder: BundleFolder) -> None:
    with store.unit() as unit:
        seq = unit.append(AuditEntry.by(CALLER, EntryType.ORDER_INTENT))
    with pytest.raises(InputError, match="not_a_decision"):
        replay(store, seq, folder)


def test_a_whole_log_and_its_export_are_decided_again_with_progress(
    store: Store, folder: BundleFolder, decide: Callable[..., int], tmp_path: Path
) -> None:
    seqs = [decide(halted=bool(number % 2)) for number in range(5)]
    with store.unit() as unit:
        unit.append(AuditEntry.by(CALLER, EntryType.ORDER_INTENT))
    bad = decide(said={"decision": "allow", "rules": []}, halted=True)
    export(store, tmp_path / "export")
    for source in ("log", "export"):
        told: list[int] = []
        with store.read() as connection:
            entries = (
                decisions(connection) if source == "log" else exported_decisions(tmp_path / "export", bad + 1)
            )
            again = list(replay_all(entries, folder, progress=told.append))
        assert [each.seq for each in again] == [*seqs, bad]
        assert [each.seq for each in again if not each.ok] == [bad]
        assert told == [1, 2, 3, 4, 5, 6]
