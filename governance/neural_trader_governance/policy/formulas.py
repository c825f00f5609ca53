"""Formulas: a Cedar policy as logic, so that a solver can look at every order at once.

Each rule of Cedar's JSON form becomes a z3 formula over the facts of an unknown order. `allowed` is
the engine's sense of the word: some permit holds, no forbid does, and nothing overflowed. What has no
translation is refused by name, never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from neural_trader_governance.policy.cedar import policy_document
from neural_trader_governance.policy.unknowns import RATIOS, Unknowns, UntranslatableError

LONG_MIN, LONG_MAX = -(2**63), 2**63 - 1
"""Cedar's integers; beyond them its evaluation fails, and the engine denies."""

_MIRRORED = {">": "<", "<": ">", ">=": "<=", "<=": ">=", "==": "==", "!=": "!="}


@dataclass(frozen=True, slots=True)
class _Entity:
    """A Cedar entity: its type, and its id as a formula."""

    kind: str
    id: Any


@dataclass(frozen=True, slots=True)
class _Members:
    """A set that the policy writes out."""

    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Term:
    """An expression's value, and the condition under which Cedar can evaluate it at all."""

    value: Any
    works: Any = True


@dataclass(frozen=True, slots=True)
class RuleFormula:
    """One policy: when it matches."""

    id: str
    effect: str
    matches: Any


@dataclass(frozen=True, slots=True)
class PolicyFormula:
    """A policy set: its rules, and when the engine allows an order."""

    rules: tuple[RuleFormula, ...]
    works: Any
    allowed: Any


def policy_formula(
    policy: str, facts: Unknowns, bounds: Mapping[str, Mapping[str, int]] | None = None
) -> PolicyFormula:
    """Translates a policy text.

    Args:
        policy: Cedar, valid under the schema.
        facts: The constants; share one between policies that are compared.
        bounds: Rule id -> fact -> the number to compare with in place of the one written.

    Raises:
        UntranslatableError: something in it has no formula here.
        ValueError: it does not parse.
    """
    z3 = facts.z3
    document = policy_document(policy)
    rules: list[RuleFormula] = []
    works: list[Any] = []
    for policy_id, body in cast("dict[str, dict[str, Any]]", document["staticPolicies"]).items():
        notes = cast("dict[str, str | None]", body.get("annotations") or {})
        rule_id = notes.get("id") or policy_id
        try:
            term = _Translator(facts, (bounds or {}).get(rule_id, {})).policy(body)
        except UntranslatableError as error:
            raise UntranslatableError(f"{error} in the rule {rule_id}") from None
        rules.append(RuleFormula(rule_id, str(body["effect"]), term.value))
        works.append(term.works)
    permits = z3.Or(*(rule.matches for rule in rules if rule.effect == "permit"), z3.BoolVal(False))
    forbids = z3.Or(*(rule.matches for rule in rules if rule.effect == "forbid"), z3.BoolVal(False))
    all_work = z3.And(*works, z3.BoolVal(True))
    return PolicyFormula(tuple(rules), all_work, z3.And(permits, z3.Not(forbids), all_work))


