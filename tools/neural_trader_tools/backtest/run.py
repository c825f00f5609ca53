"""Backtests as a service: started, waited for, canceled, verified; they run behind the tools."""

import functools
import math
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup
from pydantic import BaseModel, Field

from neural_trader_governance.errors import InputError, NeuralTraderError, StrategyError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_sandbox.port import Sandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.cancels import Cancels, ended_elsewhere
from neural_trader_tools.backtest.configuration import data_digest, failure_of, trial_of
from neural_trader_tools.backtest.ledger import OPEN_STATES, BacktestRecord, Handles, RunLedger
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.sweeps.record import SweepRecord, is_sweep
from neural_trader_tools.backtest.sweeps.service import Sweeps
from neural_trader_tools.backtest.trials import data_key
from neural_trader_tools.engine.orders import ENGINE_VERSION
from neural_trader_tools.strategies.outline import check_parameters
from neural_trader_tools.strategies.registry import StrategyRegistry, check_source
from neural_trader_tools.telling import tell

if TYPE_CHECKING:  # they import polars and numpy; the server's start does not pay for that
    import polars as pl

    from neural_trader_tools.backtest.prices import Prices
    from neural_trader_tools.backtest.simulation import Simulation
    from neural_trader_tools.market.archive import Archive

_log = structlog.get_logger(__name__)
AT_ONCE: Final = 2
OPEN_MAX: Final = 32
WAIT_MAX_S: Final = 60.0
OUTPUT_MAX: Final = 2000
_TELL_EACH_S = 0.25
FEATURES: Final = "neural_trader_tools.features.catalogue"


class Verification(BaseModel):
    """Whether a run gives the same result when it is run again."""

    run_id: str
    digest_expected: str
    digest_recomputed: str
    identical: bool
    detail: str = Field(description="What differs, where something does")


