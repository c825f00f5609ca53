"""Commitments: what the desk has decided, durable in one transaction before anybody acts on it.

Read `Commitments.order`: the decision with all its inputs, the intent, the order with its reservation, the
mandate's spend, the message count and the audit entries are one unit. Only then does the broker hear of it.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from neural_trader_governance import mandates, recalls
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import Verdict
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.store import Receipt, Store, Unit
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.orders import book, messages, previews
from neural_trader_tools.orders.judge import (
    Judge,
    Judged,
    is_halted,
    preview_entry,
    require_no_call,
    require_no_halt,
)
from neural_trader_tools.orders.ledger import ask_cancel, ask_replace
from neural_trader_tools.orders.order_ids import order_id_of
from neural_trader_tools.orders.previews import APPROVAL_TTL, PREVIEW_TTL, Preview, hash_intent

_STATES = {
    "allow": OrderState.PREVIEWED,
    "needs_approval": OrderState.AWAITING_APPROVAL,
    "deny": OrderState.DENIED,
}


@dataclass(frozen=True, slots=True)
class Commitments:
    """Writes previews, orders and wishes to cancel; each method is one unit of the store."""

    store: Store
    judge: Judge
    clock: Clock
    issuer: VerifyingKey
    new_id: Callable[[str], str]

    def preview(self, intent: OrderIntent, caller: Caller) -> Preview:
        """Prices and judges an intent, and stores it for one submission.

        Raises:
            DataError: the symbol is not in the archive.
            InputError: the account does not exist.
            RiskError: the agent previews too much, or too many orders of its wait for persons; or the
                account is called for margin, and the order is not to close what it holds.
        """
        self.judge.look_up(intent.symbol)
        with self.store.unit() as unit:
            previews.require_pace(unit.connection, caller, now=self.clock.now())
            judged = self.judge.decide(unit.connection, intent, caller)
            require_no_call(judged.facts, intent)
            waits, now = judged.verdict.decision == "needs_approval", self.clock.now()
            if waits:
                previews.require_room(unit.connection, caller, now=now)
            preview = Preview(
                preview_id=self.new_id("pv"),
                caller=caller,
                intent=intent,
                intent_hash=hash_intent(intent),
                price=judged.facts.price,
                notional=judged.facts.notional,
                verdict=judged.verdict,
                state=_STATES[judged.verdict.decision],
                created_time=now,
                expires_time=now + (APPROVAL_TTL if waits else PREVIEW_TTL),
            )
            previews.insert_preview(unit.connection, preview)
            self.judge.record(unit, preview, judged, caller)
            if waits:
                unit.append(preview_entry(EntryType.APPROVAL_REQUEST, preview, caller, {}))
        return preview

    def order(self, preview_id: str, caller: Caller) -> tuple[str, Receipt]:
        """Makes a preview an order: reserved, recorded and not yet sent; returns its id and its receipt.

        Raises:
            RiskError: it may not go; what the agent is to know of it is durable, and nothing will be sent.
        """
        with self.store.read() as connection:
            symbol = previews.find_preview(connection, preview_id).intent.symbol
        self.judge.look_up(symbol)
        refusal: RiskError | None = None
        client_order_id, seq = order_id_of(preview_id), 0
        with self.store.unit() as unit:
            preview = previews.find_preview(unit.connection, preview_id)
            _require_owner(preview, caller)
            preview.require_open(self.clock.now())
            require_no_halt(unit.connection, preview.intent)
            judged = self.judge.decide_signed(unit.connection, preview)
            require_no_call(judged.facts, preview.intent)
            if judged.verdict.decision == "allow":
                seq = self._write_order(unit, client_order_id, preview, judged, caller)
            else:
                refusal = self._refuse(unit, preview, judged, caller)
        if refusal is not None:
            raise refusal
        return client_order_id, unit.receipt(seq)

    def _write_order(
        self, unit: Unit, client_order_id: str, preview: Preview, judged: Judged, caller: Caller
    ) -> int:
        """Writes decision, intent, order with its reservation, mandate spend and message count: one unit."""
        connection, intent, facts, now = unit.connection, preview.intent, judged.facts, self.clock.now()
        decision_seq = self.judge.record(unit, preview, judged, caller)
        self._require_unsent(connection, client_order_id)
        if intent.replaces is not None:
            ask_replace(unit, intent, client_order_id, caller, now=now)
        about = {"decision_seq": decision_seq, **recalls.listed(connection, preview.caller, now)}
        entry = preview_entry(EntryType.ORDER_INTENT, preview, caller, about)
        names = {"client_order_id": client_order_id, "mandate_id": facts.mandate_id}
        seq = unit.append(entry.model_copy(update=names))
        book.insert_order(
            connection,
            book.NewOrder(
                client_order_id, preview.preview_id, intent, preview.intent_hash, facts.reserve, now, seq
            ),
        )
        cents = facts.context.notional_cents
        if facts.mandate_id is not None:
            mandates.spend(
                connection,
                facts.mandate_id,
                issuer=self.issuer,
                client_order_id=client_order_id,
                cents=cents,
                now=now,
            )
        messages.count_order(connection, intent, cents=cents, now=now, day=facts.desk_time.date())
        previews.update_preview(
            connection, preview.preview_id, state=OrderState.SUBMITTED, client_order_id=client_order_id
        )
        return seq

    def _refuse(self, unit: Unit, preview: Preview, judged: Judged, caller: Caller) -> RiskError:
        """Records why the order may not go, and returns what its agent is told once that is durable."""
        preview_id, verdict = preview.preview_id, judged.verdict
        if verdict.decision == "deny":
            self._judge_again(unit, preview, judged, caller)
            return RiskError(
                "denied",
                f"policy denied {preview_id}: {_messages(verdict)}",
                "; ".join(reason.next_step for reason in verdict.reasons),
                reasons=[reason.model_dump() for reason in verdict.reasons],
            )
        if judged.void:
            raise judged.void[0]
        if preview.state == OrderState.PREVIEWED:  # it was allowed, and no longer is without a person
            previews.require_room(unit.connection, caller, now=self.clock.now())
            self._judge_again(unit, preview, judged, caller)
            unit.append(preview_entry(EntryType.APPROVAL_REQUEST, preview, caller, {}))
        return RiskError(
            "approval_required",
            f"{preview_id} needs a person: {_messages(verdict)}",
            f"ask an approver to run: neural-trader orders approve {preview_id}",
            preview_id=preview_id,
        )

    def _judge_again(self, unit: Unit, preview: Preview, judged: Judged, caller: Caller) -> None:
        self.judge.record(unit, preview, judged, caller)
        waits = judged.verdict.decision == "needs_approval"
        previews.judge_again(
            unit.connection,
            preview.preview_id,
            state=_STATES[judged.verdict.decision],
            verdict=judged.verdict,
            price=judged.facts.price,
            notional=judged.facts.notional,
            expires_time=self.clock.now() + APPROVAL_TTL if waits else preview.expires_time,
        )

    def cancel(self, client_order_id: str, caller: Caller) -> bool:
        """Records that an order is to be canceled; False where there is nothing left to ask the venue.

        Raises:
            RiskError: the order belongs to another agent, and trading is not halted.
            ExecutionError: there is no such order.
        """
        with self.store.unit() as unit:
            order = book.find_order(unit.connection, client_order_id)
            if caller.agent not in {"", order.intent.agent} and not is_halted(unit.connection, order.intent):
                raise RiskError(
                    "order_not_yours",
                    f"{client_order_id} belongs to agent {order.intent.agent}",
                    "cancel your own orders; while trading is halted anybody may cancel any",
                )
            return ask_cancel(unit, order, caller, now=self.clock.now(), why="cancel asked for")

    def _require_unsent(self, connection: sqlite3.Connection, client_order_id: str) -> None:
        """Asks the log, which nobody can edit unseen, whether this order was sent before."""
        query = "SELECT 1 FROM audit_entries WHERE client_order_id = ?"
        if connection.execute(query, (client_order_id,)).fetchone() is not None:
            raise RiskError(
                "preview_used",
                f"the log knows this preview's order {client_order_id} already",
                "look at it with orders_list, or call orders_preview for a new order",
                client_order_id=client_order_id,
            )


def _require_owner(preview: Preview, caller: Caller) -> None:
    if preview.caller != caller:
        raise RiskError(
            "preview_not_yours",
            f"{preview.preview_id} belongs to agent {preview.caller.agent}",
            "submit only what you previewed yourself",
        )


def _messages(verdict: Verdict) -> str:
    return ". ".join(reason.message for reason in verdict.reasons)
