"""The stage of the demo: a real client, our command line, and what proves or fails a claim."""

import json
import os
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.types import TextContent

from neural_trader_governance.errors import ExecutionError, HostError
from neural_trader_server.home import Home

Facts = dict[str, Any]


@dataclass(slots=True)
class Stage:
    """What the steps share."""

    client: Client
    home: Home
    lacking: list[str] = field(default_factory=list[str])
    prices: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """Of what may be traded: the tradable instruments whose price is fresh at the replay clock."""
    facts: dict[str, Facts] = field(default_factory=dict[str, Facts])


def expect(holds: bool, claim: str, **found: object) -> None:
    """Checks a claim of the story.

    Raises:
        ExecutionError: it does not hold.
    """
    if not holds:
        seen = json.dumps(found, default=str)[:600]
        raise ExecutionError(
            "demo_claim_failed", f"expected that {claim}, found {seen}", "report this with the log"
        )


async def ask(client: Client, tool: str, **arguments: object) -> Facts:
    """Calls a tool and returns its facts.

    Raises:
        ExecutionError: the tool answered with an error.
    """
    answer = await client.call_tool(tool, arguments)
    if answer.is_error or answer.structured_content is None:
        raise ExecutionError(
            "demo_tool_failed", f"{tool}: {_text(answer.content)}", "do what the tool's error says"
        )
    return answer.structured_content


async def refusal(client: Client, tool: str, **arguments: object) -> str:
    """Calls a tool that must refuse and returns its error text."""
    answer = await client.call_tool(tool, arguments)
    expect(bool(answer.is_error), f"{tool} refuses", answer=answer.structured_content)
    return _text(answer.content)


async def command(home: Home, *words: str) -> tuple[int, str]:
    """Runs our command line as another process, as a person would; returns its exit code and stdout."""
    line = [sys.executable, "-m", "neural_trader_server", *words]
    with anyio.fail_after(60):
        done = await anyio.run_process(
            line, check=False, env=os.environ | {"NEURAL_TRADER_HOME": str(home.path)}
        )
    return done.returncode, done.stdout.decode()


def need_sandbox(stage: Stage) -> None:
    """Stops a step that runs strangers' code where this host lacks a layer.

    Raises:
        HostError: it does; the layers are named.
    """
    if stage.lacking:
        raise HostError(
            "sandbox_unavailable",
            f"this host lacks the sandbox layers {', '.join(stage.lacking)}, so no strategy may run here",
            "run `neural-trader doctor` to see what to do about each",
        )


def flip_byte(export: Path, seq: int) -> str:
    """Flips one bit in the middle of entry `seq` of a tlog-tiles export; returns file and offset."""
    index, within = divmod(seq, 256)
    (bundle,) = (
        (export / "tile" / "entries").glob(f"{index:03d}*/*")
        if _partial(export, index)
        else (export / "tile" / "entries" / f"{index:03d}",)
    )
    content = bytearray(bundle.read_bytes())
    offset = 0
    for _ in range(within):
        offset += 2 + int.from_bytes(content[offset : offset + 2], "big")
    place = offset + 2 + int.from_bytes(content[offset : offset + 2], "big") // 2
    content[place] ^= 0x01
    bundle.write_bytes(content)
    return f"{bundle.relative_to(export)}, byte {place}, in entry {seq}"


def _partial(export: Path, index: int) -> bool:
    return not (export / "tile" / "entries" / f"{index:03d}").is_file()


def _text(content: list[Any]) -> str:
    return " ".join(block.text for block in content if isinstance(block, TextContent))
