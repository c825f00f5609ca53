"""The shipped policy at its boundaries, and beside an oracle that shares nothing with Cedar."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.policy.contexts import CENTS_MAX, PolicyContext
from neural_trader_governance.policy.engine import PolicyEngine

Facts = dict[str, Any]

# rule: (facts that it just tolerates, facts that it just does not)
BOUNDARIES: dict[str, tuple[Facts, Facts]] = {
    "agent_permitted": ({}, {"agent_may_trade": False}),
    "halted": ({}, {"halted": True}),
    "paper_only": ({"action_mode": "live", "live_enabled": True}, {"action_mode": "live"}),
    "not_tradable": ({}, {"tradable": False}),
    "restricted_symbol": ({}, {"restricted": True}),
    "quote_unknown": ({}, {"quote_known": False}),
    "quote_stale": ({"quote_age_s": 432_000}, {"quote_age_s": 432_001}),
    "max_quantity": ({"quantity_micros": 100_000_000_000}, {"quantity_micros": 100_000_000_001}),
    "max_notional": (
        {"notional_cents": 5_000_000, "approvals": 1},
        {"notional_cents": 5_000_001, "approvals": 1},
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
    "price_collar": ({"limit_deviation_bps": 1_000}, {"limit_deviation_bps": 1_001}),
    "daily_loss": (
        {"equity_cents": 8_500_000, "day_pnl_cents": -1_500_000},
        {"equity_cents": 8_499_999, "day_pnl_cents": -1_500_001},
    ),
    "message_rate": ({"messages_last_minute": 100}, {"messages_last_minute": 101}),
}


def _oracle(facts: Mapping[str, Any]) -> tuple[str, set[str]]:
    """The policy once more, as a person would write it: exact fractions, no Cedar."""
    against: set[str] = set()
    if facts["halted"]:
        against.add("halted")
    if facts["action_mode"] == "live" and not facts["live_enabled"]:
        against.add("paper_only")
    if not facts["tradable"]:
        against.add("not_tradable")
    if facts["restricted"]:
        against.add("restricted_symbol")
    if not facts["quote_known"]:
        against.add("quote_unknown")
    if facts["quote_age_s"] > 5 * 24 * 3600:
        against.add("quote_stale")
    if facts["quantity_micros"] > 100_000 * 10**6:
        against.add("max_quantity")
    if facts["notional_cents"] > 50_000_00:
        against.add("max_notional")
    if facts["required_cash_cents"] > max(0, facts["buying_power_cents"]) or (
        facts["required_cash_cents"] > facts["buying_power_cents"] and facts["required_cash_cents"] > 0
    ):
        against.add("buying_power")
    if facts["short_after"]:
        against.add("no_short_sale")
    gross, equity, pnl = facts["gross_after_cents"], facts["equity_cents"], facts["day_pnl_cents"]
    if facts["side"] == "buy":
        if gross > 3 * equity if equity > 0 else gross > 0:
            against.add("gross_leverage")
        start = equity - pnl
        if pnl < 0 and (start <= 0 or -pnl * 100 > 15 * start):
            against.add("daily_loss")
    if facts["limit_deviation_bps"] > 1_000:
        against.add("price_collar")
    if facts["messages_last_minute"] > 100:
        against.add("message_rate")
    waiting: set[str] = set()
    if facts["notional_cents"] > 10_000_00 and facts["approvals"] < 1:
        waiting.add("approval_notional")
    if facts["tainted"] and facts["notional_cents"] > 1_000_00 and facts["approvals"] < 1:
        waiting.add("approval_tainted")
    if against:
        return "deny", against | waiting
    if not facts["agent_may_trade"]:
        return "deny", waiting | {"agent_permitted"}
    return ("needs_approval", waiting) if waiting else ("allow", set())


def _near(*bounds: int, least: int = 0, most: int = CENTS_MAX) -> st.SearchStrategy[int]:
    at = [bound + step for bound in bounds for step in (-1, 0, 1) if least <= bound + step <= most]
    return st.sampled_from(at) | st.integers(least, most)


_rarely = st.sampled_from([False] * 7 + [True])
_mostly = _rarely.map(lambda value: not value)
_money = _near(0, 100_000, 1_000_000, 5_000_000, 30_000_000)
_signed = _near(0, 10_000_000, -1_500_000, least=-CENTS_MAX)
CONTEXTS = st.fixed_dictionaries(
    {
        "action_mode": st.sampled_from(["paper", "paper", "paper", "live"]),
        "live_enabled": st.booleans(),
        "halted": _rarely,
        "agent": st.just("bot"),
        "agent_may_trade": _mostly,
        "account": st.just("paper"),
        "symbol": st.sampled_from(["AAPL", "BRK.B", "^GSPC"]),
        "side": st.sampled_from(["buy", "sell"]),
        "order_type": st.sampled_from(["market", "limit", "stop", "stop_limit"]),
        "time_in_force": st.sampled_from(["day", "gtc"]),
        "tradable": _mostly,
        "restricted": _rarely,
        "quantity_micros": st.integers(1, 10**9) | _near(100_000_000_000, least=1),
        "notional_cents": st.integers(0, 2_000_000) | _money,
        "limit_deviation_bps": st.just(0) | _near(1_000, least=-(10**9), most=10**9),
        "position_after_cents": _signed,
        "gross_after_cents": st.integers(0, 20_000_000) | _money,
        "short_after": _rarely,
        "equity_cents": st.just(10_000_000) | _signed,
        "buying_power_cents": st.just(10_000_000) | _signed,
        "required_cash_cents": st.integers(0, 10_000_000) | _money,
        "day_pnl_cents": st.just(0) | _signed,
        "messages_last_minute": st.integers(0, 50) | _near(100, most=10**6),
        "quote_known": _mostly,
        "quote_age_s": st.integers(0, 10_000) | _near(432_000, most=10**10),
        "tainted": _rarely,
        "approvals": st.integers(0, 3),
    }
)


@given(CONTEXTS)
@settings(max_examples=500, deadline=None)
def test_cedar_and_the_oracle_agree_on_every_context(facts: Facts) -> None:
    engine = _ENGINE
    verdict = engine.decide(facts)
    decision, rules = _oracle(facts)
    assert verdict.decision == decision
    assert {reason.rule for reason in verdict.reasons} == rules
    assert all(reason.message and reason.next_step for reason in verdict.reasons)
    assert not any("{" in reason.message + reason.next_step for reason in verdict.reasons)


_ENGINE = PolicyEngine.load()


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
    assert set(context.facts()) == set(PolicyContext.model_fields) | {"leverage_after_bps", "day_loss_bps"}
