"""Activation: what is in force is what the log says last; everything else denies, with the reason."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import ConfigurationError, IntegrityError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.activation import (
    UNAVAILABLE_RULE,
    Activation,
    ActivePolicy,
    activate,
    newest_activation,
    read_activations,
)
from neural_trader_governance.policy.bundles import BundleFolder, PolicyBundle
from neural_trader_governance.policy.contexts import ORDINARY
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY, Verdict
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
STRICTER = POLICY.replace("> 5000000 &&", "> 4000000 &&")
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")
CREATED = datetime(2026, 11, 22, 12, tzinfo=UTC)
PERSON, AGENT = Caller("alice", ""), Caller("alice", "agent-1")
ORDER = ORDINARY.model_copy(update={"notional_cents": 4_500_000, "approvals": 1})


class Desk:
    """A store, the folder of its bundles, and its issuer."""

    def __init__(self, store: Store, path: Path) -> None:
        self.store = store
        self.folder = BundleFolder(path / "bundles")
        self.issuer = SigningKey.generate("desk.example/issuer")
        self.source = ActivePolicy(self.folder, self.issuer.verifying_key)

    def bundle(self, policy: str = POLICY, key: SigningKey | None = None) -> PolicyBundle:
        return PolicyBundle.sign(key or self.issuer, policy=policy, schema=SCHEMA, created=CREATED)

    def activate(self, bundle: PolicyBundle, caller: Caller = PERSON) -> Activation:
        with self.store.unit() as unit:
            return activate(unit, bundle, folder=self.folder, issuer=self.issuer.verifying_key, caller=caller)

    def judge(self, source: ActivePolicy | None = None) -> Verdict:
        with self.store.read() as connection:
            return (source or self.source).current(connection).decide(ORDER)

    def reason(self) -> str:
        verdict = self.judge()
        assert verdict.decision == "deny"
        assert [reason.rule for reason in verdict.reasons] == [UNAVAILABLE_RULE]
        assert verdict.reasons[0].next_step
        return verdict.reasons[0].message


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path)


def test_the_newest_activation_is_in_force_for_the_next_order(desk: Desk) -> None:
    first = desk.activate(desk.bundle())
    assert desk.judge().decision == "allow"
    second = desk.activate(desk.bundle(STRICTER))
    assert desk.judge().decision == "deny"
    assert desk.judge().policy_digest == second.digest
    assert (first.version, second.version, second.replaces) == (1, 2, first.digest)


def test_going_back_is_an_activation_again_with_a_new_version(desk: Desk) -> None:
    first = desk.activate(desk.bundle())
    desk.activate(desk.bundle(STRICTER))
    third = desk.activate(desk.folder.read(first.digest))
    assert (third.version, third.digest) == (3, first.digest)
    assert desk.judge().decision == "allow"
    with desk.store.read() as connection:
        assert [each.version for each in read_activations(connection)] == [1, 2, 3]


def test_an_old_bundle_put_back_without_an_entry_does_nothing(desk: Desk) -> None:
    old = desk.activate(desk.bundle())
    now = desk.activate(desk.bundle(STRICTER))
    desk.folder.keep(desk.bundle(POLICY + "// unsaid\n"), desk.issuer.verifying_key)
    assert desk.judge().policy_digest == now.digest
    path = desk.folder.path_of(now.digest)
    path.write_bytes(desk.folder.path_of(old.digest).read_bytes())
    assert "holds another policy" in desk.reason()


def test_without_any_activation_everything_is_denied(desk: Desk) -> None:
    assert "No policy was ever activated" in desk.reason()


def test_a_missing_bundle_denies_and_its_return_repairs(desk: Desk) -> None:
    path = desk.folder.path_of(desk.activate(desk.bundle()).digest)
    assert desk.judge().decision == "allow"
    whole = path.read_bytes()
    path.unlink()
    assert "does not exist" in desk.reason()
    path.write_bytes(whole)
    assert desk.judge().decision == "allow"


def test_a_tampered_bundle_denies_in_a_running_process_and_in_a_fresh_one(desk: Desk) -> None:
    path = desk.folder.path_of(desk.activate(desk.bundle()).digest)
    assert desk.judge().decision == "allow"
    path.write_text(path.read_text().replace("> 5000000 &&", "> 9000000 &&"))
    assert "holds another policy" in desk.reason()
    fresh = ActivePolicy(desk.folder, desk.issuer.verifying_key)
    assert desk.judge(fresh).decision == "deny"


def test_an_unsigned_bundle_and_another_keys_bundle_deny(desk: Desk) -> None:
    bundle = desk.bundle()
    path = desk.folder.path_of(desk.activate(bundle).digest)
    path.write_text(bundle.model_copy(update={"signature": "0" * 128}).text())
    assert "not signed by this desk's issuer" in desk.reason()
    path.write_text(desk.bundle(key=SigningKey.generate(desk.issuer.name)).text())
    assert "not signed by this desk's issuer" in desk.reason()


def test_what_an_agent_or_a_stranger_activates_leaves_no_entry(desk: Desk) -> None:
    stranger = desk.bundle(STRICTER, SigningKey.generate(desk.issuer.name))
    desk.activate(desk.bundle())
    for bundle, caller, error in (
        (desk.bundle(STRICTER), AGENT, RiskError),
        (stranger, PERSON, IntegrityError),
        (desk.bundle(STRICTER.replace("context.halted ", "context.halting ")), PERSON, ConfigurationError),
    ):
        with pytest.raises(error):
            desk.activate(bundle, caller)
    assert desk.judge().decision == "allow"
    with desk.store.read() as connection:
        assert len(read_activations(connection)) == 1


def test_an_activation_of_before_bundles_denies_until_a_person_acts(desk: Desk) -> None:
    with desk.store.unit() as unit:
        entry = AuditEntry.by(PERSON, EntryType.POLICY_ACTIVATE, payload={"policy_digest": "a" * 64})
        unit.append(entry)
    assert "before policies were signed" in desk.reason()
    assert desk.activate(desk.bundle()).version == 2


def activate_and_fail(desk: Desk, policy: str) -> None:
    with desk.store.unit() as unit:
        activate(
            unit,
            desk.bundle(policy),
            folder=desk.folder,
            issuer=desk.issuer.verifying_key,
            caller=PERSON,
        )
        assert desk.source.current(unit.connection).digest == desk.bundle(policy).digest, "its own entry"
        raise KeyboardInterrupt


def test_an_activation_that_does_not_commit_changes_nothing(desk: Desk) -> None:
    desk.activate(desk.bundle())
    with pytest.raises(KeyboardInterrupt):
        activate_and_fail(desk, STRICTER)
    assert desk.judge().decision == "allow"


def test_an_entry_that_takes_the_seq_of_one_rolled_back_is_not_taken_for_it(desk: Desk) -> None:
    desk.activate(desk.bundle(STRICTER))
    with pytest.raises(KeyboardInterrupt):
        activate_and_fail(desk, STRICTER + "// twice\n")
    assert desk.activate(desk.bundle()).seq == 1
    assert desk.judge().decision == "allow"


@pytest.mark.parametrize(("judged", "changes"), [(50, 14), pytest.param(150, 40, marks=pytest.mark.slow)])
def test_every_decision_of_many_processes_is_by_the_policy_activated_last_before_it(
    desk: Desk,
    signer: SigningKey,
    tmp_path: Path,
    open_store: Callable[..., Store],
    judged: int,
    changes: int,
) -> None:
    """Hot reload: 3 processes judge while a fourth changes the policy; no request fails, none is stale."""
    desk.activate(desk.bundle())
    desk.store.close()
    signer.save(tmp_path / "log.key")
    desk.issuer.save(tmp_path / "issuer.key")
    script = str(Path(__file__).with_name("deciding_process.py"))
    common = [str(tmp_path / "desk.db"), str(tmp_path / "log.key"), str(desk.folder.path)]
    running = [
        subprocess.Popen(
            [sys.executable, script, "judge", *common, desk.issuer.vkey, f"agent-{number}", str(judged)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(3)
    ]
    changing = [
        sys.executable,
        script,
        "activate",
        *common,
        str(tmp_path / "issuer.key"),
        "alice",
        str(changes),
    ]
    running.insert(0, subprocess.Popen(changing, stderr=subprocess.PIPE))
    for process in running:  # the others judge until their stdin ends, which is when they are waited for
        _, complaints = process.communicate(timeout=120)
        assert process.returncode == 0, complaints.decode()
    active, decided = None, {str(word): 0 for word in ("allow", "deny")}
    with open_store().read() as connection:
        (size,) = connection.execute("SELECT count(*) FROM audit_entries").fetchone()
        for seq in range(size):
            entry = read_entry(connection, seq)
            if entry.type is EntryType.POLICY_ACTIVATE:
                active = entry.payload["policy_digest"]
                continue
            assert entry.payload["policy_digest"] == active, f"entry {seq} is judged by another policy"
            decided[str(entry.payload["decision"])] += 1
        assert newest_activation(connection) is not None
    assert sum(decided.values()) >= 3 * judged
    assert min(decided.values()) > 0, "the policy changed while the others judged"
