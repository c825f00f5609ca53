"""The wrapper fails closed: whatever goes wrong is a denial that says so."""

from pathlib import Path
from typing import Any

import cedarpy
import pytest

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.policy.engine import (
    ENGINE_RULE,
    INPUT_RULE,
    POLICY_FILE,
    SCHEMA_FILE,
    SHIPPED_POLICY,
    PolicyEngine,
)

Facts = dict[str, Any]
POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text()
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text()

FREE_TEXTS = {"halt_scope", "principal", "mandate_note", "session_note", "taint_note"}

OVERFLOWING = """
@id("overflows")
@message("Overflow")
@next_step("none")
@source("test")
forbid (principal, action == Action::"submit_order", resource)
when { context.notional_cents * 9223372036854775807 > 0 };
"""


def _denied_by(engine: PolicyEngine, facts: object) -> str:
    verdict = engine.decide(facts)  # pyright: ignore[reportArgumentType] - malformed on purpose
    assert verdict.decision == "deny"
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].next_step
    return verdict.reasons[0].rule


@pytest.mark.parametrize("field", PolicyContext.model_fields)
def test_a_missing_fact_is_a_denial(engine: PolicyEngine, facts: Facts, field: str) -> None:
    del facts[field]
    assert _denied_by(engine, facts) == INPUT_RULE


@pytest.mark.parametrize("field", PolicyContext.model_fields)
@pytest.mark.parametrize(
    "value", [None, 1.5, float("nan"), "", "no good", [], {}, 2**53, 2**63, -(2**70), b"x"]
)
def test_a_fact_of_a_wrong_type_or_size_is_a_denial(
    engine: PolicyEngine, facts: Facts, field: str, value: object
) -> None:
    if field in FREE_TEXTS and isinstance(value, str):
        value = "x" * 201
    if field == "overrides" and value == []:
        value = ["rule"] * 33
    assert _denied_by(engine, {**facts, field: value}) == INPUT_RULE


def test_a_fact_that_nobody_asked_for_is_a_denial(engine: PolicyEngine, facts: Facts) -> None:
    assert _denied_by(engine, {**facts, "approved_by_me": True}) == INPUT_RULE


@pytest.mark.parametrize("facts_given", [None, 7, "allow", [], {}, object(), [("a", 1)]])
def test_what_is_no_context_is_a_denial(engine: PolicyEngine, facts_given: object) -> None:
    assert _denied_by(engine, facts_given) == INPUT_RULE


def test_a_context_built_around_its_validators_is_a_denial(engine: PolicyEngine, facts: Facts) -> None:
    smuggled = PolicyContext.model_validate(facts).model_copy(update={"notional_cents": 2**62})
    assert _denied_by(engine, smuggled) == INPUT_RULE
    assert _denied_by(engine, PolicyContext.model_construct()) == INPUT_RULE


def test_cedar_alone_would_allow_what_a_failing_rule_forbids_and_the_wrapper_does_not(facts: Facts) -> None:
    """The trap that the wrapper exists for: Cedar skips a forbid whose evaluation errors."""
    policy = POLICY + OVERFLOWING
    alone = cedarpy.is_authorized(  # pyright: ignore[reportUnknownMemberType] - bare dict in stubs
        {
            "principal": 'Agent::"bot"',
            "action": 'Action::"submit_order"',
            "resource": 'Account::"paper"',
            "context": PolicyContext.model_validate(facts).facts(),
        },
        policy,
        [],
        SCHEMA,
    )
    assert alone.allowed
    assert alone.diagnostics.errors
    # The probe at load already refuses this policy; it fails only for orders worth something here.
    late = OVERFLOWING.replace("when {", "when { context.notional_cents > 60000 && ")
    engine = PolicyEngine(POLICY + late, SCHEMA)
    assert engine.decide({**facts, "notional_cents": 60_000}).decision == "allow"
    assert _denied_by(engine, facts) == ENGINE_RULE


def test_a_policy_that_cannot_judge_an_ordinary_order_does_not_load() -> None:
    with pytest.raises(ConfigurationError, match="policy_mismatch"):
        PolicyEngine(POLICY + OVERFLOWING, SCHEMA)


