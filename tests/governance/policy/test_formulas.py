"""Formulas: the translation says of every order exactly what Cedar says, errors included."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neural_trader_governance.policy.cedar import Cedar
from neural_trader_governance.policy.contexts import ORDINARY, PolicyContext
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY, PolicyEngine
from neural_trader_governance.policy.formulas import policy_formula
from neural_trader_governance.policy.unknowns import Unknowns, UntranslatableError

POLICY = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
SCHEMA = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")
ENGINE = PolicyEngine(POLICY, SCHEMA, monotonic_ns=lambda: 0)
CEDAR = Cedar(POLICY, SCHEMA)
RULES = sorted(rule.id for rule in ENGINE.rules.values() if rule.effect == "forbid")
SHAPES: dict[str, dict[str, Any]] = PolicyContext.model_json_schema()["properties"]
BOUNDS: dict[str, set[int]] = {}
for rule in ENGINE.rules.values():
    for name, bound in rule.bounds.items():
        BOUNDS.setdefault(name, set()).update({bound - 1, bound, bound + 1})

EXAMPLES_PER_RUN = 600
SLOW_EXAMPLES = 20_000


def numbers(name: str) -> st.SearchStrategy[int]:
    shape = SHAPES[name]
    low = shape.get("minimum", shape.get("exclusiveMinimum", 0) + 1)
    high = shape["maximum"]
    near = [bound for bound in BOUNDS.get(name, set()) if low <= bound <= high]
    ordinary = getattr(ORDINARY, name)
    return st.one_of(
        st.just(ordinary),
        st.sampled_from(near or [ordinary]),
        st.integers(low, high),
        st.just(low),
        st.just(high),
    )


def texts(name: str) -> st.SearchStrategy[str]:
    if "enum" in SHAPES[name]:
        return st.sampled_from(SHAPES[name]["enum"])
    if name in {"agent", "account"}:
        return st.sampled_from(["paper", "agent-1", "live", "a"])
    if name == "symbol":
        return st.sampled_from(["AAPL", "GME", "BRK.B", "A"])
    return st.sampled_from(["", "alice", "a*b", "back\\slash", "ünï", "\\u{41}", "A"])


def fact(name: str) -> st.SearchStrategy[Any]:
    match SHAPES[name]["type"]:
        case "integer":
            return numbers(name)
        case "boolean":
            return st.sampled_from([getattr(ORDINARY, name)] * 3 + [not getattr(ORDINARY, name)])
        case "array":
            return st.lists(st.sampled_from([*RULES, "nothing"]), max_size=4, unique=True).map(
                lambda ids: tuple(sorted(ids))
            )
        case _:
            return texts(name)


@st.composite
def contexts(draw: st.DrawFn) -> PolicyContext:
    names = draw(st.lists(st.sampled_from(sorted(SHAPES)), max_size=8, unique=True))
    return PolicyContext.model_validate(
        {**ORDINARY.model_dump(), **{name: draw(fact(name)) for name in names}}
    )


CONTEXTS = contexts()


class Shipped:
    """The shipped policy's formula, asked for all its rules at once: one bit each."""

    def __init__(self) -> None:
        self.unknowns = Unknowns()
        self.formula = policy_formula(POLICY, self.unknowns)
        z3 = self.unknowns.z3
        answers = [self.formula.allowed, self.formula.works, *(rule.matches for rule in self.formula.rules)]
        self._bits = z3.Sum([z3.If(answer, 1 << place, 0) for place, answer in enumerate(answers)])

    def ask(self, context: PolicyContext) -> tuple[bool, bool, set[str]]:
        """Returns whether it is allowed, whether nothing overflows, and which rules match."""
        z3, values = self.unknowns.z3, self.unknowns.values(context.facts())
        bits = z3.simplify(z3.substitute(self._bits, *values)).as_long()
        matching = {rule.id for place, rule in enumerate(self.formula.rules, start=2) if bits >> place & 1}
        return bool(bits & 1), bool(bits & 2), matching


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped()


def check_shipped(shipped: Shipped, context: PolicyContext) -> None:
    allowed, works, matching = shipped.ask(context)
    answer = CEDAR.ask(agent=context.agent, account=context.account, context=context.facts())
    assert allowed == (answer.allowed and not answer.faults)
    assert works == (not answer.faults)
    effect = "permit" if answer.allowed else "forbid"
    assert {rule for rule in matching if ENGINE.rules[rule].effect == effect} == set(answer.rule_ids)


