"""Halts: the kill switch, over everything or over a part. Only a person releases one.

Agents and people may pull it. A halt is a row of the store, read inside the very transaction that
submits an order, so that a halt by any process holds from its commit on.
"""

import re
import sqlite3
from dataclasses import dataclass
from typing import Literal, Protocol, Self, cast, get_args

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.redaction import redact
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN
from neural_trader_governance.terms.words import one_line, visible

SCHEMA = """
CREATE TABLE IF NOT EXISTS halts (
  scope TEXT PRIMARY KEY, reason TEXT NOT NULL, principal TEXT NOT NULL, agent TEXT NOT NULL,
  seq INTEGER NOT NULL) STRICT;
"""
ScopeKind = Literal["all", "account", "symbol", "strategy", "agent"]
AGENTS_HALTS_MAX = 50
"""How many scopes agents may halt; one more halts everything, instead of burying whoever must resume."""
_REASON_MAX = 500
_NAME = re.compile(r"[!-~]{1,80}")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


class HaltUnit(Protocol):
    """What a halt needs of the store's unit: its connection and its log."""

    connection: sqlite3.Connection

    def append(self, entry: AuditEntry) -> int:
        """Appends an audit entry and returns its seq."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What a halt covers: everything, or one account, symbol, strategy or agent."""

    kind: ScopeKind = "all"
    name: str = ""

    def __post_init__(self) -> None:
        good = self.name == "" if self.kind == "all" else _NAME.fullmatch(self.name) is not None
        if self.kind == "symbol":
            good = re.fullmatch(SYMBOL_PATTERN, self.name) is not None
        if not good or self.kind not in get_args(ScopeKind):
            raise InputError(
                "invalid_scope",
                f"{self.kind} {self.name!r:.60} is nothing that can be halted",
                "name one account, symbol, strategy id or agent as orders do, or none for everything",
            )

    def __str__(self) -> str:
        return self.kind if self.kind == "all" else f"{self.kind} {self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` writes."""
        kind, _, name = text.partition(" ")
        return cls(cast("ScopeKind", kind), name)

    @classmethod
    def choose(
        cls,
        *,
        account: str | None = None,
        symbol: str | None = None,
        strategy_id: str | None = None,
        agent: str | None = None,
    ) -> Self:
        """Returns the scope of the one argument that is given; of none, everything.

        Raises:
            InputError: more than one is given (a halt on either is two halts), or it is malformed.
        """
        named = {
            # As orders spell them, or a halt would stand and stop nothing.
            "account": account.strip().lower() if account is not None else None,
            "symbol": symbol.strip().upper() if symbol is not None else None,
            "strategy": strategy_id.strip().lower() if strategy_id is not None else None,
            "agent": agent.strip().lower() if agent is not None else None,
        }
        given = [(kind, name) for kind, name in named.items() if name is not None]
        if len(given) > 1:
            raise InputError(
                "invalid_scope",
                f"{' and '.join(kind for kind, _ in given)} are named at once",
                "halt one after the other, or everything by naming none",
            )
        return cls(cast("ScopeKind", given[0][0]), given[0][1]) if given else cls()

    @property
    def options(self) -> str:
        """The same on our command line, such as `--symbol AAPL`; empty for everything."""
        return "" if self.kind == "all" else f"--{self.kind} {self.name}"

    def covers(self, *, account: str, symbol: str, strategy_id: str | None, agent: str) -> bool:
        """Says whether an order with these marks stands still under a halt of this scope.

        A strategy's digest may be cut short, as reports do, here or in the order: either is meant.
        """
        if self.kind == "strategy" and strategy_id is not None:
            one, other = sorted((self.name.lower(), strategy_id.strip().lower()), key=len)
            return one == other or (_DIGEST.fullmatch(one) is not None and other.startswith(one))
        marks = {"account": account, "symbol": symbol, "strategy": strategy_id, "agent": agent}
        return self.kind == "all" or marks[self.kind] == self.name


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Halt:
    """Trading stands still: why, by whose hand, the entry that says so, and what it covers."""

    reason: str
    principal: str
    agent: str
    seq: int
    scope: Scope = EVERYTHING