class Backtests:
    """Runs backtests in the background. Use as an async context manager: it owns their tasks.

    Args:
        archive: Where the prices come from.
        sandbox: Where strategies run.
        registry: Saved strategies.
        artifacts: Where equity, trades and orders are kept.
        path: `research.db` of the home.
        clock: Times of runs; prices are read as known at its time.
        record: Awaited with every completed run, such as to remember it.
        record_sweep: Awaited with every completed sweep.
        new_id: Makes run ids; injected in tests.
        features: Module that evaluates `self.feature(...)` in the sandbox.
    """

    def __init__(
        self,
        archive: "Archive",
        sandbox: Sandbox,
        registry: StrategyRegistry,
        artifacts: Artifacts,
        path: Path,
        clock: Clock,
        *,
        record: Callable[[BacktestRecord], Awaitable[None]] | None = None,
        record_sweep: Callable[[SweepRecord], Awaitable[None]] | None = None,
        new_id: Callable[[], str] = lambda: f"bt-{secrets.token_hex(5)}",
        features: str = FEATURES,
    ) -> None:
        self.archive = archive
        self.sandbox = sandbox
        self.registry = registry
        self.features = features
        self._artifacts = artifacts
        self._ledger = RunLedger(path)
        self._clock = clock
        self._record = record
        self._new_id = new_id
        self._tasks: TaskGroup | None = None
        self._slots = anyio.Semaphore(AT_ONCE)
        self._open: dict[str, BacktestRecord] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ended: dict[str, anyio.Event] = {}
        self._cancels = Cancels(path, self._scopes)
        self._obeying = anyio.CancelScope()
        self.sweeps = Sweeps(
            self.read_prices, sandbox, artifacts, path, self._ledger, clock, features, record=record_sweep
        )

    async def __aenter__(self) -> Self:
        orphans = await anyio.to_thread.run_sync(self._ledger.interrupt_orphans, self._clock.now())
        if orphans:
            _log.info("backtests_interrupted", run_ids=orphans)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._obey)
        await self.sweeps.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.sweeps.__aexit__(kind, error, trace)
        if self._tasks is not None:
            self._obeying.cancel()
            for scope in self._scopes.values():
                scope.cancel()
            tasks, self._tasks = self._tasks, None
            await tasks.__aexit__(None, None, None)

    async def resolve_source(self, strategy_id: str | None, source: str | None) -> tuple[str, str | None]:
        """Returns the source of a strategy given in one of the two ways, and its id where it is saved.

        Raises:
            InputError: both or neither are given, or there is no such strategy.
            StrategyError: the source is not Python.
        """
        if (strategy_id is None) == (source is None):
            raise InputError(
                "strategy_ambiguous",
                f"{'both' if source is not None else 'neither'} of strategy_id and source given",
                "give exactly one of them",
            )
        if source is not None:
            await anyio.to_thread.run_sync(check_source, source)
            return source, None
        saved = await anyio.to_thread.run_sync(self.registry.get, strategy_id or "")
        return saved.source, saved.strategy_id

    async def start(self, request: BacktestRequest, *, agent: str = "") -> str:
        """Starts a backtest and returns its run_id at once.

        Raises:
            InputError: a symbol is given twice, a parameter is unknown, or too many backtests are open.
            DataError: a symbol is unknown, or has no bars in the period.
            StrategyError: the source is not Python.
        """
        tasks = self._tasks
        if tasks is None:
            raise RuntimeError("Backtests is not entered: use `async with`")
        if len(self._open) >= OPEN_MAX:
            raise InputError(
                "too_many_backtests",
                f"{OPEN_MAX} backtests are open",
                "wait for one with backtest_get, or cancel one",
            )
        if len(set(request.symbols)) < len(request.symbols):
            raise InputError("duplicate_symbols", "a symbol is given twice", "name each symbol once")
        check_parameters(request.source, request.params)
        now = self._clock.now()
        record = BacktestRecord(
            run_id=self._new_id(), request=request, agent=agent, created_time=now, as_of=now
        )
        prices = await anyio.to_thread.run_sync(self._prices, record)
        await anyio.to_thread.run_sync(self._ledger.put, record)
        self._open[record.run_id] = record
        self._ended[record.run_id] = anyio.Event()
        self._scopes[record.run_id] = anyio.CancelScope()
        self._cancels.begin()
        tasks.start_soon(self._run, record.run_id, prices)
        return record.run_id

    def find(self, run_id: str) -> BacktestRecord | SweepRecord | None:
        """Returns a run or a sweep as it is kept, or None where there is none."""
        try:
            return self.sweeps.find(run_id) if is_sweep(run_id) else self._ledger.get(run_id)
        except InputError:
            return None

    def newest_ids(self, limit: int) -> list[str]:
        """Returns the ids of the newest runs and sweeps, newest first."""
        return self._ledger.newest_ids(limit)

    def completed_and_left(self) -> list[BacktestRecord | SweepRecord]:
        """Returns the newest completed runs and sweeps of processes that are gone, oldest first."""
        return [*self._ledger.completed_and_left(), *self.sweeps.completed_and_left()]

    def open_runs(self) -> list[BacktestRecord]:
        """Returns the runs of this process that have not ended, as they stand."""
        return list(self._open.values())

    async def get(self, run_id: str, wait_s: float = 0.0) -> BacktestRecord:
        """Returns a run, after waiting for its end for at most `wait_s` seconds (60 at most).

        Whoever listens (`telling`) is told how far it is in the meantime.

        Raises:
            InputError: there is no such run, or the time is not a number of 0 … 60.
        """
        if not math.isfinite(wait_s) or not 0.0 <= wait_s <= WAIT_MAX_S:
            raise InputError(
                "invalid_wait_s", f"wait_s {wait_s} is out of range", f"give 0 to {WAIT_MAX_S:g} seconds"
            )
        ended = self._ended.get(run_id)
        if ended is not None and wait_s > 0.0:
            with anyio.move_on_after(wait_s):
                while run_id in self._open:
                    await tell(self._open[run_id].progress)
                    with anyio.move_on_after(_TELL_EACH_S):
                        await ended.wait()
        if run_id in self._open:
            return self._open[run_id]
        return await ended_elsewhere(functools.partial(self._ledger.get, run_id), wait_s)

    async def cancel(self, run_id: str) -> BacktestRecord:
        """Cancels a run and waits until its guest is gone; a run that has ended stays as it is.

        One of another process of this home is canceled there.

        Raises:
            InputError: there is no such run, or who runs it does not answer (`cancel_pending`).
        """
        scope, ended = self._scopes.get(run_id), self._ended.get(run_id)
        if scope is not None and ended is not None:
            scope.cancel()
            await ended.wait()
        record = await self.get(run_id)
        if record.state in OPEN_STATES:
            await anyio.to_thread.run_sync(self._ledger.interrupt_orphans, self._clock.now())
            return await self._cancels.cancel_elsewhere(run_id, functools.partial(self._ledger.get, run_id))
        return record

    async def verify(self, run_id: str) -> Verification:
        """Runs a completed backtest again, on prices as known then, and compares the digests.

        Raises:
            InputError: there is no such run, or it has no digest because it did not complete.
            DataError: its prices are gone.
            StrategyError: the strategy fails now.
        """
        record = await self.get(run_id)
        if record.digest is None:
            raise InputError(
                "run_not_completed",
                f"{run_id} is {record.state} and has no digest",
                "wait for it with backtest_get; verify a completed run",
            )
        prices = await anyio.to_thread.run_sync(self._prices, record)
        simulation = await self._simulate(record, prices, disturbance=1)
        return await anyio.to_thread.run_sync(_compare, record, prices, simulation)

    def read_prices(self, request: BacktestRequest, as_of: "BacktestRecord | None" = None) -> "list[Prices]":
        """Reads a request's bars, adjusted for splits, and what they pay, as known at the record's time."""
        from neural_trader_tools.backtest.prices import Prices
        from neural_trader_tools.market.adjustment import dividends_paid

        moment = self._clock.now() if as_of is None else as_of.as_of
        for symbol in request.symbols:
            self.archive.instrument(symbol)
        self.archive.preload(request.symbols, request.interval)
        read: list[Prices] = []
        for symbol in request.symbols:
            bars = self.archive.bars(
                symbol,
                request.interval,
                start=request.start,
                end=request.end,
                as_of=moment,
                adjust="splits",
            )
            paid = None
            if request.settings.dividends == "paid":
                paid = dividends_paid(bars["event_time"], self.archive.actions(symbol, moment))
            read.append(Prices.from_frame(symbol, bars, dividends=paid))
        return read

    def equity(self, record: BacktestRecord) -> "pl.DataFrame":
        """Returns the equity of a completed run: time, equity, drawdown.

        Raises:
            InputError: it did not complete (`run_not_completed`), or the artifact is gone.
        """
        return self._artifacts.get(_handles(record).equity)

    def trades(self, record: BacktestRecord) -> "pl.DataFrame":
        """Returns the trades of a completed run, one a row; raises as `equity` does."""
        return self._artifacts.get(_handles(record).trades)

    def known_of(self, record: BacktestRecord) -> tuple[list[float | None], int | None]:
        """Returns the Sharpe ratios of all other trials on some of a run's data, and what checks found."""
        request = record.request
        key = data_key(request.symbols, request.interval, request.start, request.end)
        run_id = "" if record.trial else record.run_id
        others = self._ledger.trials.sharpes(key, excluding=record.trial, run_id=run_id)
        return others, self._ledger.look_ahead(request.source)

    def look_ahead(self, source: str) -> int | None:
        """Returns how many decisions of some code were seen to use later bars; None if nobody looked."""
        return self._ledger.look_ahead(source)

    def note_check(self, source: str, violations: int) -> None:
        """Remembers that some code was tested for look-ahead; its runs say what was found."""
        self._ledger.add_check(source, violations)

    def _prices(self, record: BacktestRecord) -> "list[Prices]":
        return self.read_prices(record.request, record)

    async def _simulate(
        self,
        record: BacktestRecord,
        prices: "list[Prices]",
        progress: Callable[[float], None] | None = None,
        printed: Callable[[str], None] | None = None,
        disturbance: int | None = None,
    ) -> "Simulation":
        from neural_trader_tools.backtest.simulation import simulate

        return await simulate(
            self.sandbox,
            record.request,
            prices,
            features=self.features,
            progress=progress,
            printed=printed,
            disturbance=disturbance,
        )

    async def _obey(self) -> None:
        with self._obeying:
            await self._cancels.obey()

    async def _run(self, run_id: str, prices: "list[Prices]") -> None:
        record, ran = self._open[run_id], None
        try:
            with self._scopes[run_id]:
                async with self._slots:
                    ran = await self._carry_out(run_id, prices)
        finally:
            with anyio.CancelScope(shield=True):
                canceled = {"state": "canceled", "error": "canceled: it was canceled; start it again"}
                record = ran or self._open[run_id].model_copy(update=canceled)
                record = record.model_copy(update={"finished_time": self._clock.now()})
                if ran is None and self._open[run_id].state == "running":
                    await anyio.to_thread.run_sync(self._count_failure, record)
                await anyio.to_thread.run_sync(self._ledger.put, record)
                self._open.pop(run_id, None)
                self._scopes.pop(run_id, None)
                self._ended.pop(run_id).set()
        if self._record is not None and record.state == "completed":
            try:
                await self._record(record)
            except NeuralTraderError as error:  # the result stands; what could not be noted is logged
                _log.warning("backtest_not_recorded", run_id=run_id, error=str(error))

    async def _carry_out(self, run_id: str, prices: "list[Prices]") -> BacktestRecord:
        def report(part: float) -> None:
            self._open[run_id] = self._open[run_id].model_copy(update={"progress": round(part * 0.95, 4)})

        def keep(text: str) -> None:
            output = last_lines(self._open[run_id].output + text)
            self._open[run_id] = self._open[run_id].model_copy(update={"output": output})

        self._open[run_id] = self._open[run_id].model_copy(update={"state": "running"})
        await anyio.to_thread.run_sync(self._ledger.put, self._open[run_id])
        record = self._open[run_id]
        try:
            simulation = await self._simulate(record, prices, report, keep)
            return await anyio.to_thread.run_sync(self._conclude, self._open[run_id], simulation)
        except NeuralTraderError as error:
            if isinstance(error, StrategyError):
                await anyio.to_thread.run_sync(self._count_failure, record)
            return self._open[run_id].model_copy(update={"state": "failed", "error": str(error)})
        except Exception as error:  # a task that dies silently would leave its run open for ever
            _log.exception("backtest_failed", run_id=run_id)
            text = (
                f"internal_error: {type(error).__name__}: {str(error)[:200]}; report it with the server's log"
            )
            return self._open[run_id].model_copy(update={"state": "failed", "error": text})

    def _count_failure(self, record: BacktestRecord) -> None:
        request = record.request
        key = data_key(request.symbols, request.interval, request.start, request.end)
        trial = failure_of(request, record.run_id)
        self._ledger.trials.add(key, [trial], record.run_id, record.agent, self._clock.now())

    def _conclude(self, record: BacktestRecord, simulation: "Simulation") -> BacktestRecord:
        from neural_trader_tools.backtest.cautions import LOOK_AHEAD, UNCHECKED
        from neural_trader_tools.backtest.records import keep

        request = record.request
        key = data_key(request.symbols, request.interval, request.start, request.end)
        data = data_digest([symbol.prices.digest() for symbol in simulation.replay.symbols])
        trial = trial_of(request, data, simulation.sharpe_per_bar)
        # counted before anybody can see what it came to
        [name] = self._ledger.trials.add(key, [trial], record.run_id, record.agent, self._clock.now())
        metrics, warnings = simulation.metrics(self._ledger.trials.sharpes(key, excluding=name))
        checked = self._ledger.look_ahead(request.source)
        if checked is None:
            warnings.append(UNCHECKED)
        elif checked:
            warnings.insert(0, LOOK_AHEAD.format(checked))
        replay = simulation.replay
        return record.model_copy(
            update={
                "state": "completed",
                "progress": 1.0,
                "bars": len(replay.times),
                "digest": simulation.digest,
                "trial": name,
                "engine": ENGINE_VERSION,
                "metrics": metrics.model_dump(),
                "warnings": tuple(warnings),
                "handles": keep(replay, self._artifacts),
            }
        )


