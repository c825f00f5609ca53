"""The composition root: builds every service of a desk once and hands it to whoever needs it.

This is the only module that names concrete adapters (the paper venue, the local sandbox, the
embedder). Services are built when they are first asked for, so that a command pays only for what
it uses; the server asks for all of them.
"""

import functools
import pkgutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import structlog

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock, WallClock, format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_server.founding import Founded, enroll_first, founding, is_founded, issuer_pin, log_signer
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.artifacts import Artifacts

if TYPE_CHECKING:  # what a service costs to import is paid when it is first used
    from mcp.server.mcpserver.tools import Tool

    from neural_trader_governance.meters import Meter
    from neural_trader_governance.policy.activation import ActivePolicy
    from neural_trader_memory.memory import Memory
    from neural_trader_server.alerting import Alerting
    from neural_trader_server.catalogue import ToolSpec
    from neural_trader_server.cosigning import Cosigner
    from neural_trader_server.endpoint import Endpoint
    from neural_trader_server.leasing import Leasing
    from neural_trader_server.metering import MeteredSandbox
    from neural_trader_server.publishing import Publishing
    from neural_trader_server.readings import ReadingMarks
    from neural_trader_server.watching import Watching
    from neural_trader_tools.backtest.ledger import BacktestRecord
    from neural_trader_tools.backtest.run import Backtests
    from neural_trader_tools.backtest.sweeps.record import SweepRecord
    from neural_trader_tools.brokers.port import Broker
    from neural_trader_tools.core.sandbox_health import SandboxHealth
    from neural_trader_tools.market.archive import Archive
    from neural_trader_tools.market.replay import ReplayClock
    from neural_trader_tools.memory.capture import Capture
    from neural_trader_tools.orders.algos.execution import Execution
    from neural_trader_tools.orders.desk import Desk
    from neural_trader_tools.orders.following import Following
    from neural_trader_tools.orders.hearing import Hearing
    from neural_trader_tools.orders.inbox import Inbox
    from neural_trader_tools.strategies.registry import StrategyRegistry

log = structlog.get_logger(__name__)

ACCOUNT = "paper"
PRELOAD = (
    "numpy",
    "polars",
    "neural_trader_tools.core.querying",
    "neural_trader_tools.engine.guest",
    "neural_trader_tools.engine.floor",
    "neural_trader_tools.engine.sweep",
    "neural_trader_tools.engine.weights",
    "neural_trader_tools.features.catalogue",
)
"""What the sandbox's zygote imports once, for every strategy that it will run."""


class HorizonClock:
    """The latest moment that research may look at: the replay clock once it was set, else the machine's."""

    def __init__(self, replay: "ReplayClock", clock: Clock) -> None:
        self._replay = replay
        self._clock = clock

    def now(self) -> datetime:
        """Returns the horizon, in UTC."""
        return self._replay.horizon() or self._clock.now()


