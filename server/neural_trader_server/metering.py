"""Metering: what every tool call and every run in the sandbox costs, and who is refused for it.

The gate measures calls, the sandbox measures seconds. A backtest runs on after its call has ended;
it inherits its caller through the context, and each of its jobs is admitted and charged by itself.
"""

import functools
import hashlib
import math
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import anyio
import anyio.to_thread
import orjson
import structlog
from pydantic import JsonValue

from neural_trader_governance.errors import ConfigurationError, HostError, InputError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.meters import Admission, Meter
from neural_trader_governance.usage import Attribution, Costs
from neural_trader_sandbox.port import (
    Job,
    Limits,
    Sandbox,
    SandboxInstance,
    SandboxReport,
    SandboxResult,
    SandboxStream,
    Watch,
)

AnswerT = TypeVar("AnswerT")
log = structlog.get_logger(__name__)

DATA_TOOLS = frozenset({"market_get_bars", "market_get_quotes", "market_get_calendar", "features_compute"})
NEVER_REFUSED = frozenset(
    {
        "trading_halt", "orders_cancel", "orders_preview", "orders_submit", "orders_list", "portfolio_get",
        "status_get", "artifact_read", "artifact_query", "audit_search", "audit_verify", "backtest_get",
        "backtest_cancel", "backtest_compare", "strategy_get_api", "features_search", "market_search",
        "chart_render",
    }
)  # fmt: skip
"""What works with an empty budget: stopping, orders (policy and mandates govern those), status and
reads of results. Every other tool, also one that is yet to be written, bears costs."""

STRATEGY_DIGITS = 12
"""Of a strategy_id's hex digits, which stand for the strategy in usage and budgets."""

_GRACE_S = 5.0  # how much longer than its wall clock a job may take to be ended
_STRATEGY_ID = re.compile(r"^[0-9a-f]{12,64}$")
_attribution: ContextVar[Attribution | None] = ContextVar("neural_trader_attribution", default=None)


@runtime_checkable
class _Charging(Protocol):
    """What costs money also while no answer is asked for."""

    def take_charge_ms(self) -> float: ...


@runtime_checkable
class _Warming(Protocol):
    """What can be started ahead of its first run, and costs nothing meanwhile."""

    async def warm(self) -> None: ...


@dataclass(slots=True)
class Measured:
    """What the gate learns of a call while it runs."""

    data_call: bool
    result_bytes: int = 0
    data_rows: int = 0
    started: float = field(default_factory=time.monotonic)

    def read(self, result: object) -> None:
        """Notes the size of a result, and how many rows of data it is about."""
        from mcp.types import CallToolResult  # the SDK is long there where a call is measured

        if isinstance(result, CallToolResult):
            self.result_bytes = len(result.model_dump_json(by_alias=True, exclude_none=True))
            facts: object = result.structured_content
        elif isinstance(result, dict):
            wire = cast("dict[str, Any]", result)
            self.result_bytes = len(orjson.dumps(wire, default=str))
            facts = wire.get("structuredContent")
        else:
            return
        if self.data_call and isinstance(facts, dict):
            known = cast("dict[str, Any]", facts)
            rows = known.get("row_count", len(known.get("quotes") or ()))
            self.data_rows = rows if isinstance(rows, int) else 0

    def costs(self) -> Costs:
        """Returns what the call used up to now."""
        return Costs(
            calls=1,
            data_calls=int(self.data_call),
            data_rows=self.data_rows,
            wall_ms=math.ceil((time.monotonic() - self.started) * 1e3),
            result_bytes=self.result_bytes,
        )


@asynccontextmanager
async def unmeasured(tool: str, _: Mapping[str, Any] | None) -> AsyncGenerator[Measured]:
    """Counts nothing: for a gate that stands before no desk."""
    yield Measured(data_call=tool in DATA_TOOLS)


