"""At which price, how much and in which order: all types against quotes, prints and bars."""

from typing import Any

import pytest
from tests.tools.brokers.exchange.venues import DOLLAR, HOUR, MINUTE, SECOND, START, Venue, sessions

from neural_trader_tools.brokers.exchange.matching import FillRules
from neural_trader_tools.brokers.exchange.rules import RefusedError
from neural_trader_tools.brokers.exchange.venue import Fees

ALL = FillRules(participation_bp=0)


def test_a_market_order_takes_the_quote_s_far_side_and_waits_for_more() -> None:
    venue = Venue()
    venue.quote(99.98, 100.00, size=40)
    order = venue.order("buy", 100)
    assert venue.fills(order) == [(100.0, 40)]
    assert order.status == "partially_filled"
    venue.quote(100.01, 100.02, size=100)
    assert venue.fills(order) == [(100.0, 40), (100.02, 60)]
    assert order.status == "filled"
    assert str(order.average_price) == "100.012000"
    assert venue.told(order) == ["new", "partial_fill", "fill"]
    assert (venue.held(), venue.cash) == (100, 100_000 - 4_000 - 6_001.2)


def test_a_quote_s_size_is_taken_once() -> None:
    venue = Venue()
    venue.quote(99.98, 100.00, size=50)
    first, second = venue.order("buy", 50), venue.order("buy", 50)
    assert venue.fills(first) == [(100.0, 50)]
    assert venue.fills(second) == []


def test_a_limit_that_crosses_on_arrival_is_improved_and_one_that_rests_gets_its_own_price() -> None:
    venue = Venue()
    venue.quote(99.98, 100.00)
    assert venue.fills(venue.order("buy", 10, limit_price="100.05")) == [(100.0, 10)]
    resting = venue.order("buy", 10, limit_price="99.90")
    assert venue.fills(resting) == []
    venue.quote(99.80, 99.85)
    assert venue.fills(resting) == [(99.9, 10)]


@pytest.mark.parametrize(("touch", "filled"), [(False, []), (True, [(99.9, 10)])])
def test_a_print_at_the_limit_fills_only_where_the_rules_say_so(touch: bool, filled: list[Any]) -> None:
    venue = Venue(fills=FillRules(limits_touch=touch))
    venue.print(100)
    order = venue.order("buy", 10, limit_price="99.90")
    venue.print(99.90)
    assert venue.fills(order) == filled
    venue.print(99.89)
    assert venue.fills(order) == [(99.9, 10)]


def test_a_print_s_size_is_shared_by_price_then_time() -> None:
    venue = Venue(fills=FillRules(participation_bp=5_000))
    venue.print(100)
    early = venue.order("buy", 30, limit_price="99.90")
    late = venue.order("buy", 30, limit_price="99.90")
    better = venue.order("buy", 30, limit_price="99.95")
    venue.print(99.5, size=100)
    assert venue.fills(better) == [(99.95, 30)]
    assert venue.fills(early) == [(99.9, 20)]
    assert venue.fills(late) == []


def test_a_market_order_waits_for_the_next_bar_s_open() -> None:
    venue = Venue(fills=ALL)
    venue.bar(100, 101, 99, 100)
    order = venue.order("buy", 10)
    assert venue.fills(order) == []
    venue.bar(102, 103, 101, 103)
    assert venue.fills(order) == [(102.0, 10)]


def test_with_fills_at_last_it_trades_at_the_last_close() -> None:
    venue = Venue(fills=FillRules(participation_bp=0, fills_at_last=True))
    venue.bar(100, 101, 99, 100.5)
    assert venue.fills(venue.order("buy", 10)) == [(100.5, 10)]
    assert venue.fills(venue.order("sell", 5, limit_price="101")) == []


