"""From an idea to what luck leaves of it: checked, swept, run, compared by an agent, verified by a person."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

from .conftest import RunCommand

pytestmark = pytest.mark.anyio

RULE = """
FEATURES = ("sma({fast})", "sma({slow})")

def rule(fast_sma, slow_sma, *, fast: int = 20, slow: int = 50):
    return 1.0 if fast_sma > slow_sma else 0.0
"""
GRID = {"fast": "5:25:5", "slow": "40:120:20"}
ASKED: dict[str, Any] = {"source": RULE, "symbols": ["AAPL"]}


async def call(client: Client, tool: str, /, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def finished(client: Client, tool: str, /, **arguments: object) -> dict[str, Any]:
    started = await call(client, tool, **arguments)
    result = await call(client, "backtest_get", run_id=started["run_id"], wait_s=60)
    assert result["state"] == "completed", result["error"]
    return result


async def test_an_agent_learns_that_trying_more_makes_its_best_less_believable(
    home: Home, command: RunCommand, tmp_path: Path
) -> None:
    async with (
        open_desk(home, Settings()) as services,
        running(services),
        Client(build_server(services, toolsets="all")) as client,
    ):
        checked = await call(client, "strategy_check", source=RULE, symbol="AAPL", cuts=5)
        assert (checked["ok"], checked["look_ahead"]["violations"]) == (True, [])
        first = await finished(client, "backtest_start", **ASKED, commission_bps=5)
        assert first["metrics"]["trials"] == 1
        swept = await finished(client, "backtest_sweep", **ASKED, grid=GRID, settings={"commission_bps": 5})
        best = swept["best"]
        assert (swept["combinations"], swept["failed"], swept["trials"]) == (25, 0, 26)
        assert 0.0 <= swept["pbo"] <= 1.0
        codes = {warning.partition(":")[0] for warning in swept["warnings"]}
        assert {"in_sample", "survivorship"} <= codes
        again = await finished(
            client, "backtest_start", symbols=["AAPL"], source=f"# the one I believe in\n{RULE}",
            params={name: float(value) for name, value in best["params"].items()}, commission_bps=5,
        )  # fmt: skip
        # the same trial as the sweep's row, in other words: it is not counted twice, and comes to the same
        assert again["metrics"]["trials"] == 26
        for name in ("sharpe_ratio", "return_total", "max_drawdown"):
            assert again["metrics"][name] == pytest.approx(best["metrics"][name], rel=1e-9)
        assert again["metrics"]["deflated_sharpe_ratio"] == pytest.approx(swept["deflated_sharpe_ratio"])
        assert again["metrics"]["deflated_sharpe_ratio"] < again["metrics"]["probabilistic_sharpe_ratio"]
        compared = await call(client, "backtest_compare", run_ids=[first["run_id"], again["run_id"]])
        ranked = {run["run_id"]: run["metrics"] for run in compared["ranking"]}
        assert {each["trials"] for each in ranked.values()} == {26}
        # what the first run was worth when it was alone is not what it is worth now
        alone = first["metrics"]["deflated_sharpe_ratio"]
        assert ranked[first["run_id"]]["deflated_sharpe_ratio"] < alone
    verified = json.loads(command("backtest", "verify", again["run_id"], "--json").stdout)
    assert (verified["identical"], verified["digest_recomputed"]) == (True, again["digest"])
    # another process, a person, a default that is given: the agent's first trial, and the count goes on
    (tmp_path / "mine.py").write_text(RULE)
    for param, trials in (("fast=20", 26), ("fast=21", 27)):
        asked = ("backtest", "run", str(tmp_path / "mine.py"), "--symbol", "AAPL", "--commission-bps", "5")
        told = json.loads(command(*asked, "--param", param, "--json").stdout)
        assert told["metrics"]["trials"] == trials
    page = tmp_path / "sheet.html"
    command("backtest", "report", again["run_id"], "--out", str(page), "--json")
    text = page.read_text()
    assert again["digest"] in text
    assert text.index("Deflated Sharpe ratio") < text.index("<svg")
