"""Budgets: what an agent, or one of its strategies, may cost in a day or a month; signed by the issuer.

The newest budget of an agent, strategy and period stands; one without a limit lifts the bound. An
older document cannot come back: its time lies before that of the one in force. Rows that do not
verify, or that the log knows and the table lacks, refuse everything that costs: fail closed.
"""

import calendar
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.mandate_register import MandateUnit
from neural_trader_governance.signing.documents import SignedDocument
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime, format_time, to_utc
from neural_trader_governance.terms.orders import AgentId
from neural_trader_governance.usage import Bound

SCHEMA = """
CREATE TABLE IF NOT EXISTS budgets (
  nonce TEXT PRIMARY KEY, agent TEXT NOT NULL, document TEXT NOT NULL, seq INTEGER NOT NULL) STRICT;
"""
BudgetPeriod = Literal["day", "month"]


class Budget(SignedDocument):
    """A bound on what calls may cost, in millionths of a USD."""

    domain: ClassVar[bytes] = b"neural-trader/budget/v1\n"
    agent: AgentId
    strategy: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{12}$", description="First 12 digits of a strategy_id; null: all"
    )
    period: BudgetPeriod
    limit_micros: int | None = Field(ge=0, le=10**15, description="Null lifts the bound")
    issued_time: UtcTime

    @property
    def slot(self) -> tuple[str | None, str]:
        """What it replaces among the agent's budgets: strategy and period."""
        return self.strategy, self.period


def set_budget(unit: MandateUnit, budget: Budget, *, issuer: VerifyingKey, caller: Caller) -> int:
    """Puts a signed budget in force and on the record; returns the entry's seq.

    Raises:
        RiskError: `person_required`, `signature_invalid`, `budget_replayed` where it is not newer than
            the one in force, or `budget_invalid` where the table is damaged.
    """
    if not caller.is_person:
        raise RiskError(
            "person_required",
            f"the agent {caller.agent} asked to set a budget, which only a person may do",
            "let a person run `neural-trader usage budget`",
        )
    budget.require_signature(issuer)
    for standing in read_budgets(unit.connection, issuer=issuer, agent=budget.agent):
        if standing.slot == budget.slot and standing.issued_time >= budget.issued_time:
            raise RiskError(
                "budget_replayed",
                f"a budget of {format_time(standing.issued_time)} is in force, and this one is not newer",
                "sign a new one with `neural-trader usage budget`",
            )
    payload = {"budget": budget.model_dump(mode="json")}
    seq = unit.append(AuditEntry.by(caller, EntryType.BUDGET_SET, payload=payload))
    unit.connection.execute(
        "INSERT INTO budgets VALUES (?, ?, ?, ?)", (budget.nonce, budget.agent, budget.text(), seq)
    )
    return seq


def read_budgets(connection: sqlite3.Connection, *, issuer: VerifyingKey, agent: str) -> list[Budget]:
    """Returns the newest budget of each strategy and period of an agent, lifted ones included.

    Raises:
        RiskError: `budget_invalid`: a row of this agent does not verify, or is missing.
    """
    needle = f'"agent":"{agent}"'
    rows = connection.execute(
        "SELECT document FROM budgets WHERE agent = ? OR instr(document, ?)", (agent, needle)
    ).fetchall()
    missing = connection.execute(
        "SELECT seq FROM audit_entries AS e WHERE type = ? AND instr(CAST(entry AS TEXT), ?)"
        " AND NOT EXISTS (SELECT 1 FROM budgets AS b WHERE b.seq = e.seq AND b.agent = ?)",
        (EntryType.BUDGET_SET, needle, agent),
    ).fetchone()
    newest: dict[tuple[str | None, str], Budget] = {}
    damaged = missing is not None
    for (text,) in rows:
        budget = Budget.read(text, issuer)
        if budget is None or budget.agent != agent:
            damaged = True
        elif budget.slot not in newest or newest[budget.slot].issued_time < budget.issued_time:
            newest[budget.slot] = budget
    if damaged:
        raise RiskError(
            "budget_invalid",
            f"a budget of {agent} is missing or does not verify against this desk's issuer key",
            "have a person run `neural-trader audit verify` and restore desk.db from a backup",
        )
    return sorted(newest.values(), key=lambda budget: (budget.strategy or "", budget.period))


def bounds_of(budgets: Iterable[Budget], *, strategy: str, now: datetime) -> list[Bound]:
    """Returns the bounds that a call of this strategy meets now, of the budgets of its agent."""
    return [
        bound_of(budget, now)
        for budget in budgets
        if budget.limit_micros is not None and budget.strategy in {None, strategy}
    ]


def bound_of(budget: Budget, now: datetime) -> Bound:
    """Returns a budget's bound in the calendar period (UTC) that an instant lies in."""
    first, last = period_days(budget.period, now)
    of = f"{budget.agent}'s strategy {budget.strategy}" if budget.strategy else budget.agent
    when = f"the day {first}" if budget.period == "day" else f"the month {first[:7]}"
    return Bound(f"the budget of {of} for {when}", budget.strategy, first, last, budget.limit_micros or 0)


def period_days(period: BudgetPeriod, now: datetime) -> tuple[str, str]:
    """Returns the first and last day (UTC) of the period, such as `2026-11-01` and `2026-11-30`."""
    moment = to_utc(now)
    if period == "day":
        return f"{moment:%Y-%m-%d}", f"{moment:%Y-%m-%d}"
    days = calendar.monthrange(moment.year, moment.month)[1]
    return f"{moment:%Y-%m}-01", f"{moment:%Y-%m}-{days:02d}"
