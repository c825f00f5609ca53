"""Proofs: the shipped policy has every property, and each way to break one is found, with an order."""

import sys

import pytest

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY, PolicyEngine
from neural_trader_governance.policy.proofs import Finding, Proof, at_most, prove, shipped_properties

POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")
PROOF_S_MAX = 60
"""Some seconds on an idle machine; this only catches what no longer ends."""


def changed(old: str, new: str) -> str:
    assert POLICY.count(old) == 1, old
    return POLICY.replace(old, new)


def failed(proof: Proof) -> dict[str, Finding]:
    return {finding.name: finding for finding in proof.findings if finding.status != "proved"}


def test_every_property_of_the_shipped_policy_is_proved_and_no_rule_is_dead() -> None:
    proof = prove(POLICY, SCHEMA)
    assert failed(proof) == {}
    assert proof.ok
    assert proof.elapsed_ms < PROOF_S_MAX * 1000
    names = [finding.name for finding in proof.findings]
    assert {"halted_never_trades", "notional_within_limit", "allows"} <= set(names)
    assert set(PolicyEngine(POLICY, SCHEMA).rules) <= set(names)


def test_the_shipped_policy_has_its_properties_with_the_contracts_own_numbers() -> None:
    assert failed(prove(POLICY, SCHEMA, as_written=True)) == {}


@pytest.mark.parametrize(
    ("old", "new", "property_id", "fact", "value"),
    [
        (
            "{ context.halted }",
            '{ context.halted && context.side == "buy" }',
            "halted_never_trades",
            "halted",
            True,
        ),
        (
            "context.notional_cents > 5000000 && !context.overrides",
            'context.notional_cents > 5000000 && context.symbol != "GME" && !context.overrides',
            "notional_within_limit",
            "symbol",
            "GME",
        ),
        (
            "context.notional_cents > 1000000 && context.approvals < 1",
            'context.notional_cents > 1000000 && context.approvals < 1 && context.side == "buy"',
            "large_orders_are_approved",
            "side",
            "sell",
        ),
        ("{ context.agent_may_trade }", "{ true }", "agent_is_permitted", "agent_may_trade", False),
        (
            "{ context.restricted }",
            "{ false && context.restricted }",
            "symbol_is_not_restricted",
            "restricted",
            True,
        ),
        ("{ !context.tradable }", "{ !context.tradable } unless { context.halted }", "", "", None),
    ],
)
def test_a_hole_is_found_and_the_engine_confirms_the_order(
    old: str, new: str, property_id: str, fact: str, value: object
) -> None:
    policy = changed(old, new)
    findings = failed(prove(policy, SCHEMA))
    if not property_id:  # the hole is closed by another rule: nothing to find
        assert findings == {}
        return
    finding = findings[property_id]
    assert finding.status == "refuted"
    assert finding.order is not None
    assert finding.order.facts()[fact] == value
    assert PolicyEngine(policy, SCHEMA).decide(finding.order).decision == "allow"


def test_a_raised_limit_keeps_its_shape_and_breaks_a_hard_bound_one_cent_above_it() -> None:
    policy = changed(
        "context.notional_cents > 5000000 && !context.overrides",
        "context.notional_cents > 6000000 && !context.overrides",
    )
    assert prove(policy, SCHEMA).ok
    assert set(failed(prove(policy, SCHEMA, as_written=True))) == {"notional_within_limit"}
    hard = at_most("notional_cents", 5_000_000)
    (finding,) = failed(prove(policy, SCHEMA, properties=hard)).values()
    assert finding.order is not None
    assert finding.order.notional_cents == 5_000_001


def test_a_rule_that_others_cover_is_reported_as_dead() -> None:
    dead = POLICY + (
        '\n@id("useless") @message("m") @next_step("n") @source("s")\n'
        'forbid (principal, action == Action::"submit_order", resource)\n'
        "when { context.halted && context.tainted };\n"
    )
    findings = failed(prove(dead, SCHEMA))
    assert list(findings) == ["useless"]
    assert findings["useless"].status == "refuted"
    assert "dead" in findings["useless"].detail


def test_a_policy_that_allows_nothing_is_reported() -> None:
    wall = POLICY + (
        '\n@id("wall") @message("m") @next_step("n") @source("s")\n'
        'forbid (principal, action == Action::"submit_order", resource)\n'
        "when { context.quantity_micros > 0 };\n"
    )
    assert failed(prove(wall, SCHEMA))["allows"].status == "refuted"


def test_an_overflow_is_a_denial_and_no_hole() -> None:
    """Cedar skips a forbid that overflows; the engine denies then, and the proof knows where."""
    notes = '@message("m") @next_step("n") @source("s")'
    scope = '(principal, action == Action::"submit_order", resource)'
    policy = (
        f'@id("all") {notes} permit {scope};\n'
        f'@id("overflows") {notes} forbid {scope} when {{ context.notional_cents * 10000000 < 0 }};\n'
    )
    last = (2**63 - 1) // 10_000_000
    assert prove(policy, SCHEMA, properties=at_most("notional_cents", last)).findings[0].status == "proved"
    refuted = prove(policy, SCHEMA, properties=at_most("notional_cents", last - 1)).findings[0]
    assert refuted.order is not None
    assert refuted.order.notional_cents == last


def test_time_that_runs_out_proves_nothing() -> None:
    proof = prove(POLICY, SCHEMA, timeout_s=1e-9)
    assert not proof.ok
    assert {finding.status for finding in proof.findings} <= {"proved", "unproved"}
    assert any("timeout" in finding.detail for finding in proof.findings)


def test_what_cannot_be_translated_is_not_claimed() -> None:
    odd = changed("{ context.halted }", '{ context.halted || decimal("1.0").lessThan(decimal("0.5")) }')
    (finding,) = prove(odd, SCHEMA).findings
    assert finding.status == "unproved"
    assert "lessThan in the rule halted" in finding.detail


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ("permit (principal, action, resource);", "permits"),
        ("forbid (principal, action, resource) when { context.nothing };", "nothing"),
        ("forbid (", "unexpected"),
        (
            '@id("a") forbid (principal, action, resource);\n@id("a") forbid (principal, action, resource);',
            "one @id",
        ),
    ],
)
def test_properties_that_are_none_are_refused(properties: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        prove(POLICY, SCHEMA, properties=properties)


def test_a_bound_on_what_is_no_number_is_refused() -> None:
    for name in ("side", "halted", "nothing"):
        with pytest.raises(InputError, match="unknown_fact"):
            at_most(name, 1)


def test_without_the_solver_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "z3", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'neural-trader\[prove\]'"):
        prove(POLICY, SCHEMA)


def test_the_shipped_properties_name_rules_that_exist() -> None:
    rules = PolicyEngine(POLICY, SCHEMA).rules
    named = {line.split('"')[1] for line in shipped_properties().splitlines() if line.startswith("@bound_of")}
    assert named <= set(rules)
    assert len(named) == 5
