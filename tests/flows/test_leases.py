"""Leases over a real client: what it left working is canceled, by whichever process comes by."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from subprocess import CompletedProcess
from typing import Any

import pytest
from mcp import Client

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
RESTING = {
    "symbol": "AAPL",
    "side": "buy",
    "type": "limit",
    "limit_price": "400",
    "time_in_force": "gtc",
    "reason": "rests far below the market",
}


async def call(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None, result.content
    return result.structured_content


async def test_the_orders_of_a_client_that_left_are_canceled_by_another_process_and_not_before(
    home: Home, command: Callable[..., "CompletedProcess[str]"]
) -> None:
    lease = timedelta(seconds=Settings().lease_s)
    assert lease >= timedelta(minutes=15), "an agent may think for ten minutes"
    now = datetime.now(UTC)
    # The agent's server lived this long ago, by its clock; the client is gone when its block ends.
    margin = timedelta(minutes=2)
    for units, age, state in ((1, lease + margin, "canceled"), (2, lease - margin, "accepted")):
        async with (
            open_desk(home, Settings(), clock=SimulatedClock(now - age)) as services,
            running(services),
            Client(build_server(services, toolsets="all")) as client,
        ):
            previewed = await call(client, "orders_preview", quantity=str(units), **RESTING)
            order = await call(client, "orders_submit", preview_id=previewed["preview_id"])
            assert order["state"] == "accepted"
        settled = command("orders", "reconcile", "--json")
        assert settled.returncode == 0, settled.stderr
        async with open_desk(home, Settings()) as services:
            listed = (await services.call("orders_list"))["orders"]
            found = {each["client_order_id"]: each["state"] for each in listed}
            assert found[order["client_order_id"]] == state, (age, settled.stdout)
            entries = (await services.call("audit_search", type="lease.lost"))["entries"]
            assert len(entries) == 1, "of the first client; the second one's lease still runs"
