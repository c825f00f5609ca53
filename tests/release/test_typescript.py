"""What the generator of TypeScript types makes of schemas, and what it refuses."""

from typing import Any

import pytest
from mcp.types import Tool
from release.typescript import typescript


def tool(arguments: dict[str, Any], result: dict[str, Any] | None, description: str = "Does it.") -> Tool:
    schema = {
        "type": "object",
        "properties": arguments,
        "required": ["needed"] if "needed" in arguments else [],
    }
    output = None if result is None else {"type": "object", "properties": result}
    return Tool(name="it", description=description, input_schema=schema, output_schema=output)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": ["integer", "number"]}, "number"),
        ({"enum": ["a", 'b"']}, '"a" | "b\\""'),
        ({"type": "array", "items": {"type": ["number", "null"]}}, "(number | null)[]"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]}, "[number, string]"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "Record<string, string>"),
        ({"type": "object"}, "Record<string, unknown>"),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "null | boolean"),
        ({}, "unknown"),
    ],
)
def test_a_schema_is_said_as_a_type(schema: dict[str, Any], said: str) -> None:
    assert f"      value: {said};\n" in typescript([tool({}, {"value": schema})])


def test_what_may_be_left_out_is_optional_and_a_result_without_a_list_has_all() -> None:
    made = typescript(
        [tool({"needed": {"type": "string"}, "odd-name": {"type": "number", "default": 3}}, {"a": {}})]
    )
    assert "      needed: string;\n" in made
    assert '      /** Default: 3 */\n      "odd-name"?: number;\n' in made
    some = tool({}, {"a": {}, "b": {}})
    assert some.output_schema is not None
    some.output_schema["required"] = ["a"]
    assert "      a: unknown;\n      b?: unknown;\n" in typescript([some])


def test_words_cannot_end_their_comment() -> None:
    made = typescript([tool({}, {}, "Ends */ export const evil = 1; /* here")])
    assert "Ends *\\/ export const evil" in made


def test_what_is_not_understood_is_refused_and_not_guessed() -> None:
    with pytest.raises(ValueError, match="patternProperties"):
        typescript([tool({}, {"a": {"type": "object", "patternProperties": {}}})])
    with pytest.raises(ValueError, match="it has no output schema"):
        typescript([tool({}, None)])
