"""The approvals inbox: what waits for persons, and their signed answers.

An approval is out of band: it is signed with a key that no agent holds, over the intent's hash, the
policy's digest, the price bounds, the expiry and a nonce, and it fits exactly one preview.
"""

import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from neural_trader_governance import principals
from neural_trader_governance.approvals import UNSIGNED, Approval, verify_approval
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import Verdict
from neural_trader_governance.policy.source import PolicySource
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock, format_time
from neural_trader_governance.terms.money import DecimalText, price_tick
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_governance.terms.term import Term
from neural_trader_tools.orders import previews
from neural_trader_tools.orders.previews import APPROVAL_TTL, Preview, hash_intent

PRICE_BAND = Decimal("0.05")
"""An approval holds while the price stays within this fraction of the previewed one."""

QUORUM_MAX = 10


Judge = Callable[[sqlite3.Connection, Preview, int], Verdict]
"""Judges a preview as it is signed now, with so many more independent signatures (`Desk.judge_signed`)."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What one signature did: the approval, and how many more persons the policy wants."""

    approval: Approval
    missing: int


class Draft(Term):
    """What a person signs on a machine of their own: the order, and the approval of exactly it."""

    intent: OrderIntent
    notional: DecimalText
    approval: Approval

    def require_whole(self) -> None:
        """Passes a draft whose order is the one that its approval is for.

        Raises:
            RiskError: what would be shown is not what would be signed.
        """
        low, high = (
            self.intent.quantity * bound for bound in (self.approval.price_low, self.approval.price_high)
        )
        if hash_intent(self.intent) != self.approval.intent_hash or not low <= self.notional <= high:
            raise RiskError(
                "draft_altered",
                "the order in this file is not the one that its approval is for",
                "do not sign it; ask for another one",
            )


