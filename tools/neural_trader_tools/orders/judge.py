"""The judge: facts gathered, approvals counted, policy asked, and the decision logged with all inputs.

Everything happens on the caller's connection, inside the transaction that acts on the verdict.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from neural_trader_governance import approvals, principals, recalls, throttles
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import RiskError
from neural_trader_governance.halts import covering_halt
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import Verdict
from neural_trader_governance.policy.source import PolicySource
from neural_trader_governance.store import Unit
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_governance.untrusted.readings import OUTSIDE, Source
from neural_trader_tools.orders import previews
from neural_trader_tools.orders.arrivals import note_arrival
from neural_trader_tools.orders.facts import Facts, Sources, gather
from neural_trader_tools.orders.previews import Preview

TRIPPING_RULE = "repeated_execution"
"""The rule whose denial switches the agent off until a person enables it again."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One decision: what was known, what policy said, and which approvals do not count (and why)."""

    facts: Facts
    verdict: Verdict
    void: tuple[RiskError, ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks the policy in force about orders, on facts as they are now."""

    policy: PolicySource
    sources: Sources
    clock: Clock

    def look_up(self, symbol: str) -> None:
        """Reads the symbol's market once before a transaction: what is slow the first time is not slow in it.

        Raises:
            DataError: the symbol is unknown.
        """
        self.sources.lookout.at(symbol)

    def decide(self, connection: sqlite3.Connection, intent: OrderIntent, caller: Caller) -> Judged:
        """Judges an intent that nobody has signed.

        Raises:
            DataError: the symbol is unknown, or something held has no price.
            InputError: the account does not exist, or an amount lies beyond policy's range.
        """
        policy = self.policy.current(connection)
        facts = gather(
            connection,
            intent,
            self.sources,
            principal=caller.principal,
            policy_digest=policy.digest,
            now=self.clock.now(),
        )
        return Judged(facts, policy.decide(facts.context))

    def decide_signed(self, connection: sqlite3.Connection, preview: Preview, *, more: int = 0) -> Judged:
        """Judges a preview with the approvals that it has now, and `more` independent ones.

        Raises:
            DataError: as `decide`.
            InputError: as `decide`.
        """
        policy, now = self.policy.current(connection), self.clock.now()
        facts = gather(
            connection,
            preview.intent,
            self.sources,
            principal=preview.caller.principal,
            policy_digest=policy.digest,
            now=now,
        )
        counted = approvals.count(
            previews.find_approvals(connection, preview.preview_id),
            keys=principals.approver_keys(connection, issuer=self.sources.issuer),
            principal=preview.caller.principal,
            preview_id=preview.preview_id,
            intent_hash=preview.intent_hash,
            policy_digest=policy.digest,
            price=facts.price,
            now=now,
        )
        facts = facts.with_approvals(counted.count + more, counted.independent + more)
        return Judged(facts, policy.decide(facts.context), counted.void)

    def record(self, unit: Unit, preview: Preview, judged: Judged, caller: Caller) -> int:
        """Logs the decision with all its inputs; one about repeated execution switches the agent off."""
        facts, verdict = judged.facts, judged.verdict
        payload = {
            "context": facts.context.model_dump(mode="json"),
            "decision": verdict.decision,
            "rules": [reason.rule for reason in verdict.reasons],
            "policy_digest": verdict.policy_digest,
            "price": format_decimal(facts.price),  # at submit it may not be the preview's any more
            **recalls.listed(unit.connection, preview.caller, self.clock.now()),
        }
        seq = unit.append(preview_entry(EntryType.POLICY_DECISION, preview, caller, payload))
        if facts.last is not None:
            note_arrival(unit.connection, preview.preview_id, last=facts.last, now=facts.desk_time)
        for reason in verdict.reasons:
            if reason.rule == TRIPPING_RULE:
                throttles.trip(unit, caller=caller, reason=reason.message, symbol=preview.intent.symbol)
        return seq


def require_no_halt(connection: sqlite3.Connection, intent: OrderIntent) -> None:
    """Passes where no halt covers the order.

    Raises:
        RiskError: `halted`, with its scope and its reason.
    """
    halted = covering_halt(
        connection,
        account=intent.account,
        symbol=intent.symbol,
        strategy_id=intent.strategy_id,
        agent=intent.agent,
    )
    if halted is not None:
        others = halted.agent not in {"", intent.agent}  # its reason is another agent's text
        raise RiskError(
            "halted",
            f"trading is halted ({halted.scope}): {halted.reason}",
            f"a person must run: neural-trader resume {halted.scope.options}".rstrip(),
            **({OUTSIDE: Source.AGENT} if others else {}),
        )


def require_no_call(facts: Facts, intent: OrderIntent) -> None:
    """Passes where the account is not called for margin, or the order only closes what it holds.

    Raises:
        RiskError: `margin_call`, with what is lacking. Nobody is sold out: that stays a person's decision.
    """
    if facts.margin_call > 0 and not facts.reduces:
        raise RiskError(
            "margin_call",
            f"{intent.account} lacks {format_decimal(facts.margin_call)} of what its positions require, and"
            f" takes only orders that close what it holds",
            f"close positions, or a person runs: neural-trader portfolio deposit {intent.account} AMOUNT",
        )


def is_halted(connection: sqlite3.Connection, intent: OrderIntent) -> bool:
    """Says whether a halt covers the order."""
    try:
        require_no_halt(connection, intent)
    except RiskError:
        return True
    return False


def preview_entry(
    kind: EntryType, preview: Preview, caller: Caller, payload: Mapping[str, object]
) -> AuditEntry:
    """Returns an audit entry about a preview and its intent."""
    intent = preview.intent
    return AuditEntry.by(
        caller,
        kind,
        account=intent.account,
        symbol=intent.symbol,
        intent_hash=preview.intent_hash,
        payload={
            "preview_id": preview.preview_id,
            "intent": intent.model_dump(mode="json"),
            "price": format_decimal(preview.price),
            **payload,
        },
    )
