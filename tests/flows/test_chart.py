"""`chart_render` by the official client: picture, numbers and words, and the page for clients with apps."""

import base64
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.client.extension import ClientExtension
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.types import CallToolResult, ImageContent, TextContent, TextResourceContents

from neural_trader_server.app import build_server, open_desk
from neural_trader_server.apps import CHART_URI
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio


class WithApps(ClientExtension):
    """What a client says that renders apps."""

    identifier = EXTENSION_ID

    def settings(self) -> dict[str, Any]:
        return {"mimeTypes": [APP_MIME_TYPE]}


@asynccontextmanager
async def serving(
    home: Home, toolsets: str | None = None, extensions: Sequence[ClientExtension] = ()
) -> AsyncGenerator[Client]:
    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services, toolsets=toolsets), extensions=extensions) as client,
    ):
        yield client


def error(answer: CallToolResult) -> str:
    [text] = answer.content
    assert answer.is_error
    assert isinstance(text, TextContent)
    return text.text


async def test_prices_are_drawn_and_told(home: Home) -> None:
    async with serving(home) as client:
        bars = (
            await client.call_tool("market_get_bars", {"symbol": "AAPL", "limit": 1000})
        ).structured_content
        assert bars is not None
        answer = await client.call_tool("chart_render", {"symbol": "AAPL"})
        facts, [text, picture] = answer.structured_content, answer.content
        assert facts is not None
        assert isinstance(text, TextContent)
        assert json.loads(text.text) == facts
        assert len(text.text) <= 8_000
        assert isinstance(picture, ImageContent)
        assert picture.mime_type == "image/png"
        assert base64.b64decode(picture.data).startswith(b"\x89PNG")
        time, value = facts["columns"]["time"], facts["columns"]["value"]
        assert len(time) == len(value) <= 180
        assert time == sorted(time)
        assert value[-1] == pytest.approx(float(bars["columns"]["close"][-1]), rel=1e-6)
        assert "deepest fall" in facts["summary"]
        assert f"{max(value):.6g}" in facts["summary"]
        by_handle = await client.call_tool("chart_render", {"handle": bars["handle"]})
        assert by_handle.structured_content is not None
        assert by_handle.structured_content["columns"] == facts["columns"]


async def test_a_client_with_apps_draws_by_itself(home: Home) -> None:
    async with serving(home, extensions=[WithApps()]) as client:
        tool = next(one for one in (await client.list_tools()).tools if one.name == "chart_render")
        assert tool.meta == {"ui": {"resourceUri": CHART_URI}}
        [page] = (await client.read_resource(CHART_URI)).contents
        assert isinstance(page, TextResourceContents)
        assert page.mime_type == "text/html;profile=mcp-app"
        assert "http" not in page.text.replace("http-equiv", "")
        for name in ("src=", "import ", "fetch(", "innerHTML"):
            assert name not in page.text
        answer = await client.call_tool("chart_render", {"symbol": "MSFT"})
        assert answer.structured_content is not None
        assert {one.type for one in answer.content} == {"text"}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "invalid_chart"),
        ({"symbol": "AAPL", "run_id": "x"}, "invalid_chart"),
        ({"symbol": "NOPE"}, "unknown_symbol"),
        ({"handle": "bars-0000000000000000"}, "unknown_handle"),
        ({"run_id": "bt-none"}, "unknown_run"),
        ({"symbol": "AAPL", "interval": "soon"}, "interval"),
    ],
)
async def test_what_cannot_be_drawn_is_refused(home: Home, given: dict[str, str], code: str) -> None:
    async with serving(home) as client:
        assert code in error(await client.call_tool("chart_render", given))


async def test_without_the_toolset_there_is_neither_tool_nor_page(home: Home) -> None:
    async with serving(home, "core,market") as client:
        assert "chart_render" not in {one.name for one in (await client.list_tools()).tools}
        assert CHART_URI not in {str(one.uri) for one in (await client.list_resources()).resources}
