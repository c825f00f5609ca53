"""Committed entries, orders and runs on the bus: copies, after the fact, in nobody's way."""

import json
import sqlite3
from collections.abc import Callable, Generator
from typing import Any

import anyio
import orjson
import pytest
import structlog.testing

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.bus_services import make_bus, open_bus
from neural_trader_server.home import Home
from neural_trader_server.publishing import Publishing
from neural_trader_server.settings import Settings
from neural_trader_tools.backtest.ledger import BacktestRecord
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.bus.events import AuditEvent, BacktestEvent, OrderEvent
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.port import Bus, Delivery

pytestmark = pytest.mark.anyio


@pytest.fixture
def services(home: Home) -> Generator[Services]:
    own = Services(home, Settings(), WallClock())
    yield own
    own.close()


def publishing(services: Services, bus: Callable[[], Bus | None] = lambda: None) -> Publishing:
    async def none(run_id: str) -> BacktestRecord:
        raise AssertionError(run_id)

    return Publishing(services.store, bus, list, none)


async def stored(bus: Bus, subject_filter: str) -> list[Delivery]:
    family = subject_filter.split(".")[0]
    last = (await bus.span(family)).last
    async with await bus.subscribe(subject_filter, start=1, policy="drop_oldest") as subscription:
        return [await subscription.receive() for _ in range(last)]


def fill(services: Services, order_id: str, state: str) -> None:
    services.record(
        services.person,
        EntryType.BROKER_ACK,
        account="paper",
        symbol="BRK.B",
        client_order_id=order_id,
        payload={"state": state},
    )


async def test_every_entry_is_published_once_as_it_was_signed(services: Services) -> None:
    bus, first = LocalBus(), publishing(services)
    count = await first.publish(bus)
    assert count == services.store.head().size > 0
    fill(services, "o-1", "accepted")
    assert await first.publish(bus) == 1
    assert await publishing(services).publish(bus) == 0  # another server goes on where the bus's copy ends
    entries = await stored(bus, "audit.>")
    with sqlite3.connect(services.home.desk_db) as truth:
        rows = truth.execute("SELECT seq, entry, leaf_hash FROM audit_entries ORDER BY seq").fetchall()
    truth.close()
    said = [one.event for one in entries]
    assert [(event.audit_seq, event.entry.encode()) for event in said if isinstance(event, AuditEvent)] == [
        (seq, entry) for seq, entry, _ in rows
    ]
    for event in said:
        assert isinstance(event, AuditEvent)
        assert merkle.leaf_hash(event.entry.encode()).hex() == event.leaf_hash


async def test_two_servers_of_one_home_publish_an_entry_once(services: Services) -> None:
    bus, one, other = LocalBus(), publishing(services), publishing(services)
    await one.publish(bus)
    await other.publish(bus)
    fill(services, "o-1", "accepted")
    await one.publish(bus)
    await other.publish(bus)
    assert (await bus.span("audit")).last == services.store.head().size
    assert (await bus.span("order")).last == 1


async def test_what_happens_to_an_order_is_told_under_its_symbol_and_id(services: Services) -> None:
    bus = LocalBus()
    fill(services, "o-1", "accepted")
    await publishing(services).publish(bus)
    [told] = await stored(bus, "order.>")
    assert told.subject == "order.BRK%2EB.o-1"
    assert isinstance(told.event, OrderEvent)
    event = told.event
    assert (event.what, event.state, event.account, event.symbol) == (
        "broker.ack",
        "accepted",
        "paper",
        "BRK.B",
    )
    assert event.audit_seq == services.store.head().size - 1


async def test_a_bus_of_a_longer_log_begins_anew(services: Services) -> None:
    bus = LocalBus()
    foreign = AuditEvent(10_000, "order.intent", "0" * 64, "{}", 1)
    await bus.publish("audit.entry", foreign, "of-another-home")
    assert await publishing(services).publish(bus) == services.store.head().size


async def test_a_bus_that_is_away_is_logged_and_the_log_goes_on(services: Services) -> None:
    tries: list[int] = []

    def broken() -> Bus:
        tries.append(1)
        raise NetworkError("bus_unreachable", "nobody answers", "start it") if len(tries) < 3 else KeyError

    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            one = publishing(services, broken)

            async def keep() -> None:
                await one.keep_publishing(every_s=0.01)

            tasks.start_soon(keep)
            while len(tries) < 4:
                fill(services, f"o-{len(tries)}", "accepted")  # committed whatever the bus does
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
    assert [each["event"] for each in logs if each["log_level"] == "warning"] == ["bus_waits"]


