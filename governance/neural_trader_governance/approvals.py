"""Approvals: persons' signatures over one preview, one intent, one policy and a price band.

The signed bytes are domain-separated canonical JSON of every field, so an approval cannot be
moved to another preview, policy or price. Single use follows from the preview: it is spent once.
How many are needed is the policy's rule; here they are counted, each against its approver's own key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NoReturn

from pydantic import Field

from neural_trader_governance.errors import RiskError
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.money import DecimalText
from neural_trader_governance.terms.term import Term

UNSIGNED = "0" * 128
_DOMAIN = b"neural-trader/approval/v2\n"


class Approval(Term):
    """What the approver signed."""

    preview_id: str = Field(min_length=1, max_length=80)
    intent_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    principal: str = Field(min_length=1, max_length=80, description="The person whose agent asks")
    policy_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    price_low: DecimalText = Field(ge=0)
    price_high: DecimalText = Field(ge=0)
    expires_at: UtcTime
    nonce: str = Field(min_length=16, max_length=64)
    approver: str = Field(min_length=1, max_length=200, description="Name of the approver's key")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        """Returns the bytes that the signature covers: all fields but itself."""
        return _DOMAIN + canonical_bytes(self.model_dump(mode="json", exclude={"signature"}))

    def signed_by(self, key: SigningKey) -> "Approval":
        """Returns the same with this key's name and signature."""
        named = self.model_copy(update={"approver": key.name})
        return named.model_copy(update={"signature": key.sign(named.signed_bytes()).hex()})


def sign_approval(
    key: SigningKey,
    *,
    preview_id: str,
    intent_hash: str,
    principal: str,
    policy_digest: str,
    price_low: Decimal,
    price_high: Decimal,
    expires_at: datetime,
    nonce: str,
) -> Approval:
    """Signs an approval with the approver's key.

    Raises:
        RiskError: the price band is upside down.
    """
    if price_low > price_high:
        raise RiskError(
            "approval_price_band", f"the band {price_low} to {price_high} is empty", "give low <= high"
        )
    return Approval(
        preview_id=preview_id,
        intent_hash=intent_hash,
        principal=principal,
        policy_digest=policy_digest,
        price_low=price_low,
        price_high=price_high,
        expires_at=expires_at,
        nonce=nonce,
        approver=key.name,
        signature=UNSIGNED,
    ).signed_by(key)


def verify_approval(
    approval: Approval,
    *,
    key: VerifyingKey,
    preview_id: str,
    intent_hash: str,
    principal: str,
    policy_digest: str,
    price: Decimal,
    now: datetime,
) -> None:
    """Checks that this approval, by this key, covers this order under this policy at this price.

    Raises:
        RiskError: `approval_signature_invalid`, `approval_preview_mismatch`,
            `approval_intent_changed`, `approval_principal_changed`, `approval_policy_changed`,
            `approval_expired` or `approval_price_moved`; the signature is checked first, because
            unsigned fields say nothing.
    """
    signed = key.verify(approval.signed_bytes(), bytes.fromhex(approval.signature))
    if approval.approver != key.name or not signed:
        _refuse("approval_signature_invalid", f"the approval is not signed by {key.name}")
    if approval.preview_id != preview_id:
        _refuse("approval_preview_mismatch", f"the approval is for the preview {approval.preview_id}")
    if approval.intent_hash != intent_hash:
        _refuse("approval_intent_changed", "the order is not the one that was approved")
    if approval.principal != principal:  # else a requester under another name would look independent
        _refuse("approval_principal_changed", f"the approval is for an order of {approval.principal}")
    if approval.policy_digest != policy_digest:
        _refuse("approval_policy_changed", "the policy changed after the approval")
    if now >= approval.expires_at:
        _refuse("approval_expired", f"the approval ended at {format_time(approval.expires_at)}")
    if not approval.price_low <= price <= approval.price_high:
        _refuse(
            "approval_price_moved",
            f"the price {price} left the approved band {approval.price_low} to {approval.price_high}",
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What the approvals of one preview are worth now.

    Attributes:
        count: Persons whose signature holds.
        independent: Those of them who are not the intent's principal.
        void: Why each of the others does not count.
    """

    count: int
    independent: int
    void: tuple[RiskError, ...] = ()


def count(
    approvals: Mapping[str, Approval],
    *,
    keys: Mapping[str, VerifyingKey],
    principal: str,
    preview_id: str,
    intent_hash: str,
    policy_digest: str,
    price: Decimal,
    now: datetime,
) -> Counted:
    """Counts the persons who approved this order under this policy at this price.

    Args:
        approvals: By the person who is said to have signed.
        keys: The active approvers' keys by person (`principals.approver_keys`).
        principal: For whom the order is; his own approval counts, and is not independent.
        preview_id: As in `verify_approval`, like all that follow.
        intent_hash: See preview_id.
        policy_digest: See preview_id.
        price: See preview_id.
        now: See preview_id.
    """
    valid: dict[bytes, str] = {}  # by public key: one person counts once, under whatever name
    void: list[RiskError] = []
    for approver, approval in approvals.items():
        key = keys.get(approver)
        try:
            if key is None:
                raise RiskError(
                    "approver_not_enrolled",
                    f"{approver} is not enrolled as an approver now",
                    "have an enrolled approver sign: neural-trader identity list",
                )
            verify_approval(
                approval,
                key=key,
                preview_id=preview_id,
                intent_hash=intent_hash,
                principal=principal,
                policy_digest=policy_digest,
                price=price,
                now=now,
            )
        except RiskError as error:
            void.append(error)
        else:
            valid[key.public] = approver
    independent = sum(approver != principal for approver in valid.values())
    return Counted(len(valid), independent, tuple(void))


def _refuse(code: str, what: str) -> NoReturn:
    raise RiskError(code, what, "preview the order again and have that preview approved")
