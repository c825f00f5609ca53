"""The catalogue: every tool that an agent can be given, and how one is bound to its services.

A tool is one async function. Its positional parameters are services, injected here by their type
and invisible to the agent; its keyword-only parameters are the arguments that the agent gives.
"""

import base64
import functools
import importlib
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import orjson
from pydantic import BaseModel

from neural_trader_governance.identity import Caller
from neural_trader_governance.redaction import redact
from neural_trader_server.calling import current_caller

if TYPE_CHECKING:  # a command calls tools without it; to import it takes most of a second
    from mcp.server.mcpserver.tools import Tool
    from mcp.types import CallToolResult, ToolAnnotations

TOOLSETS = (
    "core",
    "market",
    "features",
    "strategy",
    "backtest",
    "memory",
    "portfolio",
    "trading",
    "audit",
    "ui",
)

Result = Callable[..., Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What is known about a tool before it is called.

    Attributes:
        name: What the agent calls, `domain_verb`.
        module: Where the function of the same name lives.
        toolset: The group that switches it on and off.
        title: For people, in menus.
        read_only: It changes nothing that anybody could miss.
        destructive: It can undo or end something.
        idempotent: Calling it twice with the same arguments has no more effect than once.
        open_world: It reaches beyond this desk, such as a broker.
    """

    name: str
    module: str
    toolset: str
    title: str
    read_only: bool = True
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False

    def load(self) -> Result:
        """Imports and returns the tool's function."""
        return cast(
            "Result", getattr(importlib.import_module(f"neural_trader_tools.{self.module}"), self.name)
        )

    def annotations(self) -> "ToolAnnotations":
        """Returns the hints that clients show and obey; of a reader only those that mean something (MCP)."""
        from mcp.types import ToolAnnotations

        if self.read_only:
            return ToolAnnotations(read_only_hint=True, open_world_hint=self.open_world)
        return ToolAnnotations(
            read_only_hint=self.read_only,
            destructive_hint=self.destructive,
            idempotent_hint=self.idempotent,
            open_world_hint=self.open_world,
        )


CATALOGUE = (
    ToolSpec("status_get", "core.status_get", "core", "Desk status"),
    ToolSpec("artifact_read", "core.artifact_read", "core", "Read an artifact"),
    ToolSpec("artifact_query", "core.artifact_query", "core", "Query an artifact"),
    ToolSpec("market_search", "market.search", "market", "Find instruments"),
    ToolSpec("market_get_bars", "market.get_bars", "market", "Price bars"),
    ToolSpec("market_get_quotes", "market.get_quotes", "market", "Latest prices"),
    ToolSpec("market_get_calendar", "market.get_calendar", "market", "Sessions and actions"),
    ToolSpec("features_search", "features.search", "features", "Find features"),
    ToolSpec("features_compute", "features.compute", "features", "Compute features"),
    ToolSpec("strategy_get_api", "strategies.get_api", "strategy", "Strategy API"),
    ToolSpec("strategy_save", "strategies.save", "strategy", "Save a strategy", read_only=False),
    ToolSpec("strategy_check", "backtest.check", "strategy", "Check a strategy"),
    ToolSpec(
        "backtest_start", "backtest.start", "backtest", "Start a backtest", read_only=False, idempotent=False
    ),
    ToolSpec(
        "backtest_sweep", "backtest.sweep", "backtest", "Sweep parameters", read_only=False, idempotent=False
    ),
    ToolSpec("backtest_get", "backtest.get", "backtest", "Backtest result"),
    ToolSpec("backtest_compare", "backtest.compare", "backtest", "Compare backtests"),
    ToolSpec("backtest_verify", "backtest.verify", "backtest", "Verify a backtest"),
    ToolSpec(
        "backtest_cancel",
        "backtest.cancel",
        "backtest",
        "Cancel a backtest",
        read_only=False,
        destructive=True,
    ),
    ToolSpec("memory_search", "memory.search", "memory", "Search memory"),
    ToolSpec("memory_write", "memory.write", "memory", "Remember", read_only=False, idempotent=False),
    ToolSpec("portfolio_get", "portfolio.get", "portfolio", "Portfolio"),
    ToolSpec("orders_list", "orders.list", "portfolio", "Orders"),
    ToolSpec(
        "orders_preview", "orders.preview", "trading", "Preview an order", read_only=False, idempotent=False
    ),
    ToolSpec(
        "orders_submit",
        "orders.submit",
        "trading",
        "Submit an order",
        read_only=False,
        destructive=True,
        idempotent=False,
        open_world=True,
    ),
    ToolSpec(
        "orders_cancel",
        "orders.cancel",
        "trading",
        "Cancel an order",
        read_only=False,
        destructive=True,
        open_world=True,
    ),
    ToolSpec("trading_halt", "trading.halt", "trading", "Halt trading", read_only=False, destructive=True),
    ToolSpec("audit_search", "audit.search", "audit", "Search the audit log"),
    ToolSpec("audit_verify", "audit.verify", "audit", "Verify the audit log"),
    ToolSpec("chart_render", "chart.render", "ui", "Draw a chart"),
)


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool's function with its services filled in; only the agent's arguments are left.

    Attributes:
        arguments: What the agent gives.
        model: The result's.
    """

    _function: Result
    _injected: tuple[object, ...]
    arguments: tuple[inspect.Parameter, ...]
    model: type[BaseModel]

    async def answer(self, **given: Any) -> tuple[dict[str, Any], str]:
        """Calls the tool; returns the result's facts and the same as compact JSON, with no secret in them."""
        facts, text, _ = await self.pictured(**given)
        return facts, text

    async def pictured(self, **given: Any) -> tuple[dict[str, Any], str, bytes | None]:
        """Returns what `answer` does, and the PNG beside it where the result has one."""
        caller = current_caller()
        # Many callers may be served at once: whose call this is stands in its context, not in the process.
        own = [one if caller is None or not isinstance(one, Caller) else caller for one in self._injected]
        result = await self._function(*own, **given)
        facts = result.model_dump(mode="json", by_alias=True)
        plain = orjson.dumps(facts).decode()
        text = redact(plain)
        return (facts if text == plain else orjson.loads(text)), text, getattr(result, "png", None)


def fill(function: Result, services: Mapping[type, object]) -> BoundTool:
    """Fills a tool's services in.

    Args:
        function: A tool: positional service parameters, keyword-only arguments, a pydantic result.
        services: What the composition root offers, by the type that tools name.

    Raises:
        TypeError: the function asks for a service that is not offered, or returns no model.
    """
    signature = inspect.signature(function, eval_str=True)
    injected: list[object] = []
    arguments: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            arguments.append(parameter)
        elif parameter.annotation in services:
            injected.append(services[parameter.annotation])
        else:
            raise TypeError(f"{function.__name__} asks for {parameter.annotation}, which no service provides")
    model = signature.return_annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{function.__name__} must return a pydantic model, not {model}")

    return BoundTool(function, tuple(injected), tuple(arguments), model)


def bind(function: Result, services: Mapping[type, object]) -> "Callable[..., Awaitable[CallToolResult]]":
    """Returns a tool as the SDK takes it, with its services filled in; see `fill`.

    The result model becomes both `structuredContent` and the same facts as compact JSON text,
    since some clients show only one of them.
    """
    from mcp.types import CallToolResult, ImageContent, TextContent

    bound = fill(function, services)

    async def call(**given: Any) -> CallToolResult:
        facts, text, png = await bound.pictured(**given)
        content: list[TextContent | ImageContent] = [TextContent(type="text", text=text)]
        if png is not None:
            picture = base64.b64encode(png).decode()
            content.append(ImageContent(type="image", data=picture, mime_type="image/png"))
        return CallToolResult(content=list(content), structured_content=facts)

    functools.update_wrapper(call, function, assigned=("__name__", "__qualname__", "__doc__", "__module__"))
    del call.__dict__["__wrapped__"]  # introspection must not look through to the services
    returned = Annotated[CallToolResult, bound.model]
    call.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]  # PEP 362 hook
        bound.arguments, return_annotation=returned
    )
    call.__annotations__ = {item.name: item.annotation for item in bound.arguments} | {"return": returned}
    return call


