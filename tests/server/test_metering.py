"""Metering: a run in the sandbox is charged to whom it was started for, and refused with an empty budget."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from pydantic import JsonValue

from neural_trader_governance.budgets import Budget, set_budget
from neural_trader_governance.errors import (
    ConfigurationError,
    InputError,
    RiskError,
    StorageError,
    StrategyError,
)
from neural_trader_governance.identity import Caller
from neural_trader_governance.meters import Meter
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.usage import Attribution, Bound, Costs, Prices, UsageLedger
from neural_trader_sandbox.port import Job, Limits, Progress, Sandbox, SandboxReport, SandboxResult, Watch
from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.metering import DATA_TOOLS, NEVER_REFUSED, CallMeter, MeteredSandbox, strategy_of

pytestmark = pytest.mark.anyio

NOW = datetime(2013, 3, 1, 23, 30, tzinfo=UTC)
AGENT = Caller("alice", "agent-1")
PERSON = Caller("alice", "")
JOB = Job("module:function", {"source": "def signals(bars): ..."})
STRATEGY = strategy_of(JOB.arguments)
EVERYTHING = Bound("", None, "2013-01-01", "2013-12-31", 0)


class Shell:
    """A sandbox around nothing: it answers, or stalls until it is canceled."""

    def __init__(self) -> None:
        self.ran = 0
        self.result = SandboxResult("ok", wall_ms=1_500.2)
        self.stalls = self.fails = False

    async def run(
        self,
        _: Job,
        __: Limits = Limits(),  # noqa: B008 - frozen
        *,
        watch: Watch | None = None,
    ) -> SandboxResult:
        self.ran += 1
        if watch is not None:
            watch(Progress(fraction=0.5))
        if self.stalls:
            await anyio.sleep_forever()
        return self.result

    async def open_stream(self, _: Job, __: Limits = Limits()) -> "ShellStream":  # noqa: B008 - frozen
        self.ran += 1
        if self.fails:
            raise StrategyError("sandbox_guest_failed", "no handler", "correct it")
        return ShellStream(self)

    async def probe(self) -> SandboxReport:
        return SandboxReport("shell", True, ())


class ShellStream:
    """A stream of the shell's: every answer is the shell's result."""

    instance_id = "shell-1"

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.is_closed = False

    async def send(self, message: JsonValue) -> SandboxResult:
        if message == "refused":
            raise InputError("sandbox_stream_ended", "it has ended", "open another")
        return await self.shell.run(JOB)

    async def aclose(self) -> None:
        self.is_closed = True


class Scene:
    """A meter over a real store and ledger, at a clock that the test moves."""

    def __init__(self, path: Path) -> None:
        self.clock = SimulatedClock(NOW)
        self.issuer = SigningKey.generate("test/issuer")
        signer = SigningKey.generate("test/log")
        self.store = Store.open(path / "desk.db", origin=signer.name, signer=signer, clock=self.clock)
        self.ledger = UsageLedger(path / "usage.db")
        prices = Prices(sandbox_s=Decimal("0.01"), data_call=Decimal("0.001"), call=Decimal("0.0001"))
        self.meter = Meter(self.ledger, self.store, self.issuer.verifying_key, prices, self.clock)
        self.calls = CallMeter(self.meter, lambda: AGENT, 5.0)
        self.shell = Shell()
        inner: Sandbox = self.shell  # pyright: ignore[reportAssignmentType]  # the two methods that are asked
        self.sandbox = MeteredSandbox(inner, lambda: self.meter, PERSON)

    def budget(self, usd: str, period: str = "day", strategy: str | None = None) -> None:
        document = Budget.model_validate(
            {
                "agent": AGENT.agent,
                "strategy": strategy,
                "period": period,
                "limit_micros": int(Decimal(usd) * 10**6),
                "issued_time": self.clock.now(),
            }
        ).signed_by(self.issuer)
        with self.store.unit() as unit:
            set_budget(unit, document, issuer=self.issuer.verifying_key, caller=PERSON)

    def used(self, agent: str = AGENT.agent) -> int:
        return self.ledger.used_micros(agent, EVERYTHING)


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[], Scene]:
    return lambda: Scene(tmp_path)


async def test_every_call_is_counted_with_its_bytes_and_rows(scene: Callable[[], Scene]) -> None:
    desk = scene()
    async with desk.calls.measured("market_get_bars", {"arguments": {}}) as call:
        call.read({"structuredContent": {"row_count": 250}, "content": []})
    async with desk.calls.measured("status_get", None) as call:
        call.read({"structuredContent": {"row_count": 3}})
    (row,) = desk.ledger.rows()
    assert (row.agent, row.principal, row.day, row.strategy) == ("agent-1", "alice", "2013-03-01", "")
    assert (row.calls, row.data_calls, row.data_rows, row.cost_micros) == (2, 1, 250, 1_200)
    assert row.result_bytes == len(b'{"structuredContent":{"row_count":250},"content":[]}') + len(
        b'{"structuredContent":{"row_count":3}}'
    )


async def test_others_are_served_while_a_call_waits_for_another_process_that_writes(
    scene: Callable[[], Scene], tmp_path: Path
) -> None:
    desk = scene()
    admitted: list[bool] = []

    async def call() -> None:
        async with desk.calls.measured("status_get", None):
            admitted.append(True)

    with closing(sqlite3.connect(tmp_path / "usage.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert not admitted
            other.execute("ROLLBACK")
    assert admitted
    assert desk.ledger.rows()[0].calls == 1


async def test_the_sandboxs_own_seconds_are_charged_to_the_strategy_that_ran(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    async with desk.calls.measured("strategy_check", {"arguments": JOB.arguments}):
        await desk.sandbox.run(JOB)
        await desk.sandbox.run(JOB)
    (row,) = desk.ledger.rows()
    assert (row.agent, row.strategy, row.sandbox_ms, row.calls) == ("agent-1", STRATEGY, 3_002, 1)
    assert row.cost_micros == 100 + 2 * 15_010


async def test_a_metered_run_can_be_watched(scene: Callable[[], Scene]) -> None:
    told: list[Progress] = []
    await scene().sandbox.run(JOB, watch=told.append)
    assert told == [Progress(fraction=0.5)]


async def test_what_runs_on_after_its_call_is_charged_to_that_calls_agent(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    go = anyio.Event()

    async def later() -> None:
        await go.wait()
        await desk.sandbox.run(JOB)

    async with anyio.create_task_group() as tasks:
        async with desk.calls.measured("backtest_start", {"arguments": {}}):
            tasks.start_soon(later)
        go.set()
    assert [(row.agent, row.strategy, row.sandbox_ms) for row in desk.ledger.rows()] == [
        ("agent-1", "", 0),
        ("agent-1", STRATEGY, 1_501),
    ]


async def test_a_run_that_is_canceled_is_charged_for_the_time_that_it_took(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    desk.shell.stalls = True
    with anyio.move_on_after(0.05):
        await desk.sandbox.run(JOB)
    (row,) = desk.ledger.rows()
    assert (row.agent, row.principal) == ("", "alice"), "nobody's call: the person at the command line"
    assert 0 < row.sandbox_ms < 5_000
    assert desk.ledger.reserved_micros() == 0


async def test_a_run_that_the_host_refused_costs_nothing(scene: Callable[[], Scene]) -> None:
    desk = scene()
    desk.shell.result = SandboxResult("refused", wall_ms=80)
    await desk.sandbox.run(JOB)
    assert [row.cost_micros for row in desk.ledger.rows()] == [0]


async def test_with_an_empty_budget_what_costs_is_refused_and_what_must_work_works(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    desk.budget("0")
    for spec in CATALOGUE:
        reached = False
        with suppress(RiskError):
            async with desk.calls.measured(spec.name, {"arguments": {}}):
                reached = True
        assert reached == (spec.name in NEVER_REFUSED), spec.name
    needed = {"trading_halt", "orders_cancel", "status_get", "backtest_get", "portfolio_get", "audit_search"}
    assert needed <= NEVER_REFUSED
    assert {"backtest_start", "strategy_check", "market_get_bars"} & NEVER_REFUSED == set()
    with pytest.raises(RiskError, match="budget_exhausted"):
        async with desk.calls.measured("a_tool_of_tomorrow", {}):
            pass


async def test_a_backtest_that_waited_meets_the_budget_when_its_turn_comes(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    desk.budget("0.02")
    async with desk.calls.measured("backtest_start", {"arguments": JOB.arguments}):
        await desk.sandbox.run(JOB)  # 0.01501 USD: there is room for one more, and for no third
        await desk.sandbox.run(JOB)
        with pytest.raises(RiskError, match="budget_exhausted"):
            await desk.sandbox.run(JOB)
    assert desk.shell.ran == 2
    assert desk.used() < 20_000 + 650_000, "exceeded by less than the most that one run can cost"


async def test_runs_at_once_reserve_the_most_that_they_can_cost(scene: Callable[[], Scene]) -> None:
    desk = scene()
    desk.budget("1")
    desk.shell.stalls = True
    refused: list[str] = []

    async def run() -> None:
        try:  # refused by the run's reservation, or already at the door where two runs stand reserved
            async with desk.calls.measured("backtest_start", {"arguments": {}}):
                await desk.sandbox.run(JOB, Limits(wall_time_s=60.0))  # reserves 65 s: 0.65 USD
        except RiskError as error:
            refused.append(error.code)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(run)
        with anyio.fail_after(10):
            while len(refused) < 8:
                await anyio.lowlevel.checkpoint()
        assert desk.shell.ran == 2, "0.65 USD is less than 1 USD, 1.3 USD is not"
        tasks.cancel_scope.cancel()


async def test_a_strategys_budget_holds_also_for_its_source_and_no_other(scene: Callable[[], Scene]) -> None:
    desk = scene()
    desk.budget("0", strategy=STRATEGY)
    for arguments in (JOB.arguments, {"strategy_id": STRATEGY}, {"strategy_id": STRATEGY + "0" * 20}):
        with pytest.raises(RiskError, match=f"agent-1's strategy {STRATEGY}"):
            async with desk.calls.measured("backtest_start", {"arguments": arguments}):
                pass
    async with desk.calls.measured("backtest_start", {"arguments": {"source": "another"}}):
        with pytest.raises(RiskError, match="budget_exhausted"):
            await desk.sandbox.run(JOB)  # whatever the call named: the code that runs decides


async def test_a_new_day_brings_a_new_budget_and_a_month_goes_on(scene: Callable[[], Scene]) -> None:
    desk = scene()
    desk.budget("0.001")
    async with desk.calls.measured("market_get_bars", {}):
        pass
    with pytest.raises(RiskError, match="the day 2013-03-01"):
        async with desk.calls.measured("market_get_bars", {}):
            pass
    desk.clock.advance(timedelta(minutes=30))  # midnight UTC
    async with desk.calls.measured("market_get_bars", {}):
        pass
    desk.budget("0.001", period="month")
    with pytest.raises(RiskError, match="budget_exhausted"):
        async with desk.calls.measured("market_get_bars", {}):
            pass


async def test_a_broken_ledger_stops_what_costs_and_never_a_halt(scene: Callable[[], Scene]) -> None:
    desk = scene()
    desk.ledger.close()
    with pytest.raises(StorageError, match="usage_unavailable"):
        async with desk.calls.measured("market_get_bars", {}):
            pass
    async with desk.calls.measured("trading_halt", {}) as call:
        call.read({})
    with pytest.raises(StorageError, match="usage_unavailable"):
        await desk.sandbox.run(JOB)
    assert desk.shell.ran == 0


async def test_there_is_no_unmetered_way_into_the_sandbox(scene: Callable[[], Scene]) -> None:
    desk = scene()
    with pytest.raises(ConfigurationError, match="sandbox_unmetered"):
        await desk.sandbox.create()
    assert (await desk.sandbox.probe()).ok


async def test_a_streams_answers_are_charged_to_whom_it_was_opened_for(scene: Callable[[], Scene]) -> None:
    desk = scene()
    async with desk.calls.measured("backtest_start", {"arguments": {}}):
        stream = await desk.sandbox.open_stream(JOB)
    opened = sum(row.sandbox_ms for row in desk.ledger.rows())
    assert 0 <= opened < 1_000, "the time that the opening took"
    for _ in range(3):  # long after its call has ended, and from nobody's context
        assert (await stream.send({"close": 1.0})).status == "ok"
    with pytest.raises(InputError, match="sandbox_stream_ended"):
        await stream.send("refused")
    rows = {(row.agent, row.strategy): row.sandbox_ms for row in desk.ledger.rows()}
    assert rows == {("agent-1", ""): 0, ("agent-1", STRATEGY): opened + 3 * 1_501}
    assert desk.ledger.reserved_micros() == 0


async def test_an_empty_budget_refuses_a_streams_next_answer_and_a_new_one_allows_it(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    async with desk.calls.measured("backtest_start", {"arguments": JOB.arguments}):
        stream = await desk.sandbox.open_stream(JOB)
    desk.budget("0.02")
    await stream.send(1)
    await stream.send(2)  # 0.01501 USD each: exceeded by less than one answer
    with pytest.raises(RiskError, match="budget_exhausted"):
        await stream.send(3)
    async with desk.calls.measured("status_get", {}):
        with pytest.raises(RiskError, match="budget_exhausted"):
            await desk.sandbox.open_stream(JOB)
    assert desk.shell.ran == 1 + 2
    desk.clock.advance(timedelta(seconds=1))
    desk.budget("5")
    assert (await stream.send(3)).status == "ok"
    await stream.aclose()


async def test_a_stream_that_fails_to_open_or_is_canceled_is_charged_for_its_time(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    desk.shell.fails = True
    with pytest.raises(StrategyError):
        await desk.sandbox.open_stream(JOB)
    desk.shell.fails = False
    stream = await desk.sandbox.open_stream(JOB)
    desk.shell.stalls = True
    with anyio.move_on_after(0.05):
        await stream.send(1)
    (row,) = desk.ledger.rows()
    assert 45 <= row.sandbox_ms < 5_000, "the time to the cancellation, whole milliseconds"
    assert desk.ledger.reserved_micros() == 0


async def test_status_shows_the_period_of_the_budget(scene: Callable[[], Scene]) -> None:
    desk = scene()
    await desk.sandbox.run(JOB)
    none = desk.meter.standing(AGENT.agent)
    assert (none.period, none.calls, none.cost_micros, none.limit_micros) == ("2013-03-01", 0, 0, None)
    admission = desk.meter.admit(Attribution("alice", "agent-1"), Costs(calls=1), refusable=True)
    assert desk.meter.standing(AGENT.agent).cost_micros == 100, "what is in flight counts"
    desk.meter.charge(admission, Costs(calls=1, sandbox_ms=2_000))
    desk.budget("5", period="month")
    used = desk.meter.standing(AGENT.agent)
    assert (used.period, used.calls, used.sandbox_ms, used.cost_micros, used.limit_micros) == (
        "2013-03", 1, 2_000, 20_100, 5_000_000,
    )  # fmt: skip


def test_data_tools_and_free_tools_are_apart() -> None:
    assert set() == DATA_TOOLS & NEVER_REFUSED


@pytest.mark.parametrize(
    "arguments", [None, [], {"strategy_id": "ABCDEF123456"}, {"strategy_id": "x" * 12}, {}]
)
def test_what_names_no_strategy_is_charged_to_none(arguments: object) -> None:
    assert strategy_of(arguments) == ""


async def test_a_call_that_can_cost_nothing_reserves_nothing_and_a_budget_still_refuses_it(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    free = CallMeter(
        Meter(desk.ledger, desk.store, desk.issuer.verifying_key, Prices(), desk.clock), lambda: AGENT, 5.0
    )
    async with free.measured("memory_search", {}) as call:
        assert desk.ledger.reserved_micros() == 0
        call.read({"structuredContent": {}})
    assert [(row.calls, row.cost_micros) for row in desk.ledger.rows()] == [(1, 0)]
    desk.budget("0")
    with pytest.raises(RiskError, match="budget_exhausted"):
        async with free.measured("memory_search", {}):
            pass


async def test_a_call_that_cannot_be_counted_is_refused_though_it_costs_nothing(
    scene: Callable[[], Scene],
) -> None:
    desk = scene()
    free = CallMeter(
        Meter(desk.ledger, desk.store, desk.issuer.verifying_key, Prices(), desk.clock), lambda: AGENT, 5.0
    )
    desk.ledger.close()
    with pytest.raises(StorageError, match="usage_unavailable"):
        async with free.measured("memory_search", {}):
            pass
