"""A stream's round trip beside a plain child that reads JSON lines from a pipe; 200 streams at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

import anyio
from pydantic import JsonValue
from results import Case, write_results

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.local.streams import LocalStream
from neural_trader_sandbox.port import Job, Limits

ROUNDS = 2_000
AT_ONCE = 200
PLAIN_AT_ONCE = 20
"""Plain children start at half a second each; their figures are of one child, so that fewer do."""
PRELOAD = ["numpy", "polars"]
BAR: JsonValue = {
    "time": "2026-11-20T00:00:00Z",
    "open": 101.25,
    "high": 103.5,
    "low": 100.75,
    "close": 102.0,
    "volume": 1_250_000,
}
ECHO = Job(
    "neural_trader_sandbox.script:stream_script", {"source": "def handle(message): return message['close']"}
)
LIMITS = Limits(wall_time_s=5, cpu_time_s=120)
PLAIN = """
import json, sys
import numpy, polars
for line in sys.stdin:
    sys.stdout.write(json.dumps(json.loads(line)["close"]) + "\\n")
    sys.stdout.flush()
"""
PEER = "python -c over a pipe, no isolation"


class PlainChild:
    """The peer: an interpreter of its own, the same libraries, JSON lines."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.send()

    def send(self) -> object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(BAR).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        with self.process:
            self.process.kill()


def children(pid: int) -> list[int]:
    found = [
        int(child)
        for task in os.listdir(f"/proc/{pid}/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]
    return [*found, *(below for child in found for below in children(child))]


def pss_mib(pids: list[int]) -> float:
    """Memory of these processes; what is shared is divided among those that share it."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


async def round_trip_us(stream: LocalStream) -> float:
    start = time.perf_counter()
    result = await stream.send(BAR)
    assert result.status == "ok", result
    return (time.perf_counter() - start) * 1e6


def plain_us(child: PlainChild) -> float:
    start = time.perf_counter()
    child.send()
    return (time.perf_counter() - start) * 1e6


async def main() -> None:
    sandbox = LocalSandbox(PRELOAD)
    alone = await sandbox.open_stream(ECHO, LIMITS)
    plain = PlainChild()
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(10):  # in turn, so that both meet the same machine
        ours += [await round_trip_us(alone) for _ in range(ROUNDS // 10)]
        theirs += [plain_us(plain) for _ in range(ROUNDS // 10)]
    await alone.aclose()
    plain.close()

    streams: list[LocalStream] = []

    async def open_one() -> None:
        streams.append(await sandbox.open_stream(ECHO, LIMITS))

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(open_one)
    opened_ms = (time.perf_counter() - start) * 1e3 / AT_ONCE
    zygote = sandbox._zygote  # pyright: ignore[reportPrivateUsage]: its process id is nobody else's business
    assert zygote is not None
    child_mib = pss_mib(children(zygote.pid)) / AT_ONCE  # the zygote's own part and the nannies' included
    in_turn = [await round_trip_us(stream) for _ in range(15) for stream in streams]
    at_once: list[float] = []

    async def ask(stream: LocalStream) -> None:
        at_once.append(await round_trip_us(stream))

    start = time.perf_counter()
    for _ in range(10):
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(ask, stream)
    bar_ms = (time.perf_counter() - start) * 1e3 / 10
    await sandbox.aclose()

    start = time.perf_counter()
    plains = [PlainChild() for _ in range(PLAIN_AT_ONCE)]
    plain_opened_ms = (time.perf_counter() - start) * 1e3 / PLAIN_AT_ONCE
    plain_mib = pss_mib([child.process.pid for child in plains]) / PLAIN_AT_ONCE
    plain_in_turn = [plain_us(child) for _ in range(15) for child in plains]
    for child in plains:
        child.close()
    plain_bar_ms = sum(plain_in_turn) / len(plain_in_turn) * AT_ONCE / 1e3
    write_results(
        "sandbox_streams",
        [
            Case("round trip, median", median(ours), median(theirs), PEER, "us"),
            Case("round trip, p99", quantiles(ours, n=100)[98], quantiles(theirs, n=100)[98], PEER, "us"),
            Case(f"{AT_ONCE} open, in turn, median", median(in_turn), median(plain_in_turn), PEER, "us"),
            Case(
                f"{AT_ONCE} open, in turn, p99",
                quantiles(in_turn, n=100)[98],
                quantiles(plain_in_turn, n=100)[98],
                PEER,
                "us",
            ),
            Case(
                f"one bar to all {AT_ONCE}",
                bar_ms,
                plain_bar_ms,
                f"{PEER}, in turn, from {PLAIN_AT_ONCE}",
                "ms",
            ),
            Case(
                f"one bar to all {AT_ONCE}, p99 of an answer",
                quantiles(at_once, n=100)[98] / 1e3,
                plain_bar_ms,
                f"{PEER}, the last in turn",
                "ms",
            ),
            Case(f"opening one of {AT_ONCE}", opened_ms, plain_opened_ms, PEER, "ms"),
            Case(f"memory of one of {AT_ONCE}", child_mib, plain_mib, PEER, "MiB PSS"),
        ],
    )


if __name__ == "__main__":
    anyio.run(main)
