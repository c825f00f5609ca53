"""Policy sources: where the desk finds the policy that judges an order, at the moment it judges.

The desk asks inside the very transaction that records the decision, so that a policy activated by
any process holds from its commit on, and no order is judged by one policy and logged under another.
"""

import sqlite3
from collections.abc import Mapping
from typing import Protocol

from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.policy.engine import Verdict


class Judge(Protocol):
    """Whatever judges one order. Never raises: what cannot be judged is denied."""

    @property
    def digest(self) -> str:
        """Digest of the policy that judges."""
        ...

    def decide(self, context: PolicyContext | Mapping[str, object]) -> Verdict:
        """Judges one order."""
        ...


class PolicySource(Protocol):
    """Finds the policy in force; a `PolicyEngine` is its own source and never changes."""

    def current(self, connection: sqlite3.Connection) -> Judge:
        """Returns the policy in force in this transaction.

        Never raises for a broken policy: the judge it returns then denies everything and says why.
        """
        ...
