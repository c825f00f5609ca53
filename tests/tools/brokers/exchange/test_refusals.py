"""What the exchange refuses, in Alpaca's words and numbers; nothing changes by a refusal."""

from copy import deepcopy
from typing import Any, cast

import pytest
from pydantic import ValidationError
from tests.tools.brokers.exchange.venues import Venue

from neural_trader_tools.brokers.exchange.rules import RefusedError


@pytest.mark.parametrize(
    ("side", "qty", "terms", "status", "code", "why"),
    [
        ("buy", 1, {"symbol": "NOPE"}, 422, 42210000, 'asset "NOPE" not found'),
        ("buy", 2000, {}, 403, 40310000, "insufficient buying power"),
        ("buy", 1001, {"limit_price": "100"}, 403, 40310000, "insufficient buying power"),
        (
            "sell",
            11,
            {},
            403,
            40310000,
            r"insufficient qty available for order \(requested: 11, available: 10\)",
        ),
        ("sell", 1, {"symbol": "B"}, 403, 40310000, "not allowed to short"),
        ("buy", "0.5", {"symbol": "C"}, 403, 40310000, "not fractionable"),
        ("buy", 1, {"symbol": "B"}, 403, 40310000, "no price is known for B"),
    ],
)
def test_what_account_and_market_do_not_allow(
    side: str, qty: object, terms: dict[str, Any], status: int, code: int, why: str
) -> None:
    venue = Venue()
    venue.quote(99, 100)
    venue.order("buy", 10)
    before = deepcopy(venue.account)
    with pytest.raises(RefusedError, match=why) as refused:
        venue.order(side, qty, **terms)
    assert (refused.value.status, refused.value.code) == (status, code)
    assert venue.account == before
    assert venue.exchange.registry.open_orders("paper") == []


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"qty": None}, "give qty or notional"),
        ({"notional": "100"}, "give qty or notional"),
        ({"qty": None, "notional": "100", "limit_price": "5"}, "simple market day orders only"),
        ({"qty": "0"}, "qty must be above 0"),
        ({"qty": "-1"}, "qty must be above 0"),
        ({"qty": "1e-10"}, "nine decimal places"),
        ({"qty": 0.1 + 0.2}, "not exact"),
        ({"qty": "NaN"}, "not finite"),
        ({"limit_price": "1.001"}, "sub-penny increment"),
        ({"limit_price": "0"}, "no price"),
        ({"type": "limit"}, "requires limit_price"),
        ({"type": "market", "limit_price": "5"}, "takes no limit_price"),
        ({"type": "stop"}, "requires stop_price"),
        ({"type": "trailing_stop"}, "requires trail_price or trail_percent"),
        ({"trail_price": "1", "trail_percent": "1"}, "requires trail_price or trail_percent"),
        ({"trail_percent": "100"}, "between 0 and 100"),
        ({"stop_price": "5", "time_in_force": "ioc"}, "market and limit orders only"),
        ({"qty": "0.5", "time_in_force": "gtc"}, "fractional orders must be DAY"),
        ({"extended_hours": True}, "extended hours orders must be"),
        ({"take_profit": {"limit_price": "5"}}, "need order_class"),
        ({"order_class": "bracket", "take_profit": {"limit_price": "5"}}, "need take_profit.limit_price and"),
        (
            {"order_class": "bracket", "take_profit": {"limit_price": "5"}, "stop_loss": {"stop_price": "6"}},
            "gaining side",
        ),
        ({"order_class": "oto"}, "take_profit or stop_loss, one of them"),
        ({"side": "hold"}, "buy"),
        ({"colour": "red"}, "Extra inputs"),
        ({"client_order_id": "x" * 129}, "128"),
    ],
)
def test_what_makes_no_sense(terms: dict[str, Any], why: str) -> None:
    venue = Venue()
    venue.quote(4, 5)
    with pytest.raises(ValidationError, match=why):
        venue.order(**cast("dict[str, Any]", {"side": "buy", "qty": 1} | terms))


def test_a_client_order_id_is_used_once_even_by_an_order_that_ended() -> None:
    venue = Venue()
    venue.quote(99, 100)
    first = venue.order("buy", 1, client_order_id="mine")
    with pytest.raises(RefusedError, match="client_order_id must be unique") as refused:
        venue.order("buy", 1, client_order_id="mine")
    assert (refused.value.status, refused.value.code) == (422, 40010001)
    assert venue.exchange.registry.order_by_client_id("paper", "mine") is first


def test_working_orders_hold_back_what_they_may_cost_and_what_they_may_sell() -> None:
    venue = Venue(cash=1_000)
    venue.quote(99, 100)
    resting = venue.order("buy", 9, limit_price="90")
    assert venue.account.reserved == 810 * 10**6
    with pytest.raises(RefusedError, match="buying power: 190"):
        venue.order("buy", 2)
    venue.cancel(resting)
    venue.order("buy", 9)
    venue.order("sell", 5, limit_price="120")
    with pytest.raises(RefusedError, match="requested: 5, available: 4"):
        venue.order("sell", 5)


def test_an_order_that_could_meet_one_s_own_is_a_wash_trade() -> None:
    venue = Venue()
    venue.quote(99, 100)
    venue.order("buy", 10)
    venue.order("buy", 10, limit_price="98")
    with pytest.raises(RefusedError, match="potential wash trade"):
        venue.order("sell", 10)
    with pytest.raises(RefusedError, match="potential wash trade"):
        venue.order("sell", 10, limit_price="97")
    venue.order("sell", 5, limit_price="105")
    venue.order("sell", 5, stop_price="98.50")


def test_a_margin_account_buys_on_credit_and_sells_short() -> None:
    venue = Venue(cash=10_000, multiplier=2)
    venue.quote(100, 100)
    venue.order("buy", 150)
    price_of = venue.exchange.registry.price_of
    assert venue.cash == -5_000
    assert venue.account.buying_power(price_of) == 5_000 * 10**6
    assert venue.account.maintenance_margin(price_of) == 3_750 * 10**6
    venue.order("sell", 150)
    venue.order("sell", 100)
    assert (venue.held(), venue.cash) == (-100, 20_000)
    assert venue.account.buying_power(price_of) == 10_000 * 10**6
    venue.quote(10, 10, symbol="C")
    with pytest.raises(RefusedError, match="cannot be sold short"):
        venue.order("sell", 1, symbol="C")
    venue.order("buy", 100)
    assert (venue.held(), venue.cash) == (0, 10_000)


def test_a_stranger_s_order_does_not_exist() -> None:
    venue = Venue()
    venue.quote(99, 100)
    order = venue.order("buy", 1, limit_price="90")
    with pytest.raises(RefusedError) as refused:
        venue.exchange.cancel("other", order.id)
    assert (refused.value.status, order.status) == (404, "new")


def test_what_is_over_cannot_be_canceled() -> None:
    venue = Venue()
    venue.quote(99, 100)
    order = venue.order("buy", 1)
    with pytest.raises(RefusedError, match='order is already in "filled" state'):
        venue.cancel(order)
