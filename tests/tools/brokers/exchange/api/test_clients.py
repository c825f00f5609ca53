"""The unmodified alpaca-py drives the exchange: somebody else's code says whether ours speaks Alpaca."""

import json
import queue
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest
from tests.tools.brokers.exchange.api.conftest import KEY, SECRET, WAIT_S, Served

pytest.importorskip("alpaca", reason="alpaca-py is not installed: make peers")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses what websockets will drop; nothing a user can act on
    from alpaca.common.exceptions import APIError
    from alpaca.trading.client import TradingClient
    from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
    from alpaca.trading.requests import (
        ClosePositionRequest,
        GetCalendarRequest,
        GetOrdersRequest,
        LimitOrderRequest,
        MarketOrderRequest,
        ReplaceOrderRequest,
        StopLimitOrderRequest,
        StopLossRequest,
        TakeProfitRequest,
        TrailingStopOrderRequest,
    )
    from alpaca.trading.stream import TradingStream


@pytest.fixture
def client(served: Served) -> Any:
    client: Any = TradingClient(KEY, SECRET, paper=True, url_override=served.url)
    client._session.trust_env = False  # a proxy has no business between two of our own processes
    return client


def market(qty: float = 10, side: OrderSide = OrderSide.BUY, **terms: Any) -> MarketOrderRequest:
    return MarketOrderRequest(symbol="A", qty=qty, side=side, time_in_force=TimeInForce.DAY, **terms)


def limit(price: float, qty: float = 10, **terms: Any) -> LimitOrderRequest:
    given = {"side": OrderSide.BUY, "time_in_force": TimeInForce.GTC} | terms
    return LimitOrderRequest(symbol="A", qty=qty, limit_price=price, **given)


@contextmanager
def stream(served: Served) -> Generator["queue.Queue[Any]"]:
    events: queue.Queue[Any] = queue.Queue()
    trading: Any = TradingStream(KEY, SECRET, url_override=served.url.replace("http", "ws") + "/stream")
    listening = threading.Event()

    async def handle(update: Any) -> None:
        events.put(update)

    say = served.service.listen

    def noticed(account: str) -> Any:
        context = say(account)
        listening.set()
        return context

    served.service.listen = noticed  # type: ignore[method-assign]
    trading.subscribe_trade_updates(handle)
    thread = threading.Thread(target=trading.run, daemon=True)
    thread.start()
    assert listening.wait(WAIT_S)
    try:
        yield events
    finally:
        trading.stop()
        thread.join(WAIT_S)


def test_account_clock_calendar_and_assets_are_understood(served: Served, client: Any) -> None:
    account = client.get_account()
    assert (account.cash, account.multiplier, account.shorting_enabled) == ("100000", "2", True)
    assert account.buying_power == "200000"
    clock = client.get_clock()
    assert clock.is_open
    assert clock.next_close.isoformat() == "2024-01-01T21:00:00+00:00"
    days = client.get_calendar(GetCalendarRequest(start=date(2024, 1, 2), end=date(2024, 1, 3)))
    assert [(day.open.hour, day.close.hour) for day in days] == [(9, 16), (9, 16)]
    assert {asset.symbol for asset in client.get_all_assets()} == {"A", "B", "C"}
    assert client.get_asset("C").fractionable is False
    assert client.get_account_configurations().no_shorting is False


def test_a_market_order_is_filled_and_makes_a_position(served: Served, client: Any) -> None:
    order = client.submit_order(market(client_order_id="mine"))
    assert (order.status, order.filled_avg_price) == (OrderStatus.FILLED, "100")
    assert client.get_order_by_client_id("mine").id == order.id
    [position] = client.get_all_positions()
    assert (position.qty, position.avg_entry_price, position.side.value) == ("10", "100", "long")
    assert client.get_account().cash == "99000"
    served.quote(110, 110.02)
    assert client.get_open_position("A").unrealized_pl == "100.1"


def test_limits_rest_are_replaced_and_canceled(served: Served, client: Any) -> None:
    order = client.submit_order(limit(90))
    assert order.status == OrderStatus.NEW
    new = client.replace_order_by_id(order.id, ReplaceOrderRequest(qty=20, limit_price=91.5))
    assert (new.replaces, new.qty, new.limit_price) == (order.id, "20", "91.5")
    assert client.get_order_by_id(order.id).status == OrderStatus.REPLACED
    client.cancel_order_by_id(new.id)
    assert client.get_order_by_id(new.id).status == OrderStatus.CANCELED
    with pytest.raises(APIError, match="already in") as error:
        client.cancel_order_by_id(new.id)
    refused: Any = error.value
    assert refused.status_code == 422
    closed = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED))
    assert {each.id for each in closed} == {order.id, new.id}
    assert client.get_orders() == []


