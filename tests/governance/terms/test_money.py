"""Money: exact at every edge, or refused."""

from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.money import (
    DecimalText,
    Money,
    format_decimal,
    format_usd,
    from_micros,
    from_nanos,
    parse_decimal,
    price_tick,
    round_to_tick,
    to_micros,
    to_nanos,
)

TEXT: TypeAdapter[Decimal] = TypeAdapter(DecimalText)


@given(st.integers(-(10**18), 10**18))
def test_micros_make_the_round_trip(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


@given(st.integers(-(10**18), 10**18))
def test_nanos_make_the_round_trip(nanos: int) -> None:
    assert to_nanos(from_nanos(nanos)) == nanos


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_a_formatted_decimal_is_plain_and_reads_back_equal(number: Decimal) -> None:
    text = format_decimal(number)
    assert "E" not in text
    assert not ("." in text and text.endswith("0"))
    assert Decimal(text) == number


@given(st.integers(-(10**15), 10**15), st.integers(0, 4))
def test_a_number_that_json_carries_exactly_is_accepted(whole: int, places: int) -> None:
    number = whole / 10**places
    assert parse_decimal(number) == Decimal(repr(number))


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        [],
        "",
        "abc",
        "1e",
        "NaN",
        "Infinity",
        float("nan"),
        float("inf"),
        "9" * 41,
        "\uff11\uff12",
    ],
)
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_decimal(value)


def test_a_float_with_more_digits_than_a_double_promises_is_refused() -> None:
    with pytest.raises(ValueError, match="decimal string"):
        parse_decimal(0.1 + 0.2)


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        ("0.0000001", "amount_too_fine"),
        ("1000000000001", "amount_out_of_range"),
        ("NaN", "amount_out_of_range"),
    ],
)
def test_an_amount_beyond_the_store_is_refused(amount: str, code: str) -> None:
    with pytest.raises(InputError, match=f"^{code}: "):
        to_micros(Decimal(amount))


@pytest.mark.parametrize(
    ("price", "towards", "rounded"),
    [
        ("100.123", "up", "100.13"),
        ("100.123", "down", "100.12"),
        ("0.12345", "up", "0.1235"),
        ("1.005", "nearest", "1.00"),
    ],
)
def test_prices_are_rounded_where_a_rule_names_the_way(
    price: str, towards: Literal["up", "down", "nearest"], rounded: str
) -> None:
    value = Decimal(price)
    assert round_to_tick(value, price_tick(value), towards) == Decimal(rounded)


def test_amounts_of_two_currencies_never_mix() -> None:
    dollars, euros = Money(amount=Decimal(1)), Money(amount=Decimal(1), currency="EUR")
    with pytest.raises(InputError, match=r"^currency_mismatch: "):
        _ = dollars + euros
    assert (dollars + dollars).amount == 2
    assert (dollars - dollars).amount == 0


def test_money_is_a_decimal_string_in_json_and_says_so_in_its_schema() -> None:
    assert TEXT.dump_python(Decimal("12.50"), mode="json") == "12.5"
    assert TEXT.json_schema(mode="serialization")["type"] == "string"
    with pytest.raises(ValidationError):
        Money.model_validate({"amount": "1", "currency": "usd"})


def test_people_read_thousands_and_cents() -> None:
    assert format_usd(Decimal(52_400)) == "52,400 USD"
    assert format_usd(Decimal("1234.5")) == "1,234.50 USD"
