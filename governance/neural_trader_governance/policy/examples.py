"""Examples: a concrete order that a formula is true of, as close to an ordinary one as can be.

A solver answers with any numbers at all. A person needs to see what matters, so every fact that can
keep its ordinary value keeps it, and a number that cannot is moved as little as possible.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from neural_trader_governance.policy.contexts import ORDINARY, Fact, PolicyContext
from neural_trader_governance.policy.unknowns import RATIOS, Unknowns


class UnprovedError(Exception):
    """The solver did not finish, or its order does not stand up; the text says which."""


def find_order(
    unknowns: Unknowns, conditions: Sequence[Any], *, timeout_s: float, narrow: bool = True
) -> PolicyContext | None:
    """Returns an order that all conditions are true of, or None: there is none, and that is proved.

    Args:
        unknowns: The constants that the conditions are about.
        conditions: Formulas.
        timeout_s: When to give up.
        narrow: Look for the most ordinary such order (for people), rather than for any.

    Raises:
        UnprovedError: the time ran out first, or the order found is no valid context.
    """
    search = _Search(unknowns, conditions, timeout_s)
    if not search.has_answer():
        return None
    if not narrow:
        with suppress(UnprovedError):  # an arbitrary text may be no symbol: an ordinary one is
            return search.order()
    search.narrow()
    return search.order()


class _Search:
    """One question to the solver, and the narrowing of its answer."""

    def __init__(self, unknowns: Unknowns, conditions: Sequence[Any], timeout_s: float) -> None:
        self._unknowns = unknowns
        self._z3 = unknowns.z3
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._solver = self._z3.Solver()
        self._solver.add(*unknowns.assumptions(), *conditions)

    def has_answer(self) -> bool:
        """Asks the solver once."""
        answer = self._check()
        if answer == self._z3.unsat:
            return False
        if answer != self._z3.sat:
            raise UnprovedError(f"timeout after {self._timeout_s:g} s")
        self._model = self._solver.model()
        return True

    def narrow(self) -> None:
        """Moves every fact as near to its ordinary value as the conditions allow."""
        ordinary = ORDINARY.facts()
        # Equities first: the ratios' conditions have fewer unknowns then.
        for name in sorted(self._names(), key=lambda name: "equity" not in name):
            self._settle(name, ordinary[name])

    def order(self) -> PolicyContext:
        """Returns the solver's answer as an order; what no condition asks for is ordinary."""
        facts = {**ORDINARY.model_dump(), **{name: self._read(name) for name in self._names()}}
        try:
            return PolicyContext.model_validate(facts)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise UnprovedError(f"the solver's order has no valid {first['loc'][0]}") from None

    def _names(self) -> list[str]:
        return [name for name in self._unknowns.constants if name not in RATIOS]

    def _settle(self, name: str, ordinary: Fact) -> None:
        """Fixes one fact: at its ordinary value, else as near to it as the conditions allow."""
        constant = self._unknowns.constants[name]
        if isinstance(ordinary, list):
            for text in sorted(self._unknowns.literals):
                member = self._z3.Select(constant, self._unknowns.text(text))
                if not self._keep(self._z3.Not(member)):
                    self._solver.add(member)
            return
        candidates: list[Fact] = [ordinary]
        if isinstance(ordinary, str):
            candidates += [text for text in sorted(self._unknowns.literals) if _is_valid(name, text)]
        for candidate in candidates:
            if self._keep(constant == self._unknowns.value(candidate)):
                return
        if isinstance(ordinary, int) and not isinstance(ordinary, bool):
            self._approach(name, ordinary)
        self._solver.add(constant == self._model.eval(constant, model_completion=True))

    def _approach(self, name: str, ordinary: int) -> None:
        """Moves a number as near to its ordinary value as the conditions allow, by halving."""
        constant = self._unknowns.constants[name]
        near = ordinary
        while True:
            far = self._model.eval(constant, model_completion=True).as_long()
            middle = (near + far) // 2 if far > near else -((-near - far) // 2)
            if middle in {near, far}:
                return
            low, high = sorted((ordinary, middle))
            if not self._keep(self._z3.And(constant >= low, constant <= high)):
                near = middle
                if time.monotonic() > self._deadline_s:
                    return

    def _keep(self, wish: Any) -> bool:
        """Adds a wish if the conditions can still be met with it."""
        if time.monotonic() > self._deadline_s:
            return False
        self._solver.push()
        self._solver.add(wish)
        if self._check() == self._z3.sat:
            self._model = self._solver.model()
            return True
        self._solver.pop()
        return False

    def _check(self) -> Any:
        left_ms = max(1, int((self._deadline_s - time.monotonic()) * 1000))
        self._solver.set("timeout", left_ms)
        return self._solver.check()

    def _read(self, name: str) -> Fact:
        constant = self._unknowns.constants[name]
        if name == "overrides":
            texts = sorted(self._unknowns.literals)
            members = {text: self._z3.Select(constant, self._unknowns.text(text)) for text in texts}
            return [
                text
                for text, member in members.items()
                if self._z3.is_true(self._model.eval(member, model_completion=True))
            ]
        value = self._model.eval(constant, model_completion=True)
        if self._z3.is_int_value(value):
            return int(value.as_long())
        if self._z3.is_string_value(value):
            return str(value.as_string())
        return bool(self._z3.is_true(value))


def _is_valid(name: str, text: str) -> bool:
    try:
        PolicyContext.model_validate({**ORDINARY.model_dump(), name: text})
    except ValidationError:
        return False
    return True