def test_every_type_and_class_passes(served: Served, client: Any) -> None:
    client.submit_order(market(100))
    trailing = client.submit_order(
        TrailingStopOrderRequest(
            symbol="A", qty=10, side=OrderSide.SELL, time_in_force=TimeInForce.GTC, trail_percent=2.5
        )
    )
    assert (trailing.trail_percent, trailing.stop_price, trailing.hwm) == ("2.5", "97.49", "99.99")
    stop_limit = client.submit_order(
        StopLimitOrderRequest(
            symbol="A",
            qty=10,
            side=OrderSide.SELL,
            time_in_force=TimeInForce.DAY,
            stop_price=95,
            limit_price=94,
        )
    )
    assert stop_limit.status == OrderStatus.NEW
    client.cancel_orders()
    bracket = client.submit_order(
        market(
            10,
            order_class=OrderClass.BRACKET,
            take_profit=TakeProfitRequest(limit_price=120),
            stop_loss=StopLossRequest(stop_price=80, limit_price=79),
        )
    )
    assert bracket.legs is not None
    assert [leg.type.value for leg in bracket.legs] == ["limit", "stop_limit"]
    oco = client.submit_order(
        LimitOrderRequest(
            symbol="A",
            qty=50,
            side=OrderSide.SELL,
            time_in_force=TimeInForce.GTC,
            order_class=OrderClass.OCO,
            take_profit=TakeProfitRequest(limit_price=130),
            stop_loss=StopLossRequest(stop_price=70),
        )
    )
    nested = client.get_orders(GetOrdersRequest(nested=True))
    assert oco.id in {each.id for each in nested}
    client.cancel_orders()
    assert (
        client.submit_order(
            MarketOrderRequest(symbol="A", notional=123.45, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
        ).filled_qty
        == "1.2345"
    )


def test_positions_are_closed_in_part_and_whole(served: Served, client: Any) -> None:
    client.submit_order(market(100))
    client.close_position("A", ClosePositionRequest(percentage="25"))
    assert client.get_open_position("A").qty == "75"
    answers = client.close_all_positions(cancel_orders=True)
    assert [answer.status for answer in answers] == [200]
    assert client.get_all_positions() == []


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (lambda: market(1e6), 403, "insufficient buying power"),
        (lambda: limit(1.001), 422, "sub-penny"),
        (
            lambda: LimitOrderRequest(
                symbol="A", qty=1.5, side=OrderSide.BUY, time_in_force=TimeInForce.GTC, limit_price=5
            ),
            422,
            "fractional orders",
        ),
    ],
)
def test_refusals_arrive_as_api_errors(
    served: Served, client: Any, request_: Any, status: int, why: str
) -> None:
    with pytest.raises(APIError, match=why) as error:
        client.submit_order(request_())
    refused: Any = error.value
    assert refused.status_code == status
    assert json.loads(str(refused))["code"] > 0


def test_an_id_is_taken_once(served: Served, client: Any) -> None:
    client.submit_order(market(client_order_id="once"))
    with pytest.raises(APIError, match="must be unique"):
        client.submit_order(market(client_order_id="once"))
    assert client.get_open_position("A").qty == "10"


def test_a_wrong_key_is_refused(served: Served) -> None:
    client: Any = TradingClient(KEY, "wrong", paper=True, url_override=served.url)
    client._session.trust_env = False
    with pytest.raises(APIError, match="not authorized"):
        client.get_account()


def test_the_trading_stream_tells_every_step(served: Served, client: Any) -> None:
    with stream(served) as events:
        order = client.submit_order(limit(99.50))
        served.quote(99.40, 99.45, size=4)
        served.quote(99.40, 99.45, size=100)
        told = [events.get(timeout=WAIT_S) for _ in range(3)]
    assert [str(each.event) for each in told] == ["new", "partial_fill", "fill"]
    assert {each.order.id for each in told} == {order.id}
    assert [(each.price, each.qty, each.position_qty) for each in told[1:]] == [(99.5, 4, 4), (99.5, 6, 10)]
    assert told[-1].execution_id is not None
