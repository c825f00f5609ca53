"""What the market shows of a symbol: shares of volume, distances from a reference, and its memory."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.market import Quote
from neural_trader_tools.orders.surroundings import Lookout, Surroundings

NOW = datetime(2013, 3, 1, 21, tzinfo=UTC)
_prices = st.decimals("0.01", "10000", places=2)


def _around(
    last: str | Decimal | None, reference: str | Decimal = "100", volume: str = "1000"
) -> Surroundings:
    quote = None
    if last is not None:
        quote = Quote(symbol="AAPL", last=Decimal(last), event_time=NOW, known_time=NOW, source="test")
    return Surroundings(NOW, True, quote, "", Decimal(volume), Decimal(reference))


@pytest.mark.parametrize(
    ("quantity", "volume", "bps"),
    [("100", "1000", 1_000), ("100.000000001", "1000", 1_001), ("0.000000001", "1000", 1), ("5", "0", 0)],
)
def test_the_share_of_volume_is_rounded_up_and_unknown_is_zero(quantity: str, volume: str, bps: int) -> None:
    assert _around("100", volume=volume).volume_share_bps(Decimal(quantity)) == bps


@pytest.mark.parametrize(
    ("side", "last", "price", "bps"),
    [
        ("buy", "125", "125", 2_500),
        ("buy", "125.01", "125.01", 2_501),
        ("sell", "75", "75", 2_500),
        ("sell", "74.99", "74.99", 2_501),
        ("buy", "100", "126", 2_600),
        ("buy", "100", "60", 0),  # a passive limit buys nothing dear
        ("sell", "100", "60", 4_000),
        ("sell", "100", "140", 0),
        ("buy", "70", "70", 3_000),  # the market itself has left
    ],
)
def test_the_market_counts_either_way_and_the_orders_price_where_it_is_worse(
    side: Any, last: str, price: str, bps: int
) -> None:
    assert _around(last).reference_move_bps(side, Decimal(price)) == bps


def test_without_a_quote_or_a_reference_there_is_no_distance() -> None:
    assert _around(None).reference_move_bps("buy", Decimal(7)) == 0
    assert _around("100", reference="0").reference_move_bps("buy", Decimal(7)) == 0


@given(_prices, _prices, _prices)
def test_a_worse_price_is_never_nearer(last: Decimal, price: Decimal, reference: Decimal) -> None:
    around = _around(last, reference)
    assert around.reference_move_bps("buy", max(price, last)) >= around.reference_move_bps("buy", last)
    assert around.reference_move_bps("sell", min(price, last)) >= around.reference_move_bps("sell", last)


def test_what_was_seen_is_remembered_until_the_clock_moves(make_floor: Any) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, tzinfo=UTC))
    lookout = Lookout(floor.archive, floor.replay)
    first = lookout.at("AAPL")
    assert lookout.at("AAPL") is first
    floor.replay.step()
    second = lookout.at("AAPL")
    assert second.desk_time > first.desk_time
    assert second.quote != first.quote
    with pytest.raises(DataError, match="unknown_symbol"):
        lookout.at("AAPLE")
