"""The approvals inbox: what waits for a person, and the person's signed answer.

An approval is out of band: it is signed with a key that no agent holds, over the intent's hash, the
policy's digest, the price bounds, the expiry and a nonce, and it fits exactly one preview.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from neural_trader_governance.approvals import Approval, sign_approval
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.source import PolicySource
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.money import price_tick
from neural_trader_governance.terms.orders import OrderState
from neural_trader_tools.orders import previews
from neural_trader_tools.orders.previews import APPROVAL_TTL, Preview

PRICE_BAND = Decimal("0.05")
"""An approval holds while the price stays within this fraction of the previewed one."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """What a person may decide. Needs the approver's key only to approve."""

    store: Store
    policy: PolicySource
    clock: Clock

    def pending(self) -> list[Preview]:
        """Returns the previews that wait for a person, oldest first."""
        with self.store.read() as connection:
            return previews.list_previews(
                connection, state=OrderState.AWAITING_APPROVAL, now=self.clock.now()
            )

    def approve(self, preview_id: str, *, key: SigningKey, person: Caller) -> Approval:
        """Signs the preview and extends it to 15 minutes from now; does not submit it.

        Raises:
            RiskError: the preview is unknown, used, expired or needs no approval.
        """
        with self.store.unit() as unit:
            preview = self._waiting(previews.find_preview(unit.connection, preview_id))
            expires_at, tick = self.clock.now() + APPROVAL_TTL, price_tick(preview.price)
            approval = sign_approval(
                key,
                preview_id=preview_id,
                intent_hash=preview.intent_hash,
                policy_digest=self.policy.current(unit.connection).digest,
                price_low=(preview.price * (1 - PRICE_BAND)).quantize(tick, ROUND_FLOOR),
                price_high=(preview.price * (1 + PRICE_BAND)).quantize(tick, ROUND_CEILING),
                expires_at=expires_at,
                nonce=secrets.token_hex(16),
            )
            previews.insert_approval(unit.connection, preview_id, approval)
            previews.update_preview(
                unit.connection, preview_id, state=OrderState.APPROVED, expires_time=expires_at
            )
            unit.append(_entry(EntryType.APPROVAL_GRANT, preview, person, approval.model_dump(mode="json")))
        return approval

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

    def _waiting(self, preview: Preview) -> Preview:
        preview.require_open(self.clock.now())
        if preview.state == OrderState.PREVIEWED:
            raise RiskError(
                "approval_not_needed",
                f"{preview.preview_id} needs no approval",
                "its agent may call orders_submit",
            )
        return preview


def _entry(kind: EntryType, preview: Preview, person: Caller, payload: Mapping[str, object]) -> AuditEntry:
    return AuditEntry.by(
        person,
        kind,
        account=preview.intent.account,
        symbol=preview.intent.symbol,
        intent_hash=preview.intent_hash,
        payload=payload,
    )
