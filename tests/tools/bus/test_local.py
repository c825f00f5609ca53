"""The bus in this process: against a model, over a file that processes share, and with a killed publisher."""

import multiprocessing
import os
import signal
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.tools.bus.test_contract import quote, take

from neural_trader_governance.errors import StorageError
from neural_trader_tools.bus import events, subjects
from neural_trader_tools.bus.disk_log import DiskLog
from neural_trader_tools.bus.events import BacktestEvent
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.logs import Entry, MemoryLog
from neural_trader_tools.bus.port import Bounds, Delivery, Span, Subscription

SYMBOLS = ("AAPL", "BRK.B")
KEPT = 12


class Model(RuleBasedStateMachine):
    """What the bus should do, said in lists: one log, subscriptions with what they have to get yet."""

    portal: BlockingPortal

    def __init__(self) -> None:
        super().__init__()
        self.bus = LocalBus(bounds={"market": Bounds(KEPT, 2**20)}, publish_timeout_s=0.01)
        self.log: list[tuple[int, str, str]] = []
        self.last = 0
        self.open: list[tuple[Subscription, str | None, list[int]]] = []
        self.unsettled: list[tuple[int, Delivery]] = []

    def teardown(self) -> None:
        self.portal.call(self.bus.aclose)

    @rule(symbol=st.sampled_from(SYMBOLS), number=st.integers(0, 20))
    def publish(self, symbol: str, number: int) -> None:
        subject, message_id = subjects.market_tick("quote", symbol), f"{symbol}-{number}"
        known = next((seq for seq, _, each in self.log if each == message_id), None)
        full = any(
            (wanted in {None, symbol})
            and len(due) + sum(place == at for at, _ in self.unsettled) >= 4
            and subscription.report().policy == "block"
            for place, (subscription, wanted, due) in enumerate(self.open)
        )
        try:
            done = self.portal.call(self.bus.publish, subject, quote(number, symbol), message_id)
        except StorageError as error:
            if error.code != "bus_full" or not full:
                raise
            return
        assert not full
        assert (done.seq, done.duplicate) == ((known, True) if known else (self.last + 1, False))
        if known is None:
            self.last += 1
            self.log = [*self.log, (self.last, symbol, message_id)][-KEPT:]
            for _, wanted, due in self.open:
                if wanted in {None, symbol}:
                    due.append(self.last)

    @precondition(lambda self: len(self.open) < 3)
    @rule(symbol=st.sampled_from((None, *SYMBOLS)), back=st.integers(0, 3))
    def subscribe(self, symbol: str | None, back: int) -> None:
        symbol = None if back else symbol
        start = max(1, self.last + 1 - back)
        due = [seq for seq, each, _ in self.log if seq >= start and symbol in {None, each}]
        where = "market.>" if symbol is None else f"market.*.{subjects.escape(symbol)}"

        async def opened() -> Subscription:
            return await self.bus.subscribe(where, start=start, pending_max=4, ack_wait_s=3600)

        subscription = self.portal.call(opened)
        self.open.append((subscription, symbol, due))
        if due:  # it is held up, and holds up, once it has read what is stored
            self._receive(len(self.open) - 1)

    @precondition(lambda self: any(due for _, _, due in self.open))
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        ready = [
            place
            for place, (_, _, due) in enumerate(self.open)
            if due and sum(at == place for at, _ in self.unsettled) < 4
        ]
        if ready:
            self._receive(data.draw(st.sampled_from(ready)))

    def _receive(self, place: int) -> None:
        subscription, _, due = self.open[place]
        delivery = self.portal.call(subscription.receive)
        assert delivery.seq == due.pop(0)
        self.unsettled.append((place, delivery))

    @precondition(lambda self: bool(self.unsettled))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.unsettled) - 1))
        _, delivery = self.unsettled.pop(place)
        self.portal.call(delivery.ack)

    @precondition(lambda self: bool(self.unsettled))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.unsettled) - 1))
        at, delivery = self.unsettled.pop(place)
        self.portal.call(delivery.give_back)
        again = self.portal.call(self.open[at][0].receive)
        assert (again.seq, again.attempt) == (delivery.seq, delivery.attempt + 1)
        self.unsettled.append((at, again))

    @invariant()
    def the_log_is_what_the_model_kept(self) -> None:
        assert self.portal.call(self.bus.span, "market") == Span(self.last + 1 - len(self.log), self.last)
        for place, (subscription, _, _) in enumerate(self.open):
            assert subscription.report().unacknowledged == sum(at == place for at, _ in self.unsettled)


def test_the_bus_does_what_its_model_does() -> None:
    with start_blocking_portal() as portal:
        Model.portal = portal
        run_state_machine_as_test(Model, settings=settings(max_examples=20, stateful_step_count=25))


@pytest.mark.slow
def test_the_bus_does_what_its_model_does_for_longer() -> None:
    with start_blocking_portal() as portal:
        Model.portal = portal
        run_state_machine_as_test(Model, settings=settings(max_examples=400, stateful_step_count=60))


@pytest.fixture
def log(tmp_path: Path) -> DiskLog:
    return DiskLog(tmp_path / "bus.db", "audit", Bounds(10_000, 4_000))