def build_tool(spec: ToolSpec, services: Mapping[type, object], function: Result | None = None) -> "Tool":
    """Returns the SDK's tool for a catalogue entry, with schemas cut to what an agent needs.

    Args:
        spec: The entry.
        services: What the function may ask for.
        function: The tool, where it is none of the catalogue's modules'.
    """
    from mcp.server.mcpserver.tools import Tool

    from neural_trader_server.apps import UI_META

    function = function or spec.load()
    tool = Tool.from_function(
        bind(function, services),
        name=spec.name,
        title=spec.title,
        description=inspect.getdoc(function),
        annotations=spec.annotations(),
        meta=UI_META.get(spec.name),
    )
    tool.parameters = shorten(tool.parameters, optional_means_absent=True)
    schema = tool.fn_metadata.output_schema
    if schema is not None:
        tool.fn_metadata.output_schema = shorten(schema)
        # A result is dumped from the very model that the schema is of: it need not be read back into one.
        tool.fn_metadata.output_model = None
    return tool


def shorten(schema: dict[str, Any], *, optional_means_absent: bool = False) -> dict[str, Any]:
    """Returns an equivalent schema with what an agent pays tokens for and learns nothing from removed.

    Pydantic's generated titles repeat the names, a result model's docstring repeats the tool's; and a
    union of plain types is said in one word list.

    Of a result, defaults, bounds of texts and whether there may be more say nothing to its reader: it is
    there, as it is. Nor does it that an object has all of its properties: each has, unless it says which
    ones are required.

    Args:
        schema: As pydantic generates it.
        optional_means_absent: For arguments: what may be null may also be left out, so null need not be
            offered (it is still accepted). Otherwise it is the schema of a result.
    """
    body = {key: value for key, value in schema.items() if key != "description"}
    if not optional_means_absent:
        for definition in cast("dict[str, dict[str, Any]]", body.get("$defs", {})).values():
            definition.pop("description", None)
    return _inlined(cast("dict[str, Any]", _shortened(body, False, optional_means_absent)))


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Says definitions that are used once where they are used."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    for name in list(definitions):
        reference, text = f'{{"$ref": "#/$defs/{name}"}}', json.dumps(schema)
        if text.count(f'"#/$defs/{name}"') == 1 == text.count(reference):
            definition = definitions.pop(name)
            schema = json.loads(json.dumps(schema).replace(reference, json.dumps(definition)))
            definitions = schema.get("$defs", {})
    return {key: value for key, value in schema.items() if key != "$defs" or value}


