"""Proofs: what is true of every order that a policy could ever allow.

Three kinds of finding: each property (properties.cedar: what no allowed order may be) holds; each rule
is alive (there is an order that it alone decides); and some order is allowed at all. A property that
fails comes with an order, and the engine itself, not the solver, says that it allows it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, cast

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_governance.policy.cedar import Cedar, policy_document
from neural_trader_governance.policy.contexts import ORDINARY, PolicyContext
from neural_trader_governance.policy.engine import PolicyEngine, Verdict
from neural_trader_governance.policy.examples import UnprovedError, find_order
from neural_trader_governance.policy.formulas import PolicyFormula, RuleFormula, policy_formula
from neural_trader_governance.policy.rules import format_fact
from neural_trader_governance.policy.unknowns import Unknowns, UntranslatableError

TIMEOUT_S = 10.0
"""How long one property may take."""

RULE_CLAIM = "the rule "
"""How the claims begin that a rule is alive."""

_UNITS = ("_cents", "_bps", "_micros", "_s")

Status = Literal["proved", "refuted", "unproved"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim, whether it holds, and the order that shows the contrary.

    Attributes:
        name: The property's or the rule's id.
        claim: What is claimed, in words.
        status: `unproved` where nothing may be claimed; `detail` says why.
        order: A counterexample that the engine confirmed.
        verdict: What the engine says of it.
    """

    name: str
    claim: str
    status: Status
    detail: str = ""
    order: PolicyContext | None = None
    verdict: Verdict | None = None
    elapsed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """Every finding about one policy."""

    policy_digest: str
    findings: tuple[Finding, ...]
    elapsed_ms: int

    @property
    def ok(self) -> bool:
        """True where every claim is proved."""
        return all(finding.status == "proved" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Property:
    """What no allowed order may be, and the rule whose numbers it takes."""

    id: str
    message: str
    bound_of: str


def shipped_properties() -> str:
    """Returns the properties that every policy of this desk must have."""
    return files("neural_trader_governance.policy").joinpath("properties.cedar").read_text(encoding="utf-8")


def at_most(name: str, bound: int) -> str:
    """Returns the property that no allowed order has more than `bound` of a fact.

    Raises:
        InputError: policy contexts have no such number.
    """
    if type(ORDINARY.facts().get(name)) is not int:
        raise InputError("unknown_fact", f"{name!r:.60} is no number that policy knows", "see contexts.py")
    return (
        f'@id("{name}_at_most_{bound}") @message("no order with {name} above {bound} is allowed")\n'
        'forbid (principal, action == Action::"submit_order", resource)\n'
        f"when {{ context.{name} > {bound} }};\n"
    )


def prove(
    policy: str,
    schema: str,
    *,
    properties: str | None = None,
    as_written: bool = False,
    timeout_s: float = TIMEOUT_S,
    report: Callable[[Finding], None] = lambda finding: None,
) -> Proof:
    """Proves or refutes every property of a policy, each within its time.

    Args:
        policy: Cedar text.
        schema: Its Cedar schema.
        properties: Cedar text of forbids; the shipped ones by default.
        as_written: Take the properties' own numbers, not those of the rules that they name.
        timeout_s: Per claim.
        report: Called with each finding as it is made.

    Raises:
        ConfigurationError: z3 is missing, or policy, schema or properties are not usable.
    """
    begun = time.monotonic()
    unknowns = Unknowns()
    engine = PolicyEngine(policy, schema, monotonic_ns=lambda: 0)  # how long it took is not what is proved
    text = shipped_properties() if properties is None else properties
    wanted = _read_properties(text, schema)
    bounds = {} if as_written else {claim.id: _bounds(engine, claim.bound_of) for claim in wanted}
    try:
        formula = policy_formula(policy, unknowns)
        claimed = policy_formula(text, unknowns, bounds)
    except UntranslatableError as error:
        finding = Finding(
            "translation", "the policy has a formula", "unproved", f"there is no translation of {error}"
        )
        report(finding)
        return Proof(engine.digest, (finding,), _since_ms(begun))
    prover = _Prover(engine, unknowns, formula, timeout_s)
    questions: list[Callable[[], Finding]] = [
        *(
            lambda claim=claim, matches=rule.matches: prover.holds(claim, matches, bounds.get(claim.id, {}))
            for claim, rule in zip(wanted, claimed.rules, strict=True)
        ),
        *(lambda rule=rule: prover.is_alive(rule) for rule in formula.rules),
        prover.allows_something,
    ]
    findings: list[Finding] = []
    for ask in questions:
        findings.append(ask())
        report(findings[-1])
    return Proof(engine.digest, tuple(findings), _since_ms(begun))


class _Prover:
    """One policy under examination."""

    def __init__(
        self, engine: PolicyEngine, unknowns: Unknowns, formula: PolicyFormula, timeout_s: float
    ) -> None:
        self._engine = engine
        self._unknowns = unknowns
        self._formula = formula
        self._timeout_s = timeout_s

    def holds(self, claim: _Property, matches: Any, bounds: Mapping[str, int]) -> Finding:
        """Claims that no order that matches is allowed."""
        begun, detail = time.monotonic(), ""
        if claim.bound_of and bounds:
            detail = f"bound of {claim.bound_of}: {_amounts(bounds)}"

        def finding(status: Status, why: str, order: PolicyContext | None = None) -> Finding:
            verdict = None if order is None else self._engine.decide(order)
            return Finding(claim.id, claim.message, status, why, order, verdict, _since_ms(begun))

        try:
            order = self._find(self._formula.allowed, matches)
            if order is None:
                possible = self._find(matches, narrow=False)
                return finding("proved", detail if possible else "excluded by the bounds of the facts")
        except UnprovedError as error:
            return finding("unproved", str(error))
        if self._engine.decide(order).decision != "allow":
            return finding("unproved", "Cedar does not allow the solver's order: report this", order)
        return finding("refuted", detail, order)

    def is_alive(self, rule: RuleFormula) -> Finding:
        """Claims that there is an order which this rule alone decides."""
        begun, z3 = time.monotonic(), self._unknowns.z3
        others = [other for other in self._formula.rules if other is not rule]
        forbids = [other.matches for other in others if other.effect == "forbid"]
        alone = [self._formula.works, rule.matches, z3.Not(z3.Or(*forbids, z3.BoolVal(False)))]
        permits = z3.Or(*(other.matches for other in others if other.effect == "permit"), z3.BoolVal(False))
        alone.append(z3.Not(permits) if rule.effect == "permit" else permits)
        claim = f"{RULE_CLAIM}{rule.id} decides some order alone"

        def finding(status: Status, why: str = "") -> Finding:
            return Finding(rule.id, claim, status, why, elapsed_ms=_since_ms(begun))

        try:
            order = self._find(*alone, narrow=False)
        except UnprovedError as error:
            return finding("unproved", str(error))
        if order is None:
            return finding("refuted", "dead: whatever it decides, other rules decide already")
        verdict = self._engine.decide(order)
        decides = [reason.rule for reason in verdict.reasons]
        if (rule.effect == "permit" and verdict.decision == "allow") or decides == [rule.id]:
            return finding("proved")
        return finding("unproved", "Cedar decides the solver's order by other rules: report this")

    def allows_something(self) -> Finding:
        """Claims that the policy is no brick wall."""
        begun, claim = time.monotonic(), "some order is allowed"
        try:
            order = self._find(self._formula.allowed, narrow=False)
        except UnprovedError as error:
            return Finding("allows", claim, "unproved", str(error), elapsed_ms=_since_ms(begun))
        status: Status = "refuted"
        if order is not None:
            status = "proved" if self._engine.decide(order).decision == "allow" else "unproved"
        return Finding("allows", claim, status, elapsed_ms=_since_ms(begun))

    def _find(self, *conditions: Any, narrow: bool = True) -> PolicyContext | None:
        return find_order(self._unknowns, conditions, timeout_s=self._timeout_s, narrow=narrow)


def _read_properties(text: str, schema: str) -> list[_Property]:
    try:
        Cedar(text, schema)
        policies = cast("dict[str, dict[str, Any]]", policy_document(text)["staticPolicies"])
    except ValueError as error:
        raise _unusable(str(error)) from None
    found: list[_Property] = []
    for policy_id, body in policies.items():
        notes = cast("dict[str, str | None]", body.get("annotations") or {})
        name = notes.get("id") or policy_id
        if body["effect"] != "forbid":
            raise _unusable(f"{name} permits, and a property says what no allowed order may be")
        found.append(_Property(name, notes.get("message") or name, notes.get("bound_of") or ""))
    if len({claim.id for claim in found}) != len(found):
        raise _unusable("two properties have one @id")
    return found


def _bounds(engine: PolicyEngine, rule_id: str) -> Mapping[str, int]:
    rule = engine.rules.get(rule_id)
    return {} if rule is None else rule.bounds


def _amounts(bounds: Mapping[str, int]) -> str:
    return ", ".join(format_fact(name, bound) for name, bound in bounds.items() if name.endswith(_UNITS))


def _unusable(why: str) -> ConfigurationError:
    return ConfigurationError(
        "invalid_properties",
        f"the properties are not usable: {why}",
        "write Cedar forbids with @id and @message",
    )


def _since_ms(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)
