"""Cedar, typed: the few calls that policy needs of `cedarpy`, with handles that are parsed once.

`cedarpy` annotates its arguments with bare `dict`; the ignores below stay in this one file.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import cedarpy

from neural_trader_governance.policy.contexts import Fact

_ATTRIBUTE_IN_PARENTHESES = re.compile(r"\((context\.\w+)\)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What Cedar said: its decision, the @id of each deciding rule, and every error."""

    allowed: bool
    rule_ids: tuple[str, ...]
    faults: tuple[str, ...]


class Cedar:
    """A policy set with its schema, which is never left out of an evaluation."""

    def __init__(self, policy: str, schema: str) -> None:
        """Parses and validates both texts.

        Raises:
            ValueError: one does not parse, or they do not fit each other.
        """
        validation = cedarpy.validate_policies(policy, schema)  # pyright: ignore[reportUnknownMemberType] - bare dict in stubs
        if not validation.validation_passed:
            problems = "; ".join(str(problem) for problem in validation.errors[:3])
            raise ValueError(problems or "the policy does not fit its schema")
        self._policies = cedarpy.PolicySet.from_str(policy)
        self._schema = cedarpy.Schema.from_str(schema)
        self._entities = cedarpy.Entities.from_json_str("[]", self._schema)  # pyright: ignore[reportUnknownMemberType] - bare dict in stubs

    def ask(self, *, agent: str, account: str, context: Mapping[str, Fact]) -> Answer:
        """Asks whether this agent may submit this order to this account."""
        result = cedarpy.is_authorized(  # pyright: ignore[reportUnknownMemberType] - bare dict in stubs
            {
                "principal": {"type": "Agent", "id": agent},
                "action": {"type": "Action", "id": "submit_order"},
                "resource": {"type": "Account", "id": account},
                "context": dict(context),
            },
            self._policies,
            self._entities,
            self._schema,
        )
        diagnostics = result.diagnostics
        names = cast("dict[str, str]", diagnostics.id_annotations_by_reason)  # pyright: ignore[reportUnknownMemberType] - bare dict in stubs
        faults = [str(fault) for fault in diagnostics.errors]
        if result.decision is cedarpy.Decision.NoDecision:
            faults.append("Cedar made no decision")
        rule_ids = tuple(names.get(policy_id, policy_id) for policy_id in diagnostics.reasons)
        if result.allowed and not rule_ids:
            faults.append("Cedar allowed it, and no rule says so")
        return Answer(result.allowed, rule_ids, tuple(faults))


def policy_document(policy: str) -> dict[str, object]:
    """Returns Cedar's JSON form of a policy text.

    Raises:
        ValueError: it does not parse.
    """
    return cast("dict[str, object]", json.loads(cedarpy.policies_to_json_str(policy)))


def rule_text(body: Mapping[str, object]) -> str:
    """Returns one policy of the JSON form as Cedar text on one line, without its annotations.

    Raises:
        ValueError: it is no policy.
    """
    rule: dict[str, object] = {**body, "annotations": {}}
    document: dict[str, object] = {"staticPolicies": {"rule": rule}, "templates": {}, "templateLinks": []}
    text = cedarpy.policies_from_json_str(json.dumps(document))
    return _ATTRIBUTE_IN_PARENTHESES.sub(r"\1", text)
