"""Recall in a backtest: at the run's own clock, whatever is asked for, and whatever came after."""

from datetime import UTC, datetime
from typing import Any

import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import SimulatedClock, parse_time
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.run_clock import clock_of
from neural_trader_tools.backtest.settings import BacktestRequest

pytestmark = pytest.mark.anyio

HOLD = "def signals(bars):\n    return bars['close'] * 0 + 0.5\n"
PEEK = """
def signals(bars):
    from neural_trader_memory.memory import Memory
    return bars['close'] * 0 + 0.5
"""
RUN: dict[str, Any] = {"symbols": ["AAPL"], "start": "2012-01-01", "end": "2012-07-01"}


async def finished(services: Services, **arguments: Any) -> dict[str, Any]:
    started = await services.call("backtest_start", **{**RUN, **arguments})
    return await services.call("backtest_get", run_id=started["run_id"], wait_s=60.0)


def completed(services: Services) -> dict[str, Any]:
    """Returns a run as it is kept at its end; what it played is of no matter here."""
    now = services.clock.now()
    request = BacktestRequest(
        source=HOLD, symbols=("AAPL",), start=parse_time("2012-01-01"), end=parse_time("2012-07-01")
    )
    record = BacktestRecord(
        run_id="bt-0123456789", request=request, state="completed", created_time=now, as_of=now
    )
    services.backtests._ledger.put(record)  # pyright: ignore[reportPrivateUsage] - as its conclusion does
    return {"run_id": record.run_id}


async def test_a_search_for_a_run_sees_what_was_known_at_its_clock_and_nothing_later(home: Home) -> None:
    clock = SimulatedClock(datetime(2012, 3, 1, 21, tzinfo=UTC))
    services = Services(home, Settings(), clock)
    try:
        for text in ("Gaps on results fade within a week.", "Breakouts on low volume fail."):
            await services.call("memory_write", kind="note", text=text)
        clock.advance_to(datetime(2013, 3, 1, 21, tzinfo=UTC))
        run = completed(services)
        assert await clock_of(services.backtests, run["run_id"]) == datetime(2012, 6, 29, 13, 30, tzinfo=UTC)

        async def asked(**arguments: Any) -> dict[str, Any]:
            return await services.call(
                "memory_search", query="do gaps on results fade?", run_id=run["run_id"], **arguments
            )

        alone = await asked()
        assert len(alone["hits"]) == 2
        # The future arrives: better answers, the very words, a correction, and much of it.
        for number in range(6):
            text = f"Gaps on results fade? Yes: do gaps on results fade? number {number}"
            await services.call("memory_write", kind="note", text=text)
        drafts = [
            await services.memory.draft_tombstone(
                alone["hits"][0]["memory_id"], agent="agent-1", reason="no"
            ),
            await services.memory.draft_correction(
                alone["hits"][1]["memory_id"], agent="agent-1", source="agent", text="They do not fail."
            ),
        ]
        await services.memory.keep_all([(draft, None, "") for draft in drafts])
        assert await asked() == alone
        for later in ("2012-12-31", "2013-03-01T21:00:00Z", "2999-01-01"):
            assert await asked(as_of=later) == alone
        assert (await asked(as_of="2012-02-01"))["hits"] == []
        assert (await asked(kind="note", k=10)) == alone
        assert len((await services.call("memory_search", query="do gaps fade?", k=10))["hits"]) == 7
    finally:
        await services.aclose()


@pytest.mark.slow
async def test_a_run_that_came_to_no_end_has_no_clock_and_a_strategy_reaches_no_memory(home: Home) -> None:
    services = Services(home, Settings(), SimulatedClock(datetime(2013, 3, 1, 21, tzinfo=UTC)))
    try:
        run = await finished(services, source=PEEK)
        assert run["state"] == "failed"
        assert "neural_trader_memory" in run["error"]
        with pytest.raises(InputError, match=r"run_has_no_clock: .*failed"):
            await services.call("memory_search", query="gaps", run_id=run["run_id"])
        with pytest.raises(InputError, match="unknown_run"):
            await services.call("memory_search", query="gaps", run_id="bt-0000000000")
        # Before the engine has played what a strategy decided, the clock stands at the first bar.
        record = (await services.backtests.get(run["run_id"])).model_copy(
            update={"state": "running", "progress": 0.94, "run_id": "bt-runs"}
        )
        services.backtests._open["bt-runs"] = record  # pyright: ignore[reportPrivateUsage] - one that runs for ever
        assert await clock_of(services.backtests, "bt-runs") == datetime(2012, 1, 3, 14, 30, tzinfo=UTC)
        del services.backtests._open["bt-runs"]  # pyright: ignore[reportPrivateUsage] - as above
    finally:
        await services.aclose()
