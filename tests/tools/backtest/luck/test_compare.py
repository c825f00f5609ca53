"""`backtest_compare` over real runs of the real sandbox, and the comparison over made-up equities."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_governance.errors import InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.check import strategy_check
from neural_trader_tools.backtest.compare import backtest_compare
from neural_trader_tools.backtest.comparison import Run, compare, explain, hold_equity
from neural_trader_tools.backtest.get import backtest_get
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.start import backtest_start
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.strategies.registry import StrategyRegistry

NOW = datetime(2020, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
CALLER = Caller("desk", "tester")
HOLD = "import numpy as np\ndef signals(bars):\n    return np.ones(bars.height)\n"
PEEK = """
def signals(bars):
    import numpy as np
    close = bars["close"].to_numpy()
    return np.append(close[1:] > close[:-1], False).astype(float)
"""
CASH = HOLD.replace("ones", "zeros")

pytestmark = pytest.mark.anyio


@pytest.fixture
async def backtests(sandbox: LocalSandbox, archive: Archive, tmp_path: Path) -> AsyncGenerator[Backtests]:
    clock = SimulatedClock(NOW)
    registry = StrategyRegistry(tmp_path / "research.db", clock)
    artifacts = Artifacts(tmp_path / "artifacts")
    async with Backtests(archive, sandbox, registry, artifacts, tmp_path / "research.db", clock) as service:
        yield service


async def finish(backtests: Backtests, source: str, **arguments: Any) -> Any:
    given: dict[str, Any] = {"symbols": ["MSFT"], "source": source, **arguments}
    started = await backtest_start(backtests, CALLER, **given)
    return await backtest_get(backtests, CALLER, run_id=started.run_id, wait_s=60)


def made(
    run_id: str,
    returns: Any,
    *,
    others: Any = (),
    violations: int | None = 0,
    warnings: Any = (),
    first: int = 0,
) -> Run:
    """A run as if it had been made."""
    record = BacktestRecord(
        run_id=run_id,
        request=BacktestRequest(source="x", symbols=("X",), settings=Settings(cash=Decimal(1000))),
        created_time=NOW,
        as_of=NOW,
        warnings=tuple(warnings),
    )
    equity = np.append(1000.0, 1000.0 * np.cumprod(1.0 + np.asarray(returns)))
    times: NDArray[np.int64] = (np.arange(len(equity)) + first) * DAY
    return Run(record, times, equity, others, violations, prices=())


def noise(seed: int, drift: float, bars: int = 500) -> Any:
    return np.random.default_rng(seed).normal(drift, 0.01, bars)


def order(*runs: Run) -> list[str]:
    return [judged.run.record.run_id for judged in compare(runs).ranking]


async def test_runs_are_ranked_side_by_side_and_tested(backtests: Backtests) -> None:
    runs = [
        await finish(backtests, HOLD),
        await finish(backtests, CASH),
        await finish(backtests, HOLD, symbols=["AAPL"], convention="vectorbt"),
    ]
    found = await backtest_compare(backtests, run_ids=[run.run_id for run in runs])
    assert [run.run_id for run in found.ranking] == [runs[2].run_id, runs[0].run_id, runs[1].run_id]
    assert found.ranking[-1].why == "last: it never traded."
    assert next(iter(found.ranking[0].metrics)) == "deflated_sharpe_ratio"
    assert found.ranking[1].metrics["return_total"] == runs[0].metrics["return_total"]
    told_by_vectorbt = runs[2].metrics["sharpe_ratio"]
    ours = found.ranking[0].metrics["sharpe_ratio"]
    assert told_by_vectorbt == pytest.approx(ours * (365 / 252) ** 0.5, rel=1e-3)  # one measure
    assert found.warnings[0].startswith("conventions: ")
    assert [found.correlations[0][0], found.correlations[0][2]] == [1.0, None]
    assert 0.2 < (found.correlations[0][1] or 0.0) < 0.8
    assert set(found.against) == {"cash", "buy_and_hold"}
    assert found.against["buy_and_hold"].superior == []  # two of them are buy and hold, but for the first bar
    assert found.bars == runs[0].bars - 1
    assert 0.0 <= (found.pbo or 0.0) <= 1.0


async def test_trials_made_since_lower_what_an_earlier_run_is_worth(backtests: Backtests) -> None:
    first = await finish(backtests, HOLD)
    assert first.metrics["trials"] == 1
    second = await finish(backtests, CASH)
    found = await backtest_compare(backtests, run_ids=[first.run_id, second.run_id])
    assert [run.metrics["trials"] for run in found.ranking] == [2, 2]


CHANCE = HOLD.replace("import", "import random\nimport").replace("np.ones", "random.random() * np.ones")
ADDRESS = HOLD.replace("np.ones(bars.height)", "np.ones(bars.height) * (1 + id(object()) // 16 % 997) / 1000")


async def test_what_an_agent_draws_again_is_counted_and_what_it_writes_again_is_not(
    backtests: Backtests,
) -> None:
    """Through every door at once: seeds, comments, bounds of the period, addresses, a sweep of one value."""
    first = await finish(backtests, HOLD)
    for given in ({"seed": 7}, {"start": "1990-01-01"}, {"cash": "100000.0"}, {"convention": "quantstats"}):
        assert (await finish(backtests, HOLD, **given)).metrics["trials"] == 1
    assert (await finish(backtests, f"# mine\n{HOLD}")).metrics["trials"] == 1
    assert [(await finish(backtests, CHANCE, seed=seed)).metrics["trials"] for seed in (1, 2, 1)] == [2, 3, 3]
    drawn = [await finish(backtests, ADDRESS) for _ in range(3)]
    different = {run.metrics["sharpe_ratio"] for run in drawn}
    last = await finish(backtests, CASH)
    assert last.metrics["trials"] == 3 + len(different) + 1
    compared = await backtest_compare(backtests, run_ids=[first.run_id, last.run_id])
    assert {run.metrics["trials"] for run in compared.ranking} == {last.metrics["trials"]}


QUITTER = """
class Quitter(Strategy):
    least: float = 1.0
    def on_bar(self, bar):
        self.target(1.0)
        assert self.equity >= self.least * 100_000, "not good enough to be seen"
