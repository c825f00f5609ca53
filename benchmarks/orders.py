"""What governance costs an order that goes to a venue: the desk, beside the same adapter without it.

Ours is the desk: preview, policy on fresh facts twice, reservation and signed log durable before the venue
hears of it, the venue's answer booked. The peer is the same adapter asked directly, which is all that a
client library does. Both trade at `neural-trader exchange serve`, a process of its own on loopback that
keeps each order on the disk before it answers, in turns, so that load meets both alike. The desk's clock
moves between orders, so that policy's rates are counted and never bind.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import anyio
from pydantic import SecretStr
from results import Case, write_results
from trading_floor import NOW, Floor, open_floor

from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import WallClock, format_time
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.order_ids import random_id

ROUNDS = 300
WARM = 20
CASH = 10_000_000
TURN_S = 3.0
TURNS = 3
CLIENTS = (1, 8)
PEER = "the adapter alone"
APART = timedelta(seconds=31)
"""From one order of an agent to the next: 20 of a kind in 10 minutes are allowed."""


@contextmanager
def served(place: Path, archive: Path) -> Generator[dict[str, Any]]:
    """Runs our exchange over the archive's prices, its time standing still."""
    (place / "exchange").mkdir()
    (place / "exchange" / "archive").symlink_to(archive)
    words = ["exchange", "serve", "--port", "0", "--every-s", "0", "--json", "--start", format_time(NOW)]
    words += ["--symbol", "MSFT", "--symbol", "IBM", "--calendar", "24/7", "--fill-at-last"]
    words += ["--cash", str(CASH), "--per-minute", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "neural_trader_server", *words],
        env={**os.environ, "NEURAL_TRADER_HOME": str(place / "exchange")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


class Both:
    """The desk and the adapter alone, at one exchange.

    Attributes:
        submitted_ms: Of the desk's orders, the time from `submit` to the answer.
    """

    def __init__(self, floor: Floor, desk: Desk, alone: AlpacaBroker, agents: list[Caller]) -> None:
        self.floor, self.desk, self.alone, self.agents = floor, desk, alone, agents
        self.submitted_ms: list[float] = []

    def intent(self, agent: str, *, rests: bool) -> OrderIntent:
        """Returns an order for one share that fills at once, or rests 8 % below the market."""
        terms: dict[str, object] = {"type": "limit", "limit_price": "26.30"} if rests else {"type": "market"}
        given = {"symbol": "MSFT", "side": "buy", "quantity": "1", "agent": agent, "reason": "benchmark"}
        return OrderIntent.model_validate(given | terms)

    async def ours(self, *, rests: bool, number: int = 0) -> None:
        """Previews, submits and hears the answer."""
        self.floor.clock.advance(APART)
        caller = self.agents[number]
        preview = await self.desk.preview(self.intent(caller.agent, rests=rests), caller)
        assert preview.verdict.decision == "allow", preview.verdict
        start = time.perf_counter()
        done = await self.desk.submit(preview.preview_id, caller)
        self.submitted_ms.append((time.perf_counter() - start) * 1e3)
        assert done.order.state == ("accepted" if rests else "filled"), done.order

    async def theirs(self, *, rests: bool, number: int = 0) -> None:
        """Submits and hears the answer."""
        report = await self.alone.submit(random_id("pe"), self.intent(self.agents[number].agent, rests=rests))
        assert report.state == ("accepted" if rests else "filled"), report


async def alternate(*actions: Callable[[], Awaitable[None]]) -> tuple[list[list[float]], list[float]]:
    """Returns the wall times of all, taken in turns, and the median CPU time of each; in milliseconds."""
    samples: list[list[float]] = [[] for _ in actions]
    spent: list[list[float]] = [[] for _ in actions]
    for _ in range(ROUNDS + WARM):
        for action, times, worked in zip(actions, samples, spent, strict=True):
            start, start_cpu = time.perf_counter(), time.process_time()
            await action()
            times.append((time.perf_counter() - start) * 1e3)
            worked.append((time.process_time() - start_cpu) * 1e3)
    return [times[WARM:] for times in samples], [median(worked[WARM:]) for worked in spent]


def cases(name: str, ours: list[float], peer: list[float]) -> list[Case]:
    """Returns three percentiles of both as cases."""
    cuts = [quantiles(times, n=100) for times in (ours, peer)]
    return [
        Case(f"{name}, p{rank}", cuts[0][rank - 1], cuts[1][rank - 1], PEER, "ms") for rank in (50, 95, 99)
    ]


async def latencies(both: Both) -> list[Case]:
    """Times an order that rests, and one that is filled at once, its fill booked."""
    found: list[Case] = []
    for name, rests in (("rests", True), ("filled", False)):
        both.submitted_ms.clear()
        (ours, peer), cpu = await alternate(
            functools.partial(both.ours, rests=rests), functools.partial(both.theirs, rests=rests)
        )
        found += cases(f"{name}: preview, submit, ack", ours, peer)
        found += cases(f"{name}: submit, ack", both.submitted_ms[WARM:], peer)
        found.append(Case(f"{name}: preview, submit, ack, CPU p50", cpu[0], cpu[1], PEER, "ms"))
    return found


async def throughput(both: Both) -> list[Case]:
    """Times orders of several clients at once; the best of some turns, in turns."""

    async def per_s(clients: int, action: Callable[..., Awaitable[None]]) -> float:
        done = 0
        end = time.perf_counter() + TURN_S

        async def client(number: int) -> None:
            nonlocal done
            while time.perf_counter() < end:
                await action(rests=False, number=number)
                done += 1

        start = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(clients):
                tasks.start_soon(client, number)
        return done / (time.perf_counter() - start)

    found: list[Case] = []
    for clients in CLIENTS:
        ours = peer = 0.0
        for _ in range(TURNS):
            ours, peer = (
                max(ours, await per_s(clients, both.ours)),
                max(peer, await per_s(clients, both.theirs)),
            )
        name = f"{clients} at once ({ours:,.0f} orders/s, {peer:,.0f}), each"
        found.append(Case(name, 1e3 / ours, 1e3 / peer, PEER, "ms"))
    return found


async def measure(floor: Floor, there: dict[str, Any]) -> list[Case]:
    settings = AlpacaTradingSettings(
        url=there["url"],
        key_id=SecretStr(there["key_id"]),
        secret_key=SecretStr(there["secret_key"]),
        stand_in_symbol="IBM",
    )
    agents = [floor.enroll(f"agent-{number}") for number in range(max(CLIENTS))]
    floor.open_account("paper", CASH, [each.agent for each in agents])
    brokers = [AlpacaBroker(settings, WallClock()) for _ in range(2)]
    both = Both(floor, floor.desk(brokers[0]), brokers[1], agents)
    try:
        return [*await latencies(both), *await throughput(both)]
    finally:
        for broker in brokers:
            await broker.aclose()


def main() -> None:
    load = os.getloadavg()[0]
    # Beside the results, not in /tmp: that may be memory, where a sync costs nothing.
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        place = Path(folder)
        floor = open_floor(place)
        with served(place, floor.archive.root) as there:
            found = anyio.run(measure, floor, there)
        floor.store.close()
    write_results("orders", found)
    print(f"load average at the start {load:.1f}")


if __name__ == "__main__":
    main()
