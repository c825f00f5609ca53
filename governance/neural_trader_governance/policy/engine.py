"""The policy engine: Cedar behind a wrapper that fails closed.

Cedar skips a `forbid` whose evaluation errors, so Cedar's own "Allow" is not enough: an order is
allowed only if the decision is Allow and there is no error of any kind. The schema is always on,
the inputs are bounded before Cedar sees them, and whatever goes wrong is a denial that says so.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self

import structlog
from pydantic import ValidationError

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.policy.cedar import Answer, Cedar
from neural_trader_governance.policy.contexts import ORDINARY, PolicyContext
from neural_trader_governance.policy.rules import Rule, read_rules
from neural_trader_governance.terms.term import Term

SHIPPED_POLICY = Path(__file__).parent
"""The folder that holds `default.cedar` and `default.cedarschema` as we ship them."""

POLICY_FILE, SCHEMA_FILE = "default.cedar", "default.cedarschema"
INPUT_RULE, ENGINE_RULE = "policy_input", "policy_engine"

EVALUATION_MS_MAX = 1_000
"""A slower decision is a denial: facts age while it runs, and the log is held."""

Decision = Literal["allow", "deny", "needs_approval"]

_log = structlog.get_logger(__name__)


class Reason(Term):
    """One rule that decided, in words."""

    rule: str
    message: str
    next_step: str


class Verdict(Term):
    """What policy says of one order; a refusal is a value."""

    decision: Decision
    reasons: tuple[Reason, ...]
    policy_digest: str


class PolicyEngine:
    """One policy, parsed and checked once; `decide` is a pure function of it and the context."""

    def __init__(
        self, policy: str, schema: str, *, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Takes the Cedar texts; `load` reads them from a folder.

        Args:
            policy: Cedar policies, annotated as `rules` says.
            schema: Their Cedar schema.
            monotonic_ns: Measures how long a decision took; one that took too long is a denial.

        Raises:
            ConfigurationError: the texts do not parse, do not fit each other, or do not fit the
                context that this version supplies.
        """
        self._monotonic_ns = monotonic_ns
        self.rules: Mapping[str, Rule] = read_rules(policy)
        self.digest = policy_digest(policy.encode(), schema.encode())
        try:
            self._cedar = Cedar(policy, schema)
        except ValueError as error:
            raise ConfigurationError(
                "invalid_policy",
                f"the policy is not usable: {error}",
                "correct the policy file, or use what is shipped: `neural-trader policy activate default`",
            ) from None
        faults = self._ask(ORDINARY).faults  # what cannot judge an ordinary order is of another version
        if faults:
            raise ConfigurationError(
                "policy_mismatch",
                f"the schema does not fit this version's context ({faults[0]:.200})",
                "merge your rules into the policy and schema that this version ships",
            )

    @classmethod
    def load(cls, folder: Path = SHIPPED_POLICY) -> Self:
        """Reads `default.cedar` and `default.cedarschema` from a folder.

        Raises:
            ConfigurationError: a file is missing or the policy is not usable.
        """
        try:
            policy = (folder / POLICY_FILE).read_bytes().decode()
            schema = (folder / SCHEMA_FILE).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                "policy_unreadable",
                f"{folder} holds no readable policy ({error})",
                "run `neural-trader init`",
            ) from None
        return cls(policy, schema)

    def current(self, connection: sqlite3.Connection) -> Self:
        """Returns itself: one engine is a policy source that never changes (policy/source.py)."""
        del connection
        return self

    def decide(self, context: PolicyContext | Mapping[str, object]) -> Verdict:
        """Judges one order. Never raises: what cannot be judged is denied, and the reason says why.

        Args:
            context: The decision's inputs; a mapping is validated here, and a model once more.
        """
        try:
            # Revalidated: a model can be built around its validators, a mapping may hold anything.
            checked = PolicyContext.model_validate(dict(context))
        except ValidationError as error:
            return self._deny(INPUT_RULE, *_input_fault(error))
        except Exception as error:
            # Fail closed on whatever a caller hands in.
            return self._deny(INPUT_RULE, f"The order's facts are unreadable ({type(error).__name__})")
        try:
            started = self._monotonic_ns()
            verdict = self._judge(checked)
            wall_ms = (self._monotonic_ns() - started) // 1_000_000
        except Exception as error:
            _log.error("policy_engine_failed", error=repr(error)[:300])
            return self._deny(ENGINE_RULE, f"The policy engine failed ({type(error).__name__})")
        if not 0 <= wall_ms <= EVALUATION_MS_MAX:
            _log.error("policy_evaluation_slow", wall_ms=wall_ms)
            return self._deny(
                ENGINE_RULE,
                f"The policy took {wall_ms} ms to decide; at most {EVALUATION_MS_MAX} ms is accepted",
                "preview again; if it stays slow, run `neural-trader doctor` and shorten the policy",
            )
        return verdict

    def _judge(self, context: PolicyContext) -> Verdict:
        answer = self._ask(context)
        if answer.faults:
            _log.error("policy_evaluation_failed", faults=answer.faults[:3])
            return self._deny(ENGINE_RULE, f"A rule could not be evaluated ({answer.faults[0]:.160})")
        if answer.allowed:
            return Verdict(decision="allow", reasons=(), policy_digest=self.digest)
        deciding = self._deciding(answer)
        decision: Decision = "deny"
        if all(rule.rule_class == "needs_approval" for rule in deciding):
            # Signatures must be all that is missing: asked again with every one, the answer is Allow.
            signed = self._ask(context.model_copy(update=_ALL_SIGNED))
            if signed.allowed and not signed.faults:
                decision = "needs_approval"
            else:
                deciding += self._deciding(signed)
        facts = context.facts()
        reasons: list[Reason] = []
        for rule in deciding:
            message, next_step = rule.explain(facts)
            reasons.append(Reason(rule=rule.id, message=message, next_step=next_step))
        return Verdict(decision=decision, reasons=tuple(reasons), policy_digest=self.digest)

    @property
    def overridable(self) -> frozenset[str]:
        """The rules that a signed override may lift for a while."""
        return frozenset(rule.id for rule in self.rules.values() if rule.overridable)

    def _deciding(self, answer: Answer) -> list[Rule]:
        """Returns the rules behind a refusal, in the policy's order."""
        if not answer.rule_ids:
            # No rule is against it and no permit holds: the permits say what is missing.
            return [rule for rule in self.rules.values() if rule.effect == "permit"]
        return [rule for rule_id, rule in self.rules.items() if rule_id in answer.rule_ids]

    def _ask(self, context: PolicyContext) -> Answer:
        answer = self._cedar.ask(agent=context.agent, account=context.account, context=context.facts())
        unknown = [rule_id for rule_id in answer.rule_ids if rule_id not in self.rules]
        if not unknown:
            return answer
        faults = (*answer.faults, f"the unknown rule {unknown[0]} decided")
        return Answer(False, (), faults)

    def _deny(self, rule: str, message: str, next_step: str | None = None) -> Verdict:
        reason = Reason(
            rule=rule, message=message, next_step=next_step or "run `neural-trader doctor` and report this"
        )
        return Verdict(decision="deny", reasons=(reason,), policy_digest=self.digest)


def policy_digest(policy: bytes, schema: bytes) -> str:
    """Returns the hex SHA-256 over both texts, framed so that no byte can move between them."""
    parts = [hashlib.sha256(part).digest() for part in (policy, schema)]
    return hashlib.sha256(b"neural-trader/policy/v1\n" + b"".join(parts)).hexdigest()


def _input_fault(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"])) or "context"
    return f"The order's {field} is out of policy's bounds: {first['msg']}", f"correct the order's {field}"


_ALL_SIGNED = {"approvals": 100, "approvals_independent": 100}
