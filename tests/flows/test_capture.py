"""What happens is remembered by itself: through a real server, from the order to the look back on it."""

from functools import partial
from typing import Any

import anyio
import pytest
from mcp import Client
from tests.flows.serving_here import call, serving

from neural_trader_governance import alerts
from neural_trader_governance.alerts import AlertKind
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import StorageError
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


@pytest.mark.slow
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


async def test_a_capture_that_dies_or_fails_is_gone_on_with_and_remembers_nothing_twice(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(home) as (services, client):
        sent = await trade(client, "buy", "1", "a reason")

        async def dies(*_: object) -> None:
            raise StorageError("memory_unavailable", "the disk is full", "free some space")

        with monkeypatch.context() as patch:
            patch.setattr(services.memory, "keep_all", dies)
            with pytest.raises(StorageError):
                await services.capture.catch_up()
        problems = (await verify_memory(services.memory, services.store)).problems
        assert [each.code for each in problems] == ["missing_row"]

        # Another process takes over; while it captures, nobody else does.
        async with serving(home) as (other, _):
            with services.capture._alone() as mine:  # pyright: ignore[reportPrivateUsage] - as a process that is busy
                assert (mine, await other.capture.catch_up()) == (True, 0)
            assert (await other.capture.catch_up(), await services.capture.catch_up()) == (1, 0)
            (order,) = await other.memory.newest(agent="agent-1")
            assert order.data["client_order_id"] == sent["client_order_id"]
            assert order.provenance.about_seq == sent["receipt"]["seq"]
            rows: Any = other.memory._table._table  # pyright: ignore[reportPrivateUsage] - a power cut's hand on it
            await rows.delete("true")
            assert await other.capture.catch_up(thoroughly=True) == 1
            assert await other.memory.newest(agent="agent-1") == [order]

        # Whatever fails raises one alert, is tried again, and catches up in the end.
        await trade(client, "sell", "1", "another reason")
        failed = anyio.Event()

        async def fails(*_: object) -> None:
            failed.set()
            raise StorageError("memory_unavailable", "the disk is full", "free some space")

        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(30):
                patch = pytest.MonkeyPatch()
                patch.setattr(services.memory, "kept_of", fails)
                tasks.start_soon(partial(services.capture.keep_capturing, every_s=0.01))
                await failed.wait()
                while not alerts_of(services):  # noqa: ASYNC110 - the log is what tells
                    await anyio.sleep(0.01)
                patch.undo()
                while "reflection" not in await kinds(services):  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()
        assert len(alerts_of(services)) == 1
        assert await kinds(services) == ["order", "order", "reflection", "trade"]
        assert (await verify_memory(services.memory, services.store)).problems == ()


def alerts_of(services: Services) -> list[str]:
    with services.store.read() as connection:
        found = alerts.read_alerts(connection)
    return [alert.message for alert, _ in found if alert.kind == AlertKind.MEMORY]
