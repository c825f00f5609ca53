"""Events through the bus: messages a second and the time from publish to delivery, in process and over NATS.

In process beside a bare anyio memory stream, over NATS beside a bare nats-py loop (JetStream publish with an
acknowledgement, pull and ack, no envelope and no bounds). CPU and wall time of this process per message, the
lowest of several rounds, and the time from publish to delivery at 1,000 a second, p50 and p99. Broker
cases need nats-server (apt-get install nats-server) and are left out, and said so, without it.
"""

import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import anyio
import anyio.lowlevel
from results import Case, write_results

from neural_trader_tools.bus.broker import NatsSettings
from neural_trader_tools.bus.jetstream import JetStreamBus
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.port import Bus, Message
from neural_trader_tools.bus.subjects import FAMILIES
from neural_trader_tools.market.feed.ticks import Quote

COUNT, ROUNDS, BATCH = 20_000, 3, 100
NATS_COUNT = 5_000
PACE_PER_S, PACED = 1_000, 2_000
QUOTES = [Quote("AAPL", 190.0, 1.0, 190.02, 2.0, number, number, "V") for number in range(COUNT)]
SUBJECT = "market.quote.AAPL"

Figures = tuple[float, float]
"""CPU and wall time, in microseconds a message."""


def messages(count: int) -> list[Message]:
    return [Message(SUBJECT, QUOTES[number], uuid.uuid4().hex) for number in range(count)]


async def measured(produce: Callable[[], Awaitable[None]], consume: Callable[[], Awaitable[None]]) -> Figures:
    """Returns what it costs that one side produces what the other consumes."""
    cpu, wall = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        tasks.start_soon(produce)
    return time.process_time() - cpu, time.perf_counter() - wall


async def lowest(count: int, once: Callable[[], Awaitable[Figures]]) -> Figures:
    rounds = [await once() for _ in range(ROUNDS)]
    return min(cpu for cpu, _ in rounds) / count * 1e6, min(wall for _, wall in rounds) / count * 1e6


async def bare_stream() -> Figures:
    """Returns what a memory stream of anyio costs with a bound of 1,000."""

    async def once() -> Figures:
        send, receive = anyio.create_memory_object_stream[Quote](1_000)

        async def produce() -> None:
            async with send:
                for quote in QUOTES:
                    await send.send(quote)

        async def consume() -> None:
            async with receive:
                async for _ in receive:
                    pass

        return await measured(produce, consume)

    return await lowest(COUNT, once)


async def through(bus: Bus, count: int, batch: int, policy: Any = "block") -> Figures:
    """Returns what the bus costs from publishing to the acknowledgement."""

    async def once() -> Figures:
        ready = messages(count)
        async with await bus.subscribe("market.>", policy=policy, pending_max=count) as subscription:

            async def produce() -> None:
                for start in range(0, count, batch):
                    if batch == 1:
                        one = ready[start]
                        await bus.publish(one.subject, one.event, one.message_id)
                    else:
                        await bus.publish_all(ready[start : start + batch])

            async def consume() -> None:
                for _ in range(count):
                    await (await subscription.receive()).ack()

            return await measured(produce, consume)

    return await lowest(count, once)


async def paced_us(
    publish: Callable[[int], Awaitable[object]], receive: Callable[[], Awaitable[object]]
) -> Figures:
    """Returns p50 and p99 of the time from publish to delivery, in microseconds, at a steady pace."""
    sent: list[float] = []
    took: list[float] = []

    async def produce() -> None:
        began = time.perf_counter()
        for number in range(PACED):
            wait_s = began + number / PACE_PER_S - time.perf_counter()
            if wait_s > 0:
                await anyio.sleep(wait_s)
            sent.append(time.perf_counter())
            await publish(number)

    async def consume() -> None:
        for number in range(PACED):
            await receive()
            took.append(time.perf_counter() - sent[number])

    await measured(produce, consume)
    cuts = quantiles(took, n=100)
    return cuts[49] * 1e6, cuts[98] * 1e6


async def paced_bus(bus: Bus) -> Figures:
    ready = messages(PACED)
    async with await bus.subscribe("market.>", pending_max=PACED) as subscription:

        async def publish(number: int) -> None:
            one = ready[number]
            await bus.publish(one.subject, one.event, one.message_id)

        async def receive() -> None:
            await (await subscription.receive()).ack()

        return await paced_us(publish, receive)


