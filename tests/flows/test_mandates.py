"""Mandates and budgets through a real client, set and taken away by a person at the command line."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client

from neural_trader_server.home import Home

from .conftest import RunCommand, ServeHttp

pytestmark = pytest.mark.anyio

HOLD = "def signals(bars):\n    return bars['close'] * 0 + 1.0\n"


@asynccontextmanager
async def served(serve_http: ServeHttp, **environment: str) -> AsyncGenerator[Client]:
    """Our server in a process of its own, and an agent's client of it."""
    with serve_http("--toolsets", "all", **environment) as address:
        async with Client(f"{address}/mcp") as client:
            yield client


async def call(client: Client, tool: str, /, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refusal(client: Client, tool: str, /, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return str(result.content[0].model_dump()["text"])


def run(command: RunCommand, *words: str) -> dict[str, Any]:
    done = command(*words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


async def test_a_mandate_binds_a_running_agent_from_its_commit_to_its_revocation(
    home: Home, command: RunCommand, serve_http: ServeHttp
) -> None:
    order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "test"}
    async with served(serve_http) as client:
        early = await call(client, "orders_preview", **order, account="paper")
        assert early["verdict"]["decision"] == "allow"
        words = ("--agent", "agent-1", "--symbol", "AAPL", "--per-order", "500", "--cap", "600")
        mandate = run(command, "mandates", "issue", *words, "--period", "week", "--days", "7")
        other = await call(client, "orders_preview", **{**order, "symbol": "MSFT"})
        assert [reason["rule"] for reason in other["verdict"]["reasons"]] == ["mandate"]
        assert (await call(client, "orders_submit", preview_id=early["preview_id"]))["state"] == "filled"
        second = await call(client, "orders_preview", **{**order, "quantity": "0.3"})
        assert second["verdict"]["decision"] == "allow"
        third = await call(client, "orders_preview", **{**order, "quantity": "0.4"})
        assert [reason["rule"] for reason in third["verdict"]["reasons"]] == ["mandate"]
        (listed,) = run(command, "mandates", "list")["mandates"]
        assert (listed["state"], listed["spent_usd"]) == ("in_force", "430.47")
        run(command, "mandates", "revoke", mandate["mandate_id"], "--reason", "drill")
        denied = await refusal(client, "orders_submit", preview_id=second["preview_id"])
        assert denied.startswith("denied: ")
        assert "is revoked" in denied
        run(command, "mandates", "release", "agent-1")
        free = await call(client, "orders_preview", **{**order, "symbol": "MSFT"})
        assert free["verdict"]["decision"] == "allow"
        shown = run(command, "mandates", "show", mandate["mandate_id"])
        assert [charge["filled_usd"] for charge in shown["orders"]] == ["430.47"]
    assert run(command, "audit", "verify")["ok"]
    logged = run(command, "audit", "search", "--type", "mandate.issue")["entries"]
    assert len(logged) == 1


async def test_usage_is_counted_and_a_budget_refuses_what_costs_and_nothing_else(
    home: Home, command: RunCommand, serve_http: ServeHttp
) -> None:
    prices = json.dumps({"data_call": "0.01", "sandbox_s": "0.01"})
    async with served(serve_http, NEURAL_TRADER_USAGE_PRICES=prices) as client:
        assert (await call(client, "status_get"))["usage"]["calls"] == 0
        await call(client, "market_get_bars", symbol="AAPL", limit=5)
        started = await call(client, "backtest_start", source=HOLD, symbols=["AAPL"])
        result = await call(client, "backtest_get", run_id=started["run_id"], wait_s=60)
        assert result["state"] == "completed", result["error"]
        used = (await call(client, "status_get"))["usage"]
        assert (used["calls"], used["data_calls"], used["budget_usd"]) == (4, 1, None)
        assert used["sandbox_s"] > 0
        assert float(used["cost_usd"]) == pytest.approx(0.01 + 0.01 * used["sandbox_s"], abs=2e-6)

        run(command, "usage", "budget", "--agent", "agent-1", "--usd", "0.02", "--period", "day")
        await call(client, "market_get_bars", symbol="AAPL", limit=5)
        message = await refusal(client, "market_get_bars", symbol="AAPL", limit=5)
        assert message.startswith("budget_exhausted: the budget of agent-1 for the day ")
        assert "is 0.02 USD, and 0.02" in message
        assert "neural-trader usage budget" in message
        refused = await refusal(client, "backtest_start", source=HOLD, symbols=["AAPL"])
        assert refused.startswith("budget_exhausted: ")
        assert (await call(client, "status_get"))["usage"]["budget_usd"] == "0.02"
        assert (await call(client, "backtest_get", run_id=started["run_id"]))["state"] == "completed"
        order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "test"}
        limited = await call(client, "orders_preview", **order, type="limit", limit_price="400")
        working = await call(client, "orders_submit", preview_id=limited["preview_id"])
        canceled = await call(client, "orders_cancel", client_order_id=working["client_order_id"])
        assert canceled["state"] == "canceled"
        assert (await call(client, "trading_halt", reason="drill"))["halted"] is True

        run(command, "usage", "budget", "--agent", "agent-1", "--lift")
        await call(client, "market_get_bars", symbol="AAPL", limit=5)
    report = run(command, "usage", "--agent", "agent-1")
    assert report["total"]["data_calls"] == 3, "what is refused is not charged"
    assert {row["strategy"] for row in report["usage"]} >= {None}
    strategies = [row for row in report["usage"] if row["strategy"]]
    assert [len(row["strategy"]) for row in strategies] == [12]
    assert strategies[0]["sandbox_s"] > 0
    assert report["total"]["reserved_usd"] == "0"