"""


async def test_a_strategy_that_fails_where_it_does_badly_is_counted_each_time(backtests: Backtests) -> None:
    failed = [await finish(backtests, QUITTER, params={"least": least}) for least in (0.9, 0.9, 0.8)]
    assert {run.state for run in failed} == {"failed"}
    assert (await finish(backtests, HOLD)).metrics["trials"] == 4
    endless = await backtest_start(backtests, CALLER, symbols=["MSFT"], source="while True: pass\n")
    with anyio.fail_after(60):
        while (await backtests.get(endless.run_id)).state != "running":  # noqa: ASYNC110  # it is asked for
            await anyio.sleep(0.01)
    await backtests.cancel(endless.run_id)
    assert (await finish(backtests, CASH)).metrics["trials"] == 6


async def test_what_strategy_check_found_follows_the_code_into_every_run(backtests: Backtests) -> None:
    unchecked = await finish(backtests, PEEK)
    assert any(warning.startswith("unchecked") for warning in unchecked.warnings)
    checked = await strategy_check(backtests, source=PEEK, symbol="MSFT", cuts=2)
    assert not checked.ok
    again = await finish(backtests, PEEK, seed=1)
    assert again.warnings[0].startswith("look_ahead: strategy_check found")
    honest = await finish(backtests, HOLD)
    found = await backtest_compare(backtests, run_ids=[unchecked.run_id, honest.run_id])
    assert found.ranking[0].run_id == honest.run_id
    assert found.ranking[1].why == "last: it uses bars that were not there yet."
    clean = await strategy_check(backtests, source=HOLD, symbol="MSFT", cuts=2)
    assert clean.ok
    after = await finish(backtests, HOLD, seed=2)
    assert not any(warning.startswith(("unchecked", "look_ahead")) for warning in after.warnings)


async def test_what_cannot_be_compared_is_refused(backtests: Backtests) -> None:
    one = await finish(backtests, HOLD)
    failed = await finish(backtests, "def signals(bars):\n    return bars['nope']\n")
    for run_ids, code in (
        ([one.run_id], "invalid_run_ids"),
        ([one.run_id, one.run_id], "invalid_run_ids"),
        ([one.run_id, "bt-none"], "unknown_run"),
        ([one.run_id, failed.run_id], "run_not_completed"),
    ):
        with pytest.raises(InputError) as raised:
            await backtest_compare(backtests, run_ids=run_ids)
        assert raised.value.code == code


def test_the_surer_run_comes_before_the_higher_one() -> None:
    long = made("long", noise(1, 0.0010, 2000))
    short = made("short", noise(2, 0.0020, 60))
    ranking = compare([short, long]).ranking
    assert [judged.run.record.run_id for judged in ranking] == ["long", "short"]
    assert (ranking[1].sharpe or 0) > (ranking[0].sharpe or 0)
    assert "higher than rank 1, but less sure" in explain(ranking[1], ranking[0])


def test_a_run_after_many_trials_falls_behind() -> None:
    tried = [0.08 * (-1) ** number for number in range(500)]
    alone, mined = made("alone", noise(3, 0.0006)), made("mined", noise(3, 0.0006), others=tried)
    assert order(mined, alone) == ["alone", "mined"]


def test_what_is_void_comes_last_however_good_it_looks() -> None:
    assert order(
        made("peeks", noise(1, 0.01), violations=3),
        made("ruined", noise(1, 0.01), warnings=("ruined: it is.",)),
        made("poor", noise(2, -0.001)),
        made("flat", np.zeros(500)),
    ) == ["poor", "flat", "peeks", "ruined"]


def test_runs_that_share_too_few_bars_are_ranked_but_not_tested() -> None:
    found = compare([made("a", noise(1, 0.001)), made("b", noise(2, 0.0), first=490)])
    assert found.bars == 10
    assert (found.cash, found.hold, found.overfitting) == (None, None, None)
    assert found.correlations == [[None, None], [None, None]]


def test_buy_and_hold_buys_equal_shares_at_the_first_close() -> None:
    line = np.array([10.0, 20.0, 30.0])
    one = Prices("A", np.arange(3, dtype=np.int64), line, line, line, line, line)
    two = Prices("B", np.arange(1, 4, dtype=np.int64), line, line, line, line, line)
    times = np.arange(4, dtype=np.int64)
    assert hold_equity([one, two], times).tolist() == [1.0, 1.5, 2.5, 3.0]
