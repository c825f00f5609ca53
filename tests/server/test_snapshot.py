"""What agents and the TypeScript compiler are told about the tools: a change of it is reviewed as a diff.

`make snapshots` writes the files anew.
"""

import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.types import Tool
from release.typescript import SOURCE, typescript

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, build_server
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

SNAPSHOT = Path(__file__).with_name("tools.txt")


def lines_of(tool: Tool) -> Iterator[str]:
    """Says a tool in lines: one for each thing that it tells, one for each argument and field."""
    told: dict[str, Any] = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    schemas = {"in": told.pop("inputSchema"), "out": told.pop("outputSchema")}
    yield f"{told.pop('name')}\n"
    for key, value in sorted(told.items()):
        yield f"  {key}: {compact(value)}\n"
    for way, schema in schemas.items():
        fields: dict[str, Any] = schema.pop("properties", {})
        for name, field in fields.items():
            yield f"  {way} {name}: {compact(field)}\n"
        yield f"  {way}: {compact(schema)}\n"


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@pytest.fixture
async def tools(home: Home) -> list[Tool]:
    services = Services(home, Settings(), WallClock())
    try:
        return await build_server(services, toolsets="all").list_tools()
    finally:
        await services.aclose()


def same(place: Path, now: str, otherwise: str) -> None:
    """Compares a reviewed file with what it would be now, which `make snapshots` writes."""
    if os.environ.get("NEURAL_TRADER_SNAPSHOTS") == "renew":
        place.write_text(now)
    lines = place.read_text().splitlines(keepends=True), now.splitlines(keepends=True)
    diff = "".join(difflib.unified_diff(*lines, "reviewed", "now", n=1))
    assert not diff, f"{otherwise}; review it, then `make snapshots`:\n{diff}"


@pytest.mark.anyio
async def test_the_tools_say_what_was_reviewed(tools: list[Tool]) -> None:
    now = [line for tool in sorted(tools, key=lambda tool: tool.name) for line in lines_of(tool)]
    same(SNAPSHOT, "".join(now), "agents would be told something else")


@pytest.mark.anyio
async def test_the_typescript_client_has_the_types_of_the_tools(tools: list[Tool]) -> None:
    same(SOURCE, typescript(tools), "programs in TypeScript would be compiled against something else")
