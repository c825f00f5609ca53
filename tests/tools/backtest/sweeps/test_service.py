"""Sweeps as a service, on real prices, in the real sandbox: the same whatever runs when, and when killed."""

import importlib.util
import sys
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import anyio
import polars as pl
import pytest

from neural_trader_governance.errors import InputError, NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Limits
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.cancel import backtest_cancel
from neural_trader_tools.backtest.get import backtest_get
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.start import backtest_start
from neural_trader_tools.backtest.sweep import backtest_sweep
from neural_trader_tools.backtest.sweeps import shards
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.strategies.registry import StrategyRegistry

pytestmark = pytest.mark.anyio

CALLER = Caller("desk", "tester")
NOW = datetime(2014, 1, 1, tzinfo=UTC)
CROSS = """
import polars as pl
def signals(bars, fast: int = 20, slow: int = 50):
    if fast == 13:
        raise ValueError("thirteen")
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(pl.Float64)
"""
BRACKET = """
class Dips(Strategy):
    drop: float = 0.02
    def on_bar(self, bar):
        if bar.close < bar.open * (1 - self.drop) and self.position.quantity == 0:
            self.buy(fraction=0.9, take_profit=bar.close * 1.05, stop_loss=bar.close * 0.97)
"""
SLOW = """
import polars as pl
def signals(bars, fast: int = 20):
    total = 0
    for number in range(1_000_000):
        total += number
    return (bars["close"].rolling_mean(fast) > bars["close"]).cast(pl.Float64)
"""
HANGS = """
def signals(bars, fast: int = 20):
    while fast == 3:
        pass
    return bars["close"] * 0
"""


def service(archive: Archive, sandbox: LocalSandbox, home: Path) -> Backtests:
    clock = SimulatedClock(NOW)
    registry = StrategyRegistry(home / "research.db", clock)
    return Backtests(archive, sandbox, registry, Artifacts(home / "artifacts"), home / "research.db", clock)


@pytest.fixture
async def backtests(sandbox: LocalSandbox, tmp_path: Path, archive: Archive) -> AsyncGenerator[Backtests]:
    async with service(archive, sandbox, tmp_path) as running:
        yield running


async def finish(backtests: Backtests, **arguments: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"symbols": ["MSFT"], "source": CROSS, **arguments}
    if "resume" in arguments:
        given = arguments
    started = await backtest_sweep(backtests, CALLER, **given)
    while True:
        done = await backtest_get(backtests, CALLER, run_id=started.run_id, wait_s=60)
        if done.state not in {"queued", "running"}:
            return done.model_dump(mode="json")


def table_of(home: Path, done: dict[str, Any]) -> pl.DataFrame:
    return Artifacts(home / "artifacts").get(done["table"])


async def test_the_best_combination_is_the_single_backtest_of_its_parameters_and_seed(
    backtests: Backtests, tmp_path: Path
) -> None:
    done = await finish(
        backtests, grid={"fast": [5, 13, 20], "slow": "40:60:10"}, settings={"commission_bps": 5},
        walk_forward="rolling,folds=4",
    )  # fmt: skip
    assert (done["state"], done["error"], done["combinations"], done["failed"]) == ("completed", None, 9, 3)
    table = table_of(tmp_path, done)
    assert table.height == 9
    assert table["sharpe_ratio"].drop_nulls().is_sorted(descending=True)
    best = done["best"]
    started = await backtest_start(
        backtests, CALLER, symbols=["MSFT"], source=CROSS, params=best["params"], seed=best["seed"],
        commission_bps=5,
    )  # fmt: skip
    single = await backtest_get(backtests, CALLER, run_id=started.run_id, wait_s=60)
    for name, value in best["metrics"].items():
        assert value == pytest.approx(single.metrics[name], rel=1e-9), name
    assert single.handles is not None
    assert done["handles"]["equity"] == single.handles.equity
    assert single.metrics["trials"] == 9  # this one among them, and the three that failed: they were tried
    assert 0.0 <= done["pbo"] <= 1.0
    assert 0.0 <= done["deflated_sharpe_ratio"] <= 1.0
    assert done["trials"] == 9
    assert done["faults"][0]["params"]["fast"] == 13
    assert "thirteen (line 5 of the strategy)" in done["faults"][0]["error"]
    sample = done["out_of_sample"]
    assert (sample["stitched"], len(sample["folds"])) == ("played", 4)
    equity = Artifacts(tmp_path / "artifacts").get(sample["equity"])
    assert equity.height == sum(fold["test_bars"] for fold in sample["folds"]) + 1
    assert equity["equity"][-1] == sample["metrics"]["equity_final"]
    assert {window["name"] for window in done["stress"]} >= {"financial crisis", "worst 21 bars"}
    assert done["cost_shocks"][0]["return_total"] < best["metrics"]["return_total"]


