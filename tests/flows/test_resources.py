"""Resources, prompts and completion, by the official client: the same facts as the tools, the same gate."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from neural_trader_governance.audit.checkpoints import open_checkpoint
from neural_trader_governance.policy.engine import policy_digest
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_server.app import Services, build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
BARS = ResourceTemplateReference(type="ref/resource", uri="bars://{symbol}/{interval}{?start,end,as_of}")
RULE = "FEATURES = ('sma(20)',)\ndef rule(mean):\n    return 1.0 if mean > 0 else 0.0\n"


@asynccontextmanager
async def serving(home: Home, toolsets: str | None = None) -> AsyncGenerator[tuple[Services, Client]]:
    """Our server, and an agent's client of it, in this process."""
    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services, toolsets=toolsets)) as client,
    ):
        yield services, client


async def read(client: Client, uri: str) -> str:
    [contents] = (await client.read_resource(uri)).contents
    assert isinstance(contents, TextResourceContents)
    return contents.text


async def facts(client: Client, tool: str, **given: Any) -> dict[str, Any]:
    answer = await client.call_tool(tool, given)
    assert answer.structured_content is not None, answer.content
    return answer.structured_content


async def test_a_resource_tells_what_the_tool_of_it_tells(home: Home) -> None:
    async with serving(home) as (_, client):
        given = {"symbol": "AAPL", "interval": "1d", "start": "2012-01-01", "end": "2012-02-01"}
        bars = json.loads(await read(client, "bars://AAPL/1d?start=2012-01-01&end=2012-02-01"))
        assert bars == await facts(client, "market_get_bars", **given)
        assert bars["row_count"] > 15
        api = await read(client, "strategy://api")
        assert "def signals" in api
        policy = json.loads(await read(client, "policy://active"))
        assert policy["digest"] == (await facts(client, "status_get"))["policy_digest"]
        assert policy["digest"] == policy_digest(policy["policy"].encode(), policy["schema"].encode())
        note = await read(client, "audit://checkpoint")
        told = await facts(client, "audit_verify")
        key = VerifyingKey.parse(told["vkey"])
        assert open_checkpoint(note, key).size <= told["size"]


async def test_what_cannot_change_may_be_kept_and_what_can_is_read_anew(home: Home) -> None:
    async with serving(home) as (services, client):
        lists = [client.list_tools(), client.list_resources(), client.list_resource_templates()]
        for listed in [*[await each for each in lists], await client.list_prompts()]:
            assert (listed.ttl_ms, listed.cache_scope) == (300_000, "private")
        assert (await client.read_resource("strategy://api")).ttl_ms == 3_600_000
        for uri in ("policy://active", "audit://checkpoint", "bars://AAPL/1d"):
            assert (await client.read_resource(uri)).ttl_ms == 0

        started = await facts(client, "backtest_start", symbols=["AAPL"], source="while True: pass\n")
        uri = f"backtest://{started['run_id']}/report"
        assert (await client.read_resource(uri)).ttl_ms == 0, "it runs"
        await facts(client, "backtest_cancel", run_id=started["run_id"])
        ended = await client.read_resource(uri)
        assert (ended.ttl_ms, ended.cache_scope) == (86_400_000, "private")
        calls = services.meter.standing("agent-1").calls
        assert (await client.read_resource(uri)).contents == ended.contents
        assert services.meter.standing("agent-1").calls == calls, "the official client did not ask again"
    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services), mode="legacy") as older,
    ):
        assert json.loads(await read(older, uri))["state"] == "canceled", (
            "and the older protocol reads as ever"
        )


async def test_a_refusal_is_the_tools_and_what_is_not_served_is_not_read(home: Home) -> None:
    async with serving(home, "core,market") as (_, client):
        with pytest.raises(MCPError, match="unknown_symbol"):
            await read(client, "bars://NOPE/1d")
        listed = {str(one.uri) for one in (await client.list_resources()).resources}
        assert listed == {"policy://active"}
        for uri in ("audit://checkpoint", "strategy://api", "backtest://bt-1/report"):
            with pytest.raises(MCPError):
                await read(client, uri)


async def test_symbols_and_intervals_are_completed(home: Home) -> None:
    async with serving(home) as (_, client):
        symbols = await client.complete(BARS, {"name": "symbol", "value": "aa"})
        assert symbols.completion.values == ["AAPL"]
        intervals = await client.complete(BARS, {"name": "interval", "value": ""}, {"symbol": "AAPL"})
        assert "1d" in intervals.completion.values
        review = PromptReference(type="ref/prompt", name="review_trade")
        orders = await client.complete(review, {"name": "client_order_id", "value": ""})
        assert orders.completion.values == []


async def test_runs_of_this_home_are_completed_where_their_toolset_is_served(home: Home) -> None:
    ref = ResourceTemplateReference(type="ref/resource", uri="backtest://{run_id}/report")
    source = "def signals(bars):\n    return bars['close'] * 0\n"
    async with serving(home) as (_, client):
        started = await client.call_tool("backtest_start", {"symbols": ["AAPL"], "source": source})
        assert started.structured_content is not None, started.content
        run_id = started.structured_content["run_id"]
        found = await client.complete(ref, {"name": "run_id", "value": run_id[:4]})
        assert found.completion.values == [run_id], "also while it runs"
        await client.call_tool("backtest_cancel", {"run_id": run_id})
    async with serving(home, "core,market") as (_, client):
        found = await client.complete(ref, {"name": "run_id", "value": ""})
        assert found.completion.values == []


async def test_prompts_name_only_tools_that_exist(home: Home) -> None:
    async with serving(home, "all") as (_, client):
        tools = {tool.name for tool in (await client.list_tools()).tools}
        prompts = (await client.list_prompts()).prompts
        assert {prompt.name for prompt in prompts} == {"research_idea", "review_trade", "daily_risk_review"}
        for prompt in prompts:
            assert prompt.title
            assert prompt.description
            given = {argument.name: "x" for argument in prompt.arguments or [] if argument.required}
            [message] = (await client.get_prompt(prompt.name, given)).messages
            assert isinstance(message.content, TextContent)
            domains = {name.partition("_")[0] for name in tools}
            words = {word.strip(".,:;()") for word in message.content.text.split()}
            named = {word for word in words if word.partition("_")[0] in domains and "_" in word}
            assert named - tools <= {"audit_seq"}  # an argument
            assert len(named) >= 4