@dataclass(frozen=True, slots=True)
class Inbox:
    """What a person may decide. Approving takes the key that the person is enrolled with."""

    store: Store
    policy: PolicySource
    clock: Clock
    issuer: VerifyingKey
    judge: Judge

    def pending(self) -> list[Preview]:
        """Returns the previews that wait for a person, oldest first."""
        with self.store.read() as connection:
            return previews.list_previews(
                connection, state=OrderState.AWAITING_APPROVAL, now=self.clock.now()
            )

    def approve(self, preview_id: str, *, key: SigningKey, person: Caller) -> Signed:
        """Signs the preview and extends it to 15 minutes from now; does not submit it.

        A second signature of one person replaces the first. The preview waits on until the policy has
        as many persons as it asks for.

        Raises:
            RiskError: `person_required`, `not_an_approver`, `approver_key_mismatch`; or the preview is
                unknown, used, expired or needs no approval.
        """
        return self.accept(self.draft(preview_id, person=person).approval.signed_by(key), person=person)

    def draft(self, preview_id: str, *, person: Caller) -> Draft:
        """Returns what this person would sign, with the order in plain, to be signed elsewhere.

        Raises:
            RiskError: as `approve`.
        """
        _require_person(person, preview_id)
        with self.store.read() as connection:
            enrolled = self._key_of(connection, person.principal)
            preview = self._waiting(previews.find_preview(connection, preview_id))
            tick = price_tick(preview.price)
            approval = Approval(
                preview_id=preview_id,
                intent_hash=preview.intent_hash,
                principal=preview.caller.principal,
                policy_digest=self.policy.current(connection).digest,
                price_low=(preview.price * (1 - PRICE_BAND)).quantize(tick, ROUND_FLOOR),
                price_high=(preview.price * (1 + PRICE_BAND)).quantize(tick, ROUND_CEILING),
                expires_at=self.clock.now() + APPROVAL_TTL,
                nonce=secrets.token_hex(16),
                approver=enrolled.name,
                signature=UNSIGNED,
            )
        return Draft(intent=preview.intent, notional=preview.notional, approval=approval)

    def accept(self, approval: Approval, *, person: Caller) -> Signed:
        """Takes a signature that was made here or elsewhere, and extends the preview to its expiry.

        Raises:
            RiskError: as `approve`; or the approval does not fit its preview, or outlives 15 minutes.
        """
        _require_person(person, preview_id := approval.preview_id)
        with self.store.unit() as unit:
            enrolled = self._key_of(unit.connection, person.principal)
            if approval.approver != enrolled.name:
                raise _mismatch(approval.approver, person.principal, enrolled)
            preview = self._waiting(previews.find_preview(unit.connection, preview_id))
            try:
                verify_approval(
                    approval,
                    key=enrolled,
                    preview_id=preview_id,
                    intent_hash=preview.intent_hash,
                    principal=preview.caller.principal,
                    policy_digest=self.policy.current(unit.connection).digest,
                    price=preview.price,
                    now=self.clock.now(),
                )
            except RiskError as error:
                if error.code == "approval_signature_invalid":
                    raise _mismatch(approval.approver, person.principal, enrolled) from None
                raise
            if approval.expires_at > self.clock.now() + APPROVAL_TTL:
                raise RiskError(
                    "approval_too_long",
                    f"the approval would hold until {format_time(approval.expires_at)}",
                    "sign what `orders approve --request` wrote",
                )
            previews.insert_approval(unit.connection, preview_id, person.principal, approval)
            missing = self._missing(unit.connection, preview)
            state = OrderState.AWAITING_APPROVAL if missing else OrderState.APPROVED
            previews.update_preview(
                unit.connection, preview_id, state=state, expires_time=approval.expires_at
            )
            payload = {**approval.model_dump(mode="json"), "missing": missing}
            unit.append(_entry(EntryType.APPROVAL_GRANT, preview, person, payload))
        return Signed(approval, missing)

    def missing(self, preview: Preview) -> int:
        """Returns how many more persons must approve before the policy allows the order."""
        with self.store.read() as connection:
            return self._missing(connection, preview)

    def reject(self, preview_id: str, *, person: Caller, reason: str) -> None:
        """Refuses the preview for good.

        Raises:
            RiskError: the preview is unknown, used, expired or needs no approval.
        """
        with self.store.unit() as unit:
            preview = self._waiting(previews.find_preview(unit.connection, preview_id))
            previews.update_preview(unit.connection, preview_id, state=OrderState.REJECTED)
            payload = {"preview_id": preview_id, "reason": reason[:500]}
            unit.append(_entry(EntryType.APPROVAL_REJECT, preview, person, payload))

    def _missing(self, connection: sqlite3.Connection, preview: Preview) -> int:
        for more in range(QUORUM_MAX):
            if self.judge(connection, preview, more).decision != "needs_approval":
                return more
        return QUORUM_MAX

    def _key_of(self, connection: sqlite3.Connection, name: str) -> VerifyingKey:
        enrolled = principals.approver_keys(connection, issuer=self.issuer).get(name)
        if enrolled is None:
            raise RiskError(
                "not_an_approver",
                f"{name} is not enrolled as an approver",
                f"enrol {name}: neural-trader identity enroll, with --role approver; or sign --as another",
            )
        return enrolled

    def _waiting(self, preview: Preview) -> Preview:
        preview.require_open(self.clock.now())
        if preview.state == OrderState.PREVIEWED:
            raise RiskError(
                "approval_not_needed",
                f"{preview.preview_id} needs no approval",
                "its agent may call orders_submit",
            )
        return preview


def _require_person(person: Caller, preview_id: str) -> None:
    if not person.is_person:
        raise RiskError(
            "person_required",
            f"the agent {person.agent} asked to approve {preview_id}, which only a person may do",
            f"ask an approver to run: neural-trader orders approve {preview_id}",
        )


def _mismatch(key_name: str, name: str, enrolled: VerifyingKey) -> RiskError:
    return RiskError(
        "approver_key_mismatch",
        f"{key_name} did not sign this with the key that {name} is enrolled with ({enrolled.name})",
        "sign with your own key: --key FILE, or --as the person whose key this is",
    )


def _entry(kind: EntryType, preview: Preview, person: Caller, payload: Mapping[str, object]) -> AuditEntry:
    return AuditEntry.by(
        person,
        kind,
        account=preview.intent.account,
        symbol=preview.intent.symbol,
        intent_hash=preview.intent_hash,
        payload=payload,
    )
