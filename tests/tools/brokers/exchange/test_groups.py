"""Brackets, one-cancels-other, one-triggers-other; cancels and replacements that race with fills."""

from typing import Any

import pytest
from tests.tools.brokers.exchange.venues import MINUTE, SECOND, Venue

from neural_trader_tools.brokers.exchange.matching import FillRules
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.requests import ReplaceRequest
from neural_trader_tools.brokers.exchange.rules import RefusedError

ALL = FillRules(participation_bp=0)


def bracket(venue: Venue, qty: int = 100, **terms: Any) -> tuple[VenueOrder, VenueOrder, VenueOrder]:
    order = venue.order(
        "buy",
        qty,
        time_in_force="gtc",
        order_class="bracket",
        take_profit={"limit_price": "110"},
        stop_loss={"stop_price": "95"},
        **terms,
    )
    entry, gain, loss = venue.exchange.registry.group(order)
    assert (entry.role, gain.role, loss.role) == ("entry", "take_profit", "stop_loss")
    return entry, gain, loss


def replace(venue: Venue, order: VenueOrder, **terms: Any) -> VenueOrder:
    new = venue.exchange.replace("paper", order.id, ReplaceRequest(**terms))
    venue.drain()
    return new


def test_a_bracket_s_legs_awake_with_the_entry_and_one_ends_the_other() -> None:
    venue = Venue(fills=ALL)
    venue.quote(99.99, 100, size=60)
    entry, gain, loss = bracket(venue)
    assert (entry.status, gain.status, loss.status) == ("partially_filled", "held", "held")
    venue.quote(99.99, 100, size=60)
    assert (entry.status, gain.status, loss.status) == ("filled", "new", "new")
    venue.quote(110.5, 110.6, size=1000)
    assert venue.fills(gain) == [(110.0, 100)]
    assert (loss.status, venue.held()) == ("canceled", 0)


def test_in_one_bar_the_stop_is_taken_before_the_profit() -> None:
    venue = Venue(fills=ALL)
    venue.bar(100, 100, 100, 100)
    _, gain, loss = bracket(venue)
    venue.bar(100, 100, 100, 100)
    venue.bar(100, 120, 90, 100)
    assert venue.fills(loss) == [(95.0, 100)]
    assert gain.status == "canceled"


def test_legs_do_not_trade_in_the_bar_that_filled_their_entry() -> None:
    venue = Venue(fills=ALL)
    venue.bar(100, 100, 100, 100)
    _, gain, loss = bracket(venue)
    venue.bar(100, 120, 90, 100)
    assert (gain.status, loss.status) == ("new", "new")


def test_what_one_leg_fills_the_other_may_not() -> None:
    venue = Venue()
    venue.quote(99.99, 100)
    _, gain, loss = bracket(venue)
    venue.quote(110, 110.1, size=30)
    assert venue.fills(gain) == [(110.0, 30)]
    venue.quote(95, 95.1, size=500)
    assert venue.fills(loss) == [(95.0, 70)]
    assert (gain.status, venue.held()) == ("canceled", 0)


def test_an_entry_canceled_in_part_wakes_its_legs_for_what_it_bought() -> None:
    venue = Venue()
    venue.quote(99.99, 100, size=40)
    entry, gain, loss = bracket(venue)
    venue.cancel(entry)
    assert (gain.status, loss.status, gain.open_quantity, loss.open_quantity) == ("new", "new", 40e9, 40e9)
    venue.quote(90, 91)
    assert venue.held() == 0


def test_an_entry_canceled_untouched_takes_its_legs_along() -> None:
    venue = Venue()
    venue.quote(99.99, 100)
    entry, gain, loss = bracket(venue, type="limit", limit_price="98")
    venue.cancel(entry)
    assert {entry.status, gain.status, loss.status} == {"canceled"}
    assert (venue.account.reserved, venue.exchange.registry.open_orders("paper")) == (0, [])


def test_to_cancel_one_leg_cancels_both() -> None:
    venue = Venue()
    venue.quote(99.99, 100)
    _, gain, loss = bracket(venue)
    venue.cancel(gain)
    assert {gain.status, loss.status} == {"canceled"}
    assert venue.held() == 100


def test_one_cancels_other_closes_a_position_and_needs_one() -> None:
    venue = Venue()
    venue.quote(99.99, 100)
    terms: dict[str, Any] = {
        "type": "limit",
        "order_class": "oco",
        "take_profit": {"limit_price": "110"},
        "stop_loss": {"stop_price": "95", "limit_price": "94"},
    }
    with pytest.raises(RefusedError, match="must close a position"):
        venue.order("sell", 10, **terms)
    venue.order("buy", 10)
    gain, loss = venue.exchange.registry.group(venue.order("sell", 10, **terms))
    assert (gain.type, loss.type) == ("limit", "stop_limit")
    venue.quote(94.5, 94.6)
    assert venue.fills(loss) == [(94.5, 10)]
    assert gain.status == "canceled"


