"""Rules: what a policy says about itself beyond its condition, in words that people read.

Every Cedar policy carries @id, @message, @next_step and @source; @class("needs_approval") marks a
rule that a person's signature satisfies. Messages are templates over the order's facts, and over
the literal bounds of the rule's own condition, read from Cedar's JSON form. A rule is overridable
where its condition asks whether `context.overrides` contains its own @id.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, Decimal
from typing import Literal, cast

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.policy.cedar import policy_document
from neural_trader_governance.policy.contexts import Fact, PolicyContext
from neural_trader_governance.terms.money import format_decimal, format_usd

RuleClass = Literal["final", "needs_approval"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_COMPARISONS = {">", ">=", "<", "<=", "=="}
# Largest quantity that a bound leaves room for: (the bound's source, what the quantity is scaled by).
_QUANTITIES = ("fitting_quantity", "affordable_quantity")
_COUNTS = ("duplicates_last_10_s",)
_UNKNOWN_S = 10**10  # `contexts.SECONDS_MAX`, `witnessing.NEVER_S`: it never happened
_RATIOS = ("leverage_after_bps", "day_loss_bps", "desk_day_loss_bps")


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy: its name, what it tells a person, and the literals that it compares with."""

    id: str
    effect: Literal["permit", "forbid"]
    rule_class: RuleClass
    message: str
    next_step: str
    source: str
    bounds: Mapping[str, int]
    overridable: bool

    def explain(self, facts: Mapping[str, Fact]) -> tuple[str, str]:
        """Returns message and next step with this order's values and this rule's bounds."""
        return _fill(self.message, facts, self.bounds), _fill(self.next_step, facts, self.bounds)


def read_rules(policy: str) -> dict[str, Rule]:
    """Reads every policy's annotations and literal bounds, keyed by @id.

    Raises:
        ConfigurationError: an annotation is missing, doubled or unknown, a placeholder names
            nothing, a policy is a template, or nothing permits anything.
    """
    try:
        document = policy_document(policy)
    except ValueError as error:
        raise _invalid(f"it does not parse ({error})") from None
    if document.get("templates") or document.get("templateLinks"):
        raise _invalid("it holds Cedar templates, which nothing here links")
    rules: dict[str, Rule] = {}
    for policy_id, body in cast("dict[str, dict[str, object]]", document["staticPolicies"]).items():
        rule = _read_rule(policy_id, body)
        if rule.id in rules:
            raise _invalid(f"two rules are called {rule.id}")
        rules[rule.id] = rule
    if not any(rule.effect == "permit" for rule in rules.values()):
        raise _invalid("no rule permits anything")
    return rules


def _read_rule(policy_id: str, body: dict[str, object]) -> Rule:
    notes = cast("dict[str, str | None]", body.get("annotations") or {})
    values = {name: (notes.get(name) or "") for name in ("id", "message", "next_step", "source")}
    for name, value in values.items():
        if not value:
            raise _invalid(f"{values['id'] or policy_id} has no @{name}")
    rule_class = notes.get("class", "final")
    if rule_class not in {"final", "needs_approval"}:
        raise _invalid(f"{values['id']} has the unknown @class {rule_class!r:.40}")
    effect = body["effect"]
    if effect == "permit" and rule_class != "final":
        raise _invalid(f"{values['id']} permits, so it has no @class")
    bounds: dict[str, int] = {}
    for field, bound in _literals(body.get("conditions")):
        if bounds.setdefault(field, bound) != bound:
            raise _invalid(f"{values['id']} compares {field} with two bounds; write two rules")
    lifted = set(_lifted(body.get("conditions")))
    if not lifted <= {values["id"]}:
        raise _invalid(f"{values['id']} is lifted by an override of {min(lifted - {values['id']})!r:.60}")
    if lifted and effect == "permit":
        raise _invalid(f"{values['id']} permits, and an override only lifts what forbids")
    rule = Rule(
        id=values["id"],
        effect=cast("Literal['permit', 'forbid']", effect),
        rule_class=cast("RuleClass", rule_class),
        message=values["message"],
        next_step=values["next_step"],
        source=values["source"],
        bounds=bounds,
        overridable=bool(lifted),
    )
    for template in (rule.message, rule.next_step):
        for name in _PLACEHOLDER.findall(template):
            if not _is_known(name, bounds):
                raise _invalid(f"{rule.id} names {{{name}}}, which is neither a fact nor its bound")
    return rule