class CallMeter:
    """Meters the calls that pass a gate.

    Args:
        meter: Counts and bounds.
        caller: Who calls; asked at each call.
        deadline_s: The gate's, after which a call is ended.
    """

    def __init__(self, meter: Meter, caller: Callable[[], Caller], deadline_s: float) -> None:
        self._meter = meter
        self._caller = caller
        self._deadline_s = deadline_s

    @asynccontextmanager
    async def measured(self, tool: str, params: Mapping[str, Any] | None) -> AsyncGenerator[Measured]:
        """Admits a call and charges it at the end, however it ends.

        Raises:
            RiskError: `budget_exhausted`, or `budget_invalid`.
            StorageError: usage cannot be recorded, and the call is one that could be refused.
        """
        caller = self._caller()
        who = Attribution(caller.principal, caller.agent, strategy_of((params or {}).get("arguments")))
        call = Measured(data_call=tool in DATA_TOOLS)
        most = Costs(calls=1, data_calls=int(call.data_call), wall_ms=math.ceil(self._deadline_s * 1e3))
        admission = await self._admit(who, most, tool not in NEVER_REFUSED)
        token = _attribution.set(who)
        try:
            yield call
        finally:
            _attribution.reset(token)
            if admission is not None:
                await _charge(self._meter, admission, call.costs())

    async def _admit(self, who: Attribution, most: Costs, refusable: bool) -> Admission | None:
        # At once where nobody else writes: a thread takes ten times as long as the small transaction.
        try:
            try:
                return self._meter.admit(who, most, refusable=refusable, wait=False)
            except BlockingIOError:
                admit = functools.partial(self._meter.admit, who, most, refusable=refusable)
                return await anyio.to_thread.run_sync(admit)
        except StorageError as error:
            if refusable:
                raise
            log.error("usage_not_recorded", error=str(error))  # a halt must work on a broken disk too
            return None


