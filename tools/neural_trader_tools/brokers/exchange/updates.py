"""What the exchange tells: one update for each change of an order, numbered without gaps."""

from dataclasses import dataclass
from typing import Literal

from neural_trader_tools.brokers.exchange.orders import VenueOrder

Event = Literal[
    "pending_new",
    "accepted",
    "new",
    "fill",
    "partial_fill",
    "canceled",
    "expired",
    "rejected",
    "replaced",
    "pending_cancel",
    "pending_replace",
    "order_cancel_rejected",
    "order_replace_rejected",
]
"""Alpaca's words for `trade_updates`."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill.

    Attributes:
        price: In price units.
        quantity: Nano-units.
        fee: Micros.
        filled: Nano-units of the order filled with this one.
        left: Nano-units of it still open.
        position: Signed nano-units held afterwards.
        rule: Why at this price.
    """

    id: str
    order_id: str
    account: str
    symbol: str
    side: str
    time_ns: int
    price: int
    quantity: int
    fee: int
    filled: int
    left: int
    position: int
    rule: str


@dataclass(frozen=True, slots=True)
class Update:
    """One event of one order, with the order as it stood right afterwards."""

    sequence: int
    event: Event
    time_ns: int
    order: VenueOrder
    execution: Execution | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """Money or shares that moved without an order: a dividend or a split."""

    id: str
    account: str
    kind: Literal["DIV", "SPLIT"]
    symbol: str
    time_ns: int
    amount: int
    """Micros; 0 for a split."""
    quantity: int
    """Nano-units that it was paid on, or that a split added."""
    per_share: str
    """USD a share, or a split's `4/1`."""
