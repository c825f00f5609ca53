"""The tool `orders_submit`: sends a preview once, after policy has judged it again."""

from typing import Annotated

import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.audit.proofs import prove_receipt
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_tools.orders.desk import Desk


class ReceiptResult(BaseModel):
    """Where the order stands in the signed log."""

    seq: int = Field(description="Of the order.intent entry, from 0")
    leaf_hash: str
    checkpoint: str = Field(description="Signed C2SP tlog-checkpoint that covers it")
    proof: str = Field(description="C2SP tlog-proof from leaf_hash to the root")


class FillResult(BaseModel):
    """One execution, with the clock and the rule that made its price."""

    quantity: str
    price: str
    event_time: str
    clock: str = Field(description="wall, or replay over archived prices")
    rule: str


class SubmitResult(BaseModel):
    """The order after the venue's first answer."""

    client_order_id: str
    mode: str
    state: str
    filled_quantity: str
    average_price: str | None
    detail: str
    fills: list[FillResult]
    receipt: ReceiptResult


async def orders_submit(
    desk: Desk,
    caller: Caller,
    *,
    preview_id: Annotated[str, Field(description="From orders_preview; single use", max_length=60)],
) -> SubmitResult:
    """Submit a preview once. Where a person must approve first, approval_required consumes nothing."""
    submission = await desk.submit(preview_id, caller)
    order, receipt = submission.order, submission.receipt

    def prove() -> str:
        with desk.store.read() as connection:
            return prove_receipt(connection, receipt.seq)

    return SubmitResult(
        client_order_id=order.client_order_id,
        mode=desk.broker.mode,
        state=order.state,
        filled_quantity=format_decimal(order.filled_quantity),
        average_price=format_decimal(order.average_price) if order.average_price is not None else None,
        detail=order.detail,
        fills=[
            FillResult(
                quantity=format_decimal(fill.quantity),
                price=format_decimal(fill.price),
                event_time=format_time(fill.event_time),
                clock=fill.clock,
                rule=fill.rule,
            )
            for fill in submission.fills
        ],
        receipt=ReceiptResult(
            seq=receipt.seq,
            leaf_hash=receipt.leaf_hash,
            checkpoint=receipt.checkpoint,
            proof=await anyio.to_thread.run_sync(prove),
        ),
    )