class MeteredSandbox:
    """A sandbox whose every run is admitted, and charged with the seconds that the sandbox reports.

    Args:
        sandbox: Where jobs run.
        meter: Counts and bounds.
        fallback: Who is charged where no gate stands before the call: the person at the command line.
        start_s: The longest that starting may take, where that is charged for too.
    """

    def __init__(
        self, sandbox: Sandbox, meter: Callable[[], Meter], fallback: Caller, start_s: float = 0.0
    ) -> None:
        self._sandbox = sandbox
        self._start_s = start_s
        self._meter = meter
        self._fallback = fallback

    async def run(
        self,
        job: Job,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        watch: Watch | None = None,
    ) -> SandboxResult:
        """Runs a job if the budget has room.

        Raises:
            InputError: as in `Sandbox.run`.
            RiskError: `budget_exhausted`, or `budget_invalid`.
            StorageError: usage cannot be recorded; nothing ran.
        """
        return await self._paid(self._who(job), limits, lambda: self._sandbox.run(job, limits, watch=watch))

    async def warm(self) -> None:
        """Starts the sandbox ahead of its first run, where that costs nothing."""
        if isinstance(self._sandbox, _Warming):
            await self._sandbox.warm()

    async def probe(self) -> SandboxReport:
        """As the sandbox's own. What it cost at a service is charged, and never refused: status is not."""
        started = time.monotonic()
        charged_ms: float | None = None
        try:
            report = await self._sandbox.probe()
            charged_ms = report.charged_ms
            return report
        finally:
            if charged_ms is None and self._start_s:  # canceled: nothing reports what was used
                charged_ms = (time.monotonic() - started) * 1e3
            if charged_ms:
                await self._charge_anyway(self._standing(), charged_ms)

    async def create(self, limits: Limits = Limits()) -> SandboxInstance:  # noqa: B008 - frozen
        """Refuses: an instance would run unmetered.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "sandbox_unmetered", "an instance would run unmetered", "run whole jobs, or open a stream"
        )

    async def open_stream(self, job: Job, limits: Limits = Limits()) -> SandboxStream:  # noqa: B008 - frozen
        """Opens a stream if the budget has room; its opening and every answer are charged by themselves.

        Raises:
            InputError, HostError, StrategyError: as in `Sandbox.open_stream`.
            RiskError: `budget_exhausted`, or `budget_invalid`.
            StorageError: usage cannot be recorded; nothing ran.
        """
        who = self._who(job)
        stream = await self._paid(who, limits, lambda: self._sandbox.open_stream(job, limits))
        charge_rest = functools.partial(self._charge_anyway, who)
        return _MeteredStream(stream, lambda send: self._paid(who, limits, send), charge_rest)

    async def kill(self, instance_id: str | None = None) -> None:
        """As the sandbox's own."""
        await self._sandbox.kill(instance_id)

    async def aclose(self) -> None:
        """As the sandbox's own; sandboxes that waited for a run that never came are charged to the person."""
        await self._sandbox.aclose()
        if isinstance(self._sandbox, _Charging) and (charged_ms := self._sandbox.take_charge_ms()):
            who = Attribution(self._fallback.principal, self._fallback.agent)
            await self._charge_anyway(who, charged_ms)

    async def _charge_anyway(self, who: Attribution, charged_ms: float) -> None:
        """Charges what was used already."""
        costs = Costs(sandbox_ms=math.ceil(charged_ms))
        with anyio.CancelScope(shield=True):
            try:
                meter = self._meter()
                admission = await anyio.to_thread.run_sync(lambda: meter.admit(who, costs, refusable=False))
            except StorageError as error:
                log.error("usage_not_recorded", error=str(error))
                return
            await _charge(meter, admission, costs)

    def _standing(self) -> Attribution:
        return _attribution.get() or Attribution(self._fallback.principal, self._fallback.agent)

    def _who(self, job: Job) -> Attribution:
        standing = self._standing()
        return replace(standing, strategy=strategy_of(job.arguments) or standing.strategy)

    async def _paid(self, who: Attribution, limits: Limits, ask: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Asks the sandbox for something that lasts `wall_time_s` at the most, and charges what it took."""
        meter = self._meter()
        most = Costs(sandbox_ms=math.ceil((limits.wall_time_s + self._start_s + _GRACE_S) * 1e3))
        admission = await anyio.to_thread.run_sync(lambda: meter.admit(who, most, refusable=True))
        started = time.monotonic()
        sandbox_ms: float | None = None
        try:
            answer = await ask()
            if isinstance(answer, SandboxResult):
                sandbox_ms = 0.0 if answer.status == "refused" else answer.charged_ms or answer.wall_ms
            return answer
        except (HostError, InputError):
            sandbox_ms = 0.0  # no code of the caller's ran
            raise
        finally:
            # What was canceled, or is no result, reports nothing: the time that we waited stands for its own.
            used = (time.monotonic() - started) * 1e3 if sandbox_ms is None else sandbox_ms
            await _charge(meter, admission, Costs(sandbox_ms=math.ceil(used)))


class _MeteredStream:
    """A stream whose every answer is admitted, and charged to whom it was opened for.

    Between two answers a local guest costs nothing: it waits. What a service charges for waiting comes with
    the next answer, or with the end. One that is refused for its budget stays open.
    """

    def __init__(
        self,
        stream: SandboxStream,
        paid: Callable[[Callable[[], Awaitable[SandboxResult]]], Awaitable[SandboxResult]],
        charge_rest: Callable[[float], Awaitable[None]],
    ) -> None:
        self._stream = stream
        self._paid = paid
        self._charge_rest = charge_rest

    @property
    def instance_id(self) -> str:
        return self._stream.instance_id

    async def send(self, message: JsonValue) -> SandboxResult:
        return await self._paid(lambda: self._stream.send(message))

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if isinstance(self._stream, _Charging) and (charged_ms := self._stream.take_charge_ms()):
                await self._charge_rest(charged_ms)


def strategy_of(arguments: object) -> str:
    """Returns the short digest of the strategy that a call's or a job's arguments name or bring."""
    if not isinstance(arguments, dict):
        return ""
    given = cast("dict[str, object]", arguments)
    source, strategy_id = given.get("source"), given.get("strategy_id")
    if isinstance(source, str) and source:
        return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:STRATEGY_DIGITS]
    if isinstance(strategy_id, str) and _STRATEGY_ID.match(strategy_id):
        return strategy_id[:STRATEGY_DIGITS]
    return ""


async def _charge(meter: Meter, admission: Admission, costs: Costs) -> None:
    try:
        try:
            meter.charge(admission, costs, wait=False)
        except BlockingIOError:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(meter.charge, admission, costs)
    except StorageError as error:  # what was reserved stays charged
        log.error("usage_not_recorded", error=str(error))