async def paced_stream() -> Figures:
    send, receive = anyio.create_memory_object_stream[Quote](PACED)
    async with send, receive:
        return await paced_us(lambda number: send.send(QUOTES[number]), receive.receive)


@asynccontextmanager
async def broker(program: str) -> AsyncGenerator[str]:
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [program, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


async def bare_nats(url: str) -> tuple[Figures, Figures, Figures]:
    """Returns one by one, batch by batch and at a steady pace, with nats-py alone."""
    import nats
    from nats.js.api import ConsumerConfig

    client = await nats.connect(url)
    streams = client.jetstream()
    await streams.add_stream(name="bare", subjects=["bare.>"])
    data = b"x" * 120

    async def once(batch: int) -> Figures:
        name = uuid.uuid4().hex
        await streams.add_consumer("bare", ConsumerConfig(durable_name=name, deliver_policy="new"))  # type: ignore[arg-type]
        pull = await streams.pull_subscribe_bind(name, "bare")

        async def produce() -> None:
            for _ in range(0, NATS_COUNT, batch):
                headers = [{"Nats-Msg-Id": uuid.uuid4().hex} for _ in range(batch)]
                if batch == 1:
                    await streams.publish("bare.x", data, headers=headers[0])
                else:
                    sent = [await streams.publish_async("bare.x", data, headers=each) for each in headers]
                    for future in sent:
                        await future

        async def consume() -> None:
            left = NATS_COUNT
            while left:
                for message in await pull.fetch(min(left, batch), timeout=10):
                    await message.ack()
                    left -= 1

        return await measured(produce, consume)

    single = await lowest(NATS_COUNT, lambda: once(1))
    batched = await lowest(NATS_COUNT, lambda: once(BATCH))
    # Pushed, not pulled: fetching one by one would fall behind, and measure its own backlog.
    pushed = await streams.subscribe("bare.>", config=ConsumerConfig(deliver_policy="new"), manual_ack=True)  # type: ignore[arg-type]

    async def receive() -> None:
        await (await pushed.next_msg(timeout=10)).ack()

    paced = await paced_us(
        lambda number: streams.publish("bare.x", data, headers={"Nats-Msg-Id": f"paced-{number}"}), receive
    )
    await client.close()
    return single, batched, paced


async def run() -> list[Case]:
    stream, stream_paced = await bare_stream(), await paced_stream()
    cases: list[Case] = []

    def add(what: str, ours: Figures, peer: Figures, name: str) -> None:
        cases.append(Case(f"{what}: CPU", ours[0], peer[0], name, "us/message"))
        cases.append(Case(f"{what}: wall", ours[1], peer[1], name, "us/message"))

    def add_paced(what: str, ours: Figures, peer: Figures, name: str) -> None:
        cases.append(Case(f"{what}: publish to delivery, p50", ours[0], peer[0], name, "us"))
        cases.append(Case(f"{what}: publish to delivery, p99", ours[1], peer[1], name, "us"))

    name = "anyio memory stream"
    memory = LocalBus()
    add("in memory, one by one", await through(memory, COUNT, 1), stream, name)
    add(f"in memory, {BATCH} at once", await through(memory, COUNT, BATCH), stream, name)
    add(
        f"in memory, {BATCH} at once, drop_oldest",
        await through(memory, COUNT, BATCH, "drop_oldest"),
        stream,
        name,
    )
    add_paced("in memory, 1,000/s", await paced_bus(memory), stream_paced, name)
    await memory.aclose()
    with tempfile.TemporaryDirectory() as folder:
        disk = LocalBus(Path(folder) / "bus.db", on_disk=FAMILIES)
        add(f"on disk, {BATCH} at once", await through(disk, COUNT, BATCH), stream, name)
        add_paced("on disk, 1,000/s", await paced_bus(disk), stream_paced, name)
        await disk.aclose()
    program = shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
    if program is None:
        print("nats-server is not installed: the broker's cases are left out (apt-get install nats-server)")
        return cases
    async with broker(program) as url:
        bus = await JetStreamBus.open(NatsSettings(url=url, connect_timeout_s=20))
        single, batched, paced = await bare_nats(url)
        name = "bare nats-py"
        add("over NATS, one by one", await through(bus, NATS_COUNT, 1), single, name)
        add(f"over NATS, {BATCH} at once", await through(bus, NATS_COUNT, BATCH), batched, name)
        add_paced("over NATS, 1,000/s", await paced_bus(bus), paced, name)
        await bus.aclose()
    return cases


def main() -> None:
    write_results("bus", anyio.run(run))


if __name__ == "__main__":
    main()
