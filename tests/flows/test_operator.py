"""What the operator decides holds for every server on the home, whoever started it and when."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
from mcp import Client

from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
ORDER = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "test"}


async def call(client: Client, name: str, **arguments: object) -> Any:
    result = await client.call_tool(name, arguments)
    return result.structured_content or result.content[0]


async def test_a_restricted_symbol_is_denied_by_name(home: Home) -> None:
    settings = Settings(restricted_symbols=frozenset({"AAPL"}))
    async with (
        open_desk(home, settings) as services,
        running(services),
        Client(build_server(services, toolsets="all")) as client,
    ):
        preview = await call(client, "orders_preview", **ORDER)
        other = await call(client, "orders_preview", **{**ORDER, "symbol": "MSFT"})
    assert [reason["rule"] for reason in preview["verdict"]["reasons"]] == ["restricted_symbol"]
    assert other["verdict"]["decision"] == "allow"


async def test_a_halt_on_the_command_line_stops_two_servers_that_are_running(
    home: Home, command: Callable[..., "CompletedProcess[str]"]
) -> None:
    async with (
        open_desk(home, Settings()) as one,
        running(one),
        open_desk(home, Settings()) as two,
        running(two),
        Client(build_server(one, toolsets="all")) as first,
        Client(build_server(two, toolsets="all")) as second,
    ):
        mine = await call(first, "orders_preview", **ORDER)
        yours = await call(second, "orders_preview", **ORDER)
        assert command("halt", "--reason", "drill").returncode == 0
        for client, preview in ((first, mine), (second, yours)):
            refused = await call(client, "orders_submit", preview_id=preview["preview_id"])
            assert refused.text.startswith("halted: trading is halted (all): drill; ")
            assert (await call(client, "status_get"))["halted"] is True
        assert command("resume").returncode == 0
        # One truth: either server may submit what the other one previewed, once.
        filled = await call(second, "orders_submit", preview_id=mine["preview_id"])
        assert filled["state"] == "filled", filled
        again = await call(first, "orders_submit", preview_id=mine["preview_id"])
        assert again.text.startswith("preview_used: ")
        assert (await call(first, "portfolio_get"))["positions"][0]["quantity"] == "1"
    verified = command("audit", "verify", "--json")
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["ok"] is True