def _of_no_use(key: str, node: dict[str, Any], is_input: bool) -> bool:
    if key == "title" or is_input:
        return key == "title"
    if key == "additionalProperties":
        return node[key] in (True, False, {})
    if key == "type":
        return "enum" in node
    return key in ("default", "pattern", "minLength", "maxLength") or (
        key in ("minItems", "maxItems") and "prefixItems" in node
    )


def _shortened(node: Any, holds_names: bool, drop_null: bool) -> Any:
    if isinstance(node, list):
        return [_shortened(item, False, drop_null) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    whole = cast("dict[str, Any]", node)
    short = {
        key: _shortened(value, key in {"properties", "$defs"} and not holds_names, drop_null)
        for key, value in whole.items()
        if holds_names or not _of_no_use(key, whole, drop_null)
    }
    if not (drop_null or holds_names) and set(short.get("required", ())) == set(short.get("properties", ())):
        short.pop("required", None)
    return short if holds_names else _joined(short, drop_null)


def _joined(short: dict[str, Any], drop_null: bool) -> dict[str, Any]:
    """Says `anyOf` over null and plain types more shortly."""
    options: list[dict[str, Any]] | None = short.get("anyOf")
    if options is None:
        return short
    rest = {key: value for key, value in short.items() if key != "anyOf"}
    if drop_null and rest.get("default", ...) is None:
        options = [option for option in options if option != {"type": "null"}]
        del rest["default"]
    if {"type": "number"} in options:  # which every integer is
        options = [option for option in options if option != {"type": "integer"}]
    if len(options) == 1:
        return options[0] | rest
    if all(option.keys() == {"type"} and isinstance(option["type"], str) for option in options):
        return {"type": [option["type"] for option in options]} | rest
    null = {"type": "null"}
    if len(options) == 2 and options[1] == null and isinstance(options[0].get("type"), str):
        return options[0] | {"type": [options[0]["type"], "null"]} | rest  # its other words bind no null
    return {"anyOf": options} | rest
