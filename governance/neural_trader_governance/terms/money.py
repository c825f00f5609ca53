"""Money and quantities: Decimal at the edges, whole ticks inside, floats nowhere.

A stored amount is an integer count of micros (1e-6 of the currency's unit), a stored quantity an
integer count of nano-units (1e-9, the finest fraction that US brokers fill). Conversion is exact
or refused; rounding happens only where a rule names it (`round_to_tick`).
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.term import Term

MICRO = Decimal("0.000001")
NANO = Decimal("0.000000001")
CENT = Decimal("0.01")
MONEY_MAX = Decimal(1_000_000_000_000)
QUANTITY_MAX = Decimal(1_000_000_000)

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code")]


def parse_decimal(value: Any) -> Decimal:
    """Reads a decimal string, an integer, or a float that a short decimal writes exactly.

    Raises:
        ValueError: not a finite number, or a float with more digits than a double can promise (15).
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{value!r:.40} is not a number; write it as a decimal string such as '12.50'")
    text = repr(value) if isinstance(value, float) else str(value).strip()
    if isinstance(value, str) and (len(text) > 40 or not text.isascii()):
        raise ValueError("a decimal string holds at most 40 ASCII characters, such as '12.50'")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(
            f"{text!r:.40} is not a number; write it as a decimal string such as '12.50'"
        ) from None
    if not number.is_finite():
        raise ValueError(f"{text} is not finite; give a real amount")
    if isinstance(value, float) and len(number.normalize().as_tuple().digits) > 15:
        raise ValueError(f"{text} is not exact as a JSON number; write it as a decimal string")
    return number


def format_decimal(number: Decimal) -> str:
    """Returns plain notation without an exponent or trailing zeros: `12.5`, `100`, `0.000001`."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def format_usd(number: Decimal) -> str:
    """Returns an amount for people: `52,400 USD`, `12.50 USD`."""
    rounded = number.quantize(CENT, ROUND_HALF_EVEN)
    return f"{rounded:,.0f} USD" if rounded == rounded.to_integral_value() else f"{rounded:,.2f} USD"


DecimalText = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    PlainSerializer(format_decimal, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}, mode="serialization"),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]}, mode="validation"),
]
"""A pydantic field type: a decimal string in JSON; numbers are accepted as input where exact."""


def to_micros(amount: Decimal) -> int:
    """Returns the amount as whole micros (1e-6 of the currency's unit).

    Raises:
        InputError: the amount is finer than a micro, or beyond ±1e12.
    """
    return _to_whole(amount, MICRO, MONEY_MAX, "amount")


def from_micros(micros: int) -> Decimal:
    """Returns the Decimal amount of a stored count of micros."""
    return Decimal(micros) * MICRO


def to_nanos(quantity: Decimal) -> int:
    """Returns the quantity as whole nano-units (1e-9).

    Raises:
        InputError: the quantity is finer than 1e-9, or beyond ±1e9.
    """
    return _to_whole(quantity, NANO, QUANTITY_MAX, "quantity")


def from_nanos(nanos: int) -> Decimal:
    """Returns the Decimal quantity of a stored count of nano-units."""
    return Decimal(nanos) * NANO


def _to_whole(value: Decimal, unit: Decimal, bound: Decimal, noun: str) -> int:
    if not value.is_finite() or abs(value) > bound:
        raise InputError(
            f"{noun}_out_of_range", f"{noun} {value} lies beyond ±{bound:,}", f"give a smaller {noun}"
        )
    whole = value / unit
    if whole != whole.to_integral_value():
        raise InputError(
            f"{noun}_too_fine", f"{noun} {value} is finer than {unit}", f"round the {noun} first"
        )
    return int(whole)


def round_to_tick(price: Decimal, tick: Decimal, towards: Literal["up", "down", "nearest"]) -> Decimal:
    """Returns the price on the tick grid, rounded the way the caller's rule names."""
    rounding = {"up": ROUND_CEILING, "down": ROUND_FLOOR, "nearest": ROUND_HALF_EVEN}[towards]
    return (price / tick).to_integral_value(rounding=rounding) * tick


def price_tick(price: Decimal) -> Decimal:
    """Returns the minimum price increment of a US equity (SEC Regulation NMS, Rule 612).

    One cent from 1 USD upwards, a hundredth of a cent below.
    """
    return CENT if price >= 1 else Decimal("0.0001")


class Money(Term):
    """An amount in one currency; amounts of different currencies never mix."""

    amount: DecimalText
    currency: Currency = "USD"

    def __add__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(amount=self.amount + other.amount, currency=self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(amount=self.amount - other.amount, currency=self.currency)

    def _same_currency(self, other: "Money") -> None:
        if other.currency != self.currency:
            raise InputError(
                "currency_mismatch",
                f"{self.currency} and {other.currency} cannot be added",
                "convert one of them first",
            )
