"""How long a tick takes from a service's socket to a subscriber, at 2,000 and at 20,000 messages a second.

A server in a process of its own speaks Alpaca's stream (MessagePack) over a loopback websocket and stamps
every trade when it sends it; frames go out every two milliseconds. Ours is the whole live path: socket,
decode, rules, last values, bars, journal (synced every 0.1 s), a subscriber's channel. Alpaca's own client
(alpaca-py), which decodes and calls a handler, is measured over the same server where it is installed, by
the same clock.

Ours and theirs take turns, and the figures are medians over the rounds, since a machine that does something
else as well delays one run by a second and the next by nothing: each round is printed with the load average.
"""

import asyncio
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
import msgspec
from msgspec.msgpack import Ext
from pydantic import SecretStr
from results import Case, write_results

from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.compaction import open_journal
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.ticks import SECOND_NS, Trade
from neural_trader_tools.market.providers.alpaca_stream import AlpacaStream
from neural_trader_tools.market.providers.settings import AlpacaSettings
from neural_trader_tools.market.providers.stream import StreamRequest

RATES = (2_000, 20_000)
FRAME_S = 0.002
SWITCH_S = 0.001
WARM_S, MEASURED_S = 1.0, 4.0
ROUNDS = 5
SYMBOLS = [f"S{number:02d}" for number in range(50)]


def serve(rate: int, port: "Connection") -> None:
    """Serves one client, in a process of its own: signs it in, then sends for the time of a run."""
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as listen

    async def converse(socket: ServerConnection) -> None:
        pack = msgspec.msgpack.encode
        await socket.send(pack([{"T": "success", "msg": "connected"}]))
        await socket.recv()
        await socket.send(pack([{"T": "success", "msg": "authenticated"}]))
        await socket.recv()
        await socket.send(pack([{"T": "subscription", "trades": SYMBOLS}]))
        per_frame = round(rate * FRAME_S)
        due = time.perf_counter()
        for number in range(round((WARM_S + MEASURED_S) / FRAME_S)):
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            now_ns = time.time_ns()
            at = Ext(-1, (now_ns % SECOND_NS << 34 | now_ns // SECOND_NS).to_bytes(8, "big"))
            first = number * per_frame
            await socket.send(
                pack(
                    [
                        {
                            "T": "t",
                            "S": SYMBOLS[serial % 50],
                            "i": serial,
                            "x": "V",
                            "p": 190.0 + serial % 100 / 100,
                            "s": 100,
                            "c": ["@"],
                            "z": "C",
                            "t": at,
                        }
                        for serial in range(first, first + per_frame)
                    ]
                )
            )
        await socket.wait_closed()

    async def run() -> None:
        async with listen(converse, "127.0.0.1", 0, ping_interval=None) as server:
            port.send(server.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().run_in_executor(None, port.recv)

    asyncio.run(run())


async def ours(port: int, rate: int, root: Path) -> list[int]:
    """Returns nanoseconds from each trade's stamp to our subscriber."""
    settings = AlpacaSettings(
        stream_url=f"ws://127.0.0.1:{port}", key_id=SecretStr("key"), secret_key=SecretStr("secret")
    )
    pipeline = Pipeline(open_journal(root), bars=[BarBuilder("1s"), BarBuilder("1m")])
    channel = pipeline.subscribe("latency", kinds=[Trade], capacity=1_000_000)
    wanted = round(rate * FRAME_S) * round((WARM_S + MEASURED_S) / FRAME_S)
    took: list[int] = []

    async def listen() -> None:
        while len(took) < wanted:
            trades = await channel.receive_all()
            now_ns = time.time_ns()
            took.extend(now_ns - trade.ts_event_ns for trade in trades)
        tasks.cancel_scope.cancel()

    async with (
        AlpacaStream(settings).open(StreamRequest(("*",))) as stream,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(pipeline.run)
        tasks.start_soon(listen)
        while True:
            await pipeline.receive(await stream.receive(), stream.decode)
    report = pipeline.report()
    if report.dropped or report.quarantined:
        raise SystemExit(f"the path lost something: {report}")
    await pipeline.close()
    return took


async def theirs(port: int, rate: int, root: Path) -> list[int]:
    """Returns nanoseconds from each trade's stamp to a handler of alpaca-py.

    Raises:
        ImportError: it is not installed.
    """
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    from alpaca.data.live import StockDataStream

    live = StockDataStream("key", "secret", url_override=f"ws://127.0.0.1:{port}")
    wanted = round(rate * FRAME_S) * round((WARM_S + MEASURED_S) / FRAME_S)
    took: list[int] = []
    done = asyncio.Event()

    async def handle(trade: object) -> None:
        took.append(time.time_ns() - round(trade.timestamp.timestamp() * 1e6) * 1_000)  # pyright: ignore
        if len(took) == wanted:
            done.set()

    live.subscribe_trades(handle, "*")
    running = asyncio.create_task(live._run_forever())  # pyright: ignore
    await done.wait()
    await live.stop_ws()
    await live.close()
    with suppress(Exception):
        await asyncio.wait_for(running, 10)
    return took


def measured(client: object, rate: int) -> tuple[float, float]:
    """Returns p50 and p99 in microseconds, the first second left out."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    server = context.Process(target=serve, args=[rate, its])
    server.start()
    try:
        port = mine.recv()
        with tempfile.TemporaryDirectory() as folder:
            took = asyncio.run(client(port, rate, Path(folder)))  # pyright: ignore
    finally:
        mine.send("end")
        server.join(20)
    kept = took[round(rate * WARM_S) :]
    cuts = statistics.quantiles(kept, n=100)
    return cuts[49] / 1_000, cuts[98] / 1_000


def main() -> None:
    sys.setswitchinterval(SWITCH_S)  # as `feed run` does, and the next two lines
    gc.collect()
    gc.freeze()
    cases: list[Case] = []
    for rate in RATES:
        rounds: dict[str, list[tuple[float, float]]] = {"ours": [], "alpaca-py": []}
        for number in range(ROUNDS):
            for name, client in (("ours", ours), ("alpaca-py", theirs)):
                with suppress(ImportError):
                    p50, p99 = measured(client, rate)
                    rounds[name].append((p50, p99))
                    print(
                        f"{rate:,}/s, round {number + 1}, {name}: p50 {p50:.0f} us, p99 {p99:.0f} us,"
                        f" load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
                        flush=True,
                    )
        for at, cut in enumerate(("p50", "p99")):
            own, peer = (
                statistics.median(each[at] for each in rounds[name]) if rounds[name] else None
                for name in ("ours", "alpaca-py")
            )
            assert own is not None
            case = f"tick to subscriber at {rate:,} messages/s, {cut}"
            cases.append(Case(case, own, peer or own, "alpaca-py" if peer else "", "us"))
    write_results("feed_latency", cases)


if __name__ == "__main__":
    main()
