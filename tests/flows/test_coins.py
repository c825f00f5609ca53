"""The desk at a crypto exchange: our server over ccxt, an exchange's API on this machine behind it."""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from pydantic import SecretStr
from tests.flows.test_broker import call
from tests.tools.brokers.ccxt_loopback import KEY, SECRET, TradingLoopback

from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.broker_services import open_ccxt
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.ingest import import_file
from neural_trader_tools.orders.history import disagreements

pytestmark = pytest.mark.anyio


def at_kraken(url: str, **settings: Any) -> Settings:
    words = {"broker": "ccxt", "broker_exchange": "kraken", "broker_url": url}
    keys = {"broker_key_id": SecretStr(KEY), "broker_secret_key": SecretStr(SECRET)}
    return Settings.model_validate(words | keys | settings)


def coins(home: Home, folder: Path) -> None:
    """Puts days of a made-up BTC/USD into the archive, up to where the desk's clock stands."""
    first = datetime(2012, 5, 1)  # noqa: DTZ001 - a date of a file
    rows = [f"{first + timedelta(days=day):%Y-%m-%d},10,10.6,9.5,10.5,90000" for day in range(66)]
    file = folder / "coins.csv"
    file.write_text("\n".join(["date,open,high,low,close,volume", *rows]) + "\n")
    import_file(Archive(home.archive), file, "BTC/USD", asset_class="crypto", calendar="24/7")


async def test_the_whole_way_over_ccxt(home: Home, tmp_path: Path) -> None:
    exchange = TradingLoopback()
    coins(home, tmp_path)
    terms = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "time_in_force": "gtc", "reason": "a flow"}
    with exchange.serve():
        exchange.balances = {"USD": "100000", "BTC": "0"}
        async with open_desk(home, at_kraken(exchange.url)) as services:
            await services.desk.set_clock(services.clock.now().replace(2012, 7, 2, 22, 0, 0, 0))
            async with Client(build_server(services, toolsets="trading,portfolio")) as client:
                assert await services.desk.compare(services.caller) == []  # asks, and so learns the steps
                off = await client.call_tool(
                    "orders_preview", {**terms, "quantity": "1.123456789", "limit_price": "10.5"}
                )
                assert "1.12345678 or 1.12345679" in str(off.content)
                preview = await call(client, "orders_preview", **terms, quantity="2.5", limit_price="10.5")
                assert preview["verdict"]["decision"] == "allow", preview["verdict"]
                bought = await call(client, "orders_submit", preview_id=preview["preview_id"])
                assert (bought["state"], bought["mode"]) == ("accepted", "paper")
                exchange.fill(exchange.orders[0], "2.5", "10.4", "0.0676")
                exchange.balances = {"USD": "99973.9324", "BTC": "2.5"}
                await services.desk.reconcile(services.caller)
                held = await call(client, "portfolio_get")
                assert [(row["symbol"], Decimal(row["quantity"])) for row in held["positions"]] == [
                    ("BTC/USD", Decimal("2.5"))
                ]
                assert Decimal(held["cash"]) == Decimal("99973.93")
                assert await services.desk.compare(services.caller) == [], "the venue's books are the desk's"
            with services.store.read() as connection:
                assert disagreements(connection) == []
    assert verify_store(home.desk_db, home.log_vkey.read_text()).ok
    assert len(exchange.made) == 1


def test_real_coins_are_not_traded_by_accident(tmp_path: Path) -> None:
    far = "https://paper-api.alpaca.markets"  # the setting's default, which is none of ccxt's

    def opened(**settings: Any) -> None:
        open_ccxt(at_kraken(far, **settings), tmp_path / "config.toml", WallClock(), lambda: lacking)

    lacking: Any = None  # no order is asked about
    for settings, code in (({"broker_sandbox": False}, "live_not_switched_on"), ({}, "no_sandbox")):
        with pytest.raises(ConfigurationError, match=code):
            opened(**settings)
