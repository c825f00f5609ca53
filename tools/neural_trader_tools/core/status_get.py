"""`status_get`: what this desk is, before anything is asked of it."""

from typing import Literal

import anyio
import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.errors import DataError
from neural_trader_governance.halts import EVERYTHING, read_halts
from neural_trader_governance.identity import Caller
from neural_trader_governance.meters import Meter
from neural_trader_governance.policy.activation import ClosedPolicy
from neural_trader_governance.policy.source import PolicySource
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock, format_time
from neural_trader_governance.untrusted.readings import Source, expose
from neural_trader_governance.usage import usd_text
from neural_trader_memory.memory import Memory
from neural_trader_tools.brokers.port import Broker
from neural_trader_tools.core.sandbox_health import SandboxHealth
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.board import feed_standings
from neural_trader_tools.market.providers.standing import standings
from neural_trader_tools.market.replay import ReplayClock


class ClockStatus(BaseModel):
    """Which time the market has here."""

    kind: Literal["replay", "wall"] = Field(description="Archived prices, or now")
    now: str | None = Field(description="Null while the archive is empty")


class AuditStatus(BaseModel):
    """Head of the signed log."""

    size: int
    root: str


class SandboxStatus(BaseModel):
    """Where strategies run, as canary attacks found it."""

    backend: str
    ok: bool
    layers: list[str]
    missing: list[str] = Field(description="Nothing runs while there is one")


class MemoryStatus(BaseModel):
    """What holds and finds memories."""

    backend: str
    embedder: str
    dimension: int


class DataStatus(BaseModel):
    """What the archive holds, and how its sources did."""

    symbols: int
    newest: str | None
    providers: dict[str, str]


class UsageStatus(BaseModel):
    """What this agent's calls cost in the period of its budget."""

    period: str
    calls: int
    sandbox_s: float
    data_calls: int
    cost_usd: str
    budget_usd: str | None


class HaltStatus(BaseModel):
    """One halt that stands."""

    scope: str = Field(description="all, or what stands still, such as symbol AAPL")
    reason: str


class StatusResult(BaseModel):
    """The state of the desk."""

    mode: Literal["paper", "live"]
    broker: str
    clock: ClockStatus
    halted: bool = Field(description="Everything stands still")
    halt_reason: str | None
    halts: list[HaltStatus] = Field(description="Only a person resumes")
    policy_digest: str
    policy_problem: str | None = Field(description="Why every order is denied")
    audit: AuditStatus
    sandbox: SandboxStatus
    memory: MemoryStatus
    data: DataStatus
    usage: UsageStatus


async def status_get(
    store: Store,
    policy: PolicySource,
    broker: Broker,
    archive: Archive,
    replay: ReplayClock,
    sandbox: SandboxHealth,
    memory: Memory,
    caller: Caller,
    meter: Meter,
    clock: Clock,
) -> StatusResult:
    """Show mode (paper or live), market clock, halt, policy, audit head, sandbox layers, memory and data."""
    report = await sandbox.report()
    profile = memory.profile

    def read() -> StatusResult:
        head = store.head()
        with store.read() as connection:
            halts = read_halts(connection)
            judge = policy.current(connection)
        for each in halts:
            if each.agent not in {"", caller.agent}:
                expose(Source.AGENT, each.reason)
        standing = next((each for each in halts if each.scope == EVERYTHING), None)
        newest = archive.newest_known_time(tradable_only=False)
        now = clock.now()
        return StatusResult(
            mode=broker.mode,
            broker=broker.name,
            clock=ClockStatus(kind=replay.kind, now=_now(replay)),
            halted=standing is not None,
            halt_reason=standing.reason if standing else None,
            halts=[HaltStatus(scope=str(each.scope), reason=each.reason) for each in halts],
            policy_digest=judge.digest,
            policy_problem=judge.problem if isinstance(judge, ClosedPolicy) else None,
            audit=AuditStatus(size=head.size, root=head.root_hex),
            sandbox=SandboxStatus(
                backend=report.backend,
                ok=report.ok,
                layers=[layer.name for layer in report.layers if layer.holds],
                missing=[layer.name for layer in report.layers if not layer.holds],
            ),
            memory=MemoryStatus(
                backend=profile.backend, embedder=profile.embedder, dimension=profile.dimension
            ),
            data=DataStatus(
                symbols=len(archive.instruments()),
                newest=format_time(newest) if newest else None,
                providers={one.provider: one.said() for one in standings(archive.root)}
                | {f"feed {one.feed}": one.said(now) for one in feed_standings(archive.root)},
            ),
            usage=_usage(meter, caller),
        )

    return await anyio.to_thread.run_sync(read)


def _usage(meter: Meter, caller: Caller) -> UsageStatus:
    used = meter.standing(caller.agent)
    return UsageStatus(
        period=used.period,
        calls=used.calls,
        sandbox_s=used.sandbox_ms / 1000,
        data_calls=used.data_calls,
        cost_usd=usd_text(used.cost_micros),
        budget_usd=None if used.limit_micros is None else usd_text(used.limit_micros),
    )


def _now(replay: ReplayClock) -> str | None:
    try:
        return format_time(replay.now())
    except DataError:
        return None
