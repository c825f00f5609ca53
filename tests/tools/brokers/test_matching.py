"""The paper venue's stated rules, bar by bar."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from neural_trader_governance.terms.market import Bar
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.paper import match_bar, match_now


def intent(side: str, type_: str, *, limit: str | None = None, stop: str | None = None) -> OrderIntent:
    return OrderIntent.model_validate(
        {
            "symbol": "AAPL",
            "side": side,
            "quantity": "1",
            "type": type_,
            "limit_price": limit,
            "stop_price": stop,
            "agent": "agent-1",
            "reason": "test",
        }
    )


def bar(open_: float, high: float, low: float, close: float) -> Bar:
    return Bar(
        symbol="AAPL",
        interval="1d",
        event_time=datetime(2020, 1, 2, 14, 30, tzinfo=UTC),
        known_time=datetime(2020, 1, 2, 21, 0, tzinfo=UTC),
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=1,
    )


@pytest.mark.parametrize(
    ("order", "last", "price"),
    [
        (intent("buy", "market"), "100", "100"),
        (intent("buy", "limit", limit="101"), "100", "100"),
        (intent("buy", "limit", limit="99"), "100", None),
        (intent("sell", "limit", limit="99"), "100", "100"),
        (intent("sell", "limit", limit="101"), "100", None),
        (intent("buy", "stop", stop="99"), "100", "100"),
        (intent("buy", "stop", stop="101"), "100", None),
        (intent("sell", "stop", stop="101"), "100", "100"),
        (intent("sell", "stop", stop="99"), "100", None),
        (intent("buy", "stop_limit", stop="99", limit="99.5"), "100", None),
        (intent("buy", "stop_limit", stop="99", limit="100.5"), "100", "100"),
    ],
)
def test_on_arrival_only_the_last_close_counts(order: OrderIntent, last: str, price: str | None) -> None:
    assert match_now(order, Decimal(last)).price == (Decimal(price) if price else None)


@pytest.mark.parametrize(
    ("order", "prices", "price"),
    [
        (intent("buy", "limit", limit="99"), (100, 101, 98.5, 100), "99"),
        (intent("buy", "limit", limit="99"), (97, 101, 96, 100), "97"),
        (intent("buy", "limit", limit="99"), (100, 101, 99.01, 100), None),
        (intent("sell", "limit", limit="102"), (103, 104, 101, 102), "103"),
        (intent("buy", "stop", stop="102"), (100, 103, 99, 101), "102"),
        (intent("buy", "stop", stop="102"), (104, 105, 103, 104), "104"),
        (intent("sell", "stop", stop="98"), (96, 97, 95, 96), "96"),
        (intent("sell", "stop", stop="98"), (100, 101, 98.5, 99), None),
        (intent("buy", "stop_limit", stop="102", limit="103"), (104, 105, 103, 104), None),
        (intent("buy", "stop_limit", stop="102", limit="103"), (100, 105, 99, 104), "102"),
    ],
)
def test_a_later_bar_fills_at_the_stated_price(
    order: OrderIntent, prices: tuple[float, float, float, float], price: str | None
) -> None:
    match = match_bar(order, bar(*prices), triggered=False)
    assert match.price == (Decimal(price) if price else None)


def test_a_triggered_stop_limit_rests_as_a_limit_from_the_next_bar() -> None:
    order = intent("buy", "stop_limit", stop="102", limit="103")
    first = match_bar(order, bar(104, 105, 103.5, 104), triggered=False)
    assert (first.price, first.triggered) == (None, True)
    assert match_bar(order, bar(104, 105, 102.5, 104), triggered=True).price == Decimal(103)


@pytest.mark.parametrize(("side", "expected"), [("buy", "100.13"), ("sell", "100.12")])
def test_prices_off_the_grid_are_rounded_against_the_trader(side: str, expected: str) -> None:
    limit = "101" if side == "buy" else "100"
    order = intent(side, "limit", limit=limit)
    assert match_bar(order, bar(100.125, 102, 99, 100), triggered=False).price == Decimal(expected)
