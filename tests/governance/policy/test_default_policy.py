"""The shipped policy at its boundaries, rule by rule, through Cedar."""

import re
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.alerts import RISK_RULES
from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.policy.engine import PolicyEngine

Facts = dict[str, Any]

_LARGE: Facts = {"notional_cents": 5_000_001, "overrides": ("max_notional",)}

# rule: (facts that it just tolerates, facts that it just does not)
BOUNDARIES: dict[str, tuple[Facts, Facts]] = {
    "agent_permitted": ({}, {"agent_may_trade": False}),
    "principal_permitted": ({}, {"principal_may_trade": False}),
    "halted": ({}, {"halted": True, "halt_scope": "symbol AAPL"}),
    "throttled": ({}, {"throttled": True}),
    "lease_lost": ({}, {"lease_lost": True}),
    "mandate": (
        {"mandate_required": True, "mandate_covers": True},
        {"mandate_required": True, "mandate_covers": False, "mandate_note": "md_1 has 12 USD left"},
    ),
    "reconciliation_break": ({"reconciliation_breaks": 0}, {"reconciliation_breaks": 1}),
    "witness_inconsistent": (
        {"witness_required": False, "witness_consistent": False},
        {"witness_required": True, "witness_consistent": False},
    ),
    "witness_late": (
        {"witness_required": True, "witness_age_s": 900},
        {"witness_required": True, "witness_age_s": 901},
    ),
    "paper_only": ({"action_mode": "live", "live_enabled": True}, {"action_mode": "live"}),
    "not_tradable": ({}, {"tradable": False}),
    "restricted_symbol": ({}, {"restricted": True}),
    "session_closed": ({}, {"session_open": False, "session_note": "XNYS has no session on 2013-03-02"}),
    "quote_unknown": ({}, {"quote_known": False}),
    "quote_stale": ({"quote_age_s": 432_000}, {"quote_age_s": 432_001}),
    "max_quantity": ({"quantity_micros": 100_000_000_000}, {"quantity_micros": 100_000_000_001}),
    "volume_share": ({"volume_share_bps": 1_000}, {"volume_share_bps": 1_001}),
    "max_notional": (
        {"notional_cents": 5_000_000, "approvals": 1},
        {"notional_cents": 5_000_001, "approvals": 2, "approvals_independent": 1},
    ),
    "approval_quorum": (
        {**_LARGE, "approvals": 2, "approvals_independent": 1},
        {**_LARGE, "approvals": 2, "approvals_independent": 0},
    ),
    "approval_notional": ({"notional_cents": 1_000_000}, {"notional_cents": 1_000_001}),
    "approval_tainted": (
        {"tainted": True, "notional_cents": 100_000},
        {"tainted": True, "notional_cents": 100_001},
    ),
    "buying_power": (
        {"required_cash_cents": 500_000, "buying_power_cents": 500_000},
        {"required_cash_cents": 500_001, "buying_power_cents": 500_000},
    ),
    "no_short_sale": ({"side": "sell"}, {"side": "sell", "short_after": True}),
    "gross_leverage": ({"gross_after_cents": 30_000_000}, {"gross_after_cents": 30_000_001}),
    "max_position": ({"position_after_cents": 25_000_000}, {"position_after_cents": 25_000_001}),
    "max_short_position": (
        {"side": "sell", "position_after_cents": -10_000_000},
        {"side": "sell", "position_after_cents": -10_000_001},
    ),
    "max_gross": (
        {"gross_after_cents": 50_000_000, "equity_cents": 20_000_000},
        {"gross_after_cents": 50_000_001, "equity_cents": 20_000_000},
    ),
    "desk_gross": ({"desk_gross_after_cents": 100_000_000}, {"desk_gross_after_cents": 100_000_001}),
    "account_sent_today": (
        {"account_sent_today_cents": 200_000_000},
        {"account_sent_today_cents": 200_000_001},
    ),
    "agent_sent_today": ({"agent_sent_today_cents": 100_000_000}, {"agent_sent_today_cents": 100_000_001}),
    "price_collar_5_sessions": ({"reference_move_bps": 2_500}, {"reference_move_bps": 2_501}),
    "price_collar": ({"limit_deviation_bps": 1_000}, {"limit_deviation_bps": 1_001}),
    "daily_loss": (
        {"equity_cents": 8_500_000, "day_pnl_cents": -1_500_000},
        {"equity_cents": 8_499_999, "day_pnl_cents": -1_500_001},
    ),
    "desk_daily_loss": (
        {"desk_equity_cents": 9_000_000, "desk_day_pnl_cents": -1_000_000},
        {"desk_equity_cents": 8_999_999, "desk_day_pnl_cents": -1_000_001},
    ),
    "desk_message_rate": ({"desk_messages_last_minute": 300}, {"desk_messages_last_minute": 301}),
    "duplicate_order": ({"duplicates_last_10_s": 0}, {"duplicates_last_10_s": 1}),
    "repeated_execution": ({"repeats_last_10_min": 20}, {"repeats_last_10_min": 21}),
    "message_rate": ({"messages_last_minute": 100}, {"messages_last_minute": 101}),
}


def test_every_rule_has_its_boundary_here_and_names_its_regulation(engine: PolicyEngine) -> None:
    assert set(engine.rules) == set(BOUNDARIES)
    assert all(rule.source for rule in engine.rules.values())


@pytest.mark.parametrize("rule", BOUNDARIES)
def test_a_rule_decides_exactly_beyond_its_bound(engine: PolicyEngine, facts: Facts, rule: str) -> None:
    within, beyond = BOUNDARIES[rule]
    assert engine.decide({**facts, **within}).decision == "allow"
    verdict = engine.decide({**facts, **beyond})
    expected = "needs_approval" if engine.rules[rule].rule_class == "needs_approval" else "deny"
    assert verdict.decision == expected
    assert [reason.rule for reason in verdict.reasons] == [rule]


