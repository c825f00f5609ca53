"""What the HTTP server bears: a thousand calls at once, and calls a second, by workers.

Every answer is checked; one that is not the tool's is an error and ends the run. Client and server share this
machine's cores, so the client, which is written close to the wire, takes part of what it measures.

    python benchmarks/http_load.py [--calls 1000] [--workers 1 2]
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from results import Case, write_results

TOOL = {"name": "orders_list", "arguments": {"limit": 5}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def request(host: str) -> bytes:
    """One call of the newer protocol, as bytes."""
    params = {**TOOL, "_meta": META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
        f"Mcp-Method: tools/call\r\nMcp-Name: {TOOL['name']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> None:
    """Sends a call and requires its answer."""
    writer.write(sent)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if not head.startswith("http/1.1 200"):
        raise RuntimeError(head)
    length = next((line for line in head.split("\r\n") if line.startswith("content-length:")), None)
    if length is not None:
        body = json.loads(await reader.readexactly(int(length.partition(":")[2])))
    else:  # it waited for fifteen seconds, and a stream of events began to keep the connection alive
        said = b""
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            said += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        body = json.loads(said.rpartition(b"data: ")[2])
    if body["result"].get("isError") or "orders" not in body["result"]["structuredContent"]:
        raise RuntimeError(str(body)[:500])


async def at_once(port: int, calls: int) -> tuple[float, list[float]]:
    """Opens that many connections, then sends a call on each at the same moment."""
    sent = request(f"127.0.0.1:{port}")
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(calls)]
    times: list[float] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        await call(reader, writer, sent)
        times.append((time.perf_counter() - began) * 1e3)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(*stream) for stream in streams))
    return time.perf_counter() - began, times


async def steadily(port: int, calls: int, connections: int = 32) -> float:
    """Returns the calls a second on connections that each send the next call after the last answer."""
    sent = request(f"127.0.0.1:{port}")

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(calls // connections):
            await call(reader, writer, sent)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return calls // connections * connections / (time.perf_counter() - began)


def cpu_s(process: int) -> float:
    """Returns the processor time of a process and its children so far."""
    total = 0
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for each in (str(process), *children):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def measure(workers: int, calls: int) -> dict[str, float]:
    """Serves a new home with that many workers and loads it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "NEURAL_TRADER_HOME": f"{folder}/home",
            "NEURAL_TRADER_LOG_FORMAT": "json",
            "NEURAL_TRADER_HTTP_BURST": "1000000",
        }
        words = ["serve", "--transport", "http", "--port", "0", "--workers", str(workers)]
        server = subprocess.Popen(
            [sys.executable, "-m", "neural_trader_server", *words],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert server.stderr is not None
        said = [
            line for _ in range(workers) if (line := next(one for one in server.stderr if '"serving"' in one))
        ]
        port = int(json.loads(said[0])["url"].rpartition(":")[2].partition("/")[0])
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        asyncio.run(steadily(port, 256))
        took_s, times = asyncio.run(at_once(port, calls))
        before = cpu_s(server.pid)
        per_s = asyncio.run(steadily(port, 4 * calls))
        used_ms = (cpu_s(server.pid) - before) / (4 * calls) * 1e3
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        drain.wait()
    cuts = quantiles(times, n=100)
    return {"at_once_s": took_s, "p50_ms": cuts[49], "p99_ms": cuts[98], "per_s": per_s, "cpu_ms": used_ms}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=1000)
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    chosen = options.parse_args()
    found = {workers: measure(workers, chosen.calls) for workers in chosen.workers}
    first = found[chosen.workers[0]]
    for workers, each in found.items():
        print(workers, "workers:", {name: round(value, 2) for name, value in each.items()})
    write_results(
        "http_load",
        [
            Case(
                f"{chosen.calls} calls at once, {workers} workers",
                each["at_once_s"],
                first["at_once_s"],
                "1 worker",
                "s",
            )
            for workers, each in found.items()
        ]
        + [
            Case(
                f"one call of many, {workers} workers",
                1e3 / each["per_s"],
                1e3 / first["per_s"],
                "1 worker",
                "ms",
            )
            for workers, each in found.items()
        ],
    )


if __name__ == "__main__":
    main()
