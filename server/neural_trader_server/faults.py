"""Faults: how a failure inside a tool becomes words that an agent can act on.

Every error that leaves the server reads `code: what happened; next step`. What nobody expected
is logged with its traceback on stderr and leaves only its code: an exception's own text may hold
paths, prices or keys that are none of the caller's business.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, cast

import structlog
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

from neural_trader_governance.errors import InputError, NeuralTraderError
from neural_trader_governance.redaction import redact
from neural_trader_governance.untrusted.readings import OUTSIDE, Source, expose

log = structlog.get_logger(__name__)


def refuse(error: NeuralTraderError) -> CallToolResult:
    """Returns the tool error that carries this failure's one line, secrets hidden.

    Words that a stranger put into the failure are noted as read by the caller.
    """
    text = redact(str(error))
    if OUTSIDE in error.facts:
        expose(Source(error.facts[OUTSIDE]), text)
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def explain(error: ToolError, tool: str, properties: Mapping[str, Any]) -> NeuralTraderError:
    """Returns what the SDK wrapped, as an error of our tree.

    Args:
        error: What `MCPServer.call_tool` raised; its `__cause__` is the original.
        tool: The tool's name.
        properties: The JSON schema of each argument, whose descriptions become the next step.
    """
    cause = _single(error.__cause__)
    if isinstance(cause, NeuralTraderError):
        return cause
    if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
        return _argument_error(cause, tool, properties)
    log.error("tool_crashed", tool=tool, exc_info=cause or error)
    return NeuralTraderError(
        "internal_error",
        f"{tool} failed in a way that it should not ({type(cause or error).__name__})",
        "see the server's log on stderr; nothing that was not acknowledged has happened",
    )


def unknown_arguments(arguments: Iterable[str], known: Iterable[str], tool: str) -> InputError | None:
    """Returns the error for the first argument that the tool does not take, else None.

    A misspelled argument that is silently ignored would let a tool act on its defaults.
    """
    names = list(known)
    for name in arguments:
        if name not in names:
            takes = f"{tool} takes {', '.join(names)}" if names else f"{tool} takes no arguments"
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            return InputError("unknown_argument", f"{tool} has no argument {name!r:.40}", f"{hint}{takes}")
    return None


def _argument_error(error: ValidationError, tool: str, properties: Mapping[str, Any]) -> InputError:
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "arguments"
    field = ".".join(str(part) for part in first["loc"]) or name
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        what = f"field {field} is missing"
    else:
        what = f"field {field}: {message[0].lower()}{message[1:]} (got {first['input']!r:.60})"
    described = properties.get(name, {}).get("description", "")
    return InputError(
        "invalid_argument", what, f"give {name}: {described}" if described else f"see the schema of {tool}"
    )


def _single(error: BaseException | None) -> BaseException | None:
    """Returns the one failure inside nested exception groups (task groups make them)."""
    while isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(inner) != 1:
            return cast("BaseException", error)
        error = inner[0]
    return error