@pytest.mark.parametrize(
    ("terms", "bar", "fill"),
    [
        ({"limit_price": "99"}, (100, 101, 98, 99), 99.0),
        ({"limit_price": "99"}, (98.5, 101, 98, 99), 98.5),
        ({"limit_price": "99"}, (100, 101, 99, 99), None),
        ({"stop_price": "102"}, (100, 103, 99, 99), 102.0),
        ({"stop_price": "102"}, (104, 105, 103, 104), 104.0),
        ({"stop_price": "102"}, (100, 101.99, 99, 99), None),
        ({"stop_price": "102", "limit_price": "103"}, (100, 103, 99, 99), 102.0),
        ({"stop_price": "102", "limit_price": "103"}, (104, 105, 103.5, 104), None),
    ],
)
def test_a_buy_in_one_bar(terms: dict[str, str], bar: tuple[float, ...], fill: float | None) -> None:
    venue = Venue(fills=ALL)
    venue.bar(100, 100, 100, 100)
    order = venue.order("buy", 10, **terms)
    venue.bar(*bar)  # pyright: ignore[reportArgumentType] - four prices
    assert venue.fills(order) == ([] if fill is None else [(fill, 10)])


def test_a_stop_limit_that_a_gap_jumped_rests_as_a_limit() -> None:
    venue = Venue(fills=ALL)
    venue.bar(100, 100, 100, 100)
    order = venue.order("buy", 10, stop_price="102", limit_price="103", time_in_force="gtc")
    venue.bar(104, 105, 103.5, 104)
    venue.bar(104, 105, 102.5, 104)
    assert venue.fills(order) == [(103.0, 10)]


def test_a_trailing_stop_follows_earlier_bars_only() -> None:
    venue = Venue(fills=ALL)
    venue.bar(100, 100, 100, 100)
    venue.order("buy", 10)
    venue.bar(100, 100, 100, 100)
    order = venue.order("sell", 10, trail_price="2", time_in_force="gtc")
    assert order.stop == 98_0000
    venue.bar(100, 110, 99, 109)  # its high comes before or after its low: the stop it makes waits
    assert venue.fills(order) == []
    assert order.stop == 108_0000
    venue.bar(109, 109, 107, 108)
    assert venue.fills(order) == [(108.0, 10)]


def test_a_trail_in_percent_lies_on_the_tick_grid_below_its_mark() -> None:
    venue = Venue(fills=ALL)
    venue.quote(33.32, 33.33)
    venue.order("buy", 10)
    order = venue.order("sell", 10, trail_percent="1", time_in_force="gtc")
    assert order.stop == 32_9800  # 33.32 - 0.3332, down to the cent
    venue.quote(40, 40.01)
    assert order.stop == 39_6000
    venue.quote(39.60, 39.65)
    assert venue.fills(order) == [(39.6, 10)]


def test_a_bar_s_volume_bounds_what_is_filled_and_the_rest_follows() -> None:
    venue = Venue(fills=FillRules(participation_bp=1_000))
    venue.bar(100, 100, 100, 100)
    order = venue.order("buy", 150)
    venue.bar(100, 100, 100, 100, volume=1_005)
    assert venue.fills(order) == [(100.0, 100)], "whole orders are filled in whole shares"
    venue.bar(101, 101, 101, 101, volume=1_000)
    assert venue.fills(order) == [(100.0, 100), (101.0, 50)]


def test_slippage_and_impact_go_against_the_order_and_never_beyond_its_limit() -> None:
    venue = Venue(fills=FillRules(participation_bp=0, slippage_bp=10, impact_bp=100))
    venue.bar(100, 100, 100, 100)
    buy = venue.order("buy", 100)
    venue.bar(100, 100, 100, 100, volume=10_000)
    # 10 bp + 100 bp x sqrt(100 / 10,000) = 20 bp
    assert venue.fills(buy) == [(100.2, 100)]
    sell = venue.order("sell", 100)
    venue.bar(100, 100, 100, 100, volume=10_000)
    assert venue.fills(sell) == [(99.8, 100)]
    venue.quote(100, 100.01)
    limited = venue.order("buy", 1, limit_price="100.02")
    assert venue.fills(limited) == [(100.02, 1)]


@pytest.mark.parametrize(("tif", "filled", "status"), [("ioc", 40, "canceled"), ("fok", 0, "canceled")])
def test_what_would_not_wait_is_canceled(tif: str, filled: int, status: str) -> None:
    venue = Venue()
    venue.quote(99, 100, size=40)
    order = venue.order("buy", 100, limit_price="100", time_in_force=tif)
    assert sum(quantity for _, quantity in venue.fills(order)) == filled
    assert order.status == status
    assert venue.account.reserved == 0


