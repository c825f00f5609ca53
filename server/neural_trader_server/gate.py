"""The gate: the one middleware that every message passes.

It decides which tools this server serves (toolsets, read-only) to this caller (roles, and what its
credentials reach), admits and charges each call, bounds it in time, marks what text it showed, and logs it.
Only how often somebody may ask is decided before, over HTTP (rates.py): a process has stdin to itself.
`tools/list` and `tools/call` obey the same set, so what is hidden cannot be called.
"""

import difflib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import anyio
import anyio.lowlevel
import structlog
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST, CallToolResult, TextContent

from neural_trader_governance.errors import ExecutionError, InputError, NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Role
from neural_trader_governance.redaction import redact
from neural_trader_governance.untrusted.readings import Reading, collecting
from neural_trader_server.calling import caller_of, calling, current_reach, reach_of
from neural_trader_server.catalogue import TOOLSETS, ToolSpec
from neural_trader_server.faults import refuse
from neural_trader_server.freshness import hint
from neural_trader_server.metering import Measured, unmeasured
from neural_trader_server.standings import Standing, anybody, lesser, opens, refuse_role
from neural_trader_server.subscriptions import addresses_of

log = structlog.get_logger(__name__)

ALWAYS_SERVED = "trading_halt"
NOBODY = Caller("nobody", "")
_READS = ("resources/", "prompts/", "completion/", "subscriptions/")
"""What shows things without a tool takes a role, too."""
_LISTEN = "subscriptions/listen"
_HEARS = (_LISTEN, "resources/subscribe")
RESOURCE_TOOLSETS = {
    "artifact": "core",
    "audit": "audit",
    "backtest": "backtest",
    "bars": "market",
    "news": "market",
    "orders": "portfolio",
    "policy": "core",
    "strategy": "strategy",
    "ui": "ui",
}
"""The toolset that a resource belongs to, by its scheme; any other is read by whose credentials name none."""
DEFAULT_TOOLSETS = tuple(name for name in TOOLSETS if name != "trading")


def select_toolsets(text: str | None) -> tuple[str, ...]:
    """Reads `--toolsets`: None is the default set, `all` is everything, else names with commas.

    Raises:
        InputError: a name is no toolset.
    """
    if text is None:
        return DEFAULT_TOOLSETS
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if "all" in names:
        return TOOLSETS
    for name in names:
        if name not in TOOLSETS:
            close = difflib.get_close_matches(name, TOOLSETS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                "unknown_toolset",
                f"{name!r:.40} is no toolset",
                f"{hint}choose from {', '.join(TOOLSETS)}, or all",
            )
    if not names:
        raise InputError(
            "unknown_toolset", "no toolset is named", f"choose from {', '.join(TOOLSETS)}, or all"
        )
    return names


Mark = Callable[[str, Sequence[Reading]], Awaitable[None]]
"""Makes durable that the caller of a tool has read texts from outside; raises where it cannot."""


async def unmarked(tool: str, _: Sequence[Reading]) -> None:
    """Refuses: a gate that was given no way to mark shows no text from outside.

    Raises:
        RiskError: always.
    """
    raise RiskError(
        "taint_not_recorded",
        f"{tool} would show text from outside, and this server cannot record that",
        "ask the operator",
    )


Measure = Callable[[str, Mapping[str, Any] | None], AbstractAsyncContextManager[Measured]]
"""Admits a call by tool and parameters, and charges it at its end; raises where a budget is used up."""


Observe = Callable[[str, str, float], None]
"""Told of every call that has ended: the tool as it was named, `ok` or the error's code, and the seconds."""


def unobserved(tool: str, outcome: str, seconds: float) -> None:
    """Counts nothing: nobody can ask a server on stdio."""
    del tool, outcome, seconds


Listened = Callable[[ServerRequestContext[Any, Any], CallNext], Awaitable[HandlerResult]]
"""Passes a `subscriptions/listen` on, and has its resources watched until it ends."""