def _literals(node: object) -> Iterator[tuple[str, int]]:
    """Yields (field, bound) for every comparison of a context attribute with an integer literal."""
    if isinstance(node, list):
        for item in cast("list[object]", node):
            yield from _literals(item)
    elif isinstance(node, dict):
        for operator, operand in cast("dict[str, object]", node).items():
            sides = cast("dict[str, object]", operand) if isinstance(operand, dict) else {}
            if operator in _COMPARISONS:
                for one, other in (("left", "right"), ("right", "left")):
                    field, bound = _attribute(sides.get(one)), _integer(sides.get(other))
                    # A bound of 0 asks whether there is anything at all: it is no limit to quote.
                    if field is not None and bound:
                        yield field, bound
            yield from _literals(cast("object", operand))


def _lifted(node: object) -> Iterator[str]:
    """Yields the rule ids for which the condition asks `context.overrides.contains("…")`."""
    match node:
        case list():
            for item in cast("list[object]", node):
                yield from _lifted(item)
        case {
            "contains": {
                "left": {".": {"left": {"Var": "context"}, "attr": "overrides"}},
                "right": {"Value": str(rule_id)},
            }
        }:
            yield rule_id
        case dict():
            for item in cast("dict[str, object]", node).values():
                yield from _lifted(item)
        case _:
            return


def _attribute(node: object) -> str | None:
    match node:
        case {".": {"left": {"Var": "context"}, "attr": str(field)}}:
            return field
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


def _is_known(name: str, bounds: Mapping[str, int]) -> bool:
    if name == "bound":
        return len(bounds) == 1
    if name.startswith("bound."):
        return name.removeprefix("bound.") in bounds
    if name == "fitting_quantity":
        return "notional_cents" in bounds
    return name in PolicyContext.model_fields or name in _RATIOS or name in _QUANTITIES


def _fill(template: str, facts: Mapping[str, Fact], bounds: Mapping[str, int]) -> str:
    return _PLACEHOLDER.sub(lambda found: _value(found[1], facts, bounds), template)


def _value(name: str, facts: Mapping[str, Fact], bounds: Mapping[str, int]) -> str:
    if name == "bound":
        ((field, bound),) = bounds.items()
        return format_fact(field, bound)
    if name.startswith("bound."):
        field = name.removeprefix("bound.")
        return format_fact(field, bounds[field])
    if name == "fitting_quantity":
        return _largest_quantity(facts, bounds["notional_cents"], "notional_cents")
    if name == "affordable_quantity":
        room = facts["buying_power_cents"]
        return _largest_quantity(facts, room if isinstance(room, int) else 0, "required_cash_cents")
    return format_fact(name, facts[name])


def _largest_quantity(facts: Mapping[str, Fact], room_cents: int, cost: str) -> str:
    """Scales the order's quantity down to the room there is: whole units unless below one."""
    quantity, price = facts["quantity_micros"], facts[cost]
    if not isinstance(quantity, int) or not isinstance(price, int):
        raise TypeError(f"quantity_micros and {cost} are whole numbers")
    micros = max(0, quantity * room_cents // max(1, price))
    units = Decimal(micros).scaleb(-6)
    return format_decimal(units.to_integral_value(ROUND_DOWN) if units >= 1 else units)


def format_fact(name: str, value: Fact) -> str:
    """Returns a value in the unit that its field's name ends with: `52,400 USD`, `12.5 %`, `5 days`."""
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if name.endswith("_cents"):
        return format_usd(Decimal(value).scaleb(-2))
    if name.endswith("_bps"):
        return f"{format_decimal(Decimal(value).scaleb(-2))} %"
    if name.endswith("_micros"):
        return f"{Decimal(value).scaleb(-6).normalize():,f}"
    if name.endswith("_s") and name not in _COUNTS:
        if value >= _UNKNOWN_S:
            return "an unknown time"
        # Rounded up, so that what is just over a bound does not read like the bound.
        days = (Decimal(value) / 86_400).quantize(Decimal("0.1"), ROUND_CEILING)
        return f"{format_decimal(days)} days" if days >= 2 else f"{value:,} s"
    return f"{value:,}"


def _invalid(why: str) -> ConfigurationError:
    return ConfigurationError(
        "invalid_policy",
        f"the policy is not usable: {why}",
        "correct the policy file, or use what is shipped: `neural-trader policy activate default`",
    )