@settings(
    max_examples=EXAMPLES_PER_RUN,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(context=CONTEXTS)
def test_the_shipped_policys_formula_decides_as_cedar_does(shipped: Shipped, context: PolicyContext) -> None:
    check_shipped(shipped, context)


@pytest.mark.slow
@settings(
    max_examples=SLOW_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(context=CONTEXTS)
def test_the_shipped_policys_formula_decides_as_cedar_does_at_length(
    shipped: Shipped, context: PolicyContext
) -> None:
    check_shipped(shipped, context)


LONGS = st.one_of(
    st.sampled_from(
        ["notional_cents", "equity_cents", "day_pnl_cents", "leverage_after_bps", "day_loss_bps", "approvals"]
    ).map(lambda name: f"context.{name}"),
    st.sampled_from([0, 1, -1, 9_999, 10_000, 10**9, 10**15, 2**62, -(2**62)]).map(str),
)
ARITHMETIC = st.recursive(
    LONGS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("(-{})".format, inner.filter(lambda text: not text.startswith("-"))),
        st.builds("(if context.halted then {} else {})".format, inner, inner),
    ),
    max_leaves=4,
)
STRINGS = st.sampled_from(["context.symbol", "context.principal", "context.side", '"AAPL"', '"a*b"', '"ünï"'])
LEAVES = st.one_of(
    st.sampled_from(
        [
            "context.halted",
            "!context.tradable",
            'principal == Agent::"agent-1"',
            'resource in Account::"paper"',
            "resource is Account",
            "context has symbol",
            'context.symbol like "A*"',
            'context.principal like "*\\**"',
            'context.overrides.contains("max_notional")',
            "context.overrides.contains(context.principal)",
            "context.overrides.isEmpty()",
            'context.overrides.containsAll(["max_notional", "halted"])',
            'context.overrides.containsAny(["max_notional", context.symbol])',
            '["AAPL", "GME"].contains(context.symbol)',
        ]
    ),
    st.builds("{} {} {}".format, ARITHMETIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ARITHMETIC),
    st.builds("{} {} {}".format, STRINGS, st.sampled_from(["==", "!="]), STRINGS),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format,
            inner.map("({})".format),
            st.sampled_from(["&&", "||"]),
            inner.map("({})".format),
        ),
        st.builds("!({})".format, inner),
        st.builds("(if {} then {} else {})".format, inner, inner, inner),
    ),
    max_leaves=6,
)
SCOPES = st.sampled_from(
    [
        'principal, action == Action::"submit_order", resource',
        'principal == Agent::"agent-1", action, resource',
        'principal in Agent::"a", action in [Action::"submit_order"], resource is Account',
        "principal is Agent, action, resource",
    ]
)
POLICIES = st.lists(
    st.builds(
        "{} ({}) {} {{ {} }};".format,
        st.sampled_from(["permit", "forbid"]),
        SCOPES,
        st.sampled_from(["when", "unless"]),
        CONDITIONS,
    ),
    min_size=1,
    max_size=3,
).map(lambda bodies: "\n".join(f'@id("rule_{number}")\n{body}' for number, body in enumerate(bodies)))


def check_any(policy: str, contexts: list[PolicyContext]) -> None:
    try:
        cedar = Cedar(policy, SCHEMA)
    except ValueError:
        assume(False)  # the strict validator refuses what can never be true
        return
    unknowns = Unknowns()
    formula = policy_formula(policy, unknowns)
    for context in contexts:
        answer = cedar.ask(agent=context.agent, account=context.account, context=context.facts())
        works = unknowns.holds(formula.works, context)
        assert works == (not answer.faults), answer.faults
        assert unknowns.holds(formula.allowed, context) == (answer.allowed and not answer.faults)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(policy=POLICIES, contexts=st.lists(CONTEXTS, min_size=4, max_size=4))
def test_any_policys_formula_decides_and_fails_as_cedar_does(
    policy: str, contexts: list[PolicyContext]
) -> None:
    check_any(policy, contexts)


@pytest.mark.slow
@settings(
    max_examples=5_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(policy=POLICIES, contexts=st.lists(CONTEXTS, min_size=4, max_size=4))
def test_any_policys_formula_decides_and_fails_as_cedar_does_at_length(
    policy: str, contexts: list[PolicyContext]
) -> None:
    check_any(policy, contexts)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ('decimal("1.0").lessThan(decimal("2.0"))', "lessThan"),
        ("context.overrides.containsAll(context.overrides)", "containsAll of a set that is not written out"),
        ('context.overrides == ["a"]', "the equality of sets"),
    ],
)
def test_what_has_no_translation_is_refused_by_name(condition: str, named: str) -> None:
    policy = f'@id("odd")\nforbid (principal, action, resource) when {{ {condition} }};'
    Cedar(policy, SCHEMA)
    with pytest.raises(UntranslatableError, match=named) as caught:
        policy_formula(policy, Unknowns())
    assert "in the rule odd" in str(caught.value)


@pytest.mark.parametrize("halted", [True, False])
@pytest.mark.parametrize(
    "condition",
    [
        "context.halted && {overflows}",
        "context.halted || {overflows}",
        "!context.halted && ({overflows} || context.halted)",
        "if context.halted then {overflows} else true",
        "{overflows} && context.halted",
        "{overflows} || context.halted",
    ],
)
def test_what_cedar_does_not_evaluate_cannot_fail(condition: str, halted: bool) -> None:
    text = condition.format(overflows="context.notional_cents * 9223372036854775807 > 0")
    order = ORDINARY.model_copy(update={"halted": halted})
    check_any(f'@id("odd")\nforbid (principal, action, resource) when {{ {text} }};', [order])
