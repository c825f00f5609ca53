"""Synthetic fills: what an order says is filled and no execution is listed for, under an id of its own.

A venue's records of executions may stay away. What its order says is then booked as one fill for the span of
the order's quantity that is missing, at the price that makes the average right. The id is made of the order
and the span, so that every process makes the same one, and it says the span, so that true executions that
are listed later are known to be booked already.
"""

import hashlib
import re
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import MICRO, format_decimal
from neural_trader_governance.terms.orders import Side

_ID = re.compile(r"synthetic:([0-9.]{1,24})-([0-9.]{1,24}):[0-9a-f]{16}")


def span_of(execution_id: str) -> tuple[Decimal, Decimal] | None:
    """Returns from where to where a synthetic fill fills its order; None for a true execution's id."""
    found = _ID.fullmatch(execution_id)
    return None if found is None else (Decimal(found[1]), Decimal(found[2]))


def synthetic_fill(
    client_order_id: str,
    symbol: str,
    side: Side,
    *,
    filled: Decimal,
    average_price: Decimal,
    listed: tuple[Fill, ...],
    event_time: datetime,
    known_time: datetime,
) -> Fill | None:
    """Returns the fill that is missing between what is listed and what the order says.

    Args:
        client_order_id: Whose.
        symbol: What was traded.
        side: Which way.
        filled: What the order says is filled in all.
        average_price: What it says of its fills' mean price.
        listed: Its executions, oldest first.
        event_time: When the order last changed.
        known_time: Now, on the desk's clock.

    Returns:
        None where nothing is missing, or where no positive price makes the average right.
    """
    start = sum((fill.quantity for fill in listed), Decimal(0))
    missing = filled - start
    value = filled * average_price - sum((fill.quantity * fill.price for fill in listed), Decimal(0))
    if missing <= 0 or value <= 0:
        return None
    price = (value / missing).quantize(MICRO, ROUND_HALF_EVEN)
    if price <= 0:
        return None
    words = f"{client_order_id}|{format_decimal(start)}|{format_decimal(filled)}"
    digest = hashlib.sha256(words.encode()).hexdigest()[:16]
    return Fill(
        execution_id=f"synthetic:{format_decimal(start)}-{format_decimal(filled)}:{digest}",
        client_order_id=client_order_id,
        symbol=symbol,
        side=side,
        quantity=missing,
        price=price,
        fee=Decimal(0),
        event_time=event_time,
        known_time=known_time,
        clock="wall",
        rule="synthetic: the venue's order says so, and no execution is listed for it",
    )
