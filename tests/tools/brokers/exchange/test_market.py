"""The archive as a market: real prices and corporate actions, in the order in which they happened."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from tests.tools.brokers.exchange.venues import DOLLAR

from neural_trader_governance.errors import DataError
from neural_trader_tools.brokers.exchange import amounts
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.hours import exchange_hours
from neural_trader_tools.brokers.exchange.market import archive_instants, from_ns, last_bars, to_ns
from neural_trader_tools.brokers.exchange.matching import FillRules
from neural_trader_tools.brokers.exchange.requests import OrderRequest
from neural_trader_tools.brokers.exchange.rules import Asset
from neural_trader_tools.brokers.exchange.venue import VenueRules
from neural_trader_tools.market.archive import Archive

START = datetime(2005, 2, 24, 21, tzinfo=UTC)


def test_a_position_lives_through_apple_s_split_of_2005(sample_archive_root: Path) -> None:
    archive = Archive(sample_archive_root)
    account = Account("paper", "KEY", 100_000 * DOLLAR)
    exchange = Exchange(
        exchange_hours("XNYS", date(2005, 1, 1), date(2005, 12, 31)),
        [Asset("AAPL"), Asset("MSFT")],
        [account],
        venue=VenueRules(fills=FillRules(participation_bp=0)),
        start_ns=to_ns(START),
    )
    for bar in last_bars(archive, ["AAPL", "MSFT"], "1d", START):
        exchange.registry.book(bar.symbol).see(bar)
    order = OrderRequest.model_validate(
        {"symbol": "AAPL", "qty": "100", "side": "buy", "type": "market", "time_in_force": "gtc"}
    )
    placed = exchange.submit("paper", order)
    ends = datetime(2005, 3, 1, 22, tzinfo=UTC)
    instants = list(archive_instants(archive, ["AAPL", "MSFT"], "1d", start=START, end=ends))
    closes = [from_ns(each.time_ns) for each in instants if each.bars]
    assert closes == [datetime(2005, *day, 21, tzinfo=UTC) for day in ((2, 25), (2, 28), (3, 1))]
    for instant in instants:
        instant.happen(exchange)
    raw = archive.bars("AAPL", "1d", start=START, as_of=ends, adjust="none")
    assert placed.average_price is not None
    assert float(placed.average_price) == pytest.approx(raw.item(0, "open"), abs=0.005)
    assert placed.status == "filled"
    assert account.held("AAPL") == 200 * amounts.SHARE, "two for one on 2005-02-28"
    activities = exchange.drain().activities
    assert [(each.kind, each.per_share) for each in activities] == [("SPLIT", "2/1")]
    assert exchange.registry.price_of("AAPL") == amounts.nearest_price(44.50)


def test_a_market_without_a_first_price_is_refused(sample_archive_root: Path) -> None:
    with pytest.raises(DataError, match="nothing was known of FB"):
        last_bars(Archive(sample_archive_root), ["FB"], "1d", START)
