"""Differences: what a new policy allows that the old one denied, and the other way round.

The text of a change says little about its effect. So a solver looks for one order that the two judge
differently, both engines confirm it, and where there is none that is proved, not merely not found.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast

from neural_trader_governance.policy.cedar import policy_document, rule_text
from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.policy.engine import PolicyEngine, Verdict
from neural_trader_governance.policy.examples import UnprovedError, find_order
from neural_trader_governance.policy.formulas import policy_formula
from neural_trader_governance.policy.proofs import TIMEOUT_S
from neural_trader_governance.policy.unknowns import Unknowns, UntranslatableError


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy to compare: its two texts and what people call it."""

    name: str
    policy: str
    schema: str


@dataclass(frozen=True, slots=True)
class Change:
    """One direction: an order that one policy allows and the other does not.

    Attributes:
        status: `found` with the order, `none` (proved: there is no such order), or `unproved`.
        order: The most ordinary such order.
        old: What the old policy's engine says of it.
        new: What the new one's says.
    """

    status: Literal["found", "none", "unproved"]
    detail: str = ""
    order: PolicyContext | None = None
    old: Verdict | None = None
    new: Verdict | None = None


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule that is in one policy only, or differs between the two."""

    rule: str
    what: Literal["added", "removed", "changed"]
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Differences:
    """How two policies differ: in both directions, and rule by rule."""

    old_digest: str
    new_digest: str
    loosened: Change
    tightened: Change
    rules: tuple[RuleChange, ...]

    @property
    def is_proved(self) -> bool:
        """True where both directions have an answer."""
        return "unproved" not in {self.loosened.status, self.tightened.status}


def compare(old: PolicyText, new: PolicyText, *, timeout_s: float = TIMEOUT_S) -> Differences:
    """Compares two policies over every order that there can be.

    Args:
        old: What is, or was, in force.
        new: What might replace it.
        timeout_s: Per direction.

    Raises:
        ConfigurationError: z3 is missing, or one of the policies is not usable in this version.
    """
    unknowns = Unknowns()
    before = PolicyEngine(old.policy, old.schema, monotonic_ns=lambda: 0)
    after = PolicyEngine(new.policy, new.schema, monotonic_ns=lambda: 0)
    rules = _rule_changes(old.policy, new.policy)
    try:
        was, becomes = policy_formula(old.policy, unknowns), policy_formula(new.policy, unknowns)
    except UntranslatableError as error:
        unproved = Change("unproved", f"there is no translation of {error}")
        return Differences(before.digest, after.digest, unproved, unproved, rules)
    negation = unknowns.z3.Not
    return Differences(
        before.digest,
        after.digest,
        _look(unknowns, [becomes.allowed, negation(was.allowed)], before, after, "new", timeout_s),
        _look(unknowns, [was.allowed, negation(becomes.allowed)], before, after, "old", timeout_s),
        rules,
    )


def _look(
    unknowns: Unknowns,
    conditions: list[Any],
    before: PolicyEngine,
    after: PolicyEngine,
    allows: Literal["old", "new"],
    timeout_s: float,
) -> Change:
    try:
        order = find_order(unknowns, conditions, timeout_s=timeout_s)
    except UnprovedError as error:
        return Change("unproved", str(error))
    if order is None:
        return Change("none")
    old, new = before.decide(order), after.decide(order)
    allowed = {"old": old.decision == "allow", "new": new.decision == "allow"}
    if allowed == {"old": allows == "old", "new": allows == "new"}:
        return Change("found", "", order, old, new)
    return Change("unproved", "Cedar judges the solver's order otherwise: report this", order, old, new)


def _rule_changes(old: str, new: str) -> tuple[RuleChange, ...]:
    was, becomes = _rule_texts(old), _rule_texts(new)
    changes: list[RuleChange] = []
    for rule in [*was, *(rule for rule in becomes if rule not in was)]:
        before, after = was.get(rule, ""), becomes.get(rule, "")
        if before != after:
            what = "added" if not before else "removed" if not after else "changed"
            changes.append(RuleChange(rule, what, before, after))
    return tuple(changes)


def _rule_texts(policy: str) -> dict[str, str]:
    """Returns each rule's condition by its @id; messages do not decide, so they are left out."""
    texts: dict[str, str] = {}
    for policy_id, body in cast(
        "dict[str, dict[str, Any]]", policy_document(policy)["staticPolicies"]
    ).items():
        notes = cast("dict[str, str | None]", body.get("annotations") or {})
        rule_class = f'@class("{notes["class"]}") ' if notes.get("class") else ""
        texts[notes.get("id") or policy_id] = rule_class + rule_text(body)
    return texts
