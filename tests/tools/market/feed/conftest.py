"""Makers of ticks: only what a test is about needs to be said."""

from collections.abc import Callable

import pytest
from tests.tools.market.providers.conftest import (
    alpaca_api,
    alpaca_live,
    alpaca_server,
    alpaca_stream_server,
    hand,
    make_alpaca,
    make_alpaca_stream,
    make_massive,
    massive_api,
    massive_server,
)

from neural_trader_tools.market.feed.ticks import SECOND_NS, Quote, Trade, parse_ns

__all__ = [  # fixtures of the providers' tests
    "alpaca_api",
    "alpaca_live",
    "alpaca_server",
    "alpaca_stream_server",
    "hand",
    "make_alpaca",
    "make_alpaca_stream",
    "make_massive",
    "massive_api",
    "massive_server",
]
START_NS = parse_ns("2026-11-20T15:30:00.000000001Z")


@pytest.fixture
def trade() -> Callable[..., Trade]:
    """Makes `trade(price, at_s)`, each with an id of its own."""
    made = 0

    def make(
        price: float = 100.0,
        at_s: float = 0.0,
        *,
        symbol: str = "AAPL",
        size: float = 100.0,
        trade_id: str = "",
    ) -> Trade:
        nonlocal made
        made += 1
        event_ns = START_NS + round(at_s * SECOND_NS)
        return Trade(symbol, price, size, event_ns, event_ns + 1_000_000, trade_id or str(made), "V")

    return make


@pytest.fixture
def quote() -> Callable[..., Quote]:
    """Makes `quote(bid, ask, at_s)`."""

    def make(
        bid: float = 99.0,
        ask: float = 101.0,
        at_s: float = 0.0,
        *,
        bid_size: float = 1.0,
        ask_size: float = 1.0,
    ) -> Quote:
        event_ns = START_NS + round(at_s * SECOND_NS)
        return Quote("AAPL", bid, bid_size, ask, ask_size, event_ns, event_ns + 1_000_000, "V")

    return make
