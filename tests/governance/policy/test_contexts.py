from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_governance.policy.contexts import (
    BPS_MAX,
    CENTS_MAX,
    PolicyContext,
    cents_down,
    cents_up,
    deviation_bps,
    micros_up,
)

_amounts = st.decimals(-(10**9), 10**9, places=9)


@given(_amounts)
def test_rounding_is_against_the_order_and_within_one_cent(amount: Decimal) -> None:
    exact = Fraction(amount) * 100
    assert 0 <= cents_up(amount) - exact < 1
    assert 0 <= exact - cents_down(amount) < 1
    assert 0 <= micros_up(amount) - Fraction(amount) * 10**6 < 1


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN", "1e30", "10000000000000.01"])
def test_an_amount_beyond_policys_range_is_refused(amount: str) -> None:
    with pytest.raises(InputError, match="amount_out_of_range"):
        cents_up(Decimal(amount))


@pytest.mark.parametrize(
    ("side", "limit", "market", "bps"),
    [
        ("buy", "110", "100", 1_000),
        ("buy", "110.01", "100", 1_001),
        ("buy", "90", "100", -1_000),
        ("sell", "90", "100", 1_000),
        ("sell", "89.99", "100", 1_001),
        ("sell", "110", "100", -1_000),
        ("buy", "100", "100", 0),
        ("buy", "33.34", "33.33", 4),
    ],
)
def test_a_limit_through_the_market_is_positive_on_either_side(
    side: Literal["buy", "sell"], limit: str, market: str, bps: int
) -> None:
    assert deviation_bps(side, Decimal(limit), Decimal(market)) == bps


def test_a_deviation_needs_a_market_price() -> None:
    with pytest.raises(InputError, match="invalid_price"):
        deviation_bps("buy", Decimal(1), Decimal(0))


@pytest.mark.parametrize(
    ("gross", "equity", "pnl", "leverage", "loss"),
    [
        (0, 0, 0, 0, 0),
        (1, 0, 0, BPS_MAX, 0),
        (1, -5, 0, BPS_MAX, 0),
        (300, 100, 0, 30_000, 0),
        (301, 100, 0, 30_100, 0),
        (CENTS_MAX, 1, 0, BPS_MAX, 0),
        (0, 85, -15, 0, 1_500),
        (0, 0, -15, 0, 10_000),
        (0, -20, -15, 0, BPS_MAX),
        (0, CENTS_MAX, -CENTS_MAX, 0, 5_000),
        (10, 30_000, -1, 4, 1),
    ],
)
def test_ratios_are_rounded_up_and_bounded(
    facts: dict[str, Any], gross: int, equity: int, pnl: int, leverage: int, loss: int
) -> None:
    facts.update(gross_after_cents=gross, equity_cents=equity, day_pnl_cents=pnl)
    context = PolicyContext.model_validate(facts)
    assert (context.leverage_after_bps, context.day_loss_bps) == (leverage, loss)


def test_a_logged_context_is_read_back_as_it_was(facts: dict[str, Any]) -> None:
    context = PolicyContext.model_validate({**facts, "overrides": ("max_notional", "session_closed")})
    logged = context.model_dump(mode="json")
    assert PolicyContext.from_logged(logged) == context


@pytest.mark.parametrize(
    "broken",
    [{"notional_cents": "400000"}, {"notional_cents": 1.0}, {"halted": 0}, {"more": 1}, {"agent": None}],
)
def test_a_logged_context_that_is_none_is_refused(facts: dict[str, Any], broken: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="not_a_context"):
        PolicyContext.from_logged({**facts, **broken})
    with pytest.raises(InputError, match="not_a_context"):
        PolicyContext.from_logged({**facts, "notional_cents": object()})