class Services:
    """The services of one desk, on one home, for one caller.

    Attributes:
        home: Where everything is kept.
        settings: What the operator chose.
        clock: The machine's time; the market's time is `replay`.
        caller: The agent that calls over this server.
        person: The person at the command line, with no agent between.
        serving: This process serves agents, so that its log is one that somebody keeps.
    """

    def __init__(self, home: Home, settings: Settings, clock: Clock, archive: Path | None = None) -> None:
        self._archive_root = archive or home.archive
        self.home = home
        self.settings = settings
        self.clock = clock
        self.caller = Caller(principal=settings.principal, agent=settings.agent)
        self.person = Caller(principal=settings.principal, agent="")
        self._background = AsyncExitStack()
        self._started = False
        self.serving = False

    @functools.cached_property
    def artifacts(self) -> Artifacts:
        """Frames behind handles."""
        return Artifacts(self.home.artifacts)

    @functools.cached_property
    def archive(self) -> "Archive":
        """Bars and corporate actions, point in time."""
        from neural_trader_tools.market.archive import Archive

        return Archive(self._archive_root, self.clock)

    @functools.cached_property
    def replay(self) -> "ReplayClock":
        """The market's time: replayed, unless orders meet a market of now."""
        if self.settings.broker != "paper":
            from neural_trader_server.broker_services import is_real_market
            from neural_trader_tools.market.present import PresentClock

            if is_real_market(self.settings):
                return PresentClock(self.archive, self.clock)
        from neural_trader_tools.market.replay import ReplayClock

        return ReplayClock(self.archive)

    @functools.cached_property
    def issuer(self) -> VerifyingKey:
        """The pinned root of human authority: what people sign for this desk is checked against it."""
        return issuer_pin(self.home)

    @functools.cached_property
    def store(self) -> Store:
        """The audit log and everything that commits with it."""
        from neural_trader_tools.memory.outbox import SCHEMA as OUTBOX
        from neural_trader_tools.orders.desk import SCHEMAS

        signer = log_signer(self.home)
        return Store.open(
            self.home.desk_db,
            origin=signer.pinned.name,
            signer=signer,
            clock=self.clock,
            schemas=(*SCHEMAS, OUTBOX),
        )

    @functools.cached_property
    def policy(self) -> "ActivePolicy":
        """Finds the policy in force: the newest one that the log activated and the issuer signed."""
        from neural_trader_governance.policy.activation import ActivePolicy
        from neural_trader_governance.policy.bundles import BundleFolder

        return ActivePolicy(BundleFolder(self.home.bundles), self.issuer)

    @functools.cached_property
    def broker(self) -> "Broker":
        """The venue: paper on the replay clock, Alpaca, or an exchange of ccxt."""
        if self.settings.broker == "alpaca":
            from neural_trader_server.broker_services import open_alpaca

            return open_alpaca(self.settings, self.home.config, self.clock)
        if self.settings.broker == "ccxt":
            from neural_trader_server.broker_services import open_ccxt

            return open_ccxt(self.settings, self.home.config, self.clock, lambda: self.store)
        from neural_trader_tools.brokers.paper import PaperBroker

        return PaperBroker(self.home.paper_db, self.archive, self.replay, self.clock)

    @functools.cached_property
    def desk(self) -> "Desk":
        """The only way to an order."""
        from neural_trader_tools.orders.desk import Desk

        return Desk(
            store=self.store,
            policy=self.policy,
            broker=self.broker,
            archive=self.archive,
            replay=self.replay,
            clock=self.clock,
            issuer=self.issuer,
            restricted_symbols=self.settings.restricted_symbols,
            mandates_required=self.settings.mandates_required,
            debit_rate=self.settings.margin_rate,
            live_switch=self.settings.live_trading,
            deaf=self.hearing.why_deaf if self.settings.broker == "alpaca" else lambda: "",
        )

    @functools.cached_property
    def hearing(self) -> "Hearing":
        """Whether a process of this home hears of its fills at the venue."""
        from neural_trader_tools.orders.hearing import Hearing

        return Hearing(self.home.path / "trade-updates.json", self.clock)

    @functools.cached_property
    def following(self) -> "Following | None":
        """What listens to the venue; None where it tells nothing by itself."""
        from neural_trader_tools.brokers.port import Telling

        venue = self.broker
        if not isinstance(venue, Telling):
            return None
        from neural_trader_tools.orders.following import Following

        return Following(self.desk, venue, self.hearing, self.caller)

    @functools.cached_property
    def cosigner(self) -> "Cosigner":
        """Keeps the log cosigned by the pinned witness."""
        from neural_trader_server.cosigning import Cosigner

        return Cosigner(self.home, self.store, self.clock, self.person, self.settings.witness_url)

    @functools.cached_property
    def leasing(self) -> "Leasing":
        """Tells the desk which agents are still there."""
        from neural_trader_server.leasing import Leasing

        return Leasing(self.store, self.clock, self.settings.lease_s, self.calling)

    @functools.cached_property
    def execution(self) -> "Execution":
        """What sends parents in parts."""
        from neural_trader_tools.orders.algos.execution import Execution

        return Execution(self.store, self.desk, self.archive, self.replay, self.clock)

    @functools.cached_property
    def inbox(self) -> "Inbox":
        """What waits for a person."""
        from neural_trader_tools.orders.inbox import Inbox

        return Inbox(
            store=self.store,
            policy=self.policy,
            clock=self.clock,
            issuer=self.issuer,
            judge=self.desk.judge_signed,
        )

    @functools.cached_property
    def sandbox(self) -> "MeteredSandbox":
        """Where strangers' code runs."""
        return self.sandbox_with(PRELOAD)

    def sandbox_with(self, preload: tuple[str, ...]) -> "MeteredSandbox":
        """Returns a sandbox of the chosen backend that is metered; whoever asks closes it.

        Args:
            preload: Modules that entries may lie in.
        """
        from neural_trader_sandbox.backends import open_sandbox
        from neural_trader_server.metering import MeteredSandbox

        if self.settings.sandbox_backend == "e2b":
            from neural_trader_server.remote_sandbox import consented, e2b_settings

            where = e2b_settings(self.home, self.settings)
            inner = open_sandbox("e2b", preload, e2b=where, consent=consented(self))
            start_s = self.settings.e2b_start_timeout_s
        else:
            start_s = 0.0
            inner = open_sandbox("local", preload, profile=self.settings.sandbox_profile)
        return MeteredSandbox(inner, lambda: self.meter, self.person, start_s)

    @functools.cached_property
    def meter(self) -> "Meter":
        """Counts what calls cost and holds agents to their budgets."""
        from neural_trader_governance.meters import Meter
        from neural_trader_governance.usage import Prices, UsageLedger

        prices = Prices.model_validate(self.settings.usage_prices)
        if self.settings.sandbox_backend == "e2b":
            prices = prices.model_copy(update={"sandbox_s": self.settings.e2b_price_usd_per_s})
        return Meter(UsageLedger(self.home.usage_db), self.store, self.issuer, prices, self.clock)

    @functools.cached_property
    def sandbox_health(self) -> "SandboxHealth":
        """What the sandbox's canaries found, kept for some minutes."""
        from neural_trader_tools.core.sandbox_health import KEEP_S, SandboxHealth

        costs_money = self.settings.sandbox_backend == "e2b"
        return SandboxHealth(self.sandbox, 12 * KEEP_S if costs_money else KEEP_S)

    @functools.cached_property
    def registry(self) -> "StrategyRegistry":
        """Saved strategies."""
        from neural_trader_tools.strategies.registry import StrategyRegistry

        return StrategyRegistry(self.home.research_db, self.clock)

    @functools.cached_property
    def backtests(self) -> "Backtests":
        """Backtest runs; `start` enters it."""
        from neural_trader_tools.backtest.run import Backtests

        return Backtests(
            self.archive,
            self.sandbox,
            self.registry,
            self.artifacts,
            self.home.research_db,
            HorizonClock(self.replay, self.clock),
            record=self._record_backtest,
            record_sweep=self._record_sweep,
        )

    @functools.cached_property
    def alerting(self) -> "Alerting":
        """What brings alerts to people."""
        from neural_trader_server.alerting import Alerting, targets_of

        return Alerting(self.store, targets_of(self.settings, serving=self.serving))

    @functools.cached_property
    def publishing(self) -> "Publishing":
        """What tells the bus of what was committed."""
        from neural_trader_server.bus_services import make_bus
        from neural_trader_server.publishing import Publishing

        return Publishing(
            self.store,
            functools.partial(make_bus, self.home, self.settings),
            self.backtests.open_runs,
            self.backtests.get,
        )

    @functools.cached_property
    def watching(self) -> "Watching":
        """What notices that orders and runs have changed, for those who subscribed to them."""
        from neural_trader_server.watching import Watching

        return Watching(self.store, self.home.research_db)

    @functools.cached_property
    def reading_marks(self) -> "ReadingMarks":
        """What puts on record that the agent was shown text from outside."""
        from neural_trader_governance.untrusted.detectors import open_detector
        from neural_trader_server.readings import ReadingMarks

        return ReadingMarks(self.store, self.calling, open_detector(self.settings.detector))

    @property
    def memory_uri(self) -> str:
        """Where memories lie: the home's folder, or what the settings say."""
        return self.settings.memory_uri or str(self.home.memory)

    @functools.cached_property
    def memory(self) -> "Memory":
        """What the agent learned."""
        from neural_trader_memory.memory import Memory
        from neural_trader_server.embedding import make_embedder

        embedder = make_embedder(self.settings, self.home.config)
        return Memory.open(self.memory_uri, embedder, self.clock)

    @functools.cached_property
    def capture(self) -> "Capture":
        """What remembers backtests, orders and closed trades by itself."""
        from neural_trader_tools.memory.capture import Capture
        from neural_trader_tools.memory.happenings import Happened
        from neural_trader_tools.memory.regimes import regime_when_written
        from neural_trader_tools.orders.valuation import Pricer

        def split_between(symbol: str, since: datetime, until: datetime) -> Decimal:
            return Pricer(self.archive, self.replay, until).split_factor(symbol, since)

        async def regime(symbol: str, moment: datetime) -> list[float] | None:
            return await regime_when_written(self.archive, self.replay, [symbol], moment)

        return Capture(
            self.memory,
            self.store,
            Happened(self.store, split_between, self.backtests.find),
            self.home.path / "memory-capture.lock",
            self.person,
            regime=regime,
            record_missed=self._record_missed,
        )

    def calling(self) -> Caller:
        """Returns whose call is being served: an authenticated caller's, else this process's agent's."""
        from neural_trader_server.calling import current_caller

        return current_caller() or self.caller

    def provided(self) -> Mapping[type, object]:
        """Returns every service by the type under which tools ask for it; each is built at its first use."""
        return _Provided(self)

    async def start(self) -> None:
        """Starts what lives in the background; `aclose` ends it. A second time does nothing."""
        if not self._started:
            self._started = True
            await anyio.to_thread.run_sync(self._load_policy)
            await self._background.enter_async_context(self.backtests)
            if self.serving:  # a command is over before a sweep would be
                await self.backtests.sweeps.resume_interrupted()

    async def call(self, name: str, /, **arguments: object) -> dict[str, Any]:
        """Calls a tool in this process and returns its result, as an agent would see it.

        Args:
            name: The tool's.
            arguments: Its arguments; those that are None are left to their defaults.

        Raises:
            NeuralTraderError: as the tool does.
        """
        from neural_trader_server.catalogue import CATALOGUE, fill

        await self.start()
        spec = next(spec for spec in CATALOGUE if spec.name == name)
        if spec.toolset == "trading":
            await self.cosigner.confirm()
        given = {key: value for key, value in arguments.items() if value is not None}
        facts, _ = await fill(spec.load(), self.provided()).answer(**given)
        return facts

    async def deliver_alerts(self) -> None:
        """Delivers what a command has just raised; what fails is left to the servers, and to the next one."""
        if "store" in vars(self) and (self.settings.alert_webhooks or self.settings.alert_desktop):
            try:
                await self.alerting.deliver()
            except NeuralTraderError as error:
                log.warning("alerts_wait", error=str(error))

    async def aclose(self) -> None:
        """Closes what was opened, in the opposite order of dependence."""
        await self._background.aclose()
        if "sandbox" in vars(self):
            await self.sandbox.aclose()
        closes = getattr(vars(self).get("broker"), "aclose", None)
        if closes is not None:
            await closes()
        self.close()

    async def abandon(self) -> None:
        """Gives back what would outlive this process; for an end that cannot wait for tasks to unwind."""
        if "sandbox" in vars(self):
            await self.sandbox.aclose()
        self.close()

    def close(self) -> None:
        """Closes the store, which is all that `found` opens."""
        if "meter" in vars(self):
            self.meter.ledger.close()
        if "store" in vars(self):
            self.store.close()

    def record(self, caller: Caller, entry_type: EntryType, **fields: object) -> None:
        """Appends one entry to the audit log, in a transaction of its own."""
        with self.store.unit() as unit:
            unit.append(AuditEntry.by(caller, entry_type, **fields))

    def require_intact_log(self) -> None:
        """Passes a log whose every entry is what was signed; asked before agents are served.

        Raises:
            IntegrityError: somebody edited it while nobody served it.
        """
        from neural_trader_governance.audit.intact import require_intact

        with self.store.read() as connection:
            require_intact(connection)

    def _load_policy(self) -> None:
        """Reads the policy in force before the first order asks; one that is broken is logged as such."""
        with self.store.read() as connection:
            self.policy.current(connection)

    async def _record_backtest(self, run: "BacktestRecord") -> None:
        """Puts a completed run on the record: its id, its strategy and the digest that verifies it."""
        caller = Caller(principal=self.calling().principal, agent=run.agent)
        payload = {"run_id": run.run_id, "strategy_id": run.request.strategy_id, "digest": run.digest}
        await anyio.to_thread.run_sync(
            functools.partial(self.record, caller, EntryType.BACKTEST_RESULT, payload=payload)
        )

    async def _record_missed(self) -> None:
        """Puts on record what was completed by a process that died before it could."""
        from neural_trader_tools.backtest.ledger import BacktestRecord
        from neural_trader_tools.memory.happenings import recorded_runs

        left = await anyio.to_thread.run_sync(self.backtests.completed_and_left)
        with self.store.read() as connection:
            known = recorded_runs(connection) if left else set[str]()
        for run in left:
            if run.run_id in known:
                continue
            if isinstance(run, BacktestRecord):
                await self._record_backtest(run)
            else:
                await self._record_sweep(run)

    async def _record_sweep(self, sweep: "SweepRecord") -> None:
        """Puts a completed sweep on the record: one entry for all its combinations."""
        from neural_trader_tools.backtest.sweeps.record import result_digest

        caller = Caller(principal=self.calling().principal, agent=sweep.agent)
        payload = {
            "run_id": sweep.run_id,
            "strategy_id": sweep.request.base.strategy_id,
            "digest": result_digest(sweep),
        }
        await anyio.to_thread.run_sync(
            functools.partial(self.record, caller, EntryType.BACKTEST_RESULT, payload=payload)
        )


