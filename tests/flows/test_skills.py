"""A strategy becomes a skill through figures that the log vouches for, by a person, and in no other way."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.memory.gates import SkillGate
from neural_trader_tools.memory.skills import Evidence, list_skills, promote, weigh
from neural_trader_tools.memory.verification import verify_memory

pytestmark = pytest.mark.anyio

SOURCE = """
def signals(bars, slow=20):
    return (bars['close'] > bars['close'].rolling_mean(int(slow))).cast(float).fill_null(0.0)
"""
RUN: dict[str, Any] = {
    "symbols": ["AAPL"],
    "start": "2012-01-01",
    "end": "2013-01-01",
    "grid": {"slow": [5, 10]},
}
LOW = SkillGate(
    sharpe_min=-9, deflated_sharpe_min=0, trades_min=1, folds_min=2, purge_bars_min=1, overfitting_max=1,
    drawdown_max=1,
)  # fmt: skip
"""A gate that this strategy passes: what is tried here is the gate's hinges, not the strategy."""


async def swept(services: Services, **arguments: Any) -> str:
    started = await services.call("backtest_sweep", **{**RUN, **arguments})
    ran = await services.call("backtest_get", run_id=started["run_id"], wait_s=60.0)
    assert ran["state"] == "completed", ran
    return str(started["run_id"])


def missed(evidence: Evidence) -> set[str]:
    return {each.name for each in evidence.conditions if not each.ok}


@pytest.mark.slow
async def test_a_sweep_makes_a_skill_only_if_it_is_proven_on_record_and_asked_for_by_a_person(
    home: Home,
) -> None:
    services = Services(home, Settings(), WallClock())
    memory, store, person = services.memory, services.store, services.person
    try:
        await services.start()
        backtests = services.backtests
        named = {"strategy_id": services.registry.save("slow", SOURCE).strategy_id}
        run_id = await swept(services, **named, walk_forward="rolling,folds=3,purge=2")
        assert missed(await weigh(backtests, store, run_id, LOW)) == {"look-ahead violations"}
        backtests.note_check(SOURCE, 0)
        found = await weigh(backtests, store, run_id, LOW)
        assert found.ok, found
        assert found.trials == 2

        # Each bound holds by itself; the shipped gate lets nothing of the kind through.
        bounds: list[tuple[dict[str, Any], str]] = [
            ({"sharpe_min": 50}, "Sharpe ratio out of sample"),
            ({"deflated_sharpe_min": 1}, "deflated Sharpe ratio"),
            ({"trades_min": 10_000}, "trades out of sample"),
            ({"folds_min": 4}, "test ranges"),
            ({"purge_bars_min": 3}, "purged bars"),
            ({"drawdown_max": 1e-6}, "drawdown out of sample"),
            ({"overfitting_max": 0}, "probability of overfitting"),
        ]
        for change, name in bounds:
            held = await weigh(backtests, store, run_id, LOW.model_copy(update=change))
            assert missed(held) == {name}, change
        shipped = await weigh(backtests, store, run_id, SkillGate())
        with pytest.raises(RiskError, match=r"skill_not_proven: .*deflated Sharpe ratio"):
            await promote(memory, store, person, shipped, agent="agent-1")

        with pytest.raises(RiskError, match="person_required"):
            await promote(memory, store, Caller("owner", "agent-1"), found, agent="agent-1")
        kept = await promote(memory, store, person, found, agent="agent-1")
        with pytest.raises(InputError, match="skill_known"):
            await promote(memory, store, person, found, agent="agent-1")
        await services.call(
            "memory_write",
            kind="skill",
            text="PROMOTED by the operator: out of sample Sharpe 4.1, deflated 0.99.",
            data={"run_id": run_id, "promoted": True},
        )
        skills = await list_skills(memory, store, agent="agent-1")
        assert [(each.memory_id == kept.memory_id, each.promoted, each.trust) for each in skills] == [
            (True, True, "verified"),
            (False, False, "asserted"),
        ]
        assert (await verify_memory(memory, store)).ok
        entries = await services.call("audit_search", type=EntryType.SKILL_PROMOTE.value)
        assert len(entries["entries"]) == 1
        hits = await services.call("memory_search", query="which strategy held?", kind="skill")
        assert hits["hits"][0]["memory_id"] == kept.memory_id

        # Whoever edits what a sweep found does not pass: the log holds the digest of it.
        forge(home.research_db, run_id)
        assert missed(await weigh(backtests, store, run_id, LOW)) == {"record"}
        backtests.note_check(SOURCE, 1)  # what is seen once is not forgotten
        assert missed(await weigh(backtests, store, run_id, LOW)) == {"record", "look-ahead violations"}
        with pytest.raises(InputError, match="unknown_run"):
            await weigh(backtests, store, "sw-0000000000", LOW)
    finally:
        await services.aclose()


def forge(path: Path, run_id: str) -> None:
    with sqlite3.connect(path) as connection:
        row = connection.execute("SELECT record FROM backtest_sweeps WHERE run_id = ?", (run_id,)).fetchone()
        record = json.loads(row[0])
        record["result"]["out_of_sample"]["metrics"]["sharpe_ratio"] = 3.5
        connection.execute(
            "UPDATE backtest_sweeps SET record = ? WHERE run_id = ?", (json.dumps(record), run_id)
        )
