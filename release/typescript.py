"""The types of the TypeScript client: each tool's arguments and result, from the schemas that agents see.

`make snapshots` writes them into `server/typescript/src/tools.ts`; a test fails where they differ.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mcp.types import Tool

SOURCE: Final = Path(__file__).parents[1] / "server/typescript/src/tools.ts"
HEAD: Final = """\
/** Each tool of the desk: generated from its schemas by `make snapshots`; not to be edited. */
"""
TAIL: Final = """\
export type ToolName = keyof Tools;

/** What a tool takes. */
export type ToolArguments<N extends ToolName> = Tools[N]["arguments"];

/** What a tool answers. Amounts of money are decimal strings: they are exact, and numbers are not. */
export type ToolResult<N extends ToolName> = Tools[N]["result"];
"""
PLAIN: Final = {kind: kind for kind in ("string", "number", "boolean", "null")} | {"integer": "number"}
KNOWN: Final = frozenset({
    "additionalProperties", "anyOf", "default", "description", "enum", "format", "items", "maxLength",
    "maximum", "minLength", "minimum", "prefixItems", "properties", "required", "title", "type",
})  # fmt: skip
"""Keywords that are understood here, or that say nothing about a type."""


def typescript(tools: Iterable[Tool]) -> str:
    """Returns the module's text: an interface `Tools` with `{arguments, result}` by the tool's name.

    Args:
        tools: As the server lists them. In an output schema an object without `required` has all its
            properties: the catalogue leaves out a list that names them all.

    Raises:
        ValueError: a schema has a keyword or a type that this does not understand.
    """
    lines = ["export interface Tools {"]
    for tool in sorted(tools, key=lambda tool: tool.name):
        if tool.output_schema is None:
            raise ValueError(f"{tool.name} has no output schema, so its result has no type")
        lines += [
            f"  /** {_comment(tool.description or '')} */",
            f"  {tool.name}: {{",
            f"    arguments: {_type(tool.input_schema, 4, is_output=False)};",
            f"    result: {_type(tool.output_schema, 4, is_output=True)};",
            "  };",
        ]
    return "\n".join([HEAD, *lines, "}\n", TAIL])


def _type(schema: dict[str, Any], indent: int, *, is_output: bool) -> str:
    """Says a JSON schema as a type; `indent` is that of the line on which it begins, in blanks."""
    if strange := set(schema) - KNOWN:
        raise ValueError(f"no type is known for {', '.join(sorted(strange))} in {json.dumps(schema):.200}")
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_type(each, indent, is_output=is_output) for each in schema["anyOf"])
    kinds = schema.get("type")
    if kinds is None:
        return "unknown"
    said = [
        _one(kind, schema, indent, is_output=is_output)
        for kind in ([kinds] if isinstance(kinds, str) else kinds)
    ]
    return " | ".join(dict.fromkeys(said))


def _one(kind: str, schema: dict[str, Any], indent: int, *, is_output: bool) -> str:
    if kind == "object":
        return _object(schema, indent, is_output=is_output)
    if kind != "array":
        return PLAIN[kind]
    if "prefixItems" in schema:
        return f"[{', '.join(_type(each, indent, is_output=is_output) for each in schema['prefixItems'])}]"
    item = _type(schema.get("items", {}), indent, is_output=is_output)
    return f"({item})[]" if "|" in item and not item.startswith("{") else f"{item}[]"


def _object(schema: dict[str, Any], indent: int, *, is_output: bool) -> str:
    properties: dict[str, dict[str, Any]] = schema.get("properties", {})
    if not properties:
        values: dict[str, Any] | bool | None = schema.get("additionalProperties")
        if isinstance(values, dict):
            return f"Record<string, {_type(values, indent, is_output=is_output)}>"
        return "Record<string, unknown>" if is_output or values else "Record<string, never>"
    required = set(schema.get("required", properties if is_output else ()))
    return "\n".join(
        ["{", *_members(properties, required, indent + 2, is_output=is_output), f"{' ' * indent}}}"]
    )


def _members(
    properties: dict[str, dict[str, Any]], required: set[str], indent: int, *, is_output: bool
) -> Iterator[str]:
    blank = " " * indent
    for name, schema in properties.items():
        told = schema.get("description", "")
        if "default" in schema and schema["default"] not in (None, ""):
            told = f"{told}. Default: {json.dumps(schema['default'])}".lstrip(". ")
        if told:
            yield f"{blank}/** {_comment(told)} */"
        key = name if re.fullmatch(r"[A-Za-z_]\w*", name) else json.dumps(name)
        yield f"{blank}{key}{'' if name in required else '?'}: {_type(schema, indent, is_output=is_output)};"


def _comment(text: str) -> str:
    return " ".join(text.split()).replace("*/", "*\\/")
