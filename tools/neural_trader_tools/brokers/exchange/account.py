"""An account at the exchange: cash, positions, and what open orders hold back. Whole numbers throughout.

A cash account (multiplier 1) buys with cash and sells what it has. A margin account (multiplier 2) has the
buying power of Regulation T, (equity - initial margin) x 2 with half of every position's value as margin, and
may sell short.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from neural_trader_tools.brokers.exchange import amounts

PriceOf = Callable[[str], int]
"""The last price of a symbol, 0 where none is known."""


@dataclass(slots=True)
class Position:
    """Signed nano-units held, their signed cost and what was realised, in micros."""

    quantity: int = 0
    cost: int = 0
    realized: int = 0

    def book(self, quantity: int, cash: int) -> None:
        """Adds a fill of signed quantity that moved signed cash; what closes is realised at average cost."""
        held = self.quantity
        if held == 0 or (held > 0) == (quantity > 0):
            self.quantity, self.cost = held + quantity, self.cost - cash
            return
        closing = min(abs(quantity), abs(held))
        closing_cash = cash * closing // abs(quantity)
        closing_cost = self.cost if closing == abs(held) else self.cost * closing // abs(held)
        self.quantity = held + quantity
        self.realized += closing_cash - closing_cost
        self.cost -= closing_cost
        if closing < abs(quantity):  # it went through zero: the rest opens the other way
            self.cost = -(cash - closing_cash)

    def split(self, new: int, old: int) -> int:
        """Splits it `new` for `old`, fractions rounded against the holder; returns the nano-units gained."""
        before = self.quantity
        self.quantity = before * new // old
        return self.quantity - before

    def value(self, price: int) -> int:
        """Returns its signed market value in micros."""
        return amounts.money(price, self.quantity)


@dataclass(slots=True)
class Account:
    """Money and shares of one client.

    Attributes:
        name: Its id, such as `paper`.
        key_id: By which its client signs in; the secret is kept by the API.
        cash: Micros.
        multiplier: 1 cash, 2 Regulation T margin.
        may_short: Only with multiplier 2.
        fees: Micros paid so far.
        unsettled: Micros of sale proceeds by the day they settle.
        reserved: Micros that open orders hold back.
        last_equity: Micros at the last session's close.
        start_cash: Micros it was opened with.
    """

    name: str
    key_id: str
    cash: int
    multiplier: int = 1
    may_short: bool = False
    fees: int = 0
    reserved: int = 0
    last_equity: int = 0
    start_cash: int = 0
    is_blocked: bool = False
    positions: dict[str, Position] = field(default_factory=dict[str, Position])
    unsettled: dict[int, int] = field(default_factory=dict[int, int])

    def held(self, symbol: str) -> int:
        """Returns the signed quantity held."""
        position = self.positions.get(symbol)
        return position.quantity if position else 0

    def book(self, symbol: str, *, quantity: int, price: int, fee: int, settles_on: int) -> int:
        """Books a fill of signed quantity; returns the signed cash it moved, fee included.

        Cash is rounded to the micro against the account.
        """
        towards = "up" if quantity > 0 else "down"
        gross = amounts.money(price, abs(quantity), towards)
        cash = -gross - fee if quantity > 0 else gross - fee
        self.cash += cash
        self.fees += fee
        if quantity < 0:
            self.unsettled[settles_on] = self.unsettled.get(settles_on, 0) + cash
        position = self.positions.setdefault(symbol, Position())
        position.book(quantity, cash)
        return cash

    def settle(self, day: int) -> None:
        """Lets what is due by that day become settled."""
        for due in [each for each in self.unsettled if each <= day]:
            del self.unsettled[due]

    def long_value(self, price_of: PriceOf) -> int:
        """Returns the value of long positions in micros."""
        return sum(p.value(price_of(s)) for s, p in self.positions.items() if p.quantity > 0)

    def short_value(self, price_of: PriceOf) -> int:
        """Returns the (negative) value of short positions in micros."""
        return sum(p.value(price_of(s)) for s, p in self.positions.items() if p.quantity < 0)

    def equity(self, price_of: PriceOf) -> int:
        """Returns cash and positions in micros."""
        return self.cash + self.long_value(price_of) + self.short_value(price_of)

    def initial_margin(self, price_of: PriceOf) -> int:
        """Returns what positions bind: half of their value with margin, all of it without."""
        gross = self.long_value(price_of) - self.short_value(price_of)
        return gross // 2 if self.multiplier > 1 else gross

    def maintenance_margin(self, price_of: PriceOf) -> int:
        """Returns 25 % of longs and 30 % of shorts (FINRA Rule 4210); all of it in a cash account."""
        if self.multiplier == 1:
            return self.initial_margin(price_of)
        return self.long_value(price_of) * 25 // 100 - self.short_value(price_of) * 30 // 100

    def buying_power(self, price_of: PriceOf) -> int:
        """Returns what new orders may cost, in micros."""
        if self.multiplier == 1:
            free = self.cash
        else:
            free = max(self.equity(price_of) - self.initial_margin(price_of), 0) * self.multiplier
        return max(free - self.reserved, 0)

    @property
    def settled_cash(self) -> int:
        """Cash less sale proceeds that have not settled."""
        return self.cash - sum(self.unsettled.values())
