"""What our server costs beside the bare SDK: to start, to stand idle, and on every call, over stdio.

Both serve the same no-op tool to the same client, which speaks the protocol itself; ours stands behind the
gate, on a founded home, with everything that `serve` keeps going beside the calls. Starts and calls alternate
between the two, so that load meets both alike; processor time is what the kernel counted. Idle is
measured once the server has served, against the bound of 1 % of one core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from results import Case, write_results

STARTS = 5
CALLS = 400
ROUNDS = 5
IDLE_S = 20.0
BARE = "bare SDK"
_TICKS = os.sysconf("SC_CLK_TCK")


class Served:
    """A server in a process of its own, and what a client says to it."""

    def __init__(self, kind: str, home: Path) -> None:
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NEURAL_TRADER_HOME": str(home)},
        )
        about = {"name": "bench", "version": "0"}
        self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.call()
        self.start_s = time.perf_counter() - started
        self.start_cpu_s = self.cpu_s()

    def call(self) -> None:
        """Calls the no-op tool."""
        answer = self.ask("tools/call", {"name": "noop_get", "arguments": {"number": 7}})
        assert answer["result"]["structuredContent"] == {"ok": True, "number": 7}, answer

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns its answer."""
        self._send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def cpu_s(self) -> float:
        """Returns the processor time of the server so far, its threads' too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(home: Path) -> list[Case]:
    """Returns every case."""
    starts: dict[str, list[Served]] = {"ours": [], "bare": []}
    for _ in range(STARTS):
        for kind, done in starts.items():
            with Served(kind, home) as one:
                done.append(one)
    wall = {kind: median(one.start_s for one in done) for kind, done in starts.items()}
    cpu = {kind: min(one.start_cpu_s for one in done) for kind, done in starts.items()}
    cases = [
        Case("start to the first tool's answer, wall", wall["ours"], wall["bare"], BARE, "s"),
        Case("start to the first tool's answer, processor", cpu["ours"], cpu["bare"], BARE, "s"),
        Case("start to the first tool's answer, against the bound", cpu["ours"], 1.5, "bound", "s"),
    ]
    with ExitStack() as stack:
        both = {kind: stack.enter_context(Served(kind, home)) for kind in ("ours", "bare")}
        waits: dict[str, list[float]] = {kind: [] for kind in both}
        used: dict[str, list[float]] = {kind: [] for kind in both}
        for _ in range(ROUNDS):
            for kind, served in both.items():
                before = served.cpu_s()
                for _ in range(CALLS):
                    begun = time.perf_counter()
                    served.call()
                    waits[kind].append((time.perf_counter() - begun) * 1e3)
                used[kind].append((served.cpu_s() - before) / CALLS * 1e3)
        cases += [
            Case("one call of a no-op tool, p50", median(waits["ours"]), median(waits["bare"]), BARE, "ms"),
            Case("one call of a no-op tool, processor", min(used["ours"]), min(used["bare"]), BARE, "ms"),
        ]
        before = both["ours"].cpu_s()
        time.sleep(IDLE_S)
        idle = 100 * (both["ours"].cpu_s() - before) / IDLE_S
        cases.append(Case("idle, of one core", max(idle, 1e-3), 1.0, "bound", "%"))
    return cases


def serve(kind: str) -> None:
    """Serves the no-op tool on this process's stdin and stdout."""
    import anyio
    from pydantic import BaseModel

    class Noop(BaseModel):
        """What it was given."""

        ok: bool
        number: int

    async def noop_get(*, number: int) -> Noop:
        """Does nothing."""
        return Noop(ok=True, number=number)

    if kind == "bare":
        from mcp.server import MCPServer

        bare = MCPServer[None]("bare", log_level="WARNING")
        bare.tool()(noop_get)
        bare.run("stdio")
        return

    async def ours() -> None:
        from neural_trader_server.app import build_server, open_desk
        from neural_trader_server.catalogue import ToolSpec, build_tool
        from neural_trader_server.home import Home
        from neural_trader_server.listening import keep_what_is_loaded, running
        from neural_trader_server.logs import configure_logs
        from neural_trader_server.manifest import record_tools
        from neural_trader_server.settings import load_settings

        home = Home.locate()
        settings = load_settings(home)
        configure_logs(settings.log_level, settings.log_format)
        spec = ToolSpec("noop_get", "none", "core", "Nothing")
        tool = build_tool(spec, {}, noop_get)
        async with open_desk(home, settings) as services:
            server = build_server(services, more=[(spec, tool)])
            await record_tools(server, services)
            async with running(services, ends_process=True):
                keep_what_is_loaded()
                await server.run_stdio_async()

    anyio.run(ours)


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=("ours", "bare"), help="be one of the two servers")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_results("server", measure(Path(folder) / "home"))


if __name__ == "__main__":
    main()