def halt(unit: HaltUnit, *, reason: str, caller: Caller, scope: Scope = EVERYTHING) -> Halt:
    """Stops trading in a scope and logs it. A halt on top of a halt is logged too; the first stands.

    Agents together halt at most `AGENTS_HALTS_MAX` scopes; one more is a halt on everything.

    Raises:
        InputError: the reason is empty or longer than 500 characters.
    """
    reason = redact(one_line(reason))
    if not 0 < len(reason) <= _REASON_MAX:
        raise InputError(
            "invalid_reason", f"the reason has {len(reason)} characters", f"give 1 to {_REASON_MAX}"
        )
    reason = visible(reason)[:_REASON_MAX]  # never refused for its letters: a halt must work
    if not caller.is_person and _find(unit.connection, scope) is None:
        pulled = unit.connection.execute("SELECT COUNT(*) FROM halts WHERE agent != ''").fetchone()[0]
        if pulled >= AGENTS_HALTS_MAX:  # who halts so much is halted whole, and a person releases it at once
            scope = EVERYTHING
    payload = {"scope": str(scope), "reason": reason}
    seq = unit.append(AuditEntry.by(caller, EntryType.KILL, payload=payload))
    unit.connection.execute(
        "INSERT INTO halts (scope, reason, principal, agent, seq) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (scope) DO NOTHING",
        (str(scope), reason, caller.principal, caller.agent, seq),
    )
    standing = _find(unit.connection, scope)
    assert standing is not None  # noqa: S101 - the row was written two lines above
    return standing


def resume(unit: HaltUnit, *, caller: Caller, scope: Scope = EVERYTHING) -> None:
    """Releases the halt of exactly this scope and logs it; others stay.

    Raises:
        RiskError: `person_required` when an agent asks, `not_halted` when nothing stands still there.
    """
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to resume trading, which only a person may do",
            "let a person run `neural-trader resume`",
        )
    standing = _find(unit.connection, scope)
    if standing is None:
        others = ", ".join(str(each.scope) for each in read_halts(unit.connection))
        raise RiskError(
            "not_halted",
            "trading is not halted" if scope == EVERYTHING else f"there is no halt on {scope}",
            f"name what is to be released; halted are: {others}" if others else "carry on",
        )
    payload = {"scope": str(scope), "halt_seq": standing.seq}
    unit.append(AuditEntry.by(caller, EntryType.RESUME, payload=payload))
    unit.connection.execute("DELETE FROM halts WHERE scope = ?", (str(scope),))


def read_halt(connection: sqlite3.Connection) -> Halt | None:
    """Returns the halt on everything, or None; ask inside the transaction that acts on the answer."""
    return _find(connection, EVERYTHING)


def read_halts(connection: sqlite3.Connection) -> list[Halt]:
    """Returns every halt that stands, oldest first."""
    rows = connection.execute("SELECT reason, principal, agent, seq, scope FROM halts ORDER BY seq")
    return [_read(row) for row in rows.fetchall()]


def covering_halt(
    connection: sqlite3.Connection, *, account: str, symbol: str, strategy_id: str | None, agent: str
) -> Halt | None:
    """Returns the oldest halt that covers such an order, or None.

    Ask inside the transaction that acts on the answer. A row whose scope cannot be read covers
    everything: it was meant to stop something.
    """
    for standing in read_halts(connection):
        if standing.scope.covers(account=account, symbol=symbol, strategy_id=strategy_id, agent=agent):
            return standing
    return None


def _find(connection: sqlite3.Connection, scope: Scope) -> Halt | None:
    row = connection.execute(
        "SELECT reason, principal, agent, seq, scope FROM halts WHERE scope = ?", (str(scope),)
    ).fetchone()
    return None if row is None else _read(row)


def _read(row: tuple[str, str, str, int, str]) -> Halt:
    try:
        scope = Scope.parse(row[4])
    except InputError:
        scope = EVERYTHING
    return Halt(str(row[0]), str(row[1]), str(row[2]), int(row[3]), scope)