async def test_orders_and_several_symbols_are_played_whole(backtests: Backtests) -> None:
    done = await finish(
        backtests, source=BRACKET, symbols=["MSFT", "AAPL"], grid={"drop": "0.01:0.03:0.01"},
        walk_forward="anchored,folds=3",
    )  # fmt: skip
    assert (done["state"], done["error"]) == ("completed", None)
    assert done["out_of_sample"]["stitched"] == "chained"
    best = done["best"]
    started = await backtest_start(
        backtests, CALLER, symbols=["MSFT", "AAPL"], source=BRACKET, params=best["params"], seed=best["seed"]
    )
    single = await backtest_get(backtests, CALLER, run_id=started.run_id, wait_s=60)
    assert best["metrics"]["sharpe_ratio"] == pytest.approx(single.metrics["sharpe_ratio"], rel=1e-9)
    assert best["metrics"]["trade_count"] == single.metrics["trade_count"]


async def test_neither_workers_nor_shards_change_a_result(
    backtests: Backtests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"fast": "5:12", "slow": "40:60:10"}
    first = await finish(backtests, grid=grid, walk_forward="combinatorial,folds=4,test=2,purge=3,embargo=2")
    monkeypatch.setattr(shards, "BUDGET_S", 0.0)  # one combination for each child
    monkeypatch.setattr(backtests.sweeps, "_workers", 1)
    monkeypatch.setattr("neural_trader_tools.backtest.sweeps.work.ASKED_FIRST", 3)
    second = await finish(backtests, grid=grid, walk_forward="combinatorial,folds=4,test=2,purge=3,embargo=2")
    assert first.pop("run_id") != second.pop("run_id")
    assert first == second
    assert len(first["out_of_sample"]["path_sharpe_ratios"]) == 3


@pytest.mark.parametrize("method", ["random", "bayesian"])
async def test_choices_repeat(backtests: Backtests, method: str, lacking: Callable[[str], NoReturn]) -> None:
    if method == "bayesian" and importlib.util.find_spec("optuna") is None:
        lacking("optuna is not installed: pip install 'neural-trader[bayesian]'")
    asked = {"grid": {"fast": "5:30", "slow": "40:90"}, "method": method, "samples": 12, "seed": 4}
    first, second = await finish(backtests, **asked), await finish(backtests, **asked)
    assert (first["state"], first["error"]) == ("completed", None)
    assert first["table"] == second["table"]


async def test_a_sweep_is_canceled_through_another_server_of_the_home(
    backtests: Backtests, sandbox: LocalSandbox, tmp_path: Path
) -> None:
    started = await backtest_sweep(backtests, CALLER, symbols=["MSFT"], source=HANGS, grid={"fast": "3:9"})
    async with service(backtests.archive, sandbox, tmp_path) as elsewhere:
        canceled = await backtest_cancel(elsewhere, CALLER, run_id=started.run_id)
    assert canceled.state == "canceled"


async def test_a_canceled_sweep_keeps_what_it_found_and_goes_on_under_its_id(
    backtests: Backtests, tmp_path: Path
) -> None:
    started = await backtest_sweep(backtests, CALLER, symbols=["MSFT"], source=SLOW, grid={"fast": "2:61"})
    with anyio.fail_after(60):
        while not list((tmp_path / "sweeps" / started.run_id).glob("part-*")):  # noqa: ASYNC110  # a file is no event
            await anyio.sleep(0.01)
    with pytest.raises(RiskError, match="run_not_yours"):
        await backtest_cancel(backtests, Caller("desk", "another"), run_id=started.run_id)
    canceled = await backtest_cancel(backtests, CALLER, run_id=started.run_id)
    assert canceled.state == "canceled"
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "sweeps" / started.run_id).iterdir()}
    status = await backtest_get(backtests, CALLER, run_id=started.run_id)
    assert 0.0 < status.progress < 1.0
    with pytest.raises(InputError, match="run_not_yours"):
        await backtest_sweep(backtests, Caller("desk", "another"), resume=started.run_id)
    done = await finish(backtests, resume=started.run_id)
    assert (done["state"], done["run_id"], done["failed"]) == ("completed", started.run_id, 0)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "sweeps" / started.run_id).iterdir()}
    assert kept.items() <= after.items()
    with pytest.raises(InputError, match="run_completed"):
        await backtest_sweep(backtests, CALLER, resume=started.run_id)