def _handles(record: BacktestRecord) -> Handles:
    if record.handles is None:
        raise InputError(
            "run_not_completed",
            f"{record.run_id} is {record.state}",
            "wait for it with backtest_get, or start it again",
        )
    return record.handles


def last_lines(text: str) -> str:
    """Returns the last whole lines of a text that fit into `OUTPUT_MAX` characters; at least its end."""
    if len(text) <= OUTPUT_MAX:
        return text
    text = text[-OUTPUT_MAX:]
    return text[text.find("\n", 0, -1) + 1 :]


def _compare(record: BacktestRecord, prices: "list[Prices]", simulation: "Simulation") -> Verification:
    """Returns whether a run came to the same again, apart from what an engine's name does to a digest."""
    from neural_trader_tools.backtest.digest import run_digest

    expected, made_by = record.digest or "", record.engine
    digest, detail = simulation.digest, ""
    if made_by != ENGINE_VERSION:
        as_then = run_digest(record.request, prices, simulation.replay, made_by)
        if as_then == expected:
            digest = as_then
            detail = (
                f"Engine {made_by} made the run; engine {ENGINE_VERSION}, which is this one, makes the same "
                f"fills, trades and equity. The digests name engine {made_by}; a new run has another one."
            )
        else:
            detail = (
                f"Engine {made_by} made the run, and this is engine {ENGINE_VERSION}, which may fill or seed "
                "differently; or the strategy is not deterministic, or the prices changed. Start it again to "
                "compare."
            )
    elif digest != expected:
        detail = "The strategy is not deterministic, or the prices changed."
    return Verification(
        run_id=record.run_id,
        digest_expected=expected,
        digest_recomputed=digest,
        identical=digest == expected,
        detail=detail,
    )
