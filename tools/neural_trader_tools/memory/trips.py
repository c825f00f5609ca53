"""Round trips: from holding nothing of a symbol to holding nothing again, as an account's fills tell it.

A fill that crosses zero ends one trip and begins the next, its cash and its fee split by quantity. What a
trip earned is the sum of the cash that its fills moved: fees are in it, dividends are not. Splits change the
quantity held, as in the ledger, and no cash.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import to_micros, to_nanos
from neural_trader_tools.orders.accounting.amounts import share
from neural_trader_tools.orders.accounts import SplitBetween, cash_movement


@dataclass(slots=True)
class Trip:
    """One way from nothing to nothing; whole micros and nano-units.

    Attributes:
        sign: 1 for a long trip, -1 for a short one.
        held: Signed, on the share basis of `basis_time`.
        entered: Units traded that opened or added, and `entry_cash` what they moved (signed).
        left: Units traded that reduced or closed, and `exit_cash` what they moved.
        slippage: What fills were worse than the prices at which their orders were previewed; above zero
            is a cost.
        orders: In the order of their first fills.
        last_seq: Audit entry of the fill that ended it.
    """

    account: str
    symbol: str
    sign: int
    opened_time: datetime
    basis_time: datetime
    first_seq: int
    held: int = 0
    entered: int = 0
    left: int = 0
    entry_cash: int = 0
    exit_cash: int = 0
    fees: int = 0
    slippage: int = 0
    fills: int = 0
    orders: list[str] = field(default_factory=list[str])
    closed_time: datetime | None = None
    last_seq: int = -1

    @property
    def profit(self) -> int:
        """Micros earned, fees paid."""
        return self.entry_cash + self.exit_cash

    @property
    def profit_bps(self) -> int:
        """Profit in basis points of what was paid, or received short, at the entry."""
        return share(self.profit, 10_000, abs(self.entry_cash)) if self.entry_cash else 0


@dataclass(slots=True)
class Trips:
    """The open trips of all accounts, fed with fills in the order of their booking.

    Attributes:
        split_between: How many shares of the second moment one share of the first has become.
        previewed: The price at which an order was previewed; None where it had no preview.
    """

    split_between: SplitBetween
    previewed: Callable[[str], Decimal | None]
    _open: dict[tuple[str, str], Trip] = field(default_factory=dict[tuple[str, str], Trip])

    def feed(self, account: str, fill: Fill, seq: int) -> Trip | None:
        """Books a fill; returns the trip that it ended, if it ended one."""
        quantity = to_nanos(fill.quantity) * (1 if fill.side == "buy" else -1)
        cash, key = to_micros(cash_movement(fill)), (account, fill.symbol)
        trip = self._open.get(key)
        if trip is not None:
            quantity = self._carry(trip, fill, quantity)
            if not trip.held:  # a reverse split left nothing of it
                del self._open[key]
                trip = None
        if trip is None:
            self._open[key] = self._add(self._begin(account, fill, seq, quantity), fill, quantity, cash, seq)
            return None
        closing = min(abs(quantity), abs(trip.held)) if (quantity > 0) != (trip.held > 0) else 0
        rest = abs(quantity) - closing
        if not closing or not rest:
            self._add(trip, fill, quantity, cash, seq)
        else:
            part = closing if quantity > 0 else -closing
            paid = share(cash, closing, abs(quantity))
            self._add(trip, fill, part, paid, seq, whole=abs(quantity))
        if trip.held:
            return None
        trip.closed_time, trip.last_seq = fill.event_time, seq
        del self._open[key]
        if rest and closing:
            part = rest if quantity > 0 else -rest
            fresh = self._begin(account, fill, seq, part)
            paid = cash - share(cash, closing, abs(quantity))
            self._open[key] = self._add(fresh, fill, part, paid, seq, whole=abs(quantity))
        return trip

    def _begin(self, account: str, fill: Fill, seq: int, quantity: int) -> Trip:
        moment = fill.event_time
        return Trip(account, fill.symbol, 1 if quantity > 0 else -1, moment, moment, seq)

    def _carry(self, trip: Trip, fill: Fill, quantity: int) -> int:
        """Brings trip and fill to the share basis of the later of them; returns the fill's quantity there."""
        if fill.event_time < trip.basis_time:
            factor = self.split_between(fill.symbol, fill.event_time, trip.basis_time)
            return int((quantity * factor).to_integral_value(ROUND_FLOOR if quantity > 0 else ROUND_CEILING))
        factor = self.split_between(fill.symbol, trip.basis_time, fill.event_time)
        if factor != 1:
            rounding = ROUND_FLOOR if trip.held > 0 else ROUND_CEILING
            trip.held = int((trip.held * factor).to_integral_value(rounding))
        trip.basis_time = fill.event_time
        return quantity

    def _add(
        self, trip: Trip, fill: Fill, quantity: int, cash: int, seq: int, whole: int | None = None
    ) -> Trip:
        part, all_of_it = abs(quantity), whole or abs(quantity)
        if (quantity > 0) == (trip.sign > 0):
            trip.entered += part
            trip.entry_cash += cash
        else:
            trip.left += part
            trip.exit_cash += cash
        trip.held += quantity
        trip.fills += 1
        trip.fees += share(to_micros(fill.fee), part, all_of_it)
        if fill.client_order_id not in trip.orders:
            trip.orders.append(fill.client_order_id)
        if (expected := self.previewed(fill.client_order_id)) is not None:
            worse = (fill.price - expected) if fill.side == "buy" else (expected - fill.price)
            trip.slippage += share(int(worse * fill.quantity * 1_000_000), part, all_of_it)
        trip.last_seq = seq
        return trip
