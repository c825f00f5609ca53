"""Our server in the test's process, without its background work, and an agent's client of it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client

from neural_trader_server.app import Services, build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings


async def call(client: Client, tool: str, /, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


@asynccontextmanager
async def serving(home: Home, agent: str = "agent-1") -> AsyncGenerator[tuple[Services, Client]]:
    """A server whose background work the test does itself."""
    async with open_desk(home, Settings(agent=agent)) as services:
        await services.start()
        async with Client(build_server(services, toolsets="all")) as client:
            yield services, client
