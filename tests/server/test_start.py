"""The start of a server: what takes long to import is imported by the first call that needs it."""

import os
import subprocess
import sys
from pathlib import Path

LATER = {
    "duckdb",
    "jinja2",
    "lancedb",
    "llvmlite",
    "matplotlib",
    "numba",
    "pandas",
    "PIL",
    "prometheus_client",
    "pyarrow",
    "scipy",
    "sklearn",
    "websockets",
}

SCRIPT = """
import sys
import anyio
from mcp import Client
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.manifest import record_tools
from neural_trader_server.settings import load_settings

async def main():
    home = Home.locate()
    async with open_desk(home, load_settings(home)) as services:
        server = build_server(services, toolsets=sys.argv[1])
        await record_tools(server, services)
        async with running(services), Client(server) as client:
            count = len((await client.list_tools()).tools)
            assert (count > 20) == (sys.argv[1] == "all"), count
            answer = await client.call_tool("orders_list", {})
            refused = await client.call_tool("features_compute", {}) if count < 20 else None
            print(*sys.modules)
            assert not answer.is_error, answer
            assert refused is None or "toolset_not_served" in refused.content[0].text

anyio.run(main)
"""


def loaded_by(toolsets: str, home: Path) -> set[str]:
    """Returns the modules of a server that has listed its tools and its orders."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, toolsets],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_server_that_lists_its_tools_and_orders_has_imported_nothing_that_takes_long(
    tmp_path: Path,
) -> None:
    loaded = loaded_by("all", tmp_path / "home")
    assert {"mcp", "polars", "neural_trader_tools.features.compute"} <= loaded
    assert not LATER & loaded


def test_tools_that_are_not_served_are_not_imported_either(tmp_path: Path) -> None:
    loaded = loaded_by("core,portfolio", tmp_path / "home")
    assert not {"neural_trader_tools.features.compute", "neural_trader_tools.backtest.check"} & loaded
