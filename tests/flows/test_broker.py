"""The desk at a broker: our server with Alpaca's API behind it, spoken by our exchange in another process."""

from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route
from tests.flows.test_exchange import served

from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.app import Services, build_server, open_desk
from neural_trader_server.front import own_names
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.monitoring import Monitor, open_tallies
from neural_trader_server.settings import Settings
from neural_trader_tools.orders.history import disagreements, replay

pytestmark = pytest.mark.anyio
START = "2012-06-04T22:00:00Z"
MARKET = ("--symbol", "AAPL", "--start", START, "--calendar", "24/7", "--fill-at-last", "--per-minute", "0")


async def call(client: Client, name: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def trade(client: Client, **terms: object) -> dict[str, Any]:
    preview = await call(client, "orders_preview", symbol="AAPL", reason="a flow", **terms)
    assert preview["verdict"]["decision"] == "allow", preview["verdict"]
    with anyio.fail_after(60):
        while True:
            result = await client.call_tool("orders_submit", {"preview_id": preview["preview_id"]})
            if result.structured_content is not None and not result.is_error:
                return result.structured_content
            assert "venue_unheard" in str(result.content), result.content  # a busy machine may fall behind
            await anyio.sleep(0.1)


def at_the_exchange(there: dict[str, Any]) -> Settings:
    return Settings(
        broker="alpaca",
        broker_url=there["url"],
        broker_key_id=SecretStr(there["key_id"]),
        broker_secret_key=SecretStr(there["secret_key"]),
        broker_stand_in="AAPL",
    )


async def until(services: Services, client_order_id: str, state: str) -> None:
    """Waits for what the venue did to be heard."""
    with anyio.fail_after(60):
        while (await services.desk.order(client_order_id)).state != state:  # noqa: ASYNC110 - of its store
            await anyio.sleep(0.01)


async def heard(services: Services) -> None:
    with anyio.fail_after(60):
        while services.hearing.why_deaf():  # noqa: ASYNC110 - it is a file
            await anyio.sleep(0.01)


async def test_the_whole_way_over_alpacas_api(home: Home, starter: Any, command: Any) -> None:
    with served(home, starter, *MARKET) as there:
        async with open_desk(home, at_the_exchange(there)) as services:
            await services.desk.set_clock(services.clock.now().replace(2012, 6, 4, 22, 0, 0, 0))
            server = build_server(services, toolsets="all")
            async with Client(server) as client:
                preview = await call(
                    client, "orders_preview", symbol="AAPL", side="buy", quantity="10", reason="early"
                )
                early = await client.call_tool("orders_submit", {"preview_id": preview["preview_id"]})
                assert early.is_error
                assert "venue_unheard" in str(early.content), "nothing is sent while nobody hears of fills"
            async with running(services), Client(server) as client:
                await heard(services)
                bought = await call(client, "orders_submit", preview_id=preview["preview_id"])
                assert (bought["mode"], services.broker.name) == ("paper", "alpaca")
                await until(services, bought["client_order_id"], "filled")
                bracket = await trade(
                    client, side="buy", quantity="4", take_profit="585", stop_loss="500", time_in_force="gtc"
                )
                await until(services, bracket["client_order_id"], "filled")
                trailing = await trade(
                    client, side="sell", quantity="1", type="trailing_stop", trail="9%", time_in_force="gtc"
                )
                below = await trade(
                    client, side="buy", quantity="2", type="limit", limit_price="550", time_in_force="gtc"
                )
                lower = await trade(
                    client, side="buy", quantity="3", type="limit", limit_price="540", time_in_force="gtc",
                    replaces=below["client_order_id"],
                )  # fmt: skip
                await until(services, below["client_order_id"], "replaced")
                assert lower["state"] == "accepted"
                canceled = await call(client, "orders_cancel", client_order_id=trailing["client_order_id"])
                await until(services, canceled["client_order_id"], "canceled")
                listed = (await call(client, "orders_list", limit=20))["orders"]
                exits = [row for row in listed if row["side"] == "sell" and row["state"] == "accepted"]
                legs = {row["type"]: row["client_order_id"] for row in exits}
                assert set(legs) == {"limit", "stop"}

                async with httpx.AsyncClient(base_url=there["url"], trust_env=False) as market:
                    await market.post("/market/step?count=30")
                await until(services, legs["limit"], "filled")
                await until(services, legs["stop"], "canceled")
                portfolio = await call(client, "portfolio_get")
                held = {row["symbol"]: Decimal(row["quantity"]) for row in portfolio["positions"]}
                assert held == {"AAPL": 10}, "the bracket has come and gone"
                assert await services.desk.compare(services.caller) == [], "the venue's books are the desk's"
                with services.store.read() as connection:
                    assert disagreements(connection) == []
                    told = [moment.event for moment in replay(connection, below["client_order_id"]).moments]
                assert told == ["submitted", "accepted", "pending_replace", "replaced"]
    assert verify_store(home.desk_db, home.log_vkey.read_text()).ok
    assert command("audit", "verify").returncode == 0


async def test_a_desk_that_does_not_hear_its_venue_is_not_ready(home: Home) -> None:
    there = {"url": "http://127.0.0.1:1", "key_id": "k", "secret_key": "s"}
    async with open_desk(home, at_the_exchange(there)) as services:
        app = Starlette(
            routes=[Route("/readyz", Monitor(services, open_tallies(()), own_names("127.0.0.1")).readyz)]
        )
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
            said = await client.get("/readyz")
    assert (said.status_code, said.json()["missing"]) == (503, ["venue_unheard"])


async def test_without_a_key_or_with_real_money_by_accident_nothing_starts(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    async with open_desk(home, Settings(broker="alpaca")) as services:
        with pytest.raises(ConfigurationError, match="broker_key_missing"):
            _ = services.broker
    keys = {"broker_key_id": SecretStr("k"), "broker_secret_key": SecretStr("s")}
    live = {"broker": "alpaca", "broker_url": "https://api.alpaca.markets"} | keys
    async with open_desk(home, Settings.model_validate(live)) as services:
        with pytest.raises(ConfigurationError, match="live_not_switched_on"):
            _ = services.broker