def entry(number: int, size: int = 10) -> Entry:
    return Entry(subjects.AUDIT_ENTRY, f"id-{number}", b"x" * size)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_log_keeps_within_its_bytes_and_remembers_the_ids_of_what_it_keeps(
    kind: str, tmp_path: Path
) -> None:
    bounds = Bounds(10_000, 1_000)
    log = MemoryLog(bounds) if kind == "memory" else DiskLog(tmp_path / "bus.db", "audit", bounds)
    log.append([entry(number, 100) for number in range(5_000)])
    assert log.span() == Span(4_991, 5_000)
    assert [done.duplicate for done in log.append([entry(4_999, 100), entry(0, 100)])] == [True, False]
    found, upto = log.read(4_995, 100, lambda _: True)
    assert ([one.seq for one in found], upto) == ([4_996, 4_997, 4_998, 4_999, 5_000, 5_001], 5_001)
    log.append([entry(9_999, 5_000)])
    assert log.span() == Span(5_002, 5_002)  # the newest stays, however large
    log.close()


def test_a_file_that_is_none_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(StorageError, match="bus_log_failed"):
        LocalBus(path)


@pytest.mark.anyio
async def test_what_one_process_publishes_another_hears(tmp_path: Path) -> None:
    one, other = LocalBus(tmp_path / "bus.db"), LocalBus(tmp_path / "bus.db")
    async with await other.subscribe("backtest.>", pending_max=2) as subscription:
        for number in range(10):
            event = BacktestEvent("bt-1", "running", number / 10, number)
            await one.publish("backtest.progress.bt-1", event, f"bt-1-{number}")
            await other.publish("backtest.progress.bt-1", event, f"bt-1-{number}")  # a duplicate over there
        got = await take(subscription, 10)
        assert [one.seq for one in got] == list(range(1, 11))
        assert [one.event for one in got][3] == BacktestEvent("bt-1", "running", 0.3, 3)
    async with await other.subscribe("backtest.>") as subscription:
        for number in range(4):  # ours come after theirs, which nobody here has looked for yet
            event = BacktestEvent("bt-2", "running", number / 10, number)
            await (one, other)[number % 2].publish("backtest.progress.bt-2", event, f"bt-2-{number}")
        assert [each.message_id for each in await take(subscription, 4)] == [f"bt-2-{n}" for n in range(4)]
    await one.aclose()
    await other.aclose()


def publish_for_ever(path: Path, told: int) -> None:
    async def run() -> None:
        bus = LocalBus(path)
        number = 0
        while True:
            event = BacktestEvent("bt-1", "running", 0.5, number)
            done = await bus.publish("backtest.progress.bt-1", event, f"{os.getpid()}-{number}")
            os.write(told, b"%d %d-%d\n" % (done.seq, os.getpid(), number))
            number += 1

    anyio.run(run)


def acknowledged_before_the_kill(path: Path, enough: int) -> dict[int, str]:
    """Starts a publisher, kills it when it has acknowledged that much, and returns what it acknowledged."""
    told, tell = os.pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=publish_for_ever, args=(path, tell))
    process.start()
    os.close(tell)
    with os.fdopen(told) as lines:
        heard = [lines.readline() for _ in range(enough)]
        os.kill(process.pid or 0, signal.SIGKILL)
        heard += lines.readlines()
    process.join()
    return {
        int(seq): message_id for seq, message_id in (line.split() for line in heard if line.endswith("\n"))
    }


def check_kills(path: Path, kills: int, enough: int) -> int:
    acknowledged: dict[int, str] = {}
    for _ in range(kills):
        acknowledged |= acknowledged_before_the_kill(path, enough)
    log = DiskLog(path, "backtest", Bounds(10**6, 2**30))
    found, last = log.read(0, 10**6, lambda _: True)
    assert [one.seq for one in found] == list(range(1, last + 1))
    stored = {one.seq: one.message_id for one in found}
    assert stored.items() >= acknowledged.items()
    assert all(events.decode(one.data) for one in found)
    log.close()
    return len(acknowledged)


def test_a_killed_publisher_leaves_all_that_it_acknowledged(tmp_path: Path) -> None:
    assert check_kills(tmp_path / "bus.db", 2, 50) >= 100


@pytest.mark.slow
def test_publishers_killed_over_and_over_leave_all_that_they_acknowledged(tmp_path: Path) -> None:
    assert check_kills(tmp_path / "bus.db", 60, 400) >= 60 * 400


@pytest.mark.anyio
async def test_a_position_on_disk_outlives_the_process(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "bus.db")
    for number in range(6):
        event = BacktestEvent("bt-1", "running", 0.5, number)
        await bus.publish("backtest.progress.bt-1", event, str(number))
    async with await bus.subscribe("backtest.>", start=1, durable="books") as subscription:
        await take(subscription, 4)
    await bus.aclose()
    again = LocalBus(tmp_path / "bus.db")
    async with await again.subscribe("backtest.>", durable="books") as subscription:
        assert [one.seq for one in await take(subscription, 2)] == [5, 6]
    await again.aclose()


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    DiskLog(path, "audit", Bounds(10, 10_000)).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_other_threads_publish_through_the_loop() -> None:
    bus = LocalBus()

    def work(number: int) -> None:
        for each in range(20):
            message_id = f"{number}-{each}"
            anyio.from_thread.run(bus.publish, "market.quote.AAPL", quote(each), message_id)

    async with (
        anyio.create_task_group() as tasks,
        await bus.subscribe("market.>", pending_max=3) as subscription,
    ):
        for number in range(4):
            tasks.start_soon(anyio.to_thread.run_sync, work, number)
        assert [one.seq for one in await take(subscription, 80)] == list(range(1, 81))
