"""Monitoring: what a server on HTTP tells an operator's Prometheus (`/metrics`) and supervisor (`/readyz`).

    scrape_configs: [{job_name: neural-trader, static_configs: [{targets: ["127.0.0.1:8765"]}]}]

Calls are counted as they end; how the desk, its feeds and its providers stand is read when somebody asks.
Names follow Prometheus' conventions (base units, `_total` for counters); labels hold no text of agents,
strategies or the market, only names that this software gives.
"""

import itertools
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, get_args

import anyio.to_thread
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse, Response

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.halts import EVERYTHING, read_halts
from neural_trader_governance.policy.activation import ClosedPolicy
from neural_trader_server.tallies import Tallies
from neural_trader_tools.market.feed.board import feed_standings
from neural_trader_tools.market.providers.breaker import Circuit
from neural_trader_tools.market.providers.standing import standings

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.requests import Request

    from neural_trader_server.app import Services

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_UNKNOWN = "unknown"
_CODE = re.compile(r"[a-z][a-z0-9_]{0,59}")
_FEEDS = {
    "events": "Market events that came",
    "acknowledged": "Rows on disk and synced",
    "dropped": "Events that slow subscribers lost",
    "quarantined": "Rows refused by a data-quality rule",
    "gaps": "Spans that the feed may have missed",
}

log = structlog.get_logger(__name__)


def open_tallies(tools: Collection[str]) -> Tallies:
    """Returns where calls of these tools are counted; for several workers, open it before they are forked."""
    return Tallies([*tools, _UNKNOWN], SECONDS)


class Monitor:
    """Counts calls, and answers the two routes.

    Args:
        services: The desk.
        tallies: Where calls are counted; those of a tool that has none there count under one name.
        names: Under which names requests may come: a web page that resolves its own to us is refused.
    """

    def __init__(self, services: "Services", tallies: Tallies, names: "TransportSecuritySettings") -> None:
        from mcp.server.transport_security import TransportSecurityMiddleware

        self._services = services
        self._tallies = tallies
        self._names = TransportSecurityMiddleware(names)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_CallCollector(tallies))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_DeskCollector(services))

    def observe(self, tool: str, outcome: str, seconds: float) -> None:
        """Counts one call that has ended."""
        name = tool if self._tallies.has(tool) else _UNKNOWN
        self._tallies.add(name, outcome if _CODE.fullmatch(outcome) else "error", seconds)

    async def metrics(self, request: "Request") -> Response:
        """Answers a scrape in Prometheus' text format; 503 where the desk cannot be read."""

        async def answer() -> Response:
            try:
                text = await anyio.to_thread.run_sync(generate_latest, self._registry)
            except NeuralTraderError as error:
                log.warning("scrape_failed", error=str(error))
                return Response(f"# {error.code}\n", 503, media_type="text/plain")
            return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

        return await self._to_own(request, answer)

    async def readyz(self, request: "Request") -> Response:
        """Says whether orders could be judged: 200, or 503 with the codes of what is missing."""

        async def answer() -> Response:
            missing = await anyio.to_thread.run_sync(_missing, self._services)
            return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

        return await self._to_own(request, answer)

    async def _to_own(self, request: "Request", answer: Callable[[], Awaitable[Response]]) -> Response:
        return await self._names.validate_request(request) or await answer()


def _missing(services: "Services") -> list[str]:
    try:
        with services.store.read() as connection:
            judge = services.policy.current(connection)
    except NeuralTraderError as error:
        return [error.code]
    missing = ["policy_closed"] if isinstance(judge, ClosedPolicy) else []
    return missing if services.desk.deaf() == "" else [*missing, "venue_unheard"]


class _CallCollector(Collector):
    """What was counted of calls, in all workers."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "neural_trader_tool_calls",
            "Tool calls by outcome: ok, or the code of the error.",
            labels=("tool", "outcome"),
        )
        for (tool, outcome), count in self._tallies.outcomes().items():
            calls.add_metric((tool, outcome), count)
        yield calls
        seconds = HistogramMetricFamily(
            "neural_trader_tool_call_seconds", "How long tool calls took.", labels=("tool",)
        )
        bounds = [*(f"{bound:g}" for bound in self._tallies.bounds_s), "+Inf"]
        for tool, times in self._tallies.times().items():
            upto = list(itertools.accumulate(times.counts))
            seconds.add_metric((tool,), list(zip(bounds, upto, strict=True)), times.sum_s)
        yield seconds


class _DeskCollector(Collector):
    """How the desk stands at the moment of a scrape."""

    def __init__(self, services: "Services") -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        services = self._services
        with services.store.read() as connection:
            halts = read_halts(connection)
            judge = services.policy.current(connection)
            states = connection.execute("SELECT state, COUNT(*) FROM orders GROUP BY state").fetchall()
        about = GaugeMetricFamily(
            "neural_trader_build_info", "Version, and whose money it is.", labels=("version", "mode")
        )
        about.add_metric((version("neural-trader"), services.broker.mode), 1)
        yield about
        yield _gauge(
            "venue_heard", "1 where fills are heard of, so that orders are taken.", services.desk.deaf() == ""
        )
        yield _gauge("halted", "1 where everything stands still.", any(h.scope == EVERYTHING for h in halts))
        yield _gauge("halts", "Halts that stand, of any scope.", len(halts))
        yield _gauge("policy_in_force", "0 where every order is denied.", not isinstance(judge, ClosedPolicy))
        yield _gauge("audit_entries", "Entries of the signed log.", services.store.head().size)
        orders = GaugeMetricFamily("neural_trader_orders", "Orders by state.", labels=("state",))
        for state, count in states:
            orders.add_metric((state,), count)
        yield orders
        yield from _feeds(services)
        yield from _providers(services)


def _feeds(services: "Services") -> Iterator[Metric]:
    now = services.clock.now()
    found = feed_standings(services.archive.root)
    running = GaugeMetricFamily("neural_trader_feed_running", "1 where a process runs it.", labels=("feed",))
    age = GaugeMetricFamily(
        "neural_trader_feed_last_tick_age_seconds", "Since market data last came.", labels=("feed",)
    )
    for one in found:
        running.add_metric((one.feed,), one.is_running(now))
        if one.last_tick_time is not None and one.kind == "live":
            age.add_metric((one.feed,), max(0.0, (now - one.last_tick_time).total_seconds()))
    yield running
    yield age
    for name, meaning in _FEEDS.items():  # gauges: a feed's own counts begin again with each of its runs
        count = GaugeMetricFamily(f"neural_trader_feed_{name}", f"{meaning}, in this run.", labels=("feed",))
        for one in found:
            count.add_metric((one.feed,), getattr(one, name))
        yield count


def _providers(services: "Services") -> Iterator[Metric]:
    found = standings(services.archive.root)
    circuits = GaugeMetricFamily(
        "neural_trader_provider_circuit",
        "1 for the state that the provider's circuit breaker is in.",
        labels=("provider", "state"),
    )
    failures = GaugeMetricFamily(
        "neural_trader_provider_failures", "Requests that failed in a row.", labels=("provider",)
    )
    left = GaugeMetricFamily(
        "neural_trader_provider_requests_remaining", "Of this minute, as it last said.", labels=("provider",)
    )
    for one in found:
        for state in get_args(Circuit):
            circuits.add_metric((one.provider, state), one.circuit == state)
        failures.add_metric((one.provider,), one.failures)
        if one.requests_remaining is not None:
            left.add_metric((one.provider,), one.requests_remaining)
    yield circuits
    yield failures
    yield left


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"neural_trader_{name}", meaning, value=float(value))
