"""The books of one account: a fold over its events, and nothing else.

The same events give the same books; books of a prefix are the books of then. Whole micros and nano-units
inside, `Money` at the edges, one currency per account: an amount in another one is refused, because nobody
here knows a rate. A cash movement is what the event says, so the books make no money.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Self, assert_never

from neural_trader_governance.errors import DataError, InputError, IntegrityError
from neural_trader_governance.terms.money import MICRO, Money, from_micros, from_nanos, to_micros, to_nanos
from neural_trader_tools.orders.accounting.events import (
    Event,
    Opened,
    Paid,
    PaymentKind,
    Received,
    Released,
    Renamed,
    Reserved,
    Split,
    Traded,
)
from neural_trader_tools.orders.accounting.lots import Closed, LotMethod, Lots


@dataclass(frozen=True, slots=True)
class Worth:
    """What an account is worth at stated prices, in micros; short values are negative."""

    cash: int
    long_value: int
    short_value: int
    unrealized: int

    @property
    def equity(self) -> int:
        """Cash and positions."""
        return self.cash + self.long_value + self.short_value


@dataclass(slots=True)
class Books:
    """Cash, lots, what is unsettled and what is held back, as the events so far leave them.

    Attributes:
        currency: Of every amount.
        method: How closing fills choose their lots.
        cash: Micros, settled or not.
        positions: By symbol; a closed one stays, with what it realised.
        unsettled: Micros of sale proceeds by the date on which they settle.
        held_back: Micros by order.
        payments: Micros by kind.
        fees: Micros paid within trades; part of their cash already.
        closed: Every closed part of a lot with its symbol, oldest first.
    """

    currency: str
    method: LotMethod = "fifo"
    cash: int = 0
    opening: int = 0
    fees: int = 0
    positions: dict[str, Lots] = field(default_factory=dict[str, Lots])
    unsettled: dict[date, int] = field(default_factory=dict[date, int])
    held_back: dict[str, int] = field(default_factory=dict[str, int])
    payments: dict[PaymentKind, int] = field(default_factory=dict[PaymentKind, int])
    closed: list[tuple[str, Closed]] = field(default_factory=list[tuple[str, Closed]])
    _seen: set[str] = field(default_factory=set[str])

    @classmethod
    def replay(cls, events: Iterable[Event], currency: str, method: LotMethod = "fifo") -> Self:
        """Returns the books that events leave, in the order given.

        Raises:
            InputError: `foreign_currency`.
            IntegrityError: as `apply`.
        """
        books = cls(currency, method)
        for event in events:
            books.apply(event)
        return books

    def apply(self, event: Event) -> None:
        """Books one event; one that was booked before changes nothing.

        Raises:
            InputError: `foreign_currency`, an amount is in another currency than the account.
            IntegrityError: `overreleased`, an order gives back more than it holds back.
        """
        if event.event_id in self._seen:
            return
        match event:
            case Opened():
                amount = self._micros(event.cash)
                self.opening += amount
                self.cash += amount
            case Received():
                quantity, cost = to_nanos(event.quantity), self._micros(event.cost)
                self._lots(event.symbol).trade(quantity, -cost, event.opened_time)
            case Traded():
                self._trade(event)
            case Paid():
                amount = self._micros(event.amount)
                self.cash += amount
                self.payments[event.kind] = self.payments.get(event.kind, 0) + amount
            case Split():
                if event.symbol in self.positions:
                    self.positions[event.symbol].split(event.ratio)
            case Renamed():
                if (lots := self.positions.pop(event.symbol, None)) is not None:
                    self._lots(event.new_symbol).absorb(lots.lots, lots.realized)
            case Reserved():
                before = self.held_back.get(event.client_order_id, 0)
                self.held_back[event.client_order_id] = before + self._micros(event.amount)
            case Released():
                self._release(event)
            case _:
                assert_never(event)
        self._seen.add(event.event_id)

    def settle(self, day: date) -> None:
        """Lets what is due by a date become settled."""
        self.unsettled = {due: amount for due, amount in self.unsettled.items() if due > day}

    @property
    def reserved(self) -> int:
        """Micros that orders hold back."""
        return sum(self.held_back.values())

    @property
    def realized(self) -> int:
        """Micros realised by closed lots, net of fees; dividends are payments."""
        return sum(lots.realized for lots in self.positions.values())

    def settled_cash(self, day: date) -> int:
        """Returns cash less sale proceeds that settle after a date, in micros."""
        return self.cash - sum(amount for due, amount in self.unsettled.items() if due > day)

    def money(self, micros: int) -> Money:
        """Returns an amount of these books at the edge: with its currency."""
        return Money(amount=from_micros(micros), currency=self.currency)

    def worth(self, prices: Mapping[str, Money]) -> Worth:
        """Values what is held.

        Raises:
            DataError: `no_price`, something held has none.
            InputError: `foreign_currency`.
        """
        long_value = short_value = unrealized = 0
        for symbol, lots in self.positions.items():
            if not (quantity := lots.quantity):
                continue
            if symbol not in prices:
                raise DataError(
                    "no_price", f"{symbol} is held but has no price", f"import prices of {symbol}"
                )
            price = prices[symbol]
            self._require_currency(price)
            value = int((from_nanos(quantity) * price.amount / MICRO).to_integral_value(ROUND_HALF_EVEN))
            unrealized += value - lots.cost
            long_value, short_value = long_value + max(value, 0), short_value + min(value, 0)
        return Worth(self.cash, long_value, short_value, unrealized)

    def _trade(self, event: Traded) -> None:
        cash, quantity = self._micros(event.cash), to_nanos(event.quantity)
        self.fees += self._micros(event.fee)
        if not quantity or (quantity > 0 and cash > 0):  # a small sale may bring less than its fee
            raise IntegrityError(
                "wrong_movement",
                f"{event.event_id} moves {event.quantity} {event.symbol} for {event.cash.amount} of cash",
                "compare the fill with the venue: neural-trader orders reconcile",
            )
        self.cash += cash
        if cash > 0:
            self.unsettled[event.settles_on] = self.unsettled.get(event.settles_on, 0) + cash
        for each in self._lots(event.symbol).trade(quantity, cash, event.event_time):
            self.closed.append((event.symbol, each))

    def _release(self, event: Released) -> None:
        held, amount = self.held_back.get(event.client_order_id, 0), self._micros(event.amount)
        if amount > held:
            raise IntegrityError(
                "overreleased",
                f"{event.client_order_id} gives back {event.amount.amount} and holds {from_micros(held)}",
                "run `neural-trader audit verify` and compare",
            )
        self.held_back[event.client_order_id] = held - amount
        if held == amount:
            del self.held_back[event.client_order_id]

    def _lots(self, symbol: str) -> Lots:
        return self.positions.setdefault(symbol, Lots(self.method))

    def _micros(self, money: Money) -> int:
        self._require_currency(money)
        return to_micros(money.amount)

    def _require_currency(self, money: Money) -> None:
        if money.currency != self.currency:
            raise InputError(
                "foreign_currency",
                f"{money.amount} {money.currency} cannot be booked in an account of {self.currency}",
                f"trade instruments in {self.currency}, or keep an account in {money.currency}",
            )


def per_unit(cost: int, quantity: int) -> Decimal:
    """Returns the cost of one unit, rounded to the micro; 0 of nothing."""
    if not quantity:
        return Decimal(0)
    return (from_micros(cost) / from_nanos(quantity)).quantize(MICRO, ROUND_HALF_EVEN)
