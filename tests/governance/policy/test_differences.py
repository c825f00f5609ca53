"""Differences: an order that two policies judge differently, confirmed by both engines, or proof of none."""

import pytest

from neural_trader_governance.policy.differences import Differences, PolicyText, compare
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY

POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")


def against_shipped(old: str, new: str) -> Differences:
    assert POLICY.count(old) == 1, old
    changed = PolicyText("new", POLICY.replace(old, new), SCHEMA)
    return compare(PolicyText("old", POLICY, SCHEMA), changed)


def test_a_policy_does_not_differ_from_itself() -> None:
    found = against_shipped("{ context.halted }", "{ context.halted == true }")
    assert (found.loosened.status, found.tightened.status) == ("none", "none")
    assert [rule.rule for rule in found.rules] == ["halted"], "the text differs all the same"
    assert found.is_proved


def test_a_raised_limit_lets_one_cent_more_through_and_nothing_less() -> None:
    found = against_shipped("> 5000000 && !context.overrides", "> 6000000 && !context.overrides")
    assert found.tightened.status == "none"
    change = found.loosened
    assert change.status == "found"
    assert change.order is not None
    assert change.old is not None
    assert change.new is not None
    assert change.order.notional_cents == 5_000_001
    assert (change.old.decision, change.new.decision) == ("deny", "allow")
    assert [reason.rule for reason in change.old.reasons] == ["max_notional"]


def test_a_lowered_limit_stops_what_was_allowed() -> None:
    found = against_shipped("> 5000000 && !context.overrides", "> 4000000 && !context.overrides")
    assert found.loosened.status == "none"
    assert found.tightened.order is not None
    assert found.tightened.order.notional_cents == 4_000_001


def test_a_swap_differs_in_both_directions() -> None:
    found = against_shipped("{ context.restricted }", '{ context.symbol == "GME" }')
    assert found.loosened.order is not None
    assert found.loosened.order.restricted
    assert found.tightened.order is not None
    assert found.tightened.order.symbol == "GME"


@pytest.mark.parametrize(
    ("fact", "bound", "moved"),
    [("day_loss_bps", 1500, 1600), ("leverage_after_bps", 30000, 20000), ("desk_day_loss_bps", 1000, 999)],
)
def test_a_ratio_that_is_computed_from_other_facts_gets_an_order_that_has_it(
    fact: str, bound: int, moved: int
) -> None:
    rule = "context.{} > {} && !context.overrides"
    found = against_shipped(rule.format(fact, bound), rule.format(fact, moved))
    order = found.loosened.order or found.tightened.order
    assert order is not None
    value = order.facts()[fact]
    assert isinstance(value, int)
    assert min(bound, moved) < value <= max(bound, moved)


def test_a_removed_rule_is_named_and_its_order_found() -> None:
    start = POLICY.index('@id("halted")')
    end = POLICY.index("@id(", start + 1)
    found = compare(
        PolicyText("old", POLICY, SCHEMA), PolicyText("new", POLICY[:start] + POLICY[end:], SCHEMA)
    )
    assert [(rule.rule, rule.what) for rule in found.rules] == [("halted", "removed")]
    assert found.loosened.order is not None
    assert found.loosened.order.halted


def test_time_that_runs_out_is_said() -> None:
    old, new = PolicyText("old", POLICY, SCHEMA), PolicyText("new", POLICY, SCHEMA)
    found = compare(old, new, timeout_s=1e-9)
    assert found.is_proved or "timeout" in found.loosened.detail + found.tightened.detail
