"""Amounts inside the exchange: whole numbers, so that sums are exact and two machines agree on every digit.

price      1e-4 USD    the finest increment of a US stock (SEC Rule 612)
quantity   1e-9        nano-units, the finest fraction that US brokers fill
money      1e-6 USD    micros
value      1e-13 USD   price times quantity, before it is rounded to money
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

from neural_trader_governance.terms.money import from_micros, from_nanos, price_tick

PRICE_UNIT = Decimal("0.0001")
DOLLAR = 10_000
"""A dollar, as a price."""
CENT = 100
"""A cent, as a price."""
SHARE = 10**9
"""One share, as a quantity."""
_VALUES_IN_MICRO = 10**7

Rounding = Literal["up", "down", "nearest"]


def to_price(price: Decimal) -> int:
    """Returns whole price units.

    Raises:
        ValueError: finer than 1e-4 USD.
    """
    whole = price / PRICE_UNIT
    if whole != whole.to_integral_value():
        raise ValueError(f"{price} is finer than {PRICE_UNIT}")
    return int(whole)


def from_price(price: int) -> Decimal:
    """Returns USD."""
    return Decimal(price) * PRICE_UNIT


def nearest_price(price: float) -> int:
    """Returns the price unit nearest to an observed price (a float of the archive)."""
    return round(price * DOLLAR)


def on_tick(price: int, towards: Rounding) -> int:
    """Returns the price on its tick grid: cents from one dollar upwards, hundredths of a cent below."""
    if price < DOLLAR:
        return price
    down = price // CENT * CENT
    if towards == "down" or down == price:
        return down
    if towards == "up":
        return down + CENT
    return down if (price - down) * 2 <= CENT else down + CENT


def is_on_tick(price: Decimal) -> bool:
    """Tells whether an order may name this price."""
    return price % price_tick(price) == 0


def money(price: int, quantity: int, towards: Rounding = "nearest") -> int:
    """Returns what a quantity costs at a price, in micros.

    Args:
        price: In price units.
        quantity: In nano-units.
        towards: Where a fraction of a micro goes.
    """
    value = price * quantity
    if towards == "down":
        return value // _VALUES_IN_MICRO
    if towards == "up":
        return -(-value // _VALUES_IN_MICRO)
    whole, rest = divmod(value, _VALUES_IN_MICRO)
    return whole + (1 if rest * 2 > _VALUES_IN_MICRO or (rest * 2 == _VALUES_IN_MICRO and whole & 1) else 0)


def quantity_for(amount: int, price: int) -> int:
    """Returns the largest quantity that an amount of micros buys at a price, in nano-units."""
    return amount * _VALUES_IN_MICRO // price


def average_price(value: int, quantity: int) -> Decimal:
    """Returns value / quantity in USD, to six decimals, as brokers state it."""
    return (Decimal(value) / quantity * PRICE_UNIT).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def whole_cents(micros: int, towards: Literal["up", "down"]) -> int:
    """Returns micros rounded to cents."""
    rounding = ROUND_CEILING if towards == "up" else ROUND_FLOOR
    return int((Decimal(micros) / 10_000).to_integral_value(rounding)) * 10_000


def price_text(price: int | None) -> str | None:
    """Returns a price as the wire says it: `190.5`, `0.0125`; None stays None."""
    return None if price is None else _plain(from_price(price))


def quantity_text(quantity: int) -> str:
    """Returns a quantity as the wire says it: `10`, `0.5`."""
    return _plain(from_nanos(quantity))


def money_text(micros: int) -> str:
    """Returns money as the wire says it: `100000`, `-23140.2`."""
    return _plain(from_micros(micros))


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if text not in {"", "-0"} else "0"