async def unwatched(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Watches nothing: for a gate that stands before no desk."""
    return await call_next(ctx)


class Gate:
    """Middleware for `MCPServer(middleware=[…])`.

    Args:
        specs: Every registered tool by name.
        toolsets: The toolsets that are served.
        read_only: Drops every tool that writes, whatever the toolsets say, but `trading_halt`.
        deadline_s: The longest that a tool call may take.
        mark: Called before an answer that shows text from outside leaves.
        measure: Around every call that is served.
        whose: Returns who is calling; asked while a message is handled.
        standing: Returns what a caller's roles open now.
        present: Called on every message: whoever sends one is still there.
        listened: Around every stream of changes.

    Attributes:
        observe: Told of every call that has ended.
    """

    def __init__(
        self,
        specs: Mapping[str, ToolSpec],
        toolsets: tuple[str, ...],
        read_only: bool,
        deadline_s: float,
        mark: Mark = unmarked,
        measure: Measure = unmeasured,
        whose: Callable[[], Caller] = lambda: NOBODY,
        standing: Standing = anybody,
        present: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
        listened: Listened = unwatched,
    ) -> None:
        self.observe: Observe = unobserved
        self._specs = specs
        self.toolsets = toolsets
        self.read_only = read_only
        self._deadline_s = deadline_s
        self._mark = mark
        self._measure = measure
        self._whose = whose
        self._standing = standing
        self._present = present
        self._listened = listened

    def serves(self, name: str, role: Role | None = Role.TRADER) -> bool:
        """Tells whether the tool is listed and may be called here, by a caller of this role."""
        spec = self._specs.get(name)
        if spec is None or not opens(role, spec):
            return False
        if name == ALWAYS_SERVED:
            return True
        return spec.toolset in self.toolsets and (spec.read_only or not self.read_only)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Passes one message on, or answers it with the reason why not."""
        with calling(caller_of(ctx), reach_of(ctx)):
            await self._present()
            if ctx.method == "tools/list":
                return self._filter(await call_next(ctx), self._role())
            if ctx.method == "tools/call":
                return await self._call(ctx, call_next)
            if ctx.method.startswith(_READS) and self._role() is None:
                raise MCPError(INVALID_REQUEST, "not_enrolled: this caller reads nothing; ask a person")
            if ctx.method == "resources/read":
                return await self._read(ctx, call_next)
            if ctx.method in _HEARS:
                for uri in addresses_of(ctx):
                    self._require_reach(uri)
            if ctx.method == _LISTEN:
                return await self._listened(ctx, call_next)
            return await call_next(ctx)

    def _require_reach(self, uri: str) -> str:
        """Returns the kind of a resource, where the credentials reach it.

        Raises:
            MCPError: they do not.
        """
        scheme = uri.partition(":")[0][:40]
        kind, reach = f"{scheme}://", current_reach()
        if reach.toolsets is not None and RESOURCE_TOOLSETS.get(scheme) not in reach.toolsets:
            raise MCPError(INVALID_REQUEST, f"scope_not_enough: the token's toolsets do not reach {kind}")
        return kind

    def _filter(self, result: HandlerResult, role: Role | None) -> HandlerResult:
        if isinstance(result, dict):  # inside the chain results are already in wire form
            listed = cast("list[dict[str, Any]]", result.get("tools", []))
            result["tools"] = [tool for tool in listed if self._shows(str(tool["name"]), role)]
        return result

    def _role(self) -> Role | None:
        """Returns the role of whoever is calling, no higher than the credentials reach."""
        return lesser(self._standing(self._whose()), current_reach().role)

    def _shows(self, name: str, role: Role | None) -> bool:
        return self.serves(name, role) and (
            name == ALWAYS_SERVED or current_reach().has(self._specs[name].toolset)
        )

    async def _call(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        name = str((ctx.params or {}).get("name"))
        started = time.perf_counter()
        try:
            refusal = self._refusal(name)
        except NeuralTraderError as error:  # the enrolments cannot be read: nobody is let in
            refusal = error
        result: HandlerResult = None
        if refusal is not None:
            result = refuse(refusal)
        else:
            with anyio.move_on_after(self._deadline_s) as scope, collecting() as readings:
                result = await self._measured(name, ctx, call_next)
                if readings:
                    result = await self._show(name, result, readings)
            if scope.cancelled_caught:
                result = refuse(
                    ExecutionError(
                        "deadline_exceeded",
                        f"{name} took longer than {self._deadline_s:g} s and was stopped",
                        "ask for less at once, or look with a get tool at what it had begun",
                    )
                )
        outcome, took_s = _outcome(result), time.perf_counter() - started
        self.observe(name, outcome, took_s)
        log.info(
            "tool_call",
            tool=name[:60],
            agent=self._whose().agent,
            outcome=outcome,
            wall_ms=round(took_s * 1e3, 1),
            request_id=str(ctx.request_id)[:40],
        )
        return result

    async def _read(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Passes the reading of a resource on, as bounded, measured and marked as a tool's call."""
        name = str((ctx.params or {}).get("uri"))[:200]
        kind = self._require_reach(name)
        try:
            with anyio.fail_after(self._deadline_s), collecting() as readings:
                async with self._measure(kind, None) as call:
                    result = await call_next(ctx)
                    call.read(result)
                if readings:
                    await self._marked(kind, readings)
        except TimeoutError:
            raise MCPError(
                INVALID_REQUEST,
                f"deadline_exceeded: {kind} took longer than {self._deadline_s:g} s; ask for less",
            ) from None
        except NeuralTraderError as error:
            raise MCPError(INVALID_REQUEST, redact(str(error))) from None
        hint(name, result)
        log.info("resource_read", uri=name, agent=self._whose().agent)
        return result

    @asynccontextmanager
    async def passing(self, name: str) -> AsyncGenerator[Measured]:
        """Around what a tool tells by another way than a call, with the same refusals, bounds, charge, log.

        Args:
            name: The tool. Who is calling is set already (`calling`).

        Raises:
            NeuralTraderError: what a call would have been refused with.
        """
        started, outcome = time.perf_counter(), "ok"
        try:
            await self._present()
            refusal = self._refusal(name)
            if refusal is not None:
                raise refusal
            with anyio.fail_after(self._deadline_s), collecting() as readings:
                async with self._measure(name, None) as call:
                    yield call
                if readings:
                    await self._marked(name, readings)
        except TimeoutError:
            outcome = "deadline_exceeded"
            what = f"{name} took longer than {self._deadline_s:g} s and was stopped"
            raise ExecutionError(outcome, what, "ask for less at once") from None
        except NeuralTraderError as error:
            outcome = error.code
            raise
        finally:
            took_s = time.perf_counter() - started
            self.observe(name, outcome, took_s)
            wall_ms = round(took_s * 1e3, 1)
            log.info("tool_passed", tool=name, agent=self._whose().agent, outcome=outcome, wall_ms=wall_ms)

    async def _measured(
        self, name: str, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        try:
            async with self._measure(name, ctx.params) as call:
                result = await call_next(ctx)
                call.read(result)
                return result
        except NeuralTraderError as error:  # such as budget_exhausted; a tool's own is an answer by now
            return refuse(error)

    async def _show(self, name: str, result: HandlerResult, readings: Sequence[Reading]) -> HandlerResult:
        """Returns the answer once the mark is durable; withholds it where the mark cannot be made."""
        try:
            await self._marked(name, readings)
        except RiskError as error:
            return refuse(error)
        return result

    async def _marked(self, name: str, readings: Sequence[Reading]) -> None:
        """Makes the mark durable.

        Raises:
            RiskError: it cannot be made; nothing may be shown.
        """
        try:
            await self._mark(name, readings)
        except Exception as error:
            log.exception("taint_not_recorded", tool=name)
            ours = isinstance(error, NeuralTraderError)
            raise RiskError(
                "taint_not_recorded",
                f"{name} would show text from outside, and that could not be put on record"
                f" ({error.code if ours else type(error).__name__})",
                "nothing is shown; see the server's log",
            ) from None

    def _refusal(self, name: str) -> NeuralTraderError | None:
        spec = self._specs.get(name)
        if spec is None:
            served = [tool for tool in self._specs if self.serves(tool)]
            close = difflib.get_close_matches(name, served, n=1)
            hint = f"did you mean {close[0]}?" if close else "call tools/list for the tools that are served"
            return InputError("unknown_tool", f"there is no tool {name!r:.60}", hint)
        if not self.serves(name):
            return self._not_served(spec)
        if name == ALWAYS_SERVED:
            return None  # also where enrolments cannot be read
        role = self._standing(caller := self._whose())
        if not opens(role, spec):
            return refuse_role(caller, role, spec)
        reach = current_reach()
        if reach.has(spec.toolset) and opens(lesser(role, reach.role), spec):
            return None
        return RiskError(
            "scope_not_enough",
            f"{name} is beyond the scopes of the token that came with this call",
            f"ask for a token with a wider scope: {_scope_of(spec)}",
        )

    def _not_served(self, spec: ToolSpec) -> NeuralTraderError:
        name = spec.name
        if self.read_only and not spec.read_only:
            return RiskError(
                "read_only", f"{name} writes, and this server is read-only", "ask the operator to serve it"
            )
        return RiskError(
            "toolset_not_served",
            f"{name} belongs to the toolset {spec.toolset}, which this server does not serve",
            f"ask the operator to start it with --toolsets {','.join((*self.toolsets, spec.toolset))}",
        )


def _scope_of(spec: ToolSpec) -> str:
    """Names the scopes that open a tool."""
    verb = "trade" if spec.toolset == "trading" else "read" if spec.read_only else "research"
    return f"neural-trader:{verb}, and of toolsets none, or also neural-trader:toolset:{spec.toolset}"


def _outcome(result: HandlerResult) -> str:
    """Returns `ok`, or the code of the tool error."""
    if isinstance(result, CallToolResult):
        first = result.content[0] if result.content else None
        text = first.text if result.is_error and isinstance(first, TextContent) else ""
    elif isinstance(result, dict) and result.get("isError"):
        text = str(result["content"][0].get("text", ""))
    else:
        return "ok"
    return text.split(":", 1)[0][:60] or "error"
