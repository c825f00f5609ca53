from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neural_trader_governance.approvals import Approval, sign_approval, verify_approval
from neural_trader_governance.errors import RiskError
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.keys import SigningKey

NOW = datetime(2013, 3, 1, 15, tzinfo=UTC)
KEY = SigningKey.generate("desk.example/approver")
TERMS: dict[str, Any] = {
    "preview_id": "pv-1",
    "intent_hash": "a" * 64,
    "principal": "owner",
    "policy_digest": "b" * 64,
}
SIGNED: Approval = sign_approval(
    KEY,
    price_low=Decimal("39.50"),
    price_high=Decimal("40.50"),
    expires_at=NOW + timedelta(minutes=15),
    nonce="0123456789abcdef",
    **TERMS,
)


def _verify(approval: Approval = SIGNED, **overrides: Any) -> None:
    arguments: dict[str, Any] = {
        "key": KEY.verifying_key,
        "price": Decimal(40),
        "now": NOW,
        **TERMS,
        **overrides,
    }
    verify_approval(approval, **arguments)


def test_an_approval_covers_what_was_signed_up_to_its_last_moment() -> None:
    _verify()
    _verify(price=Decimal("39.50"))
    _verify(price=Decimal("40.50"))
    _verify(now=NOW + timedelta(minutes=15) - timedelta(microseconds=1))
    _verify(Approval.model_validate_json(SIGNED.model_dump_json()))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"preview_id": "pv-2"}, "approval_preview_mismatch"),
        ({"intent_hash": "c" * 64}, "approval_intent_changed"),
        ({"principal": "somebody"}, "approval_principal_changed"),
        ({"policy_digest": "c" * 64}, "approval_policy_changed"),
        ({"price": Decimal("39.499")}, "approval_price_moved"),
        ({"price": Decimal("40.501")}, "approval_price_moved"),
        ({"now": NOW + timedelta(minutes=15)}, "approval_expired"),
        ({"key": SigningKey.generate("desk.example/approver").verifying_key}, "approval_signature_invalid"),
    ],
)
def test_each_mismatch_has_its_own_code(change: dict[str, Any], code: str) -> None:
    with pytest.raises(RiskError) as caught:
        _verify(**change)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"preview_id": "pv-2"},
        {"intent_hash": "c" * 64},
        {"principal": "somebody"},
        {"policy_digest": "c" * 64},
        {"price_low": Decimal(1)},
        {"price_high": Decimal(1_000)},
        {"expires_at": NOW + timedelta(days=1)},
        {"nonce": "fedcba9876543210"},
        {"approver": "desk.example/other"},
    ],
)
def test_a_field_changed_after_signing_voids_the_signature(change: dict[str, Any]) -> None:
    with pytest.raises(RiskError, match="approval_signature_invalid"):
        _verify(SIGNED.model_copy(update=change), **{k: v for k, v in change.items() if k in TERMS})


@given(st.integers(0, 511))
def test_a_flipped_bit_of_the_signature_voids_it(bit: int) -> None:
    signature = bytearray.fromhex(SIGNED.signature)
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RiskError, match="approval_signature_invalid"):
        _verify(SIGNED.model_copy(update={"signature": signature.hex()}))


def test_a_signature_over_the_same_fields_for_another_purpose_is_no_approval() -> None:
    plain = canonical_bytes(SIGNED.model_dump(mode="json", exclude={"signature"}))
    elsewhere = SIGNED.model_copy(update={"signature": KEY.sign(plain).hex()})
    with pytest.raises(RiskError, match="approval_signature_invalid"):
        _verify(elsewhere)


def test_an_empty_price_band_is_not_signed() -> None:
    with pytest.raises(RiskError, match="approval_price_band"):
        sign_approval(
            KEY, price_low=Decimal(2), price_high=Decimal(1), expires_at=NOW, nonce="0" * 16, **TERMS
        )


def test_an_approval_with_a_malformed_field_does_not_parse() -> None:
    for field, value in (("signature", "zz"), ("intent_hash", "A" * 64), ("nonce", "short")):
        with pytest.raises(ValidationError):
            Approval.model_validate({**SIGNED.model_dump(), field: value})