KILLED = """
import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
import anyio
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.sweep import backtest_sweep
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample
from neural_trader_tools.strategies.registry import StrategyRegistry

async def main(home, source):
    clock = SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC))
    archive = Archive(home / "archive")
    fetch_sample(archive, SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC)))
    sandbox = LocalSandbox(["numpy", "polars", "neural_trader_tools.engine.guest",
        "neural_trader_tools.engine.sweep", "neural_trader_tools.features.catalogue"])
    store = home / "research.db"
    async with Backtests(
        archive, sandbox, StrategyRegistry(store, clock), Artifacts(home / "artifacts"), store, clock
    ) as backtests:
        started = await backtest_sweep(
            backtests, Caller("desk", "tester"), symbols=["MSFT"], source=source, grid={"fast": "2:61"}
        )
        print(started.run_id, flush=True)
        await anyio.sleep(600)

anyio.run(main, Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
async def test_a_killed_sweep_goes_on_under_its_id_and_finds_the_same(
    sandbox: LocalSandbox, archive: Archive, tmp_path: Path
) -> None:
    process = await anyio.open_process([sys.executable, "-c", KILLED, str(tmp_path), SLOW], stderr=None)
    assert process.stdout is not None
    run_id = (await process.stdout.receive()).decode().strip()
    folder = tmp_path / "sweeps" / run_id
    with anyio.fail_after(120):
        while not list(folder.glob("part-*")):  # noqa: ASYNC110  # a file is no event
            await anyio.sleep(0.01)
    process.kill()
    await process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    async with service(archive, sandbox, tmp_path) as backtests:
        orphan = await backtest_get(backtests, CALLER, run_id=run_id)
        assert orphan.state == "interrupted"
        assert run_id in str(orphan.error)
        assert await backtests.sweeps.resume_interrupted() == [run_id]
        while (done := await backtest_get(backtests, CALLER, run_id=run_id, wait_s=60)).state == "running":
            pass
        assert (done.state, done.error) == ("completed", None)
        after = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
        assert kept.items() <= after.items()
        whole = await finish(backtests, source=SLOW, grid={"fast": "2:61"})
        assert done.model_dump()["table"] == whole["table"]
        assert whole["trials"] == 60  # nothing was counted twice
    await process.aclose()


@pytest.mark.slow
async def test_a_combination_that_hangs_is_blamed_alone(
    backtests: Backtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LIMITS", Limits(wall_time_s=4.0, cpu_time_s=60))
    done = await finish(backtests, source=HANGS, grid={"fast": "1:8"})
    assert done["failed"] == 1
    assert done["faults"][0]["params"] == {"fast": 3}
    assert done["faults"][0]["error"].startswith("strategy_timeout")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"grid": {"fst": "1:5"}}, "unknown_parameter"),
        ({"grid": {"fast": "1:5"}, "params": {"fast": 3}}, "invalid_grid"),
        ({"grid": {"fast": "1:5"}, "objective": "sharp_ratio"}, "invalid_objective"),
        (
            {"grid": {"fast": "1:5"}, "objective": "calmar_ratio", "walk_forward": "rolling"},
            "invalid_objective",
        ),
        ({"grid": {"fast": "1:5"}, "settings": {"comission_bps": 5}}, "invalid_settings"),
        ({"grid": {"fast": "1:5"}, "symbols": []}, "invalid_symbols"),
        ({"grid": {"fast": "1:5"}, "symbols": ["NOPE"]}, "unknown_symbol"),
        ({"grid": {"fast": "1:5"}, "walk_forward": "rolling,folds=90,train=3200"}, "too_few_bars"),
        ({"grid": {"fast": "1:2000", "slow": "1:2000"}}, "too_many_combinations"),
        ({"resume": "sw-none"}, "unknown_run"),
    ],
)
async def test_a_sweep_that_cannot_be_is_refused(
    backtests: Backtests, arguments: dict[str, Any], code: str
) -> None:
    with pytest.raises(NeuralTraderError) as refused:
        await finish(backtests, **arguments)
    assert refused.value.code == code


async def test_a_file_without_a_strategy_fails_the_sweep_not_each_combination(backtests: Backtests) -> None:
    done = await finish(
        backtests, source="def signals(bars, fast=1):\n    pass\nraise OSError('no')\n", grid={"fast": "1:5"}
    )
    assert done["state"] == "failed"
    assert "no" in done["error"]
