"""The token budget: what a client pays for knowing our tools."""

import json
from typing import Any

import pytest
from mcp import Client
from mcp.types import Tool

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, build_server
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio


async def listed(home: Home, toolsets: str | None) -> list[Tool]:
    services = Services(home, Settings(), WallClock())
    try:
        async with Client(build_server(services, toolsets=toolsets)) as client:
            return (await client.list_tools()).tools
    finally:
        await services.aclose()


def size(tools: list[Tool], *, with_output: bool) -> int:
    without: set[str] = set() if with_output else {"output_schema"}
    plain = [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=without) for tool in tools
    ]
    return len(json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode())


async def test_all_tools_fit_the_budget(home: Home) -> None:
    tools = await listed(home, "all")
    assert len(tools) <= 30
    assert size(tools, with_output=False) <= 24_000
    assert size(tools, with_output=True) <= 40_000


async def test_the_default_toolsets_fit_theirs(home: Home) -> None:
    tools = await listed(home, None)
    assert size(tools, with_output=False) <= 20_000
    assert size(tools, with_output=True) <= 34_000


async def test_every_tool_and_every_parameter_is_described_and_annotated(home: Home) -> None:
    for tool in await listed(home, "all"):
        assert tool.description, tool.name
        assert tool.title, tool.name
        assert tool.annotations is not None
        assert tool.output_schema is not None, tool.name
        assert tool.output_schema["type"] == "object"
        properties: dict[str, Any] = tool.input_schema.get("properties", {})
        for name, schema in properties.items():
            assert schema.get("description"), f"{tool.name}.{name} is not described"


async def test_the_schemas_hold_no_generated_titles(home: Home) -> None:
    text = json.dumps([tool.input_schema for tool in await listed(home, "all")])
    assert '"title"' not in text
