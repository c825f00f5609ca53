"""Unknowns: the facts of an order nobody has sent yet, as z3 constants within the bounds of policy.

The ratios (`leverage_after_bps` and the like) are computed from other facts; compared with a number
they become exact linear conditions on those, because ceil(p * 10^4 / w) > k is p * 10^4 > k * w.

z3 comes with the extra `prove` and brings no types; its `Any` is confined to the solver's modules.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.policy.contexts import BPS_MAX, Fact, PolicyContext


def load_z3() -> Any:
    """Returns the solver's module.

    Raises:
        ConfigurationError: `z3_missing`: the extra `prove` is not installed.
    """
    try:
        return importlib.import_module("z3")
    except ImportError:
        raise ConfigurationError(
            "z3_missing",
            "proofs about a policy need the solver z3, which is not installed",
            "run `pip install 'neural-trader[prove]'`",
        ) from None


class UntranslatableError(Exception):
    """A policy says something that has no formula here; its text names it."""


@dataclass(slots=True)
class Unknowns:
    """The facts of one order as z3 constants, made as policies ask for them."""

    z3: Any = field(default_factory=load_z3)
    constants: dict[str, Any] = field(default_factory=dict[str, Any])
    literals: set[str] = field(default_factory=set[str])
    """Every string that a policy compares with: where a model's strings and sets come from."""
    _shapes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _SHAPES)

    def constant(self, name: str) -> Any:
        """Returns the constant of a fact.

        Raises:
            UntranslatableError: policy contexts have no such fact.
        """
        if name in self.constants:
            return self.constants[name]
        if name in RATIOS:
            made = self.z3.Int(name)
        elif name in self._shapes:
            made = self._sorts()[self._shapes[name]["type"]](name)
        else:
            raise UntranslatableError(f"the fact {name}")
        self.constants[name] = made
        if name in RATIOS:
            self.parts(name)
        return made

    def parts(self, ratio: str) -> tuple[Any, Any]:
        """Returns the two amounts that a ratio is made of, each a formula over other facts."""
        return RATIOS[ratio](self)

    def assumptions(self) -> list[Any]:
        """Returns what `PolicyContext` guarantees of every fact that was asked for."""
        z3 = self.z3
        known: list[Any] = []
        for name, constant in list(self.constants.items()):
            shape = self._shapes.get(name, {})
            if name in RATIOS:
                known.append(self._is_ratio(constant, *self.parts(name)))
            elif shape["type"] == "integer":
                lowest = shape.get("minimum", shape.get("exclusiveMinimum", -(2**63) - 1) + 1)
                known += [constant >= lowest, constant <= shape["maximum"]]
            elif "enum" in shape:
                known.append(z3.Or(*(constant == self.text(choice) for choice in shape["enum"])))
            elif shape["type"] == "array" and self.literals:
                members = [z3.If(z3.Select(constant, self.text(text)), 1, 0) for text in self.literals]
                known.append(z3.Sum(*members) <= shape["maxItems"])
        return known

    def values(self, facts: Mapping[str, Fact]) -> list[tuple[Any, Any]]:
        """Returns the constants beside the values that one order gives them, for substitution."""
        return [(constant, self.value(facts[name])) for name, constant in self.constants.items()]

    def value(self, fact: Fact) -> Any:
        """Returns one fact's value as a z3 value."""
        z3 = self.z3
        if isinstance(fact, bool):
            return z3.BoolVal(fact)
        if isinstance(fact, int):
            return z3.IntVal(fact)
        if isinstance(fact, str):
            return self.text(fact)
        members = z3.K(z3.StringSort(), z3.BoolVal(False))
        for text in fact:
            members = z3.Store(members, self.text(text), z3.BoolVal(True))
        return members

    def text(self, text: str) -> Any:
        """Returns a text as a z3 value (z3 reads backslashes as escapes, so they are escaped)."""
        return self.z3.StringVal(text.replace("\\", "\\u{5c}"))

    def holds(self, formula: Any, context: PolicyContext) -> bool:
        """Says whether a formula holds of one order.

        Raises:
            UntranslatableError: substitution leaves something open.
        """
        z3 = self.z3
        facts = context.facts()
        for name in list(self.constants):
            if name not in facts:
                raise UntranslatableError(f"the fact {name}")
        answer = z3.simplify(z3.substitute(formula, *self.values(facts)))
        if z3.is_true(answer) or z3.is_false(answer):
            return bool(z3.is_true(answer))
        raise UntranslatableError(f"the open formula {str(answer)[:120]}")

    def exceeds(self, ratio: str, bound: int) -> Any:
        """Returns `ratio > bound`, exactly and without a division."""
        z3 = self.z3
        if bound < 0:
            return z3.BoolVal(True)
        if bound >= BPS_MAX:
            return z3.BoolVal(False)
        part, whole = self.parts(ratio)
        return z3.And(part > 0, z3.Or(whole <= 0, part * 10_000 > bound * whole))

    def _is_ratio(self, ratio: Any, part: Any, whole: Any) -> Any:
        z3 = self.z3
        rounded_up = z3.And(ratio * whole >= part * 10_000, (ratio - 1) * whole < part * 10_000)
        capped = z3.And(ratio == BPS_MAX, part * 10_000 > BPS_MAX * whole)
        computed = z3.If(whole <= 0, ratio == BPS_MAX, z3.Or(rounded_up, capped))
        return z3.And(ratio >= 0, ratio <= BPS_MAX, z3.If(part == 0, ratio == 0, computed))

    def _sorts(self) -> dict[str, Callable[[str], Any]]:
        z3 = self.z3
        return {
            "integer": z3.Int,
            "boolean": z3.Bool,
            "string": z3.String,
            "array": lambda name: z3.Const(name, z3.SetSort(z3.StringSort())),
        }


def _gross(gross: str, equity: str) -> Callable[[Unknowns], tuple[Any, Any]]:
    return lambda facts: (facts.constant(gross), facts.constant(equity))


def _loss(profit: str, equity: str) -> Callable[[Unknowns], tuple[Any, Any]]:
    def parts(facts: Unknowns) -> tuple[Any, Any]:
        gain = facts.constant(profit)
        return facts.z3.If(gain < 0, -gain, 0), facts.constant(equity) - gain

    return parts


RATIOS: Mapping[str, Callable[[Unknowns], tuple[Any, Any]]] = {
    "leverage_after_bps": _gross("gross_after_cents", "equity_cents"),
    "day_loss_bps": _loss("day_pnl_cents", "equity_cents"),
    "desk_day_loss_bps": _loss("desk_day_pnl_cents", "desk_equity_cents"),
}
"""How PolicyContext computes its ratios; the differential test holds both against each other."""

_SHAPES = cast("Mapping[str, Mapping[str, Any]]", PolicyContext.model_json_schema()["properties"])
