"""Lots: what is held of one symbol, by when and for what it was opened.

`fifo` closes the oldest lot first (the default of 26 CFR 1.1012-1(c)); `average` keeps one lot at the mean
cost. Quantities are signed nano-units (negative when short), costs signed micros: what was paid for a long
lot, and less than zero, what was received, for a short one.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

from neural_trader_tools.orders.accounting.amounts import allocate, share

LotMethod = Literal["fifo", "average"]


@dataclass(frozen=True, slots=True)
class Lot:
    """Shares that were opened together; in the average method `opened_time` is the oldest one's."""

    opened_time: datetime
    quantity: int
    cost: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed part of a lot: what it cost, and what closing it brought, both signed micros."""

    opened_time: datetime
    closed_time: datetime
    quantity: int
    cost: int
    proceeds: int

    @property
    def profit(self) -> int:
        """What was realised, net of fees, in micros."""
        return self.proceeds - self.cost


@dataclass(slots=True)
class Lots:
    """The open lots of one symbol, oldest first; all of them long, or all of them short."""

    method: LotMethod
    lots: deque[Lot] = field(default_factory=deque[Lot])
    realized: int = 0

    @property
    def quantity(self) -> int:
        """Signed nano-units held."""
        return sum(lot.quantity for lot in self.lots)

    @property
    def cost(self) -> int:
        """Signed micros that the open lots cost."""
        return sum(lot.cost for lot in self.lots)

    def trade(self, quantity: int, cash: int, moment: datetime) -> list[Closed]:
        """Books a fill of signed quantity that moved signed cash; returns what it closed.

        What closes takes its share of the cash by quantity; what is left opens a lot.
        """
        held = self.quantity
        closing = 0 if (held > 0) == (quantity > 0) else min(abs(held), abs(quantity))
        closing_cash = share(cash, closing, abs(quantity))
        closed = self._close(closing, closing_cash, moment)
        self.realized += sum(each.profit for each in closed)
        opening = abs(quantity) - closing
        if opening:
            self._open(Lot(moment, opening if quantity > 0 else -opening, closing_cash - cash))
        return closed

    def split(self, ratio: Decimal) -> None:
        """Changes the quantities; the whole is rounded against the holder, and the lots add up to it."""
        before = self.quantity
        if not before:
            return
        rounding = ROUND_FLOOR if before > 0 else ROUND_CEILING
        after = int((before * ratio).to_integral_value(rounding))
        pieces = allocate(after, [lot.quantity for lot in self.lots])
        self.lots = deque(replace(lot, quantity=piece) for lot, piece in zip(self.lots, pieces, strict=True))

    def absorb(self, others: Iterable[Lot], realized: int) -> None:
        """Takes the lots of a symbol that was renamed to this one."""
        merged = sorted([*self.lots, *others], key=lambda lot: lot.opened_time)
        self.lots, self.realized = deque(), self.realized + realized
        for lot in merged:
            self._open(lot)

    def _open(self, lot: Lot) -> None:
        if self.method == "average" and self.lots:
            held = self.lots.pop()
            lot = Lot(held.opened_time, held.quantity + lot.quantity, held.cost + lot.cost)
        self.lots.append(lot)

    def _close(self, quantity: int, cash: int, moment: datetime) -> list[Closed]:
        parts: list[Lot] = []
        left = quantity
        while left:
            lot = self.lots.popleft()
            taken = min(left, abs(lot.quantity))
            sign = 1 if lot.quantity > 0 else -1
            cost = share(lot.cost, taken, abs(lot.quantity))
            if taken < abs(lot.quantity):
                rest = Lot(lot.opened_time, lot.quantity - sign * taken, lot.cost - cost)
                self.lots.appendleft(rest)
            parts.append(Lot(lot.opened_time, sign * taken, cost))
            left -= taken
        proceeds = allocate(cash, [abs(part.quantity) for part in parts]) if parts else []
        return [
            Closed(part.opened_time, moment, part.quantity, part.cost, received)
            for part, received in zip(parts, proceeds, strict=True)
        ]
