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
        server = build_server(services, toolsets="all")
        await record_tools(server, services)
        async with running(services), Client(server) as client:
            assert len((await client.list_tools()).tools) > 20
            answer = await client.call_tool("orders_list", {})
            assert not answer.is_error, answer
            print(*sys.modules)

anyio.run(main)
"""


def test_a_server_that_lists_its_tools_and_orders_has_imported_nothing_that_takes_long(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "NEURAL_TRADER_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"mcp", "polars"} <= loaded
    assert not LATER & loaded
