"""The service and its tools, on a real archive, in the real sandbox."""

import json
import sqlite3
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from neural_trader_governance.errors import InputError, NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.untrusted.readings import Source, collecting
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest import cancels, digest
from neural_trader_tools.backtest.cancel import backtest_cancel
from neural_trader_tools.backtest.get import backtest_get
from neural_trader_tools.backtest.ledger import BacktestRecord, RunLedger
from neural_trader_tools.backtest.run import Backtests, last_lines
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.start import backtest_start
from neural_trader_tools.backtest.verify import backtest_verify
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.strategies.registry import StrategyRegistry
from neural_trader_tools.telling import telling

pytestmark = pytest.mark.anyio

CALLER = Caller("desk", "tester")
CROSS = """
import polars as pl
def signals(bars, fast: int = 20, slow: int = 50):
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(pl.Float64)
"""
CHANCE = """
import dataclasses
import polars as pl
def signals(bars):
    drawn = dataclasses.sys.modules["os"].getrandom(6)
    return pl.Series([int.from_bytes(drawn, "big") / 2**48] * bars.height)
"""


@pytest.fixture
async def backtests(sandbox: LocalSandbox, tmp_path: Path, archive: Archive) -> AsyncGenerator[Backtests]:
    clock = SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC))
    service = Backtests(
        archive,
        sandbox,
        StrategyRegistry(tmp_path / "research.db", clock),
        Artifacts(tmp_path / "artifacts"),
        tmp_path / "research.db",
        clock,
    )
    async with service:
        yield service


async def finish(backtests: Backtests, **arguments: Any) -> Any:
    given: dict[str, Any] = {"symbols": ["MSFT"], "source": CROSS, **arguments}
    started = await backtest_start(backtests, CALLER, **given)
    return await backtest_get(backtests, CALLER, run_id=started.run_id, wait_s=60)


async def test_a_saved_strategy_is_backtested_and_verified(backtests: Backtests, tmp_path: Path) -> None:
    saved = backtests.registry.save("cross", CROSS)
    done = await finish(
        backtests, source=None, strategy_id=saved.strategy_id, symbols=["MSFT", "AAPL"], params={"fast": 10}
    )
    assert (done.state, done.error, done.progress) == ("completed", None, 1.0)
    assert done.metrics["trade_count"] > 10
    artifacts = Artifacts(tmp_path / "artifacts")
    equity = artifacts.get(done.handles.equity)
    assert equity["equity"][-1] == done.metrics["equity_final"]
    assert set(artifacts.get(done.handles.trades)["symbol"]) == {"MSFT", "AAPL"}
    assert artifacts.get(done.handles.fills).height >= 2 * done.metrics["trade_count"]
    verified = await backtest_verify(backtests, run_id=done.run_id)
    assert verified.identical
    assert verified.digest_expected == verified.digest_recomputed == done.digest


async def test_every_different_configuration_is_a_trial(backtests: Backtests) -> None:
    trials = [(await finish(backtests, params={"fast": fast})).metrics["trials"] for fast in (10, 15, 15, 20)]
    assert trials == [1, 2, 2, 3]
    other = await finish(backtests, symbols=["AAPL"])
    assert other.metrics["trials"] == 1


