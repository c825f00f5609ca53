"""Subscriptions: whoever watches an order or a run hears of changes by whatever process, in both eras."""

import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from mcp import Client, StdioServerParameters, stdio_client, types
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
ServeHttp = Callable[..., AbstractContextManager[str]]

OLDER = pytest.mark.filterwarnings("ignore:resources/")
"""The newer SDK warns whoever speaks of subscriptions as the older protocol has them."""

RESTS = {
    "symbol": "AAPL", "side": "buy", "quantity": "1", "type": "limit",
    "time_in_force": "gtc", "reason": "to be watched",
}  # fmt: skip
SOURCE = "def signals(bars):\n    return bars['close'] * 0\n"


@asynccontextmanager
async def serving(
    home: Home, toolsets: str = "all", **options: Any
) -> AsyncGenerator[tuple[Services, Client]]:
    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services, toolsets=toolsets), **options) as client,
    ):
        yield services, client


async def facts(client: Client, tool: str, **given: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, given)
    assert answer.structured_content is not None, answer.content
    return answer.structured_content


async def resting(client: Client, limit_price: str = "300") -> str:
    """Returns the id of an order that works until somebody ends it."""
    preview = await facts(client, "orders_preview", **RESTS, limit_price=limit_price)
    return str((await facts(client, "orders_submit", preview_id=preview["preview_id"]))["client_order_id"])


def cancel_elsewhere(home: Home, order: str) -> None:
    """Changes an order as another process of this home would."""
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.unit() as unit:
            unit.connection.execute(
                "UPDATE orders SET state = 'canceled', detail = 'elsewhere' WHERE client_order_id = ?",
                (order,),
            )
    finally:
        services.close()


async def test_a_listener_hears_of_its_order_and_of_no_other(home: Home) -> None:
    async with serving(home) as (services, client):
        mine, other = await resting(client), await resting(client, "299")
        uri = f"orders://{mine}"
        with anyio.fail_after(60):
            async with client.listen(resource_subscriptions=[uri]) as changes:
                assert changes.honored.resource_subscriptions == [uri]
                await facts(client, "orders_cancel", client_order_id=other)
                await anyio.to_thread.run_sync(cancel_elsewhere, home, mine)
                event = await anext(aiter(changes))
                assert event == ResourceUpdated(uri=uri)
                [contents] = (await client.read_resource(uri)).contents
                assert isinstance(contents, types.TextResourceContents)
                listed = await facts(client, "orders_list")
                [row] = [each for each in listed["orders"] if each["client_order_id"] == mine]
                told = json.loads(contents.text)
                assert told == {"mode": "paper", "orders": [row]}
                assert row["state"] == "canceled"
            while services.watching.watched:
                await anyio.lowlevel.checkpoint()
        with pytest.raises(MCPError, match="unknown_order"):
            await client.read_resource("orders://no-such-order")


async def test_the_end_of_a_run_is_heard_of(home: Home) -> None:
    async with serving(home) as (_, client):
        run_id = (await facts(client, "backtest_start", symbols=["AAPL"], source=SOURCE))["run_id"]
        with anyio.fail_after(60):
            async with client.listen(resource_subscriptions=[f"backtest://{run_id}/report"]) as changes:
                if (await facts(client, "backtest_cancel", run_id=run_id))["state"] == "canceled":
                    async for event in changes:
                        assert event == ResourceUpdated(uri=f"backtest://{run_id}/report")
                        if (await facts(client, "backtest_get", run_id=run_id))["state"] == "canceled":
                            break


@OLDER
async def test_the_older_protocol_subscribes_and_unsubscribes(home: Home) -> None:
    heard: list[str] = []
    told = anyio.Event()

    async def listen(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.append(str(message.params.uri))
            told.set()

    async with serving(home, mode="legacy", message_handler=listen) as (services, client):
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.subscribe is True
        first, second = await resting(client), await resting(client, "299")
        for order in (first, second):
            await client.session.subscribe_resource(f"orders://{order}")  # pyright: ignore[reportDeprecated]
        await client.session.unsubscribe_resource(f"orders://{first}")  # pyright: ignore[reportDeprecated]
        assert list(services.watching.watched) == [f"orders://{second}"]
        for order in (first, second):
            await anyio.to_thread.run_sync(cancel_elsewhere, home, order)
        with anyio.fail_after(60):
            await told.wait()
        assert heard == [f"orders://{second}"]
        for uri in ("policy://active", "bars://AAPL/1d", "orders://"):
            with pytest.raises(MCPError, match="not_watchable"):
                await client.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]
    assert not services.watching.watched, "with the connection its subscriptions went"


async def test_what_is_not_served_is_not_watched_and_too_much_is_refused(home: Home) -> None:
    async with serving(home, "core,backtest") as (services, client):
        uris = ["orders://nt-1", "backtest://bt-1/report", "policy://active"]
        async with client.listen(resource_subscriptions=uris):
            assert list(services.watching.watched) == ["backtest://bt-1/report"]
        with pytest.raises(MCPError, match="too_many_subscriptions"):
            async with client.listen(
                resource_subscriptions=[f"backtest://bt-{n}/report" for n in range(257)]
            ):
                pass


async def test_many_changes_between_two_looks_are_one_and_nobody_else_looks(home: Home) -> None:
    async with open_desk(home, Settings()) as services:
        watching, heard = services.watching, list[str]()

        async def tell(uri: str) -> None:
            heard.append(uri)

        watching.tells.append(tell)
        await services.start()
        async with Client(build_server(services, toolsets="all")) as client:
            order = await resting(client)
            async with watching.watch([f"orders://{order}"]), watching.watch([f"orders://{order}"]):
                await watching.look()
                assert heard == []
                for _ in range(3):
                    await anyio.to_thread.run_sync(cancel_elsewhere, home, order)
                await watching.look()
                await watching.look()
                assert heard == [f"orders://{order}"]
            assert not watching.watched


@OLDER
@pytest.mark.slow
async def test_over_stdio_and_in_a_session_over_http_changes_come_too(
    home: Home, serve_http: ServeHttp
) -> None:
    words = ["-m", "neural_trader_server", "serve", "--toolsets", "all"]
    stdio = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))
    heard = anyio.Event()

    async def listen(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            heard.set()

    with anyio.fail_after(90), serve_http("--toolsets", "all") as address:
        async with (
            Client(stdio_client(stdio)) as one,
            Client(f"{address}/mcp", mode="legacy", message_handler=listen) as other,
        ):
            order = await resting(one)
            uri = f"orders://{order}"
            await other.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]
            async with one.listen(resource_subscriptions=[uri]) as changes:
                await facts(other, "orders_cancel", client_order_id=order)
                assert await anext(aiter(changes)) == ResourceUpdated(uri=uri)
            await heard.wait()
