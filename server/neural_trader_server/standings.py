"""Standings: what the roles of a caller open, asked of the enrolments at every call.

An agent does what its own role and its principal's both open: a reader reads, a researcher has every
tool but the trading ones, a trader has all that is served. Who is not enrolled may ask for the status.
"""

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.known import Known
from neural_trader_governance.principals import Role, roles_of
from neural_trader_server.catalogue import ToolSpec

if TYPE_CHECKING:
    from neural_trader_governance.signing.keys import VerifyingKey
    from neural_trader_governance.store import Store

OPEN_TOOLS = frozenset({"trading_halt", "status_get"})
"""What anybody may call whom the transport let in: to stop, and to learn why nothing else works."""

_LADDER = (Role.READER, Role.RESEARCHER, Role.TRADER)

Standing = Callable[[Caller], Role | None]
"""Returns the highest of reader, researcher and trader that a caller has now; None without any."""


def anybody(_: Caller) -> Role | None:
    """Lets everybody do everything: for a gate that stands before no desk."""
    return Role.TRADER


class Standings:
    """Reads the callers' enrolments."""

    def __init__(self, store: "Store", issuer: "VerifyingKey") -> None:
        self._issuer = issuer
        self._known = Known[Caller, Role | None](store, self._read)

    def of(self, caller: Caller) -> Role | None:
        """Returns what the caller may do now."""
        return self._known.of(caller)

    def _read(self, connection: sqlite3.Connection, caller: Caller) -> Role | None:
        person = _highest(roles_of(connection, caller.principal, issuer=self._issuer))
        agent = _highest(roles_of(connection, caller.agent, issuer=self._issuer, kind="agent"))
        return None if min(person, agent) < 0 else _LADDER[min(person, agent)]


def lesser(role: Role | None, most: Role) -> Role | None:
    """Returns a role, or the most that credentials open where that is less."""
    return None if role is None else min(role, most, key=_LADDER.index)


def opens(role: Role | None, spec: ToolSpec) -> bool:
    """Says whether a role opens a tool."""
    if spec.name in OPEN_TOOLS or role == Role.TRADER:
        return True
    if role == Role.RESEARCHER:
        return spec.toolset != "trading"
    return role == Role.READER and spec.read_only and spec.toolset != "trading"


def refuse_role(caller: Caller, role: Role | None, spec: ToolSpec) -> RiskError:
    """Returns why the tool stays shut for this caller, and who can open it."""
    if role is None:
        return RiskError(
            "not_enrolled",
            f"the agent {caller.agent} of {caller.principal} is not enrolled, or one of them was retired",
            f"ask a person to run: neural-trader identity enroll {caller.agent} --agent --role researcher",
        )
    needed = Role.TRADER if spec.toolset == "trading" else Role.RESEARCHER
    return RiskError(
        "role_not_enough",
        f"{caller.agent} of {caller.principal} has the role {role}, and {spec.name} needs {needed}",
        f"ask a person to run: neural-trader identity role {caller.agent} --agent --role {needed}",
    )


def _highest(roles: frozenset[Role]) -> int:
    """Returns the rung of the ladder; -1 for nobody. Approvers and administrators read."""
    rungs = [_LADDER.index(role) for role in roles if role in _LADDER]
    return max(rungs, default=0 if roles else -1)
