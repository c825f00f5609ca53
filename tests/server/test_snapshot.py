"""What agents are told about the tools, line by line: a change of it is reviewed as a diff of `tools.txt`.

`make snapshots` writes the file anew.
"""

import difflib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.types import Tool

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


@pytest.mark.anyio
async def test_the_tools_say_what_was_reviewed(home: Home) -> None:
    services = Services(home, Settings(), WallClock())
    try:
        tools = await build_server(services, toolsets="all").list_tools()
    finally:
        await services.aclose()
    now = [line for tool in sorted(tools, key=lambda tool: tool.name) for line in lines_of(tool)]
    if os.environ.get("NEURAL_TRADER_SNAPSHOTS") == "renew":
        SNAPSHOT.write_text("".join(now))
    reviewed = SNAPSHOT.read_text().splitlines(keepends=True)
    diff = "".join(difflib.unified_diff(reviewed, now, "reviewed", "now", n=1))
    assert not diff, f"agents would be told something else; review it, then `make snapshots`:\n{diff}"
