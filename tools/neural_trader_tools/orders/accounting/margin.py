"""Margin: what Regulation T and FINRA Rule 4210 ask of an account, at stated prices.

- Initial: half of a long position's value, and 150 % of a short one's, of which the sale's own proceeds are
  100 % (12 CFR 220.12(a) and (c)): half of both.
- Maintenance: 25 % of longs (FINRA 4210(c)(1)); for shorts at 5 USD or more the greater of 5 USD a share and
  30 %, below 5 USD the greater of 2.50 USD a share and 100 % (4210(c)(2) and (3)).
- Nobody borrows with less than 2,000 USD of equity (4210(b)).

A cash account (12 CFR 220.8) binds the whole value and lends nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Literal

from neural_trader_governance.terms.money import MICRO, Money, from_nanos, to_micros
from neural_trader_tools.orders.accounting.books import Books

AccountKind = Literal["cash", "margin"]
EQUITY_MIN = to_micros(Decimal(2000))
LEVERAGE = 2
"""A dollar of excess supports two of purchases at 50 %."""
_LOW_PRICE = Decimal(5)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What is asked and what is left, in micros; `call` is what must be paid in, 0 where nothing is."""

    initial: int
    maintenance: int
    excess: int
    buying_power: int
    call: int


def assess(books: Books, prices: Mapping[str, Money], kind: AccountKind) -> Requirement:
    """Returns the requirement of an account; orders' reservations lower its buying power.

    Raises:
        DataError: something held has no price.
        InputError: a price is in a foreign currency.
    """
    books.worth(prices)  # refuses what cannot be valued
    held = [(lots.quantity, prices[name].amount) for name, lots in books.positions.items() if lots.quantity]
    return require(books.cash, books.reserved, held, kind)


def require(cash: int, reserved: int, held: Iterable[tuple[int, Decimal]], kind: AccountKind) -> Requirement:
    """Returns the requirement of cash and holdings.

    Args:
        cash: Micros, negative where it was borrowed.
        reserved: Micros that orders hold back.
        held: Signed nano-units, each with its price.
        kind: What the account may do.
    """
    long_value = short_value = maintenance = 0
    for quantity, price in held:
        value = int((from_nanos(quantity) * price / MICRO).to_integral_value(ROUND_HALF_EVEN))
        if quantity > 0:
            long_value += value
        else:
            short_value += value
            maintenance += _short_maintenance(quantity, price)
    if kind == "cash":
        bound = long_value - short_value
        return Requirement(bound, bound, cash, max(cash - reserved, 0), max(-cash, 0))
    equity = cash + long_value + short_value
    initial = -(-(long_value - short_value) // 2)
    maintenance += -(-long_value // 4)
    excess = equity - initial
    power = max(excess, 0) * LEVERAGE if equity >= EQUITY_MIN else max(cash, 0)
    return Requirement(initial, maintenance, excess, max(power - reserved, 0), max(maintenance - equity, 0))


def _short_maintenance(quantity: int, price: Decimal) -> int:
    """Returns micros for a short of so many (negative) nano-units, rounded up."""
    if price >= _LOW_PRICE:
        per_share = max(_LOW_PRICE, price * Decimal("0.30"))
    else:
        per_share = max(Decimal("2.50"), price)
    return int((from_nanos(-quantity) * per_share / MICRO).to_integral_value(ROUND_CEILING))