def test_an_engine_that_breaks_denies(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PolicyEngine.load()

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(cedarpy, "is_authorized", breaks)
    assert _denied_by(engine, facts) == ENGINE_RULE


@pytest.mark.parametrize(
    ("took_ms", "decision"), [(0, "allow"), (1_000, "allow"), (1_001, "deny"), (60_000, "deny"), (-1, "deny")]
)
def test_a_decision_that_took_too_long_is_a_denial(facts: Facts, took_ms: int, decision: str) -> None:
    readings = iter([5_000_000_000, 5_000_000_000 + took_ms * 1_000_000])
    engine = PolicyEngine(POLICY, SCHEMA, monotonic_ns=lambda: next(readings))
    verdict = engine.decide(facts)
    assert verdict.decision == decision
    if decision == "deny":
        (reason,) = verdict.reasons
        assert reason.rule == ENGINE_RULE
        assert f"took {took_ms} ms to decide; at most 1000 ms" in reason.message


def test_a_clock_that_breaks_is_a_denial(facts: Facts) -> None:
    engine = PolicyEngine(POLICY, SCHEMA, monotonic_ns=lambda: 1 // 0)
    assert _denied_by(engine, facts) == ENGINE_RULE


def test_a_rule_that_the_engine_does_not_know_is_a_denial(facts: Facts) -> None:
    engine = PolicyEngine.load()
    engine.rules = {rule_id: rule for rule_id, rule in engine.rules.items() if rule_id != "halted"}
    assert _denied_by(engine, {**facts, "halted": True}) == ENGINE_RULE
    engine.rules = {}
    assert _denied_by(engine, facts) == ENGINE_RULE


def test_the_digest_covers_every_byte_of_policy_and_schema() -> None:
    digests = {
        PolicyEngine(POLICY, SCHEMA).digest,
        PolicyEngine(POLICY.replace("5000000", "5000001"), SCHEMA).digest,
        PolicyEngine(POLICY, SCHEMA + "\n").digest,
        PolicyEngine(POLICY + "\n", SCHEMA).digest,
    }
    assert len(digests) == 4
    assert PolicyEngine.load().digest in digests


def test_a_bound_changed_in_the_text_is_the_bound_that_decides_and_that_people_read(facts: Facts) -> None:
    engine = PolicyEngine(POLICY.replace("> 1000000 ", "> 300000 "), SCHEMA)
    verdict = engine.decide(facts)
    assert verdict.decision == "needs_approval"
    assert "exceeds 3,000 USD" in verdict.reasons[0].message
    assert "to 75 or less" in verdict.reasons[0].next_step


def _line(annotation: str) -> str:
    """The first line of the shipped policy that carries this annotation."""
    return next(line for line in POLICY.splitlines() if line.startswith(f"@{annotation}(")) + "\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (_line("id"), "", "no @id"),
        (_line("message"), "", "no @message"),
        (_line("next_step"), "", "no @next_step"),
        (_line("source"), "", "no @source"),
        ('@id("halted")', '@id("paper_only")', "two rules"),
        ("needs_approval", "needs_luck", "unknown @class"),
        ("{symbol}", "{smybol}", "neither a fact nor its bound"),
        ("is halted", "is halted {bound}", "neither a fact nor its bound"),
        ("permit (", "forbid (", "no rule permits"),
        ("context.halted", "context.hatled", "hatled"),
        ("context.halted", "context.symbol > 3", "not usable"),
        ("permit (", "permit ((", "does not parse"),
        ("permit (principal,", "permit (principal == ?principal,", "templates"),
        ('contains("max_notional")', 'contains("max_quantity")', "lifted by an override of 'max_quantity'"),
        (
            "context.agent_may_trade",
            'context.overrides.contains("agent_permitted")',
            "only lifts what forbids",
        ),
    ],
)
def test_a_policy_that_is_not_whole_does_not_load(old: str, new: str, says: str) -> None:
    assert old in POLICY
    with pytest.raises(ConfigurationError, match=says):
        PolicyEngine(POLICY.replace(old, new), SCHEMA)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    halted: Bool,\n", ""),
        ("halted: Bool", "halted: Long"),
        ("witness_age_s: Long\n", "witness_age_s: Long, x: Bool\n"),
    ],
)
def test_a_schema_that_does_not_fit_the_context_does_not_load(old: str, new: str) -> None:
    assert old in SCHEMA
    with pytest.raises(ConfigurationError, match=r"invalid_policy|policy_mismatch"):
        PolicyEngine(POLICY, SCHEMA.replace(old, new))


def test_a_folder_without_a_policy_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="policy_unreadable"):
        PolicyEngine.load(tmp_path)
