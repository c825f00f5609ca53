"""Sweeps as a service: started, waited for, canceled, resumed; they run behind the tools.

Nothing that a sweep found is kept in memory: parts go to disk as they come (`record.py`), so memory stays
flat, and a sweep whose process was killed goes on under the same id.
"""

import functools
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from neural_trader_governance.errors import InputError, NeuralTraderError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_sandbox.port import Sandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.cancels import Cancels, ended_elsewhere
from neural_trader_tools.backtest.ledger import OPEN_STATES, BacktestRecord, RunLedger
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.sweeps.record import (
    PREFIX,
    SweepRecord,
    SweepRequest,
    SweepStore,
    interrupted,
)
from neural_trader_tools.backtest.sweeps.space import check_axes
from neural_trader_tools.backtest.sweeps.work import Runner, Work
from neural_trader_tools.engine.orders import ENGINE_VERSION
from neural_trader_tools.strategies.outline import check_parameters, is_portfolio, read_outline
from neural_trader_tools.telling import tell

if TYPE_CHECKING:  # they import polars, numpy and numba; the server's start does not pay for that
    from neural_trader_tools.backtest.prices import Prices
    from neural_trader_tools.backtest.sweeps.conclusion import Scene
    from neural_trader_tools.backtest.sweeps.shards import Shards

_log = structlog.get_logger(__name__)
OPEN_MAX: Final = 8
AT_ONCE: Final = 1
WAIT_MAX_S: Final = 60.0
_TELL_EACH_S: Final = 0.25


Backend = Callable[["Shards", SweepRequest], Awaitable["tuple[list[Runner], Callable[[], Awaitable[None]]]"]]
"""Opens runners for a sweep; returns them and what closes them."""


