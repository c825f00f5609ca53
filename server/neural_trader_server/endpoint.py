"""The endpoint: an MCP server whose every tool failure is one line of our error tree."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import anyio
from mcp.server import MCPServer
from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.apps import client_supports_apps
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.request_state import RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import SubscriptionBus
from mcp.types import CallToolResult, InputRequiredResult
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import JSONResponse

from neural_trader_server.apps import open_apps
from neural_trader_server.asking import ask, waits_for_a_person
from neural_trader_server.faults import explain, refuse, unknown_arguments
from neural_trader_server.freshness import LISTS
from neural_trader_server.gate import Gate
from neural_trader_server.pipes import standard_streams
from neural_trader_tools.chart.showing import showing
from neural_trader_tools.telling import Tell, telling

INSTRUCTIONS = """\
A governed trading desk; the money is paper unless status_get says live.
Research: market_search, market_get_bars, features_compute, strategy_save, strategy_check, backtest_start,
backtest_get. Trade: orders_preview judges an order against the policy and says why; orders_submit takes its
preview_id. Some orders wait for a person's signature: approval_required is no failure, ask the person, then
submit again. Errors read `code: what happened; next step`: do the next step. Bulk results come as handles
for artifact_read, or for SQL with artifact_query."""


def _notifying(context: Context[None, Any]) -> Tell:
    """Returns what notifies a client that asked for it of progress, each time of more."""
    told = -1.0

    async def notify(fraction: float) -> None:
        nonlocal told
        if fraction > told:
            told = fraction
            await context.report_progress(fraction, 1.0)

    return notify


class Endpoint(MCPServer[None]):
    """The SDK's server with our tools, our gate and our words for failures.

    Args:
        tools: Bound tools, all of them; the gate decides which are served.
        gate: The one middleware.
        version: Of this distribution.
        lifespan: Entered while the server runs; None where the caller owns the services.
        request_states: How that is sealed which a client carries; None seals for this process alone.
        subscriptions: Carries changes of resources to those who listen; None where nothing tells of any.

    Attributes:
        end_streams: Ends the streams of those who listen, in order; for a server that stops.
    """

    def __init__(
        self,
        tools: list[Tool],
        gate: Gate,
        version: str,
        lifespan: Callable[[MCPServer[None]], AbstractAsyncContextManager[None]] | None = None,
        request_states: RequestStateSecurity | None = None,
        subscriptions: SubscriptionBus | None = None,
    ) -> None:
        super().__init__(
            "neural-trader",
            title="Neural Trader",
            instructions=INSTRUCTIONS,
            version=version,
            tools=tools,
            middleware=[gate],
            extensions=[open_apps()] if "ui" in gate.toolsets else [],
            log_level="WARNING",
            lifespan=lifespan,
            request_state_security=request_states,
            subscriptions=subscriptions,
            cache_hints=LISTS,
        )
        self.gate = gate
        self.end_streams: Callable[[], None] = lambda: None
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            # Nobody in this process collects traces: a span around every message would go nowhere.
            self.middleware[:] = [
                one for one in self.middleware if not isinstance(one, OpenTelemetryMiddleware)
            ]
        self._properties: dict[str, dict[str, Any]] = {
            tool.name: tool.parameters.get("properties", {}) for tool in tools
        }
        self.custom_route("/healthz", methods=["GET"])(self._healthz)

    async def run_stdio_async(self) -> None:
        """Serves one client over stdin and stdout, until it closes stdin."""
        with standard_streams() as streams:
            if streams is None:
                await super().run_stdio_async()
                return
            ends = cast("tuple[anyio.AsyncFile[str], anyio.AsyncFile[str]]", (streams.stdin, streams.stdout))
            async with stdio_server(*ends) as (read_stream, write_stream):
                server = self._lowlevel_server
                await server.run(read_stream, write_stream, server.create_initialization_options())

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; where an order waits for a signature, a client that can ask its user is asked to.

        The answer signs nothing: the tool is called again, and finds the signature or does not.
        """
        result = await self._called(name, arguments, context)
        waiting = waits_for_a_person(result)
        if waiting is None or context is None:
            return result
        asked = await ask(context, waiting)
        if isinstance(asked, InputRequiredResult):
            return asked
        return await self._called(name, arguments, context) if asked else result

    async def _called(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; a failure comes back as a tool error, never as an exception's own text."""
        properties = self._properties.get(name, {})
        misspelled = unknown_arguments(arguments, properties, name)
        if misspelled is not None:
            return refuse(misspelled)
        try:
            if context is None:
                return await super().call_tool(name, arguments, context)
            with telling(_notifying(context)), showing(lambda: client_supports_apps(context)):
                return await super().call_tool(name, arguments, context)
        except ToolError as error:
            return refuse(explain(error, name, properties))

    async def _healthz(self, _: Request) -> JSONResponse:
        """Tells that the process answers; says nothing that needs a right to know."""
        return JSONResponse({"ok": True})