def test_a_plain_purchase_and_an_approved_large_one_are_allowed(engine: PolicyEngine, facts: Facts) -> None:
    assert engine.decide(facts).decision == "allow"
    large = {**facts, "notional_cents": 4_000_000, "required_cash_cents": 4_000_000, "approvals": 1}
    assert engine.decide(large).decision == "allow"


def test_a_sale_that_reduces_risk_is_allowed_after_a_loss_and_without_cash(
    engine: PolicyEngine, facts: Facts
) -> None:
    selling = {
        "side": "sell",
        "required_cash_cents": 0,
        "buying_power_cents": -1,
        "day_pnl_cents": -9_000_000,
        "gross_after_cents": 90_000_000,
    }
    assert engine.decide({**facts, **selling}).decision == "allow"


def test_a_refusal_gives_the_value_the_bound_and_the_next_step(engine: PolicyEngine, facts: Facts) -> None:
    verdict = engine.decide({**facts, "notional_cents": 5_240_000})
    said = {reason.rule: f"{reason.message}; {reason.next_step}" for reason in verdict.reasons}
    assert said["max_notional"] == (
        "Order notional 52,400 USD exceeds the 50,000 USD limit; reduce the quantity to 95 or less"
    )


@pytest.mark.parametrize(
    "final",
    [{"halted": True}, {"agent_may_trade": False}, {"restricted": True}, {"notional_cents": 6_000_000}],
)
def test_approval_is_offered_only_where_it_is_all_that_is_missing(
    engine: PolicyEngine, facts: Facts, final: Facts
) -> None:
    waiting = {**facts, "notional_cents": 2_000_000, "required_cash_cents": 2_000_000}
    assert engine.decide(waiting).decision == "needs_approval"
    assert engine.decide({**waiting, **final}).decision == "deny"
    assert engine.decide({**waiting, **final, "approvals": 1}).decision == "deny"


def test_the_context_and_the_schema_name_the_same_facts(engine: PolicyEngine, facts: Facts) -> None:
    context = PolicyContext.model_validate(facts)
    ratios = {"leverage_after_bps", "day_loss_bps", "desk_day_loss_bps"}
    assert set(context.facts()) == set(PolicyContext.model_fields) | ratios


@pytest.mark.parametrize("rule", BOUNDARIES)
def test_an_override_lifts_exactly_the_rules_that_say_so(
    engine: PolicyEngine, facts: Facts, rule: str
) -> None:
    _, beyond = BOUNDARIES[rule]
    lifted = {**facts, **beyond, "overrides": (*beyond.get("overrides", ()), rule)}
    refused = {reason.rule for reason in engine.decide(lifted).reasons}
    assert (rule not in refused) == (rule in engine.overridable)
    other = {**facts, **beyond, "overrides": (*beyond.get("overrides", ()), "another_rule")}
    assert rule in {reason.rule for reason in engine.decide(other).reasons}


def test_beyond_the_notional_limit_an_override_still_asks_for_two_people(
    engine: PolicyEngine, facts: Facts
) -> None:
    def decided(approvals: int, independent: int) -> tuple[str, list[str]]:
        signed = {"approvals": approvals, "approvals_independent": independent}
        verdict = engine.decide({**facts, **_LARGE, **signed})
        return verdict.decision, [reason.rule for reason in verdict.reasons]

    assert decided(0, 0) == ("needs_approval", ["approval_notional", "approval_quorum"])
    assert decided(1, 1) == ("needs_approval", ["approval_quorum"])
    assert decided(2, 0) == ("needs_approval", ["approval_quorum"])
    assert decided(2, 1) == ("allow", [])
    without = engine.decide({**facts, **_LARGE, "overrides": (), "approvals": 9, "approvals_independent": 9})
    assert (without.decision, [reason.rule for reason in without.reasons]) == ("deny", ["max_notional"])


def test_the_docs_table_is_the_policy(engine: PolicyEngine) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "governance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes)? ?\| (.+) \|$", docs, re.MULTILINE)
    told = {rule: (lifted == "yes", source) for rule, lifted, source in rows}
    assert told == {
        rule.id: (rule.overridable, rule.source.replace("MiFID II ", "")) for rule in engine.rules.values()
    }


def test_alerts_know_rules_that_exist(engine: PolicyEngine) -> None:
    assert set(engine.rules) >= RISK_RULES


def test_every_verdict_says_value_and_bound_in_words(engine: PolicyEngine, facts: Facts) -> None:
    said: dict[str, str] = {}
    for rule, (_, beyond) in BOUNDARIES.items():
        (reason,) = engine.decide({**facts, **beyond}).reasons
        said[rule] = reason.message
    assert said["halted"] == "Trading is halted (symbol AAPL)"
    assert said["mandate"] == "No mandate covers this order: md_1 has 12 USD left"
    assert said["session_closed"] == "AAPL does not trade now: XNYS has no session on 2013-03-02"
    assert said["witness_late"] == "The witness cosigned 901 s ago; at most 900 s is accepted"
    assert said["volume_share"] == "The order is 10.01 % of the mean daily volume of AAPL; the limit is 10 %"
    assert (
        said["max_position"] == "The position in AAPL would be worth 250,000.01 USD; the limit is 250,000 USD"
    )
    assert said["repeated_execution"] == (
        "21 orders to buy AAPL within 10 minutes; beyond 20 the agent research-bot is switched off"
    )
    assert said["approval_quorum"] == (
        "Order notional 50,000.01 USD exceeds 50,000 USD, above which 2 persons approve, one of them not"
        " alice; 2 did"
    )