def test_without_a_quote_an_ioc_order_meets_one_bar_and_no_more() -> None:
    venue = Venue(fills=FillRules(participation_bp=1_000))
    venue.bar(100, 100, 100, 100)
    order = venue.order("buy", 100, limit_price="101", time_in_force="ioc")
    venue.bar(100, 100, 100, 100, volume=300)
    assert venue.fills(order) == [(100.0, 30)]
    assert order.status == "canceled"


def test_orders_for_the_open_and_the_close_meet_just_that() -> None:
    venue = Venue(hours=sessions(), start_ns=START + 14 * HOUR, fills=ALL)
    venue.quote(99, 100)
    opening = venue.order("buy", 10, time_in_force="opg")
    closing = venue.order("buy", 10, time_in_force="cls")
    assert {opening.status, closing.status} == {"accepted"}
    venue.wait(30 * MINUTE)
    venue.print(101)
    assert venue.fills(opening) == [(101.0, 10)]
    with pytest.raises(RefusedError, match="opg orders are not accepted"):
        venue.order("buy", 10, time_in_force="opg")
    venue.print(103, at=6 * HOUR)
    assert venue.fills(closing) == []
    venue.wait(25 * MINUTE)
    with pytest.raises(RefusedError, match="cls orders are not accepted"):
        venue.order("buy", 10, time_in_force="cls")
    venue.wait(HOUR)
    assert venue.fills(closing) == [(103.0, 10)]


def test_a_day_order_lives_for_one_session_and_gtc_stays() -> None:
    venue = Venue(hours=sessions(), start_ns=START + 22 * HOUR)
    venue.print(100)
    day = venue.order("buy", 1, limit_price="50")
    stays = venue.order("buy", 1, limit_price="50", time_in_force="gtc")
    assert {day.status, stays.status} == {"accepted"}
    venue.wait(17 * HOUR)
    assert {day.status, stays.status} == {"new"}
    venue.print(49, at=30 * 60 * SECOND)
    assert {day.status, stays.status} == {"filled"}
    late = venue.order("buy", 1, limit_price="40")
    venue.wait(6 * HOUR)
    assert late.status == "expired"
    assert venue.account.reserved == 0


def test_outside_the_session_only_orders_for_extended_hours_trade() -> None:
    venue = Venue(hours=sessions(), start_ns=START + 10 * HOUR)
    venue.quote(99, 100)
    regular = venue.order("buy", 1, limit_price="100")
    early = venue.order("buy", 1, limit_price="100", extended_hours=True)
    assert (regular.status, early.status) == ("accepted", "filled")
    venue.quote(98, 99)
    assert regular.status == "accepted"


def test_a_notional_order_spends_no_more_than_it_says() -> None:
    venue = Venue(fills=FillRules(participation_bp=0, slippage_bp=10))
    venue.bar(3, 3, 3, 3)
    order = venue.order("buy", None, notional="1000")
    venue.bar(3, 3, 3, 3)
    assert order.status == "filled"
    assert 0 <= venue.cash - 99_000 < 0.00001
    assert venue.held() == pytest.approx(1000 / 3.01, abs=1e-9)


def test_fees_are_taken_from_cash() -> None:
    venue = Venue(fees=Fees(commission_millionths=1_000, per_share_micros=5_000, minimum_micros=DOLLAR))
    venue.quote(99, 100)
    venue.order("buy", 1)
    assert venue.cash == 100_000 - 100 - 1
    venue.order("buy", 100)
    assert venue.cash == pytest.approx(100_000 - 101 - 10_000 - 10 - 0.5)


def test_nothing_trades_while_a_symbol_is_halted() -> None:
    venue = Venue(fills=ALL)
    venue.quote(99, 100)
    venue.exchange.halt("A")
    order = venue.order("buy", 10)
    venue.quote(98, 99)
    venue.print(99)
    assert venue.fills(order) == []
    venue.exchange.resume("A")
    venue.quote(97, 98)
    assert venue.fills(order) == [(98.0, 10)]


def test_an_order_that_came_while_a_bar_was_made_waits_for_the_next() -> None:
    venue = Venue(fills=ALL, latency_ns=10 * SECOND)
    venue.bar(100, 100, 100, 100)
    order = venue.order("buy", 10)
    assert order.status == "pending_new"
    venue.bar(101, 101, 101, 101)
    assert venue.fills(order) == []
    venue.bar(102, 102, 102, 102)
    assert venue.fills(order) == [(102.0, 10)]
    assert venue.told(order) == ["pending_new", "new", "fill"]