async def test_verifying_a_run_of_an_older_engine_says_so(
    backtests: Backtests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it came to the same is told apart from the digest, which names the engine."""
    with monkeypatch.context() as older:
        older.setattr(digest, "ENGINE_VERSION", "1")
        older.setattr(digest.run_digest, "__defaults__", ("1",))
        same, chance = await finish(backtests), await finish(backtests, source=CHANCE)
    path = tmp_path / "research.db"
    with sqlite3.connect(path) as connection:  # records of engine 1 do not name it
        connection.execute("UPDATE backtest_runs SET record = json_remove(record, '$.engine')")
    verified = await backtest_verify(backtests, run_id=same.run_id)
    assert verified.identical
    assert verified.digest_recomputed == same.digest
    assert verified.detail.startswith("Engine 1 made the run; engine 3, which is this one, makes the same")
    verified = await backtest_verify(backtests, run_id=chance.run_id)
    assert not verified.identical
    assert verified.detail.startswith("Engine 1 made the run, and this is engine 3")
    again = await finish(backtests)
    assert again.digest != same.digest
    assert again.metrics["trials"] == 2  # same and chance: what a newer engine tries again is no new trial
    assert (await backtest_verify(backtests, run_id=again.run_id)).detail == ""


SPINS = """
class Spins(Strategy):
    def on_bar(self, bar):
        if bar.number == 40:
            print("line one\\x1b[31m")
            print("see bar", bar.number)
        while bar.number == 100:
            pass
"""


async def test_a_running_backtest_shows_how_far_it_is_and_what_it_printed(backtests: Backtests) -> None:
    """The strategy spins on bar 100 for ever, so that all that is shown is shown before its end."""
    started = await backtest_start(backtests, CALLER, symbols=["MSFT"], source=SPINS)
    told: list[float] = []
    with anyio.fail_after(30), anyio.CancelScope() as scope:

        async def listen(fraction: float) -> None:
            told.append(fraction)
            if fraction > 0.0 and (await backtests.get(started.run_id)).output:
                scope.cancel()

        with telling(listen):
            await backtest_get(backtests, CALLER, run_id=started.run_id, wait_s=60)
    assert told == sorted(told)
    with collecting() as readings:
        shown = await backtest_get(backtests, CALLER, run_id=started.run_id, format="output")
    assert (shown.state, shown.output) == ("running", "line one\nsee bar 40\n")
    assert 0.0 < shown.progress < 0.1
    assert [(reading.source, reading.text) for reading in readings] == [(Source.SANDBOX, shown.output)]
    for form in ("full", "brief"):
        with collecting() as readings:
            quiet = await backtest_get(backtests, CALLER, run_id=started.run_id, format=form)
        assert (quiet.output, readings) == ("", [])
    canceled = await backtest_cancel(backtests, CALLER, run_id=started.run_id)
    assert canceled.state == "canceled"
    ended = await backtest_get(backtests, CALLER, run_id=started.run_id, format="output")
    assert (ended.progress, ended.output) == (shown.progress, shown.output)


async def test_the_last_lines_of_a_talkative_strategy_are_kept(backtests: Backtests) -> None:
    source = "for n in range(3000): print('line', n)\n" + CROSS
    done = await finish(backtests, source=source)
    assert done.state == "completed"
    done = await backtest_get(backtests, CALLER, run_id=done.run_id, format="output")
    assert len(done.output) <= 2000
    assert done.output.startswith("line 2")
    assert done.output.endswith("\nline 2999\n")


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a\nb\n", "a\nb\n"), ("x" * 2500, "x" * 2000), ("x" * 2500 + "\n", "x" * 1999 + "\n")],
)
def test_at_least_the_end_of_the_last_line_is_kept(text: str, kept: str) -> None:
    assert last_lines(text) == kept


async def test_a_failing_strategy_fails_its_run_with_the_reason(backtests: Backtests) -> None:
    done = await finish(backtests, source="def signals(bars):\n    return bars['nope']\n")
    assert done.state == "failed"
    assert "line 2" in done.error
    with pytest.raises(InputError, match="run_not_completed"):
        await backtest_verify(backtests, run_id=done.run_id)


async def test_a_run_can_be_canceled(backtests: Backtests) -> None:
    started = await backtest_start(backtests, CALLER, symbols=["MSFT"], source="while True: pass\n")
    with pytest.raises(RiskError, match="run_not_yours"):
        await backtest_cancel(backtests, Caller(CALLER.principal, "another"), run_id=started.run_id)
    canceled = await backtest_cancel(backtests, CALLER, run_id=started.run_id)
    assert canceled.state == "canceled"
    assert (await backtest_get(backtests, CALLER, run_id=started.run_id)).state == "canceled"


async def test_a_run_is_waited_for_and_canceled_through_another_server_of_the_home(
    backtests: Backtests, sandbox: LocalSandbox, tmp_path: Path, archive: Archive
) -> None:
    elsewhere = Backtests(
        archive,
        sandbox,
        backtests.registry,
        Artifacts(tmp_path / "artifacts"),
        tmp_path / "research.db",
        SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC)),
    )
    async with elsewhere:
        done = await backtest_start(backtests, CALLER, symbols=["MSFT"], source=CROSS)
        assert (await backtest_get(elsewhere, CALLER, run_id=done.run_id, wait_s=60)).state == "completed"
        started = await backtest_start(backtests, CALLER, symbols=["MSFT"], source="while True: pass\n")
        waited: list[str] = []

        async def wait() -> None:
            waited.append((await backtest_get(elsewhere, CALLER, run_id=started.run_id, wait_s=60)).state)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            with pytest.raises(RiskError, match="run_not_yours"):
                await backtest_cancel(elsewhere, Caller("desk", "another"), run_id=started.run_id)
            assert (await backtest_cancel(elsewhere, CALLER, run_id=started.run_id)).state == "canceled"
        assert waited == ["canceled"]
    assert backtests.open_runs() == []
    with sqlite3.connect(tmp_path / "research.db") as connection:
        assert connection.execute("SELECT * FROM run_cancels").fetchall() == []


async def test_who_does_not_answer_is_named_and_who_is_gone_is_not_waited_for(
    backtests: Backtests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = BacktestRequest.model_validate({"symbols": ("MSFT",), "source": CROSS})
    now = datetime(2014, 1, 1, tzinfo=UTC)
    ledger = RunLedger(tmp_path / "research.db")
    for name in ("bt-silent", "bt-gone"):
        ledger.put(BacktestRecord(run_id=name, request=request, agent="tester", created_time=now, as_of=now))
    with sqlite3.connect(tmp_path / "research.db") as connection:
        connection.execute("UPDATE backtest_runs SET owner = '4194305:1' WHERE run_id = 'bt-gone'")
    assert (await backtest_cancel(backtests, CALLER, run_id="bt-gone")).state == "interrupted"
    monkeypatch.setattr(cancels, "OBEYED_WITHIN_S", 0.05)
    with pytest.raises(InputError, match="cancel_pending"):
        await backtest_cancel(backtests, CALLER, run_id="bt-silent")


async def test_unverifiable_chance_is_found_by_verify(backtests: Backtests) -> None:
    done = await finish(backtests, source=CHANCE)
    verified = await backtest_verify(backtests, run_id=done.run_id)
    assert not verified.identical
    assert verified.detail == "The strategy is not deterministic, or the prices changed."


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"symbols": ["MFST"]}, "unknown_symbol"),
        ({"symbols": ["\u041cSFT"]}, "unknown_symbol"),
        ({"symbols": []}, "invalid_symbols"),
        ({"symbols": ["MSFT", "MSFT"]}, "duplicate_symbols"),
        ({"start": "2012-01-01", "end": "2011-01-01"}, "reversed_dates"),
        ({"start": "1950-01-01", "end": "1951-01-01"}, "no_bars"),
        ({"start": "yesterday"}, "invalid_time"),
        ({"interval": "daily"}, "invalid_interval"),
        ({"source": None, "strategy_id": "f" * 64}, "unknown_strategy"),
        ({"source": None, "strategy_id": "…"}, "unknown_strategy"),
        ({"source": None}, "strategy_ambiguous"),
        ({"strategy_id": "f" * 64}, "strategy_ambiguous"),
        ({"source": "def signals(bars:\n"}, "syntax_error"),
        ({"source": "  "}, "source_empty"),
        ({"source": "#" * 200_000}, "source_too_large"),
        ({"params": {"fsat": 10}}, "unknown_parameter"),
        ({"params": {"fast": float("nan")}}, "invalid_params"),
        ({"params": {"fast": "\ud800"}}, "invalid_params"),
        ({"params": {"fast": {1, 2}}}, "invalid_params"),
        ({"params": {"fast": "x" * 100_000}}, "invalid_params"),
        ({"params": {"fast": json.loads("[" * 200 + "]" * 200)}}, "invalid_params"),
        ({"cash": float("nan")}, "invalid_cash"),
        ({"cash": -5}, "invalid_cash"),
        ({"cash": "1e40"}, "invalid_cash"),
        ({"cash": "lots"}, "invalid_cash"),
        ({"commission_bps": -1}, "invalid_commission_bps"),
        ({"slippage_bps": float("inf")}, "invalid_slippage_bps"),
        ({"fill": "open"}, "invalid_fill"),
        ({"lots": "round"}, "invalid_lots"),
        ({"convention": "vectorbot"}, "invalid_convention"),
        ({"seed": -1}, "invalid_seed"),
    ],
)
async def test_bad_input_is_refused_at_the_start(backtests: Backtests, arguments: Any, code: str) -> None:
    with pytest.raises(NeuralTraderError) as caught:
        await finish(backtests, **arguments)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{code}: ")


@pytest.mark.parametrize(
    ("day", "close"),
    [(26, 88.99), (28, 88.99), (29, 44.86)],  # the 2:1 split of 2005-02-28 is seen on its day
)
async def test_a_backtest_sees_what_its_clock_knows(
    sandbox: LocalSandbox, tmp_path: Path, archive: Archive, day: int, close: float
) -> None:
    """Bars end at the clock, and a split that it does not know yet adjusts nothing."""
    clock = SimulatedClock(datetime(2005, 2, 1, tzinfo=UTC) + timedelta(days=day - 1))
    path = tmp_path / "research.db"
    service = Backtests(archive, sandbox, StrategyRegistry(path), Artifacts(tmp_path / "a"), path, clock)
    request = BacktestRequest(source=CROSS, symbols=("AAPL",))
    [bars] = service.read_prices(request)
    assert bars.close[-1] == pytest.approx(close)
    assert bars.times[-1] < clock.now().timestamp() * 1e6
    [later] = service.read_prices(
        request,
        BacktestRecord(
            run_id="bt-then",
            request=request,
            created_time=clock.now(),
            as_of=datetime(2005, 2, 26, tzinfo=UTC),
        ),
    )
    assert later.close[-1] == pytest.approx(88.99)


async def test_unknown_runs_and_bad_waits_are_refused(backtests: Backtests) -> None:
    with pytest.raises(InputError, match="run_is_a_sweep"):
        await backtests.verify("sw-0123456789")
    with pytest.raises(InputError, match="unknown_run"):
        await backtest_get(backtests, CALLER, run_id="bt-nothing")
    with pytest.raises(InputError, match="unknown_run"):
        await backtest_cancel(backtests, CALLER, run_id="bt-nothing")
    with pytest.raises(InputError, match="unknown_run"):
        await backtest_verify(backtests, run_id="bt-nothing")
    for wait_s in (float("nan"), -1.0, 61.0):
        with pytest.raises(InputError, match="invalid_wait_s"):
            await backtest_get(backtests, CALLER, run_id="bt-nothing", wait_s=wait_s)


async def test_runs_of_a_dead_server_are_interrupted(tmp_path: Path) -> None:
    import sqlite3

    ledger = RunLedger(tmp_path / "research.db")
    now = datetime(2014, 1, 1, tzinfo=UTC)
    for run_id in ("bt-mine", "bt-orphan"):
        request = BacktestRequest(source=CROSS, symbols=("MSFT",))
        ledger.put(
            BacktestRecord(run_id=run_id, request=request, state="running", created_time=now, as_of=now)
        )
    with sqlite3.connect(tmp_path / "research.db") as connection:
        connection.execute("UPDATE backtest_runs SET owner = '1:999999999999' WHERE run_id = 'bt-orphan'")
    connection.close()
    assert ledger.interrupt_orphans(now) == ["bt-orphan"]
    assert ledger.get("bt-orphan").state == "interrupted"
    assert ledger.get("bt-mine").state == "running"


async def test_leaving_the_service_ends_its_runs(
    sandbox: LocalSandbox, tmp_path: Path, archive: Archive
) -> None:
    clock = SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC))
    path = tmp_path / "research.db"
    service = Backtests(archive, sandbox, StrategyRegistry(path), Artifacts(tmp_path / "a"), path, clock)
    with anyio.fail_after(20):
        async with service:
            started = await backtest_start(service, CALLER, symbols=["MSFT"], source="while True: pass\n")
    assert RunLedger(path).get(started.run_id).state == "canceled"
