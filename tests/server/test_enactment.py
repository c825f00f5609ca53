"""Enactment: what a home's policy file is, what is in force, and how one becomes the other."""

from pathlib import Path

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.policy.activation import Activation, ClosedPolicy, newest_activation
from neural_trader_governance.policy.bundles import BundleFolder
from neural_trader_governance.policy.engine import SHIPPED_POLICY, PolicyEngine
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.enactment import is_draft, read_candidate, sign_candidate
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings


def in_force(home: Home) -> tuple[PolicyEngine | ClosedPolicy, Activation | None]:
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.read() as connection:
            return services.policy.current(connection), newest_activation(connection)
    finally:
        services.close()


def make_legacy(home: Home, digest: str) -> None:
    """Turns a home into one whose newest activation is of a version that signed no policies."""
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.unit() as unit:
            payload = {"policy_digest": digest}
            unit.append(AuditEntry.by(services.person, EntryType.POLICY_ACTIVATE, payload=payload))
    finally:
        services.close()


def open_again(home: Home) -> list[str]:
    services = Services(home, Settings(), WallClock())
    try:
        return found(services).made
    finally:
        services.close()


def test_a_fresh_home_has_the_shipped_policy_signed_and_in_force(home: Home) -> None:
    judge, activation = in_force(home)
    assert activation is not None
    assert (activation.version, activation.replaces) == (1, None)
    assert judge.digest == activation.digest == PolicyEngine.load(SHIPPED_POLICY).digest
    bundle = BundleFolder(home.bundles).read(activation.digest)
    assert bundle.signature == activation.bundle_signature
    assert not is_draft(home, judge.digest)


def test_editing_the_file_alone_changes_nothing(home: Home) -> None:
    before = in_force(home)
    home.policy_file.write_text(home.policy_file.read_text().replace("> 5000000", "> 6000000"))
    assert open_again(home) == []
    judge, activation = in_force(home)
    assert (judge.digest, activation) == (before[0].digest, before[1])
    assert is_draft(home, judge.digest)


def test_a_home_of_before_signed_policies_gets_its_own_file_signed(home: Home) -> None:
    home.policy_file.write_text(home.policy_file.read_text().replace("> 1000000 ", "> 900000 "))
    mine = PolicyEngine.load(home.policy).digest
    make_legacy(home, mine)
    closed, _ = in_force(home)
    assert isinstance(closed, ClosedPolicy)
    assert "policy activate" in closed.next_step
    assert "the policy's activation" in open_again(home)
    judge, activation = in_force(home)
    assert isinstance(judge, PolicyEngine)
    assert judge.digest == mine
    assert activation is not None
    assert activation.replaces == mine


def test_a_home_whose_issuer_key_is_elsewhere_waits_for_a_person(home: Home) -> None:
    make_legacy(home, "0" * 64)
    home.issuer_key.rename(home.path / "elsewhere")
    made = open_again(home)
    assert any("no policy in force yet" in step for step in made)
    assert isinstance(in_force(home)[0], ClosedPolicy)


def test_a_default_of_an_earlier_version_is_renewed_and_a_changed_one_waits(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neural_trader_governance.policy.engine import policy_digest
    from neural_trader_server import enactment

    home.policy_schema.write_text(home.policy_schema.read_text().replace("    halted: Bool,\n", ""))
    old = policy_digest(home.policy_file.read_bytes(), home.policy_schema.read_bytes())
    make_legacy(home, old)
    assert any("policy_mismatch" in step or "invalid_policy" in step for step in open_again(home))
    assert isinstance(in_force(home)[0], ClosedPolicy)
    monkeypatch.setattr(enactment, "_FORMERLY_SHIPPED", frozenset({old}))
    open_again(home)
    assert in_force(home)[0].digest == PolicyEngine.load(SHIPPED_POLICY).digest


def test_a_lost_bundle_is_not_made_anew_from_the_file(home: Home) -> None:
    activation = in_force(home)[1]
    assert activation is not None
    BundleFolder(home.bundles).path_of(activation.digest).unlink()
    assert open_again(home) == []
    judge, _ = in_force(home)
    assert isinstance(judge, ClosedPolicy)
    assert "does not exist" in judge.problem


def test_a_candidate_is_a_file_a_bundle_or_the_beginning_of_a_digest(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "mine.cedar"
    file.write_text(home.policy_file.read_text() + "// mine\n")
    candidate = read_candidate(home, str(file))
    assert candidate.schema == home.policy_schema.read_text()
    bundle = sign_candidate(home, candidate, now=WallClock().now(), comment="mine")
    signed = tmp_path / "mine.json"
    signed.write_text(bundle.text() + "\n")
    assert read_candidate(home, str(signed)).bundle == bundle
    active = in_force(home)[0].digest
    assert read_candidate(home, active[:8]).digest == active
    for unknown in ("0" * 8, active[:7], "nowhere.cedar", "*", "../keys"):
        with pytest.raises(InputError, match="unknown_policy"):
            read_candidate(home, unknown)


def test_a_bundle_of_another_issuer_is_no_candidate(home: Home, tmp_path: Path) -> None:
    stranger = SigningKey.generate(home.issuer_vkey.read_text().split("+")[0])
    candidate = read_candidate(home, str(home.policy_file))
    from neural_trader_governance.policy.bundles import PolicyBundle

    forged = PolicyBundle.sign(
        stranger, policy=candidate.policy, schema=candidate.schema, created=WallClock().now()
    )
    (tmp_path / "forged.json").write_text(forged.text())
    with pytest.raises(IntegrityError, match="not signed by this desk's issuer"):
        sign_candidate(
            home, read_candidate(home, str(tmp_path / "forged.json")), now=WallClock().now(), comment=""
        )
