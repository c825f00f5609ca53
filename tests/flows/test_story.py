"""The whole story through the official client: in memory, over stdio, over HTTP, in both protocol eras."""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from mcp import Client, StdioServerParameters

from neural_trader_governance.audit.verify import verify_store
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings
from neural_trader_server.stage import Stage
from neural_trader_server.story import STEPS

pytestmark = pytest.mark.anyio

ERAS = ("auto", "legacy")
TO_THE_FILL = 6
"""The last two steps start command lines of their own; they are told once in memory and twice by the demo."""


async def tell(client: Client, home: Home, steps: int = len(STEPS)) -> Stage:
    """Acts the steps; each proves its own claims and raises where one does not hold."""
    stage = Stage(client, home)
    for step in STEPS[:steps]:
        stage.facts[step.name] = await step.act(stage)
    assert not stage.lacking, "these tests need a host on which the sandbox holds"
    report = verify_store(home.desk_db, home.log_vkey.read_text())
    assert report.ok, report.problems
    return stage


async def test_the_story_in_memory_in_both_eras(home: Home) -> None:
    async with open_desk(home, Settings()) as services, running(services):
        server = build_server(services, toolsets="all")
        sides: list[str] = []
        for era, steps in zip(ERAS, (len(STEPS), TO_THE_FILL), strict=True):
            async with Client(server, mode=era) as client:
                stage = await tell(client, home, steps)
                sides.append(stage.facts["order"]["preview"]["side"])
    assert sides == ["buy", "sell"], "the second telling sells what the first one bought"


@pytest.mark.parametrize("era", ["auto", pytest.param("legacy", marks=pytest.mark.slow)])
async def test_the_story_over_stdio(home: Home, era: str) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "neural_trader_server", "serve", "--toolsets", "all"],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home.path)},
    )
    async with Client(server, mode=era) as client:
        await tell(client, home, TO_THE_FILL)


async def test_the_story_over_http_in_both_eras(
    home: Home, serve_http: Callable[..., AbstractContextManager[str]]
) -> None:
    with serve_http("--toolsets", "all") as address:
        for era in ERAS:
            async with Client(f"{address}/mcp", mode=era) as client:
                await tell(client, home, TO_THE_FILL)