class _Translator:
    """Translates one policy of Cedar's JSON form."""

    def __init__(self, facts: Unknowns, bounds: Mapping[str, int]) -> None:
        self._facts = facts
        self._z3 = facts.z3
        self._bounds = bounds

    def policy(self, body: Mapping[str, Any]) -> _Term:
        """Returns when the policy matches: its scope, then each condition in turn."""
        matches = _Term(self._z3.BoolVal(True))
        for name in ("principal", "action", "resource"):
            matches = self._both(matches, self._scope(name, body[name]))
        for condition in body["conditions"]:
            term = self.term(condition["body"])
            if condition["kind"] == "unless":
                term = _Term(self._z3.Not(term.value), term.works)
            matches = self._both(matches, term)
        return matches

    def _scope(self, name: str, scope: Mapping[str, Any]) -> _Term:
        if scope["op"] == "All":
            return _Term(self._z3.BoolVal(True))
        subject = self._variable(name)
        match scope:
            case {"op": "==" | "in"} if "entity" in scope:
                return self._same(subject, self._entity(scope["entity"]))
            case {"op": "in", "entities": entities}:
                named = [self._entity(entity) for entity in cast("list[dict[str, Any]]", entities)]
                return _Term(self._z3.Or(*(self._same(subject, entity).value for entity in named)))
            case {"op": "is", "entity_type": kind} if "in" not in scope:
                return _Term(self._z3.BoolVal(subject.kind == kind))
            case _:
                raise UntranslatableError(f"the scope {scope!r:.60}")

    def term(self, node: Mapping[str, Any]) -> _Term:
        """Translates one expression."""
        ((operator, operand),) = node.items()
        match operator:
            case "Value":
                return _Term(self._literal(operand))
            case "Var":
                return _Term(self._variable(operand))
            case ".":
                return _Term(self._facts.constant(_attribute(node)))
            case "has":
                # The schema requires every attribute, and the engine always passes the schema.
                _attribute({".": operand})
                return _Term(self._z3.BoolVal(True))
            case "&&" | "||":
                left, right = self.term(operand["left"]), self.term(operand["right"])
                return self._both(left, right) if operator == "&&" else self._either(left, right)
            case "!":
                inner = self.term(operand["arg"])
                return _Term(self._z3.Not(inner.value), inner.works)
            case "neg" | "+" | "-" | "*":
                return self._arithmetic(operator, operand)
            case "==" | "!=" | "<" | "<=" | ">" | ">=":
                return self._comparison(operator, operand["left"], operand["right"])
            case "if-then-else":
                return self._choice(*(self.term(operand[part]) for part in ("if", "then", "else")))
            case "Set":
                items = [self.term(item) for item in operand]
                return _Term(_Members(tuple(item.value for item in items)), self._all(items))
            case "contains" | "containsAll" | "containsAny":
                return self._membership(operator, self.term(operand["left"]), self.term(operand["right"]))
            case "isEmpty":
                inner = self.term(operand["arg"])
                return _Term(self._is_empty(inner.value), inner.works)
            case "like":
                inner = self.term(operand["left"])
                return _Term(self._z3.InRe(inner.value, self._pattern(operand["pattern"])), inner.works)
            case "is" if "in" not in operand:
                inner = self.term(operand["left"])
                return _Term(self._z3.BoolVal(_entity(inner).kind == operand["entity_type"]), inner.works)
            case "in":
                left, right = self.term(operand["left"]), self.term(operand["right"])
                return self._same(_entity(left), _entity(right))
            case _:
                raise UntranslatableError(f"the operator {operator}")

    def _literal(self, value: Any) -> Any:
        match value:
            case bool():
                return self._z3.BoolVal(value)
            case int():
                return self._z3.IntVal(value)
            case str():
                self._facts.literals.add(value)
                return self._facts.text(value)
            case dict() if "__entity" in value:
                return self._entity(cast("Mapping[str, Any]", value)["__entity"])
            case _:
                raise UntranslatableError(f"the literal {value!r:.60}")

    def _entity(self, entity: Mapping[str, Any]) -> _Entity:
        self._facts.literals.add(entity["id"])
        return _Entity(entity["type"], self._facts.text(entity["id"]))

    def _variable(self, name: str) -> _Entity:
        match name:  # as Cedar.ask passes them
            case "principal":
                return _Entity("Agent", self._facts.constant("agent"))
            case "action":
                return _Entity("Action", self._facts.text("submit_order"))
            case "resource":
                return _Entity("Account", self._facts.constant("account"))
            case _:
                raise UntranslatableError(f"the whole {name} as a value")

    def _comparison(self, operator: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> _Term:
        for one, other, spelled in ((left, right, operator), (right, left, _MIRRORED[operator])):
            name, number = _fact_name(one), _integer(other)
            if name is not None and number is not None:
                return _Term(self._against(spelled, name, self._bounds.get(name, number)))
        one, other = self.term(left), self.term(right)
        works = self._all([one, other])
        if operator in {"==", "!="}:
            same = self._equal(one.value, other.value)
            return _Term(same if operator == "==" else self._z3.Not(same), works)
        return _Term(_compare(operator, one.value, other.value), works)

    def _against(self, operator: str, name: str, number: int) -> Any:
        """Compares a fact with a number."""
        if name not in RATIOS:
            constant = self._facts.constant(name)
            return _compare(operator, constant, self._z3.IntVal(number))
        z3, exceeds = self._z3, self._facts.exceeds
        match operator:
            case ">":
                return exceeds(name, number)
            case ">=":
                return exceeds(name, number - 1)
            case "<":
                return z3.Not(exceeds(name, number - 1))
            case "<=":
                return z3.Not(exceeds(name, number))
            case _:
                same = z3.And(exceeds(name, number - 1), z3.Not(exceeds(name, number)))
                return same if operator == "==" else z3.Not(same)

    def _arithmetic(self, operator: str, operand: Mapping[str, Any]) -> _Term:
        if operator == "neg":
            inner = self.term(operand["arg"])
            value, terms = -inner.value, [inner]
        else:
            left, right = self.term(operand["left"]), self.term(operand["right"])
            terms = [left, right]
            if operator == "+":
                value = left.value + right.value
            elif operator == "-":
                value = left.value - right.value
            else:
                value = left.value * right.value
        fits = self._z3.And(value >= LONG_MIN, value <= LONG_MAX)
        return _Term(value, _conjunction(self._z3, self._all(terms), fits))

    def _membership(self, operator: str, left: _Term, right: _Term) -> _Term:
        z3, works = self._z3, self._all([left, right])
        if operator == "contains":
            return _Term(self._contains(left.value, right.value), works)
        if not isinstance(right.value, _Members):
            raise UntranslatableError(f"{operator} of a set that is not written out")
        held = [self._contains(left.value, item) for item in right.value.items]
        if operator == "containsAll":
            return _Term(z3.And(*held, z3.BoolVal(True)), works)
        return _Term(z3.Or(*held, z3.BoolVal(False)), works)

    def _contains(self, members: Any, item: Any) -> Any:
        if isinstance(members, _Members):
            return self._z3.Or(*(self._equal(one, item) for one in members.items), self._z3.BoolVal(False))
        return self._z3.Select(members, item)

    def _is_empty(self, members: Any) -> Any:
        if isinstance(members, _Members):
            return self._z3.BoolVal(not members.items)
        return members == self._z3.EmptySet(self._z3.StringSort())

    def _equal(self, one: Any, other: Any) -> Any:
        if isinstance(one, _Entity) and isinstance(other, _Entity):
            return self._same(one, other).value
        if isinstance(one, _Members) or isinstance(other, _Members):
            raise UntranslatableError("the equality of sets")
        return one == other

    def _same(self, one: _Entity, other: _Entity) -> _Term:
        # There is no hierarchy: `in` is equality.
        if one.kind != other.kind:
            return _Term(self._z3.BoolVal(False))
        return _Term(one.id == other.id)

    def _pattern(self, pattern: Sequence[object]) -> Any:
        z3 = self._z3
        parts = [z3.Re(self._facts.text(""))]
        for part in pattern:
            match part:
                case "Wildcard":
                    parts.append(z3.Full(z3.ReSort(z3.StringSort())))
                case {"Literal": str(text)}:
                    parts.append(z3.Re(self._facts.text(text)))
                case _:
                    raise UntranslatableError(f"the pattern {part!r:.60}")
        return z3.Concat(*parts) if len(parts) > 1 else parts[0]

    def _both(self, left: _Term, right: _Term) -> _Term:
        """`&&`: the right side counts only where the left one is true."""
        skipped = _disjunction(self._z3, self._z3.Not(left.value), right.works)
        return _Term(self._z3.And(left.value, right.value), _conjunction(self._z3, left.works, skipped))

    def _either(self, left: _Term, right: _Term) -> _Term:
        skipped = _disjunction(self._z3, left.value, right.works)
        return _Term(self._z3.Or(left.value, right.value), _conjunction(self._z3, left.works, skipped))

    def _choice(self, condition: _Term, then: _Term, otherwise: _Term) -> _Term:
        z3 = self._z3
        if isinstance(then.value, _Entity | _Members) or isinstance(otherwise.value, _Entity | _Members):
            raise UntranslatableError("a choice between sets or entities")
        works = True
        if then.works is not True or otherwise.works is not True:
            works = z3.If(condition.value, then.works, otherwise.works)
        return _Term(
            z3.If(condition.value, then.value, otherwise.value), _conjunction(z3, condition.works, works)
        )

    def _all(self, terms: Sequence[_Term]) -> Any:
        works: Any = True
        for term in terms:
            works = _conjunction(self._z3, works, term.works)
        return works


def _conjunction(z3: Any, one: Any, other: Any) -> Any:
    if one is True or other is True:
        return other if one is True else one
    return z3.And(one, other)


def _disjunction(z3: Any, one: Any, other: Any) -> Any:
    return True if one is True or other is True else z3.Or(one, other)


def _compare(operator: str, one: Any, other: Any) -> Any:
    match operator:
        case "<":
            return one < other
        case "<=":
            return one <= other
        case ">":
            return one > other
        case ">=":
            return one >= other
        case "==":
            return one == other
        case _:
            return one != other


def _entity(term: _Term) -> _Entity:
    if not isinstance(term.value, _Entity):
        raise UntranslatableError("an entity's place taken by a value")
    return term.value


def _attribute(node: Mapping[str, Any]) -> str:
    name = _fact_name(node)
    if name is None:
        raise UntranslatableError("an attribute of something other than the context")
    return name


def _fact_name(node: object) -> str | None:
    match node:
        case {".": {"left": {"Var": "context"}, "attr": str(name)}}:
            return name
        case _:
            return None


def _integer(node: object) -> int | None:
    match node:
        case {"Value": int(value)} if not isinstance(value, bool):
            return value
        case {"neg": {"arg": {"Value": int(value)}}} if not isinstance(value, bool):
            return -value
        case _:
            return None