def test_one_triggers_other() -> None:
    venue = Venue()
    venue.quote(99.99, 100)
    entry = venue.order("buy", 10, order_class="oto", stop_loss={"stop_price": "95"})
    leg = venue.exchange.registry.group(entry)[1]
    assert (leg.side, leg.status) == ("sell", "new")
    venue.quote(95, 95.1)
    assert venue.held() == 0


def test_a_fill_that_is_faster_than_its_cancel_stands() -> None:
    venue = Venue(latency_ns=SECOND)
    venue.quote(99, 100)
    order = venue.order("buy", 10, limit_price="98")
    venue.wait(2 * SECOND)
    venue.cancel(order)
    assert order.status == "pending_cancel"
    venue.quote(97, 97.5)
    assert venue.fills(order) == [(98.0, 10)]
    venue.wait(2 * SECOND)
    assert order.status == "filled"
    assert venue.told(order) == ["pending_new", "new", "pending_cancel", "fill", "order_cancel_rejected"]


def test_a_replacement_takes_the_open_quantity_and_counts_what_is_filled() -> None:
    venue = Venue()
    venue.quote(99, 100, size=30)
    order = venue.order("buy", 100, limit_price="100")
    new = replace(venue, order, limit_price="101.00", qty=80)
    assert (order.status, order.replaced_by, new.replaces) == ("replaced", new.id, order.id)
    assert new.quantity == 50 * 10**9
    venue.quote(100, 100.5)
    assert venue.held() == 80
    with pytest.raises(RefusedError, match='cannot replace an order in "replaced" state'):
        replace(venue, order, limit_price="99")
    assert venue.account.reserved == 0


def test_a_replacement_that_a_fill_overtook_is_rejected() -> None:
    venue = Venue(latency_ns=SECOND)
    venue.quote(99, 100)
    order = venue.order("buy", 10, limit_price="98")
    venue.wait(2 * SECOND)
    new = replace(venue, order, limit_price="98.50")
    assert (order.status, new.status) == ("pending_replace", "pending_new")
    venue.quote(97, 97.5)
    venue.wait(2 * SECOND)
    assert (order.status, new.status) == ("filled", "rejected")
    assert venue.told(order)[-1] == "order_replace_rejected"
    assert (venue.held(), venue.account.reserved) == (10, 0)


def test_what_was_filled_on_the_way_counts_against_the_replacement() -> None:
    venue = Venue(latency_ns=SECOND)
    venue.quote(99, 100)
    order = venue.order("buy", 10, limit_price="98")
    venue.wait(2 * SECOND)
    new = replace(venue, order, limit_price="98.50")
    venue.quote(97, 97.5, size=4)
    venue.wait(2 * SECOND)
    assert (order.filled, order.status) == (4 * 10**9, "replaced")
    assert (new.status, new.open_quantity) == ("new", 6 * 10**9)


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"stop_price": "90"}, "a limit order has no stop_price"),
        ({"trail": "1"}, "a limit order has no trail"),
        ({"time_in_force": "ioc"}, "cannot change from day to ioc"),
        ({"qty": "1.5"}, "only whole shares"),
    ],
)
def test_terms_that_an_order_does_not_have_cannot_be_replaced(terms: dict[str, str], why: str) -> None:
    venue = Venue()
    venue.quote(99, 100)
    order = venue.order("buy", 10, limit_price="98")
    with pytest.raises(RefusedError, match=why):
        replace(venue, order, **terms)
    assert order.status == "new"


def test_a_rejection_by_chance_is_told_and_frees_the_cash() -> None:
    venue = Venue(reject_millionths=10**6)
    venue.quote(99, 100)
    order = venue.order("buy", 10)
    assert (order.status, venue.account.reserved) == ("rejected", 0)


def test_a_split_cancels_what_waits_and_changes_what_is_held() -> None:
    venue = Venue()
    venue.quote(99.99, 100)
    venue.order("buy", 10)
    waiting = venue.order("sell", 10, limit_price="120", time_in_force="gtc")
    venue.exchange.split("A", 4, 1)
    venue.exchange.pay_dividend("A", 250_000)
    assert (venue.held(), waiting.status) == (40, "canceled")
    assert venue.cash == 99_000 + 10
    kinds = [(each.kind, each.per_share) for each in venue.exchange.drain().activities]
    assert kinds == [("SPLIT", "4/1"), ("DIV", "0.25")]


def test_the_same_calls_give_the_same_updates() -> None:
    def story(seed: int) -> list[object]:
        venue = Venue(seed=seed, latency_ns=SECOND, jitter_ns=5 * MINUTE, reject_millionths=200_000)
        venue.quote(99, 100)
        for number in range(40):
            venue.order("buy", 1 + number, limit_price="99.50", client_order_id=f"c{number}")
            venue.quote(99 - number % 3, 100 - number % 3, at=7 * SECOND)
        return [venue.events, venue.executions, venue.account]

    assert story(1) == story(1)
    assert story(1) != story(2)
