"""What happens is remembered by itself: through a real server, from the order to the look back on it."""

from typing import Any

import pytest
from mcp import Client
from tests.flows.serving_here import call, serving

from neural_trader_governance.audit.log import read_entry
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_tools.memory.orders import entries_of_order
from neural_trader_tools.memory.verification import verify_memory

pytestmark = pytest.mark.anyio

SOURCE = (
    "def signals(bars):\n    return (bars['close'] > bars['close'].shift(1)).cast(float).fill_null(0.0)\n"
)


async def trade(client: Client, side: str, quantity: str, reason: str) -> dict[str, Any]:
    seen = await call(client, "orders_preview", symbol="AAPL", side=side, quantity=quantity, reason=reason)
    return await call(client, "orders_submit", preview_id=seen["preview_id"])


async def kinds(services: Services) -> list[str]:
    return sorted(each.kind for each in await services.memory.newest(agent="agent-1"))


async def test_an_order_a_backtest_and_a_closed_trade_leave_memories_that_know_of_each_other(
    home: Home,
) -> None:
    async with serving(home) as (services, client):
        await call(client, "memory_write", kind="note", text="Apple gaps up after strong services revenue.")
        found = await call(client, "memory_search", query="what does Apple do after results?")
        bought = await trade(client, "buy", "4", "services revenue beat")
        decided = await call(
            client,
            "memory_write",
            kind="decision",
            text="I buy the beat.",
            audit_seq=bought["receipt"]["seq"],
        )
        started = await call(client, "backtest_start", source=SOURCE, symbols=["AAPL"])
        ran = await call(client, "backtest_get", run_id=started["run_id"], wait_s=60)
        assert ran["state"] == "completed", ran
        sold = await trade(client, "sell", "4", "target reached")
        assert await services.capture.catch_up() == 5
        assert await kinds(services) == [
            "backtest", "decision", "note", "order", "order", "reflection", "trade",
        ]  # fmt: skip
        assert await services.capture.catch_up() == 0

        by_kind = {each.kind: each for each in await services.memory.newest(agent="agent-1")}
        looked = by_kind["reflection"]
        assert "«services revenue beat»" in looked.text
        assert "«target reached»" in looked.text
        assert looked.data["recalled"] == [
            f"{hit['memory_id']}@1:{hit['provenance']['content_hash'][:16]}" for hit in found["hits"]
        ]
        assert looked.provenance.about_seq == bought["receipt"]["seq"]
        chain = {each.kind for each in await services.memory.causes(looked.memory_id, agent="agent-1")}
        assert chain == {"trade", "order", "note"}
        closed = by_kind["trade"]
        assert (closed.provenance.trust, looked.provenance.trust) == ("verified", "asserted")
        assert closed.data["orders"] == [bought["client_order_id"], sold["client_order_id"]]
        assert (closed.data["outcome"], closed.data["profit"]) == ("flat", "0")  # at one and the same price
        assert by_kind["backtest"].data["digest"] == ran["digest"]

        seqs = await entries_of_order(services.store, bought["receipt"]["seq"])
        outcomes = await services.memory.outcomes(decided["memory_id"], agent="agent-1", seqs=seqs)
        assert {"reflection", "order"} <= {each.kind for each in outcomes}
        assert (await verify_memory(services.memory, services.store)).problems == ()
        with services.store.read() as connection:
            intent = read_entry(connection, bought["receipt"]["seq"]).payload
        assert intent["recalled"]["memories"] == looked.data["recalled"]  # pyright: ignore[reportIndexIssue, reportCallIssue, reportArgumentType, reportOptionalSubscript]