async def test_runs_are_told_as_far_as_they_are_and_how_they_end(services: Services) -> None:
    request = BacktestRequest.model_construct()
    now = WallClock().now()
    run = BacktestRecord.model_construct(
        run_id="bt-1", request=request, agent="a", created_time=now, state="queued", progress=0.0,
        finished_time=None,
    )  # fmt: skip
    open_runs = [run]

    async def ended(run_id: str) -> BacktestRecord:
        assert run_id == "bt-1"
        return run.model_copy(update={"state": "completed", "progress": 1.0, "finished_time": now})

    bus = LocalBus()
    one = Publishing(services.store, lambda: bus, lambda: open_runs, ended)
    await one.publish(bus)
    await one.publish(bus)
    open_runs = [run.model_copy(update={"state": "running", "progress": 0.5})]
    await one.publish(bus)
    open_runs = []
    await one.publish(bus)
    await one.publish(bus)
    told = [one.event for one in await stored(bus, "backtest.>")]
    assert [(event.state, event.fraction) for event in told if isinstance(event, BacktestEvent)] == [
        ("queued", 0.0),
        ("running", 0.5),
        ("completed", 1.0),
    ]


async def test_a_server_publishes_and_another_process_hears(
    home: Home, command: Any, services: Services
) -> None:
    from neural_trader_server.listening import running

    async with running(services):
        bus = await open_bus(home, services.settings)
        async with await bus.subscribe("audit.entry", start=1) as subscription:
            with anyio.fail_after(30):
                first = await subscription.receive()
        await bus.aclose()
    assert first.seq == 1
    told = await anyio.to_thread.run_sync(
        lambda: command("bus", "tail", "audit.entry", "--from-seq", "1", "-n", "2", "--json")
    )
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(line["seq"], line["event"]["audit_seq"]) for line in lines] == [(1, 0), (2, 1)]
    assert orjson.loads(lines[0]["event"]["entry"])["seq"] == 0
    await services.aclose()


def test_tail_and_status_show_what_is_kept(home: Home, here: Any) -> None:
    async def fill_bus() -> None:
        bus = LocalBus(home.bus_db)
        event = OrderEvent("o-1", "AAPL", "paper", "agent-1", "broker.fill", "\x1b[2Jfilled", 7, 1)
        await bus.publish("order.AAPL.o-1", event, "one")
        await bus.aclose()

    anyio.run(fill_bus)
    shown = here("bus", "tail", "order.AAPL.*", "--from-seq", "1", "-n", "1")
    assert shown.returncode == 0
    assert "order.AAPL.o-1" in shown.stdout
    assert "what=broker.fill" in shown.stdout
    assert "\x1b[2J" not in shown.stdout
    kept = json.loads(here("bus", "status", "--json").stdout)
    assert kept["bus"] == "local"
    assert {"family": "order", "first": 1, "last": 1, "kept": 1} in kept["families"]


@pytest.mark.parametrize(
    ("words", "environment", "code"),
    [
        (("bus", "tail", "orders.>"), {}, "invalid_filter"),
        (("bus", "status"), {"NEURAL_TRADER_BUS": "off"}, "bus_off"),
        (
            ("bus", "status"),
            {"NEURAL_TRADER_BUS": "nats", "NEURAL_TRADER_BUS_URL": "nats://127.0.0.1:9"},
            "bus_unreachable",
        ),
        (
            ("bus", "status"),
            {"NEURAL_TRADER_BUS": "nats", "NEURAL_TRADER_BUS_URL": "nats://example.com"},
            "invalid_setting",
        ),
    ],
)
def test_a_bus_that_cannot_be_used_says_what_to_do(
    home: Home, here: Any, words: tuple[str, ...], environment: dict[str, str], code: str
) -> None:
    ended = here(*words, **environment)
    assert ended.returncode == 1
    assert ended.stderr.startswith(code)


def test_a_password_is_redacted_and_a_missing_package_named(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(bus="nats", bus_user="desk", bus_password="a-secret-of-the-broker")  # pyright: ignore[reportArgumentType]
    assert "a-secret-of-the-broker" in settings.secrets()

    def find_nothing(_: str) -> None: ...

    monkeypatch.setattr("importlib.util.find_spec", find_nothing)
    with pytest.raises(ConfigurationError, match=r"nats_missing.*neural-trader\[nats\]"):
        make_bus(home, settings)


def test_an_entry_of_the_largest_size_fits_the_bus() -> None:
    from neural_trader_tools.bus.events import decode, encode

    payload = {"text": "é\x00" * 5_000}
    text = AuditEntry(type=EntryType.DATA_IMPORT, principal="p", payload=payload).model_dump_json()  # type: ignore[arg-type]
    event = AuditEvent(1, "data.import", "0" * 64, text, 1)
    assert decode(encode(event)) == event
    worst = AuditEvent(1, "data.import", "0" * 64, '"' * 65_535, 1)
    assert decode(encode(worst)) == worst
