"""Orders as the exchange holds them: terms, where they stand, and what was filled."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from neural_trader_tools.brokers.exchange import amounts
from neural_trader_tools.brokers.exchange.requests import OrderClass, OrderType, Side, TimeInForce

Status = Literal[
    "pending_new",
    "accepted",
    "new",
    "held",
    "partially_filled",
    "filled",
    "done_for_day",
    "canceled",
    "expired",
    "rejected",
    "replaced",
    "pending_cancel",
    "pending_replace",
]
"""Alpaca's words.

`pending_new` is on its way (the latency model), `accepted` waits for a session or an auction, `new` works,
`held` is a leg whose entry is not filled.
"""

WORKING: frozenset[Status] = frozenset({"new", "partially_filled", "pending_cancel", "pending_replace"})
"""May be filled now: what is asked to be canceled or replaced still works until that arrives."""
OPEN = WORKING | frozenset[Status]({"pending_new", "accepted", "held"})
"""May still be filled some day."""

Role = Literal["entry", "take_profit", "stop_loss"]


@dataclass(slots=True)
class VenueOrder:
    """One order; changed by the exchange only.

    Attributes:
        sequence: Counts submissions; earlier goes first at one price.
        quantity: Nano-units ordered; 0 while an order by `notional` has no price yet.
        limit, stop, trail, high_water: In price units.
        trail_bp: Trail as a share of the high-water mark, in basis points.
        arrives_ns: When it reaches the book, by the latency model.
        expires_on: Last session of a day order, days since 1970; None where it stays.
        value: Sum of price times quantity over the fills.
        reserved: Micros of buying power held back for what is open.
        counts_filled: Of a replacement, what was filled of the old order when it was asked for.
        note: Why it ended, in words.
    """

    id: str
    client_order_id: str
    account: str
    sequence: int
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    order_class: OrderClass
    quantity: int
    created_ns: int
    arrives_ns: int
    notional: int | None = None
    limit: int | None = None
    stop: int | None = None
    trail: int | None = None
    trail_bp: int | None = None
    high_water: int | None = None
    extended_hours: bool = False
    status: Status = "pending_new"
    triggered: bool = False
    filled: int = 0
    value: int = 0
    reserved: int = 0
    expires_on: int | None = None
    group: str | None = None
    role: Role | None = None
    parent: str | None = None
    replaces: str | None = None
    replaced_by: str | None = None
    counts_filled: int = 0
    updated_ns: int = 0
    filled_ns: int | None = None
    expired_ns: int | None = None
    canceled_ns: int | None = None
    failed_ns: int | None = None
    replaced_ns: int | None = None
    note: str = ""

    @property
    def open_quantity(self) -> int:
        """What is not filled yet, in nano-units."""
        return max(self.quantity - self.filled, 0)

    @property
    def is_buy(self) -> bool:
        """Whether it buys."""
        return self.side == "buy"

    @property
    def is_open(self) -> bool:
        """Whether it may still be filled some day."""
        return self.status in OPEN

    @property
    def is_working(self) -> bool:
        """Whether the next price may fill it."""
        return self.status in WORKING

    @property
    def waits_for_trigger(self) -> bool:
        """Whether it is a stop that the market has not touched."""
        return not self.triggered and self.type in {"stop", "stop_limit", "trailing_stop"}

    @property
    def average_price(self) -> Decimal | None:
        """Mean price of its fills in USD."""
        return amounts.average_price(self.value, self.filled) if self.filled else None

    def trail_stop(self, mark: int) -> int:
        """Returns where a trailing stop stands for a high-water (low-water) mark, on the tick grid."""
        distance = self.trail if self.trail is not None else mark * (self.trail_bp or 0) // 10_000
        if self.is_buy:
            return amounts.on_tick(mark + distance, "up")
        return max(amounts.on_tick(mark - distance, "down"), 1)