class Sweeps:
    """Runs sweeps in the background. Use as an async context manager: it owns their tasks.

    Args:
        read_prices: Reads the bars of a request as known at a record's time.
        sandbox: Where strategies run.
        artifacts: Where tables and curves are kept.
        path: `research.db` of the home.
        ledger: Counts trials.
        clock: Times of runs.
        features: Module that evaluates features in the sandbox.
        workers: Children at the same time; results do not depend on it.
        record: Awaited with every completed sweep.
    """

    def __init__(
        self,
        read_prices: "Callable[[BacktestRequest, BacktestRecord], list[Prices]]",
        sandbox: Sandbox,
        artifacts: Artifacts,
        path: Path,
        ledger: RunLedger,
        clock: Clock,
        features: str,
        workers: int | None = None,
        record: Callable[[SweepRecord], Awaitable[None]] | None = None,
    ) -> None:
        self._record = record
        self._read_prices = read_prices
        self._sandbox = sandbox
        self._artifacts = artifacts
        self._store = SweepStore(path)
        self._ledger = ledger
        self._clock = clock
        self._features = features
        self._workers = workers or min(os.cpu_count() or 1, 8)
        self._tasks: TaskGroup | None = None
        self._slots = anyio.Semaphore(AT_ONCE)
        self._open: dict[str, SweepRecord] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._ended: dict[str, anyio.Event] = {}
        self._closing = False
        self._cancels = Cancels(path, self._scopes)
        self._obeying = anyio.CancelScope()

    async def __aenter__(self) -> Self:
        orphans = await anyio.to_thread.run_sync(self._store.interrupt_orphans, self._clock.now())
        if orphans:
            _log.info("sweeps_interrupted", run_ids=orphans)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._obey)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks is not None:
            self._closing = True
            self._obeying.cancel()
            for scope in self._scopes.values():
                scope.cancel()
            tasks, self._tasks = self._tasks, None
            await tasks.__aexit__(None, None, None)

    async def start(
        self,
        request: SweepRequest,
        *,
        agent: str = "",
        workers: int | None = None,
        backend: Backend | None = None,
    ) -> str:
        """Starts a sweep and returns its run_id at once.

        Args:
            request: What to try.
            agent: Who asks.
            workers: Children at the same time, where not the service's number.
            backend: Where shards run, where not here.

        Raises:
            InputError: a parameter is unknown, too many sweeps are open, or the bars are too few.
            DataError: a symbol is unknown, or has no bars in the period.
        """
        if len(self._open) >= OPEN_MAX:
            raise InputError("too_many_sweeps", f"{OPEN_MAX} sweeps are open", "wait for one, or cancel one")
        base = request.base
        if len(set(base.symbols)) < len(base.symbols):
            raise InputError("duplicate_symbols", "a symbol is given twice", "name each symbol once")
        varied = {axis.name: axis.values[0] if axis.values else axis.low for axis in request.space.axes}
        both = sorted(varied.keys() & base.params.keys())
        if both:
            raise InputError("invalid_grid", f"{both[0]!r} is both fixed and varied", "give it once")
        check_parameters(base.source, {**base.params, **varied})
        check_axes(request.space.axes, read_outline(base.source).kinds)
        if is_portfolio(base.source):
            raise InputError(
                "portfolio_unsupported",
                "sweeps play each symbol by itself; this strategy decides on all of them together",
                "start one backtest for each combination: all count as trials",
            )
        if request.space.method == "bayesian":
            from neural_trader_tools.backtest.sweeps.bayesian import Bayesian

            await anyio.to_thread.run_sync(Bayesian, request.space)
        now = self._clock.now()
        record = SweepRecord(
            run_id=f"{PREFIX}{secrets.token_hex(5)}",
            request=request,
            agent=agent,
            created_time=now,
            as_of=now,
        )
        await anyio.to_thread.run_sync(self._scene, record, 1)
        await anyio.to_thread.run_sync(self._store.put, record)
        self._begin(record, workers, backend)
        return record.run_id

    async def resume(
        self, run_id: str, *, workers: int | None = None, backend: Backend | None = None
    ) -> SweepRecord:
        """Goes on with a sweep that was interrupted, canceled or failed, where it was.

        Raises:
            InputError: there is none, it runs, is complete, or was begun by another engine.
        """
        record = await anyio.to_thread.run_sync(self._store.get, run_id)
        if record.engine != ENGINE_VERSION:
            raise InputError(
                "other_engine",
                f"engine {record.engine} began {run_id}, this is engine {ENGINE_VERSION}",
                "start the sweep again",
            )
        record = await anyio.to_thread.run_sync(self._store.take, run_id)
        self._begin(record, workers, backend)
        return record

    async def resume_interrupted(self) -> list[str]:
        """Goes on with every sweep whose process ended; for a server that starts."""
        found = await anyio.to_thread.run_sync(self._store.interrupted)
        resumed: list[str] = []
        for run_id in found:
            try:
                await self.resume(run_id)
            except NeuralTraderError as error:
                _log.warning("sweep_not_resumed", run_id=run_id, error=str(error))
            else:
                resumed.append(run_id)
        return resumed

    async def get(self, run_id: str, wait_s: float = 0.0) -> SweepRecord:
        """Returns a sweep, after waiting for its end for at most `wait_s` seconds; whoever listens is told.

        Raises:
            InputError: there is no such sweep, or the time is not a number of 0 … 60.
        """
        if not 0.0 <= wait_s <= WAIT_MAX_S:
            raise InputError("invalid_wait_s", f"wait_s {wait_s} is out of range", "give 0 to 60 seconds")
        ended = self._ended.get(run_id)
        if ended is not None and wait_s > 0.0:
            with anyio.move_on_after(wait_s):
                while run_id in self._open:
                    await tell(self._open[run_id].progress)
                    with anyio.move_on_after(_TELL_EACH_S):
                        await ended.wait()
        if run_id in self._open:
            return self._open[run_id]
        return await ended_elsewhere(functools.partial(self._store.get, run_id), wait_s)

    def find(self, run_id: str) -> SweepRecord:
        """Returns a sweep as it is kept.

        Raises:
            InputError: there is none.
        """
        return self._store.get(run_id)

    def completed_and_left(self) -> list[SweepRecord]:
        """Returns the newest completed sweeps of processes that are gone, oldest first."""
        return self._store.completed_and_left()

    async def cancel(self, run_id: str) -> SweepRecord:
        """Cancels a sweep and waits until its guests are gone; what it found is kept, it can be resumed.

        One of another process of this home is canceled there.

        Raises:
            InputError: there is no such sweep, or who runs it does not answer (`cancel_pending`).
        """
        scope, ended = self._scopes.get(run_id), self._ended.get(run_id)
        if scope is not None and ended is not None:
            scope.cancel()
            await ended.wait()
        record = await self.get(run_id)
        if record.state in OPEN_STATES:
            await anyio.to_thread.run_sync(self._store.interrupt_orphans, self._clock.now())
            return await self._cancels.cancel_elsewhere(run_id, functools.partial(self._store.get, run_id))
        return record

    async def _obey(self) -> None:
        with self._obeying:
            await self._cancels.obey()

    def _begin(self, record: SweepRecord, workers: int | None, backend: Backend | None) -> None:
        if self._tasks is None:
            raise RuntimeError("Sweeps is not entered: use `async with`")
        self._open[record.run_id] = record
        self._ended[record.run_id] = anyio.Event()
        self._scopes[record.run_id] = anyio.CancelScope()
        self._cancels.begin()
        self._tasks.start_soon(self._run, record.run_id, workers or self._workers, backend)

    def _scene(self, record: SweepRecord, threads: int) -> "Scene":
        from neural_trader_tools.backtest.sweeps.conclusion import scene_of

        base = record.request.base
        read = BacktestRecord(
            run_id=record.run_id, request=base, created_time=record.created_time, as_of=record.as_of
        )
        return scene_of(record.request, self._read_prices(base, read), threads)

    async def _run(self, run_id: str, workers: int, backend: Backend | None) -> None:
        ended: dict[str, Any] = {
            "state": "canceled", "error": f"canceled: it was canceled; resume {run_id} to go on",
        }  # fmt: skip
        try:
            with self._scopes[run_id]:
                async with self._slots:
                    ended = await self._carry_out(run_id, workers, backend)
        finally:
            with anyio.CancelScope(shield=True):
                record = self._open[run_id].model_copy(update=ended)
                if record.state == "canceled" and self._closing:
                    record = interrupted(record, self._clock.now())
                record = record.model_copy(update={"finished_time": self._clock.now()})
                await anyio.to_thread.run_sync(self._store.put, record)
                await self._note(record)
                self._open.pop(run_id, None)
                self._scopes.pop(run_id, None)
                self._ended.pop(run_id).set()

    async def _note(self, record: SweepRecord) -> None:
        """Has a completed sweep recorded before anybody is told of its end."""
        if self._record is None or record.state != "completed":
            return
        try:
            await self._record(record)
        except NeuralTraderError as error:  # the result stands; what could not be noted is logged
            _log.warning("sweep_not_recorded", run_id=record.run_id, error=str(error))

    async def _carry_out(self, run_id: str, workers: int, backend: Backend | None) -> dict[str, Any]:
        """Runs what is missing and concludes; returns what changes in the record."""
        try:
            result = await self._results(run_id, workers, backend)
        except Exception as raised:  # a task that dies silently would leave its sweep open for ever
            error = _first(raised)
            text = str(error)
            if not isinstance(error, NeuralTraderError):
                _log.error("sweep_failed", run_id=run_id, exc_info=error)
                text = (
                    f"internal_error: {type(error).__name__}: {text[:200]}; report it with the server's log"
                )
            return {"state": "failed", "error": text}
        return {"state": "completed", "error": None, "result": result}

    async def _results(self, run_id: str, workers: int, backend: Backend | None) -> dict[str, Any]:
        from neural_trader_tools.backtest.sweeps import shards as dealt
        from neural_trader_tools.backtest.sweeps.conclusion import conclude

        self._set(run_id, state="running")
        record = self._open[run_id]
        await anyio.to_thread.run_sync(self._store.put, record)
        request = record.request
        scene = await anyio.to_thread.run_sync(self._scene, record, max(1, 2 // workers))
        shards = dealt.Shards(
            self._sandbox, request.base, scene.ground, request.base.seed, self._features, dealt.LIMITS,
            dealt.BUDGET_S,
        )  # fmt: skip
        runners: list[Runner] = [shards] * workers
        close: Callable[[], Awaitable[None]] | None = None
        if backend is not None:
            runners, close = await backend(shards, request)
        try:
            work = Work(
                record, scene, self._store, self._ledger, self._clock, runners,
                lambda done: self._set(run_id, done=done),
            )  # fmt: skip
            await (work.learn() if request.space.method == "bayesian" else work.try_all())
        finally:
            if close is not None:
                with anyio.CancelScope(shield=True):
                    await close()
        result = await conclude(record, scene, shards, self._store, self._ledger, self._artifacts)
        return result.model_dump(mode="json")

    def _set(self, run_id: str, **update: Any) -> None:
        self._open[run_id] = self._open[run_id].model_copy(update=update)


def _first(error: Exception) -> Exception:
    """Returns the first failure of a group of tasks."""
    found: Any = error
    while isinstance(found, ExceptionGroup):
        found = cast("Any", found).exceptions[0]
    return cast("Exception", found)
