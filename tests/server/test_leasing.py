"""Leases at the server: whoever sends a message is there, and is written down only when it matters."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from neural_trader_governance import leases
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_server.leasing import Leasing

pytestmark = pytest.mark.anyio
AGENT, PERSON = Caller("alice", "agent-1"), Caller("alice", "")
NOW = datetime(2013, 3, 1, 15, tzinfo=UTC)


def _open(tmp_path: Path, clock: SimulatedClock) -> Store:
    return Store.open(tmp_path / "desk.db", origin="d.t/l", signer=SigningKey.generate("d.t/l"), clock=clock)


def _expiry(store: Store, agent: str = "agent-1") -> datetime | None:
    with store.read() as connection:
        lease = leases.read(connection, agent)
    return None if lease is None else lease.expires_time


async def test_a_call_renews_once_half_of_the_lease_is_gone(tmp_path: Path) -> None:
    clock = SimulatedClock(NOW)
    with _open(tmp_path, clock) as store:
        leasing = Leasing(store, clock, 300, lambda: AGENT)
        await leasing.renew()
        assert _expiry(store) == NOW + timedelta(seconds=300)
        clock.advance(timedelta(seconds=150))
        await leasing.renew()
        assert _expiry(store) == NOW + timedelta(seconds=300), "not worth a write yet"
        clock.advance(timedelta(seconds=1))
        await leasing.renew()
        assert _expiry(store) == NOW + timedelta(seconds=451)
        clock.advance(timedelta(hours=1))
        await leasing.renew()
        with store.read() as connection:
            assert not leases.is_lost(connection, "agent-1", now=clock.now()), "it came back"


async def test_people_and_a_lease_of_no_length_leave_no_row(tmp_path: Path) -> None:
    clock = SimulatedClock(NOW)
    with _open(tmp_path, clock) as store:
        await Leasing(store, clock, 300, lambda: PERSON).renew()
        await Leasing(store, clock, 0, lambda: AGENT).renew()
        await Leasing(store, clock, 0, lambda: AGENT).keep(AGENT)
        assert _expiry(store) is None
        with store.read() as connection:
            assert not leases.is_lost(connection, "agent-1", now=clock.now()), "who never had one is free"


async def test_a_connection_keeps_the_lease_while_it_lasts(tmp_path: Path) -> None:
    clock = SimulatedClock(NOW)
    with _open(tmp_path, clock) as store:
        leasing = Leasing(store, clock, 0.03, lambda: PERSON)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leasing.keep, AGENT)
            with anyio.fail_after(20):
                while _expiry(store) is None:
                    await anyio.lowlevel.checkpoint()
                clock.advance(timedelta(seconds=60))
                while _expiry(store) != clock.now() + timedelta(seconds=0.03):
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


async def test_a_store_that_cannot_be_written_breaks_no_call(tmp_path: Path) -> None:
    clock = SimulatedClock(NOW)
    store = _open(tmp_path, clock)
    store.close()
    await Leasing(store, clock, 300, lambda: AGENT).renew()