_OFFERED = {
    "neural_trader_governance.identity.Caller": "caller",
    "neural_trader_governance.meters.Meter": "meter",
    "neural_trader_governance.policy.source.PolicySource": "policy",
    "neural_trader_governance.store.Store": "store",
    "neural_trader_governance.terms.clocks.Clock": "clock",
    "neural_trader_memory.memory.Memory": "memory",
    "neural_trader_sandbox.port.Sandbox": "sandbox",
    "neural_trader_tools.artifacts.Artifacts": "artifacts",
    "neural_trader_tools.backtest.run.Backtests": "backtests",
    "neural_trader_tools.brokers.port.Broker": "broker",
    "neural_trader_tools.core.sandbox_health.SandboxHealth": "sandbox_health",
    "neural_trader_tools.market.archive.Archive": "archive",
    "neural_trader_tools.market.replay.ReplayClock": "replay",
    "neural_trader_tools.orders.desk.Desk": "desk",
    "neural_trader_tools.strategies.registry.StrategyRegistry": "registry",
}
"""The attribute of `Services` that holds what a tool asks for. By name: a command that needs one of them
should not have to import them all."""


class _Provided(Mapping[type, object]):
    """A desk's services by type, each built at its first use."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def __getitem__(self, kind: type) -> object:
        return getattr(self._services, _OFFERED[_full_name(kind)])

    def __contains__(self, kind: object) -> bool:
        return isinstance(kind, type) and _full_name(kind) in _OFFERED

    def __iter__(self) -> Iterator[type]:
        return (pkgutil.resolve_name(name) for name in _OFFERED)

    def __len__(self) -> int:
        return len(_OFFERED)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@asynccontextmanager
async def open_desk(
    home: Home, settings: Settings, *, clock: Clock | None = None, archive: Path | None = None
) -> AsyncGenerator[Services]:
    """Opens the desk of a home, founding it first where it is new, and closes it at the end.

    Args:
        home: Where everything is kept.
        settings: What the operator chose.
        clock: The machine's by default.
        archive: A market archive other than the home's.

    Raises:
        ConfigurationError: keys, policy or settings are not usable.
        IntegrityError: the audit log is missing or does not continue what it was.
    """
    services = Services(home, settings, clock or WallClock(), archive)
    try:
        if not is_founded(home):
            founded = found(services)
            log.warning("home_founded", home=str(home.path), made=founded.made)
        yield services
    finally:
        await services.aclose()


def found(services: Services) -> Founded:
    """Founds the home: keys, default policy, paper account and a first agent, each on the record."""
    from neural_trader_server.enactment import enact_first
    from neural_trader_tools.orders.accounts import open_account, permit_agent

    with founding(services.home) as founded, services.store.unit() as unit:
        connection, person = unit.connection, services.person
        enact_first(services.home, founded, unit, person=person, now=services.clock.now())
        cash = services.settings.paper_cash_usd
        opened = format_time(services.clock.now())
        new = open_account(connection, account=ACCOUNT, cash=cash, currency="USD", opened_time=opened)
        permitted = permit_agent(connection, account=ACCOUNT, agent=services.caller.agent)
        if new or permitted:
            payload = {"cash": format_decimal(cash), "currency": "USD", "agents": [services.caller.agent]}
            unit.append(AuditEntry.by(person, EntryType.ACCOUNT_OPEN, account=ACCOUNT, payload=payload))
            founded.made.append(f"the account {ACCOUNT} with the agent {services.caller.agent}")
        agents = [row[0] for row in connection.execute("SELECT DISTINCT agent FROM permissions ORDER BY 1")]
        enroll_first(services.home, founded, unit, person=person, agents=agents, now=services.clock.now())
    return founded


def build_server(
    services: Services,
    *,
    toolsets: str | None = None,
    read_only: bool = False,
    more: "Sequence[tuple[ToolSpec, Tool]]" = (),
) -> "Endpoint":
    """Returns the MCP server over these services; it does not own them.

    Args:
        services: An open desk.
        toolsets: As `--toolsets` takes it; None is the default set.
        read_only: Serve no tool that writes, but the halt.
        more: Tools of whoever mounts this server, which stand behind the same gate as ours.

    Raises:
        InputError: a toolset is unknown.
    """
    from neural_trader_server.catalogue import CATALOGUE, build_tool
    from neural_trader_server.completing import offer_completion
    from neural_trader_server.endpoint import Endpoint
    from neural_trader_server.gate import RESOURCE_TOOLSETS, Gate, select_toolsets
    from neural_trader_server.metering import CallMeter
    from neural_trader_server.newsstand import offer_news
    from neural_trader_server.prompts import offer_prompts
    from neural_trader_server.resources import offer_resources
    from neural_trader_server.sealing import request_states
    from neural_trader_server.standings import Standings
    from neural_trader_server.subscriptions import Subscriptions

    chosen = select_toolsets(toolsets)
    provided = services.provided()
    specs = {spec.name: spec for spec in (*CATALOGUE, *(spec for spec, _ in more))}
    deadline_s, mark = services.settings.tool_deadline_s, services.reading_marks.mark
    measure = CallMeter(services.meter, services.calling, deadline_s).measured
    standing = Standings(services.store, services.issuer).of
    present = services.leasing.renew
    heard = Subscriptions(
        services.watching, [kind for kind, owner in RESOURCE_TOOLSETS.items() if owner in chosen]
    )
    whose, listened = services.calling, heard.listened
    gate = Gate(specs, chosen, read_only, deadline_s, mark, measure, whose, standing, present, listened)
    # What is not served is not built: its modules are imported by nobody, and a call meets the gate.
    served = [build_tool(spec, provided) for spec in CATALOGUE if gate.serves(spec.name)]
    endpoint = Endpoint(
        [*(tool for _, tool in more), *served],
        gate,
        version("neural-trader"),
        request_states=request_states(services.home),
        subscriptions=heard.bus,
    )
    heard.offer(endpoint)
    if "market" in chosen:
        offer_news(
            endpoint,
            lambda: services.archive.root,
            lambda: HorizonClock(services.replay, services.clock).now(),
        )
    offer_resources(endpoint, services, chosen)
    offer_prompts(endpoint)
    offer_completion(endpoint, services)
    return endpoint
