"""Several workers on one address: one desk, one door, one count of requests; whoever dies is replaced."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

ServeHttp = Callable[..., AbstractContextManager[str]]
HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28"}
META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}

pytestmark = pytest.mark.anyio


async def call(address: str, tool: str, **arguments: Any) -> httpx.Response:
    """Calls a tool on a connection of its own, which the kernel gives to some worker."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {**HEADERS, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    async with httpx.AsyncClient(timeout=60) as http:
        return await http.post(f"{address}/mcp", json=body, headers=headers)


async def facts(address: str, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = (await call(address, tool, **arguments)).json()["result"]
    assert not answer.get("isError"), answer
    return answer["structuredContent"]


async def counted(address: str, tool: str) -> float:
    """Returns how many calls of a tool ended well, as a scrape tells it."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{address}/metrics")).text
    [line] = [
        line
        for line in text.splitlines()
        if line.startswith("neural_trader_tool_calls_total{") and f'"{tool}"' in line
    ]
    return float(line.rpartition(" ")[2])


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - other processes tell this one nothing
            await anyio.sleep(0.05)


async def health(address: str) -> int:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{address}/healthz")).status_code


def workers_of(address: str) -> dict[int, int]:
    """Returns the process ids of those who listen on an address, with their watcher's."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}
    found: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = {os.readlink(link) for link in (process / "fd").iterdir()}
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if links & sockets:
            found[int(process.name)] = parent
    return found


@pytest.mark.slow
async def test_workers_share_desk_previews_and_rates_and_the_dead_are_replaced(
    home: Home, serve_http: ServeHttp
) -> None:
    rates = {"NEURAL_TRADER_HTTP_BURST": "40", "NEURAL_TRADER_HTTP_REQUESTS_PER_S": "0.001"}
    with serve_http("--workers", "2", "--toolsets", "all", **rates) as address:
        await until(lambda: len(workers_of(address)) == 2)
        # Previewed on one connection and submitted on others: whichever worker gets it knows of it, once.
        order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "any worker"}
        preview = (await facts(address, "orders_preview", **order))["preview_id"]
        results = [
            (await call(address, "orders_submit", preview_id=preview)).json()["result"] for _ in range(6)
        ]
        sent = [each["structuredContent"]["client_order_id"] for each in results if not each.get("isError")]
        assert len(set(sent)) == 1, results
        listed = [(await facts(address, "orders_list"))["orders"] for _ in range(6)]
        assert [len(orders) for orders in listed] == [1] * 6

        # Each scrape comes to some worker, and tells of all the calls.
        scraped = {await counted(address, "orders_list") for _ in range(6)}
        assert scraped == {6.0}

        before = workers_of(address)
        victim = max(before)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in workers_of(address) and len(workers_of(address)) == 2)
        assert set(workers_of(address).values()) == set(before.values()), "the same watcher"
        assert (await facts(address, "orders_list"))["orders"], "and the desk is as it was"

        statuses = [(await call(address, "orders_list")).status_code for _ in range(30)]
        # Twenty requests went before, from one bucket of forty; two buckets would have been enough for all.
        assert statuses == [200] * 20 + [429] * 10
        halted = await call(address, "trading_halt", reason="drill")
        assert halted.status_code == 200, "what stops is served all the same"
        assert await health(address) == 200
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.read() as connection:
            kinds = [row[0] for row in connection.execute("SELECT type FROM audit_entries")]
    finally:
        services.close()
    assert kinds.count("tools.manifest") == 1, "the second worker served what the first one did"
    assert kinds.count("order.intent") == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:resources/")  # the newer SDK's, of how the older protocol subscribes
async def test_a_stream_brings_what_another_worker_did(home: Home, serve_http: ServeHttp) -> None:
    order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "type": "limit", "limit_price": "300"}
    with anyio.fail_after(120), serve_http("--workers", "2", "--toolsets", "all") as address:
        await until(lambda: len(workers_of(address)) == 2)
        preview = await facts(address, "orders_preview", **order, time_in_force="gtc", reason="to be watched")
        submitted = await facts(address, "orders_submit", preview_id=preview["preview_id"])
        uri = f"orders://{submitted['client_order_id']}"
        async with Client(f"{address}/mcp") as client, client.listen(resource_subscriptions=[uri]) as changes:
            await facts(address, "orders_cancel", client_order_id=submitted["client_order_id"])
            assert await anext(aiter(changes)) == ResourceUpdated(uri=uri)
        async with Client(f"{address}/mcp", mode="legacy") as older:
            with pytest.raises(MCPError, match="no_session"):
                await older.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]


async def test_a_server_whose_first_worker_cannot_begin_says_why_and_ends(home: Home, starter: Any) -> None:
    home.log_vkey.write_text("nonsense\n")
    environment = {**os.environ, "NEURAL_TRADER_HOME": str(home.path)}
    words = ("serve", "--transport", "http", "--port", "0", "--workers", "3")
    done = await anyio.to_thread.run_sync(lambda: starter.run(*words, environment=environment))
    assert done.returncode == 1
    assert done.stderr.count("log.vkey") >= 1, done.stderr
    assert "worker_ended" not in done.stderr
