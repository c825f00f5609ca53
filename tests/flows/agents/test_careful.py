"""A careful agent: research, check, backtest, memory, preview, a person's approval, order, audit."""

import os
import sys
from decimal import Decimal

import pytest
from mcp import Client, StdioServerParameters
from tests.flows.agents.acting import RULES, Agent, code
from tests.flows.conftest import RunCommand

from neural_trader_governance.audit.verify import verify_store
from neural_trader_server.home import Home

pytestmark = pytest.mark.anyio
LESSON = "Holding AAPL while its 20-day average is above its 100-day average made a Sharpe ratio of {:.2f}."


async def test_a_careful_agent_gets_from_a_question_to_an_approved_order_without_one_needless_error(
    home: Home, command: RunCommand
) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "neural_trader_server", "serve", "--toolsets", "all"],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home.path)},
    )
    async with Client(server) as client:
        agent = await Agent.at(client)
        # What is this desk, and may I trade on it?
        status = await agent.call("status_get")
        assert (status["mode"], status["halted"]) == ("paper", False)
        # Research: a name with a typo finds the instrument, whose span bounds everything that follows.
        found = (await agent.call("market_search", query="aple"))["instruments"][0]
        symbol = found["symbol"]
        assert symbol == "AAPL"
        bars = await agent.call("market_get_bars", symbol=symbol, start="2012-01-01", columns=["close"])
        assert bars["row_count"] > len(bars["columns"]["close"]) > 0
        page = await agent.call("artifact_read", handle=bars["handle"], limit=100)
        after = await agent.call("artifact_read", handle=bars["handle"], cursor=page["next_cursor"])
        assert page["row_count"] + after["row_count"] <= bars["row_count"]
        question = "SELECT max(high) AS top FROM artifact"
        whole = await agent.call("market_get_bars", symbol=symbol, start="2012-01-01")
        top = await agent.call("artifact_query", handle=whole["handle"], sql=question)
        assert top["columns"]["top"][0] >= max(bars["columns"]["close"])
        known = {each["name"] for each in (await agent.call("features_search", query="average"))["features"]}
        assert "sma" in known
        signs = await agent.call(
            "features_compute", symbol=symbol, features=["sma(20)", "sma(100)", "rsi(14)"]
        )
        assert all(value is not None for value in signs["latest"].values())
        # An idea, checked before it is believed.
        saved = await agent.call("strategy_save", name="cross", source=RULES)
        checked = await agent.call("strategy_check", strategy_id=saved["strategy_id"], symbol=symbol)
        assert checked["ok"], checked
        assert checked["look_ahead"]["violations"] == []
        started = await agent.call(
            "backtest_start", strategy_id=saved["strategy_id"], symbols=[symbol], commission_bps=5
        )
        run = await agent.call("backtest_get", run_id=started["run_id"], wait_s=60)
        assert run["state"] == "completed"
        assert (await agent.call("backtest_verify", run_id=started["run_id"]))["identical"]
        # What was learned is there for whoever asks in other words.
        text = LESSON.format(run["metrics"]["sharpe_ratio"])
        written = await agent.call("memory_write", kind="note", text=text, symbols=[symbol])
        hits = (await agent.call("memory_search", query="did trend following pay for Apple?"))["hits"]
        assert written["memory_id"] in {hit["memory_id"] for hit in hits}
        # An order that a person must sign: seen before it is sent, and sent once.
        cash = (await agent.call("portfolio_get"))["cash"]
        order = await agent.call(
            "orders_preview", symbol=symbol, side="buy", quantity="30", reason="the averages crossed"
        )
        assert order["verdict"]["decision"] == "needs_approval"
        early = await agent.refused("orders_submit", preview_id=order["preview_id"])
        assert code(early) == "approval_required"
        assert f"neural-trader orders approve {order['preview_id']}" in early
        signed = command("orders", "approve", order["preview_id"], "--json")
        assert signed.returncode == 0, signed.stderr
        sent = await agent.call("orders_submit", preview_id=order["preview_id"])
        assert sent["state"] == "filled"
        after_cash = (await agent.call("portfolio_get"))["cash"]
        assert Decimal(after_cash) < Decimal(cash)
        # And the record says the same, with a proof.
        seq = sent["receipt"]["seq"]
        proved = await agent.call("audit_verify", seq=seq)
        assert proved["ok"]
        assert proved["inclusion_proof"]["leaf_hash"] == sent["receipt"]["leaf_hash"]
        log = (await agent.call("audit_search", symbol=symbol))["entries"]
        assert {"order.intent", "broker.fill"} <= {entry["type"] for entry in log}
        assert agent.largest_bytes <= 8_192, "no answer floods an agent that asked for nothing special"
    report = verify_store(home.desk_db, home.log_vkey.read_text())
    assert report.ok, report.problems
