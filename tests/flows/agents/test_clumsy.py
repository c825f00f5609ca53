"""A clumsy agent: typos, wrong units, stale ids; each error's text alone leads it to success or to a stop."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from tests.flows.agents.acting import RULES, Agent, Ending
from tests.flows.agents.advice import Call
from tests.flows.agents.mistakes import MISTAKES, ORDER
from tests.flows.agents.places import leaves, put

from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
PAGE = Path(__file__).parents[3] / "docs/agents.md"
NOW = datetime.now(UTC)


@asynccontextmanager
async def desk(home: Home) -> AsyncGenerator[tuple[Agent, SimulatedClock]]:
    clock = SimulatedClock(NOW)
    async with (
        open_desk(home, Settings(), clock=clock) as services,
        running(services),
        Client(build_server(services, toolsets="all")) as client,
    ):
        yield await Agent.at(client), clock


async def scene(agent: Agent, clock: SimulatedClock) -> dict[str, str]:
    """Makes what the mistakes speak of, and returns the ids by name."""
    bars = await agent.call("market_get_bars", symbol="AAPL")
    saved = await agent.call("strategy_save", name="cross", source=RULES)
    run = await agent.call("backtest_start", strategy_id=saved["strategy_id"], symbols=["AAPL"])
    await agent.call("backtest_get", run_id=run["run_id"], wait_s=60)
    expired = await agent.call("orders_preview", **ORDER)
    clock.advance(timedelta(minutes=10))
    used = await agent.call("orders_preview", **ORDER)
    await agent.call("orders_submit", preview_id=used["preview_id"])
    twice = await agent.call("orders_preview", **ORDER)
    denied = await agent.call("orders_preview", **{**ORDER, "quantity": "500"})
    waiting = await agent.call("orders_preview", **{**ORDER, "quantity": "30"})
    return {
        "bars": bars["handle"],
        "run": run["run_id"],
        "strategy": saved["strategy_id"],
        "used": used["preview_id"],
        "twice": twice["preview_id"],
        "expired": expired["preview_id"],
        "denied": denied["preview_id"],
        "waiting": waiting["preview_id"],
    }


def filled(arguments: dict[str, Any], made: dict[str, str]) -> dict[str, Any]:
    """Returns the arguments with the scene's ids where they are named."""
    for path, value in leaves(arguments):
        if isinstance(value, str) and value.startswith("{"):
            arguments = put(arguments, path, made[value[1:-1]])
    return arguments


async def test_every_mistake_leads_by_the_errors_text_alone_to_success_or_to_a_stop(home: Home) -> None:
    ended: list[Ending] = []
    wrong: list[str] = []
    async with desk(home) as (agent, clock):
        made = await scene(agent, clock)
        for mistake in MISTAKES:
            clock.advance(timedelta(seconds=15))
            ending = await agent.follow(Call(mistake.tool, filled(mistake.arguments, made)))
            ended.append(ending)
            if mistake.tool in ("backtest_start", "backtest_sweep") and "run_id" in ending.result:
                await agent.call("backtest_cancel", run_id=ending.result["run_id"])  # that it began is enough
            if ending.ending != mistake.ends or not ending.errors:
                told = "\n        ".join(error[:300] for error in ending.errors)
                wrong.append(f"{mistake.tool} {mistake.arguments!s:.120}: {ending.ending}\n        {told}")
    assert wrong == []
    assert verify_store(home.desk_db, home.log_vkey.read_text()).ok
    assert table(ended) in PAGE.read_text(encoding="utf-8"), f"docs/agents.md says otherwise:\n{table(ended)}"


def table(ended: list[Ending]) -> str:
    """Returns what was counted, as docs/agents.md shows it."""
    counts: dict[str, Counter[str]] = {}
    for mistake, ending in zip(MISTAKES, ended, strict=True):
        count = counts.setdefault(mistake.kind, Counter())
        count.update({"mistakes": 1, ending.ending: 1})
    counts["**all**"] = sum(counts.values(), Counter[str]())
    columns = ("mistakes", "recovered", "stopped", "stuck")
    lines = ["| kind | mistakes | recovered | stopped rightly | stuck |", "|---|---|---|---|---|"]
    for kind, count in counts.items():
        lines.append(f"| {kind} | {' | '.join(str(count[column]) for column in columns)} |")
    return "\n".join(lines)
