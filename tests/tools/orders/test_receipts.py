from typing import Any

import pytest

from neural_trader_governance.audit.proofs import verify_proof
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_tools.orders.submit import orders_submit

pytestmark = pytest.mark.anyio


async def test_a_submitted_orders_receipt_verifies_offline_with_only_the_logs_key(
    floor: Any, intent: Any
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    receipt = (await orders_submit(desk, floor.agent, preview_id=preview.preview_id)).receipt
    leaf = bytes.fromhex(receipt.leaf_hash)
    proven = verify_proof(receipt.proof, floor.store.vkey, leaf_hash=leaf)
    assert (proven.seq, proven.leaf_hash) == (receipt.seq, receipt.leaf_hash)
    assert receipt.proof.endswith(receipt.checkpoint)
    stranger = SigningKey.generate(floor.store.origin).vkey
    with pytest.raises(IntegrityError, match="signature_missing"):
        verify_proof(receipt.proof, stranger, leaf_hash=leaf)
    with pytest.raises(IntegrityError, match="proof_invalid"):
        verify_proof(receipt.proof, floor.store.vkey, leaf_hash=bytes(32))
