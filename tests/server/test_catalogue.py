"""The catalogue: services are injected by type, and the agent sees only its own arguments."""

import json
from typing import Annotated

import pytest
from mcp import Client
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, Field

from neural_trader_governance.errors import InputError
from neural_trader_server.catalogue import CATALOGUE, TOOLSETS, ToolSpec, bind
from neural_trader_server.endpoint import Endpoint
from neural_trader_server.gate import Gate


class Ledger:
    """A service of this test."""

    def __init__(self) -> None:
        self.written: list[int] = []


class Sum(BaseModel):
    """The sum so far."""

    total: int = Field(description="Of everything added")
    title: str = "a field called title stays"


async def ledger_add(
    ledger: Ledger, *, amount: Annotated[int, Field(description="What to add")], note: str = "none"
) -> Sum:
    """Adds an amount."""
    if amount < 0:
        raise InputError("invalid_amount", f"amount {amount} is negative", "add zero or more")
    if note == "crash":
        raise RuntimeError("the secret is 42")
    ledger.written.append(amount)
    return Sum(total=sum(ledger.written))


SPEC = ToolSpec("ledger_add", "none", "core", "Add", read_only=False)


def serve(ledger: Ledger, spec: ToolSpec = SPEC, *, read_only: bool = False) -> Endpoint:
    tool = Tool.from_function(
        bind(ledger_add, {Ledger: ledger}), name=spec.name, annotations=spec.annotations()
    )
    return Endpoint([tool], Gate({spec.name: spec}, TOOLSETS, read_only, 5.0), "0.0.0")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_service_is_injected_and_invisible(mode: str) -> None:
    ledger = Ledger()
    async with Client(serve(ledger), mode=mode) as client:
        (tool,) = (await client.list_tools()).tools
        assert set(tool.input_schema["properties"]) == {"amount", "note"}
        assert tool.description == "Adds an amount."
        assert tool.output_schema is not None
        assert set(tool.output_schema["properties"]) == {"total", "title"}
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is False
        answer = await client.call_tool("ledger_add", {"amount": 3})
    assert ledger.written == [3]
    assert answer.structured_content == {"total": 3, "title": "a field called title stays"}


@pytest.mark.anyio
async def test_text_and_structured_content_carry_the_same_facts_compactly() -> None:
    async with Client(serve(Ledger())) as client:
        answer = await client.call_tool("ledger_add", {"amount": 3})
    (block,) = answer.content
    text = block.model_dump()["text"]
    assert json.loads(text) == answer.structured_content
    assert "\n" not in text
    assert ": " not in text.replace("called title", "")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "begins", "holds"),
    [
        ({"amount": -1}, "invalid_amount: amount -1 is negative; add zero or more", ""),
        ({"amount": "x"}, "invalid_argument: field amount: ", "give amount: What to add"),
        ({}, "invalid_argument: field amount is missing; ", "What to add"),
        ({"amonut": 1}, "unknown_argument: ledger_add has no argument 'amonut'; ", "did you mean amount?"),
        ({"amount": 1, "zzz": 1}, "unknown_argument: ", "ledger_add takes amount, note"),
        ({"amount": 1, "note": "crash"}, "internal_error: ", "see the server's log"),
    ],
)
async def test_every_failure_is_one_line_with_a_next_step(
    arguments: dict[str, object], begins: str, holds: str
) -> None:
    ledger = Ledger()
    async with Client(serve(ledger)) as client:
        answer = await client.call_tool("ledger_add", arguments)
    assert answer.is_error
    text = answer.content[0].model_dump()["text"]
    assert text.startswith(begins)
    assert holds in text
    assert "; " in text
    assert "42" not in text, "an unexpected exception's own words stay on the server"
    assert ledger.written == []


def test_a_service_that_nobody_provides_is_found_at_start() -> None:
    with pytest.raises(TypeError, match="no service provides"):
        bind(ledger_add, {})


def test_a_tool_is_named_as_its_file() -> None:
    for spec in CATALOGUE:
        folder, file = spec.module.split(".")
        assert file == spec.name or spec.name.endswith(f"_{file}"), spec.name
        assert folder[:5] in {spec.name[:5], spec.toolset[:5], "backt"}, spec.name
        assert spec.toolset in TOOLSETS


def test_no_two_tools_share_a_name_and_there_are_at_most_thirty() -> None:
    names = [spec.name for spec in CATALOGUE]
    assert len(set(names)) == len(names) <= 30
