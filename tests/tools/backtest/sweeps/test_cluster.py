"""A sweep on Ray finds what it finds here, bit for bit."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.sweep import read_sweep
from neural_trader_tools.backtest.sweeps.cluster import ray_backend
from neural_trader_tools.backtest.sweeps.service import Backend
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.strategies.registry import StrategyRegistry

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # ray's own warnings

CHANCE = """
import random
def signals(bars, fast: int = 20, slow: int = 50):
    if fast == 7:
        raise ValueError("seven")
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(float) * random.random()
"""


@pytest.fixture
async def backtests(sandbox: LocalSandbox, tmp_path: Path, archive: Archive) -> AsyncGenerator[Backtests]:
    clock = SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC))
    store = tmp_path / "research.db"
    async with Backtests(
        archive, sandbox, StrategyRegistry(store, clock), Artifacts(tmp_path / "artifacts"), store, clock
    ) as running:
        yield running


async def test_a_cluster_finds_the_same_bit_for_bit(backtests: Backtests) -> None:
    pytest.importorskip("ray")
    found: list[dict[str, object]] = []
    backend: Backend | None = None
    for backend in (None, ray_backend("local", 2)):
        request = await read_sweep(
            backtests, symbols=["MSFT"], grid={"fast": "5:12", "slow": "40:60:10"}, strategy_id=None,
            source=CHANCE, interval="1d", start=None, end=None, params=None, settings={}, method="grid",
            samples=None, objective="sharpe_ratio", walk_forward="rolling,folds=3", seed=9,
        )  # fmt: skip
        run_id = await backtests.sweeps.start(request, backend=backend)
        while (record := await backtests.sweeps.get(run_id, 60)).state in ("queued", "running"):
            pass
        assert (record.state, record.error) == ("completed", None)
        assert record.result is not None
        found.append(record.result)
    assert found[0] == found[1]
    assert found[0]["failed"] == 3
