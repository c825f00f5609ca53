"""What our server costs beside the bare SDK: to start, to stand idle, and on every call, over stdio and HTTP.

Both serve the same two tools to the same client, which speaks the protocol itself: one that does nothing, and
one that answers with forty rows, about what a status or a list of orders says. Ours stands behind the gate
(over HTTP also behind the door, the rates and the bounds), on a founded home, with everything that `serve`
keeps going beside the calls. Both listen on the same kind of socket. Starts and calls alternate between the
two, so that load meets both alike; processor time is what the kernel counted. Idle is measured once the
server has served, against the bound of 1 % of one core.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from results import Case, write_results

STARTS = 5
CALLS = 200
ROWS = 40
ROUNDS = 5
IDLE_S = 30.0
ERA = "2025-11-25"
BARE = "bare SDK"
_TICKS = os.sysconf("SC_CLK_TCK")


class Served:
    """A server in a process of its own, and what a client says to it.

    Args:
        kind: `ours` or `bare`.
        home: Of ours.
        http: Over HTTP, on one connection that stays open; else over stdio.
    """

    def __init__(self, kind: str, home: Path, *, http: bool = False) -> None:
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, *(["--http"] if http else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "NEURAL_TRADER_HOME": str(home),
                "NEURAL_TRADER_HTTP_REQUESTS_PER_S": "0",
                "NEURAL_TRADER_LOG_FORMAT": "json",
            },
        )
        self._http: HTTPConnection | None = None
        self._headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        if http:
            assert self.process.stdout is not None
            self._http = HTTPConnection("127.0.0.1", int(self.process.stdout.readline()))
        about = {"name": "bench", "version": "0"}
        self.ask("initialize", {"protocolVersion": ERA, "capabilities": {}, "clientInfo": about})
        self._headers["MCP-Protocol-Version"] = ERA
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.call("noop_get")
        self.start_s = time.perf_counter() - started
        self.start_cpu_s = self.cpu_s()

    def call(self, tool: str) -> None:
        """Calls a tool and checks what it says."""
        answer = self.ask("tools/call", {"name": tool, "arguments": {"number": 7}})
        assert answer["result"]["structuredContent"]["number"] == 7, answer

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns its answer."""
        body = self._send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        if self._http is not None:
            return json.loads(body.rpartition(b"data: ")[2])
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _send(self, message: dict[str, Any]) -> bytes:
        data = json.dumps(message).encode()
        if self._http is not None:
            self._http.request("POST", "/mcp", data, self._headers)
            answer = self._http.getresponse()
            body = answer.read()
            assert answer.status in (200, 202), (answer.status, body)
            if session := answer.headers.get("mcp-session-id"):
                self._headers["mcp-session-id"] = session
            return body
        assert self.process.stdin is not None
        self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()
        return b""

    def cpu_s(self) -> float:
        """Returns the processor time of the server so far, its threads' too."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self._http is not None:
            self._http.close()
            self.process.terminate()
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
    for http in (True, False):
        with ExitStack() as stack:
            both = {kind: stack.enter_context(Served(kind, home, http=http)) for kind in ("ours", "bare")}
            cases += calls(both, "HTTP" if http else "stdio")
            if not http:
                cases.append(idle(both["ours"]))
    return cases


def calls(both: dict[str, Served], transport: str) -> list[Case]:
    """Returns what calls take, of both, in turns."""
    cases: list[Case] = []
    for tool, what in (("noop_get", "a no-op tool"), ("rows_get", f"a tool of {ROWS} rows")):
        waits: dict[str, list[float]] = {kind: [] for kind in both}
        used: dict[str, list[float]] = {kind: [] for kind in both}
        for _ in range(ROUNDS):
            for kind, served in both.items():
                before = served.cpu_s()
                for _ in range(CALLS):
                    begun = time.perf_counter()
                    served.call(tool)
                    waits[kind].append((time.perf_counter() - begun) * 1e3)
                used[kind].append((served.cpu_s() - before) / CALLS * 1e3)
        name = f"one call of {what}, {transport}"
        cases += [
            Case(f"{name}, p50", median(waits["ours"]), median(waits["bare"]), BARE, "ms"),
            Case(f"{name}, processor", median(used["ours"]), median(used["bare"]), BARE, "ms"),
        ]
    return cases


def idle(served: Served) -> Case:
    """Returns how much a server uses that nobody asks."""
    before = served.cpu_s()
    time.sleep(IDLE_S)
    used = 100 * (served.cpu_s() - before) / IDLE_S
    return Case("idle, of one core", max(used, 1e-3), 1.0, "bound", "%")


def serve(kind: str, http: bool) -> None:
    """Serves both tools on this process's stdin and stdout, or on a free port that it says on stdout."""
    import anyio
    from pydantic import BaseModel

    class Noop(BaseModel):
        """What it was given."""

        ok: bool
        number: int

    async def noop_get(*, number: int) -> Noop:
        """Does nothing."""
        return Noop(ok=True, number=number)

    class Row(BaseModel):
        """One of many."""

        symbol: str
        side: str
        quantity: str
        state: str
        detail: str | None

    class Rows(BaseModel):
        """Many of them."""

        number: int
        rows: list[Row]

    async def rows_get(*, number: int) -> Rows:
        """Answers with rows."""
        row = Row(symbol="AAPL", side="buy", quantity="10.5", state="filled", detail=None)
        return Rows(number=number, rows=[row] * ROWS)

    listener = None
    if http:  # the protocol by its number, as ours has it: else every answer would wait 40 ms for Nagle
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
    if kind == "bare":
        from mcp.server import MCPServer

        bare = MCPServer[None]("bare", log_level="WARNING")
        bare.tool()(noop_get)
        bare.tool()(rows_get)
        if listener is None:
            bare.run("stdio")
            return
        import uvicorn

        app = bare.streamable_http_app(streamable_http_path="/mcp", host="127.0.0.1")
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_keep_alive=75)
        anyio.run(lambda: uvicorn.Server(config).serve(sockets=[listener]))
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
        tools = [
            (spec, build_tool(spec, {}, function))
            for function in (noop_get, rows_get)
            for spec in [ToolSpec(function.__name__, "none", "core", "Nothing")]
        ]
        async with open_desk(home, settings) as services:
            server = build_server(services, more=tools)
            await record_tools(server, services)
            async with running(services, ends_process=True):
                keep_what_is_loaded()
                if listener is None:
                    await server.run_stdio_async()
                    return
                from neural_trader_server.front import Buckets, http_app
                from neural_trader_server.hosting import web_server

                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                app = http_app(server, services, host="127.0.0.1", url=url, buckets=Buckets(settings))
                await web_server(app, None).serve(sockets=[listener])

    anyio.run(ours)


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=("ours", "bare"), help="be one of the two servers")
    parser.add_argument("--http", action="store_true", help="be it over HTTP")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.http)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_results("server", measure(Path(folder) / "home"))


if __name__ == "__main__":
    main()
