"""The shipped policy beside an oracle that shares nothing with Cedar: its table in the docs, in Python.

The oracle validates a context on its own, judges it with exact integers, and must agree with the
engine on the decision and on every deciding rule, for whole and for broken contexts alike.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.policy.engine import INPUT_RULE, PolicyEngine

Facts = dict[str, Any]

CENTS, MICROS, BPS, SECONDS, COUNT = 10**15, 10**15, 10**9, 10**10, 10**6
# What each fact must be: a type, an inclusive range, a set of words, or a pattern.
FIELDS: dict[str, object] = {
    "action_mode": frozenset({"paper", "live"}),
    "live_enabled": bool,
    "halted": bool,
    "halt_scope": 200,
    "principal": 200,
    "principal_may_trade": bool,
    "agent": r"[a-z0-9][a-z0-9_\-.]{0,39}",
    "agent_may_trade": bool,
    "mandate_required": bool,
    "mandate_covers": bool,
    "mandate_note": 200,
    "account": r"[a-z0-9][a-z0-9_\-.]{0,39}",
    "symbol": r"[A-Z0-9^][A-Z0-9.\-^]{0,15}",
    "side": frozenset({"buy", "sell"}),
    "order_type": frozenset({"market", "limit", "stop", "stop_limit"}),
    "time_in_force": frozenset({"day", "gtc"}),
    "tradable": bool,
    "restricted": bool,
    "quantity_micros": (1, MICROS),
    "notional_cents": (0, CENTS),
    "volume_share_bps": (0, BPS),
    "reference_move_bps": (0, BPS),
    "limit_deviation_bps": (-BPS, BPS),
    "position_after_cents": (-CENTS, CENTS),
    "gross_after_cents": (0, CENTS),
    "desk_gross_after_cents": (0, CENTS),
    "short_after": bool,
    "equity_cents": (-CENTS, CENTS),
    "buying_power_cents": (-CENTS, CENTS),
    "required_cash_cents": (0, CENTS),
    "day_pnl_cents": (-CENTS, CENTS),
    "desk_equity_cents": (-CENTS, CENTS),
    "desk_day_pnl_cents": (-CENTS, CENTS),
    "agent_sent_today_cents": (0, CENTS),
    "account_sent_today_cents": (0, CENTS),
    "messages_last_minute": (0, COUNT),
    "desk_messages_last_minute": (0, COUNT),
    "duplicates_last_10_s": (0, COUNT),
    "repeats_last_10_min": (0, COUNT),
    "throttled": bool,
    "lease_lost": bool,
    "reconciliation_breaks": (0, COUNT),
    "session_open": bool,
    "session_note": 200,
    "quote_known": bool,
    "quote_age_s": (0, SECONDS),
    "tainted": bool,
    "taint_note": 200,
    "overrides": tuple,
    "approvals": (0, 100),
    "approvals_independent": (0, 100),
    "witness_required": bool,
    "witness_consistent": bool,
    "witness_age_s": (0, SECONDS),
}


def _is_text(value: object, length: int) -> bool:
    return isinstance(value, str) and len(value) <= length and "\ud800" not in value  # not encodable


def _is_valid(value: object, kind: object) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    if kind is tuple:
        if not isinstance(value, list | tuple):
            return False
        items = cast("Sequence[object]", value)
        return len(items) <= 32 and all(_is_text(item, 200) for item in items)
    if isinstance(kind, frozenset):
        return isinstance(value, str) and value in kind
    if isinstance(kind, str):
        return isinstance(value, str) and re.fullmatch(kind, value) is not None
    if isinstance(kind, int):
        return _is_text(value, kind)
    least, most = cast("tuple[int, int]", kind)
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _lost_more(percent: int, pnl: int, equity: int) -> bool:
    """Whether a loss exceeds this share of what the day began with."""
    return pnl < 0 and (equity - pnl <= 0 or -pnl * 100 > percent * (equity - pnl))


USD = 100  # cents
FORBIDDEN: dict[str, Callable[[Facts], bool]] = {
    "principal_permitted": lambda f: not f["principal_may_trade"],
    "halted": lambda f: f["halted"],
    "throttled": lambda f: f["throttled"],
    "lease_lost": lambda f: f["lease_lost"],
    "mandate": lambda f: f["mandate_required"] and not f["mandate_covers"],
    "reconciliation_break": lambda f: f["reconciliation_breaks"] >= 1,
    "witness_inconsistent": lambda f: f["witness_required"] and not f["witness_consistent"],
    "witness_late": lambda f: f["witness_required"] and f["witness_age_s"] > 15 * 60,
    "paper_only": lambda f: f["action_mode"] == "live" and not f["live_enabled"],
    "not_tradable": lambda f: not f["tradable"],
    "restricted_symbol": lambda f: f["restricted"],
    "session_closed": lambda f: not f["session_open"],
    "quote_unknown": lambda f: not f["quote_known"],
    "quote_stale": lambda f: f["quote_age_s"] > 5 * 24 * 3600,
    "max_quantity": lambda f: f["quantity_micros"] > 100_000 * 10**6,
    "volume_share": lambda f: f["volume_share_bps"] > 10 * 100,
    "max_notional": lambda f: f["notional_cents"] > 50_000 * USD,
    "buying_power": lambda f: f["required_cash_cents"] > max(0, f["buying_power_cents"]),
    "no_short_sale": lambda f: f["short_after"],
    "max_position": lambda f: f["side"] == "buy" and f["position_after_cents"] > 250_000 * USD,
    "max_short_position": lambda f: f["side"] == "sell" and -f["position_after_cents"] > 100_000 * USD,
    "gross_leverage": lambda f: f["side"] == "buy" and f["gross_after_cents"] > max(0, 3 * f["equity_cents"]),
    "max_gross": lambda f: f["side"] == "buy" and f["gross_after_cents"] > 500_000 * USD,
    "desk_gross": lambda f: f["side"] == "buy" and f["desk_gross_after_cents"] > 1_000_000 * USD,
    "account_sent_today": lambda f: f["account_sent_today_cents"] > 2_000_000 * USD,
    "agent_sent_today": lambda f: f["agent_sent_today_cents"] > 1_000_000 * USD,
    "price_collar": lambda f: f["limit_deviation_bps"] > 10 * 100,
    "price_collar_5_sessions": lambda f: f["reference_move_bps"] > 25 * 100,
    "daily_loss": lambda f: f["side"] == "buy" and _lost_more(15, f["day_pnl_cents"], f["equity_cents"]),
    "desk_daily_loss": lambda f: (
        f["side"] == "buy" and _lost_more(10, f["desk_day_pnl_cents"], f["desk_equity_cents"])
    ),
    "message_rate": lambda f: f["messages_last_minute"] > 100,
    "desk_message_rate": lambda f: f["desk_messages_last_minute"] > 300,
    "duplicate_order": lambda f: f["duplicates_last_10_s"] >= 1,
    "repeated_execution": lambda f: f["repeats_last_10_min"] > 20,
}
WAITING: dict[str, Callable[[Facts], bool]] = {
    "approval_notional": lambda f: f["notional_cents"] > 10_000 * USD and f["approvals"] == 0,
    "approval_quorum": lambda f: (
        f["notional_cents"] > 50_000 * USD and not (f["approvals"] >= 2 and f["approvals_independent"] >= 1)
    ),
    "approval_tainted": lambda f: f["tainted"] and f["notional_cents"] > 1_000 * USD and f["approvals"] == 0,
}
OVERRIDABLE = {
    "session_closed", "quote_stale", "max_quantity", "volume_share", "max_notional", "max_position",
    "max_short_position", "gross_leverage", "max_gross", "desk_gross", "account_sent_today",
    "agent_sent_today", "price_collar", "price_collar_5_sessions", "daily_loss", "desk_daily_loss",
    "duplicate_order",
}  # fmt: skip


def judge(facts: Mapping[str, Any]) -> tuple[str, set[str]]:
    """The policy as a person would write it: exact integers, no Cedar, no pydantic."""
    if set(facts) != set(FIELDS) or not all(_is_valid(facts[name], kind) for name, kind in FIELDS.items()):
        return "deny", {INPUT_RULE}
    known = dict(facts)
    lifted = OVERRIDABLE & set(known["overrides"])
    against = {rule for rule, holds in FORBIDDEN.items() if holds(known)} - lifted
    waiting = {rule for rule, holds in WAITING.items() if holds(known)}
    if against:
        return "deny", against | waiting
    if not known["agent_may_trade"]:
        return "deny", waiting | {"agent_permitted"}
    return ("needs_approval", waiting) if waiting else ("allow", set())


# Around which values each number is interesting: bounds of the rules, and of the field itself.
EDGES: dict[str, tuple[int, ...]] = {
    "quantity_micros": (1, 100_000 * 10**6, MICROS),
    "notional_cents": (0, 100_000, 1_000_000, 5_000_000, CENTS),
    "volume_share_bps": (0, 1_000),
    "reference_move_bps": (0, 2_500),
    "limit_deviation_bps": (0, 1_000),
    "position_after_cents": (0, 25_000_000, -10_000_000),
    "gross_after_cents": (0, 30_000_000, 50_000_000),
    "desk_gross_after_cents": (0, 100_000_000),
    "equity_cents": (0, 10_000_000, 8_500_000),
    "buying_power_cents": (0, 10_000_000),
    "required_cash_cents": (0, 10_000_000),
    "day_pnl_cents": (0, -1_500_000),
    "desk_equity_cents": (0, 9_000_000, 10_000_000),
    "desk_day_pnl_cents": (0, -1_000_000),
    "agent_sent_today_cents": (0, 100_000_000),
    "account_sent_today_cents": (0, 200_000_000),
    "messages_last_minute": (1, 100),
    "desk_messages_last_minute": (1, 300),
    "duplicates_last_10_s": (0, 1),
    "repeats_last_10_min": (0, 20),
    "reconciliation_breaks": (0, 1),
    "quote_age_s": (0, 432_000),
    "approvals": (0, 1, 2),
    "approvals_independent": (0, 1),
    "witness_age_s": (0, 900),
}
WORDS = {
    "agent": ["bot", "agent-1"],
    "account": ["paper", "second"],
    "symbol": ["AAPL", "BRK.B", "^GSPC"],
}
WRONG: list[object] = [
    None, 1.5, math.nan, math.inf, "", "no good", "5", [], {}, b"x", object(), True, False, 0, -1, 10**6 + 1,
    2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, "x" * 201, ["x" * 201], ["y"] * 33, [1], (None,), "buy ",
    "PAPER", "aapl", "\ud800", "0", {"a": 1}, 1 + 0j,
]  # fmt: skip


def _random_facts(rng: random.Random, calm: Facts) -> Facts:
    """A context in which each fact is mostly calm, sometimes at an edge, rarely anything."""
    facts = dict(calm)
    restless = rng.choice([0.03, 0.1, 0.4])
    for name, kind in FIELDS.items():
        if rng.random() > restless:
            continue
        if kind is bool:
            facts[name] = rng.random() < 0.5
        elif kind is tuple:
            facts[name] = tuple(rng.sample([*sorted(OVERRIDABLE), "halted", "nothing"], rng.randint(0, 6)))
        elif isinstance(kind, frozenset):
            facts[name] = rng.choice(sorted(cast("frozenset[str]", kind)))
        elif isinstance(kind, str):
            facts[name] = rng.choice(WORDS[name])
        elif isinstance(kind, int):
            facts[name] = rng.choice(["", "a note", "é {bound} {symbol}", "n" * 200])
        else:
            least, most = cast("tuple[int, int]", kind)
            value = rng.choice(EDGES[name]) + rng.choice([-1, 0, 0, 1])
            if rng.random() < 0.15:
                value = rng.randint(least, most)
            facts[name] = min(most, max(least, value))
    if rng.random() < 0.15:  # broken on purpose, in one or several places
        for name in rng.sample(sorted(FIELDS), rng.choice([1, 1, 1, 3])):
            match rng.randrange(4):
                case 0:
                    del facts[name]
                case 1:
                    facts[name + rng.choice(["_", "x"])] = facts[name]
                case _:
                    facts[name] = rng.choice(WRONG)
    return facts


def _compare(engine: PolicyEngine, calm: Facts, count: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)  # noqa: S311 - a reproducible draw, no secret
    seen: Counter[str] = Counter()
    for number in range(count):
        facts = _random_facts(rng, calm)
        decision, rules = judge(facts)
        verdict = engine.decide(facts)
        said = {reason.rule for reason in verdict.reasons}
        assert (verdict.decision, said) == (decision, rules), (number, seed, facts)
        braces = any("{" in str(facts.get(name)) for name, kind in FIELDS.items() if isinstance(kind, int))
        for reason in verdict.reasons:
            assert reason.message
            assert reason.next_step
            assert reason.rule == INPUT_RULE or braces or "{" not in reason.message + reason.next_step
        seen[decision] += 1
        seen.update(rules)
    return seen


def _assert_everything_was_seen(seen: Counter[str], rules: set[str]) -> None:
    assert seen["allow"]
    assert seen["needs_approval"]
    assert seen["deny"]
    assert not [rule for rule in rules | {INPUT_RULE} if not seen[rule]]


def test_the_oracle_knows_every_fact_and_every_rule(engine: PolicyEngine) -> None:
    assert set(FIELDS) == set(PolicyContext.model_fields)
    assert set(engine.rules) == set(FORBIDDEN) | set(WAITING) | {"agent_permitted"}
    assert engine.overridable == OVERRIDABLE


def test_cedar_and_the_oracle_agree_on_thousands_of_contexts(engine: PolicyEngine, facts: Facts) -> None:
    _assert_everything_was_seen(_compare(engine, facts, 3_000, seed=1), set(engine.rules))


@pytest.mark.slow
def test_cedar_and_the_oracle_agree_on_a_hundred_thousand_contexts(
    engine: PolicyEngine, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 120_000
    seen = _compare(engine, facts, count, seed=20_261_122)
    _assert_everything_was_seen(seen, set(engine.rules))
    with capsys.disabled():
        decisions = {name: seen[name] for name in ("allow", "needs_approval", "deny", INPUT_RULE)}
        print(f"\npolicy against its oracle: {count:,} contexts, 0 disagreements, {decisions}")  # noqa: T201
