"""Shared by the tests of governance: a key, a clock, and stores on a real disk."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

ORIGIN = "desk.example/log"


@pytest.fixture
def signer() -> SigningKey:
    return SigningKey.generate(ORIGIN)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime(2013, 3, 1, 15, tzinfo=UTC))


@pytest.fixture
def caller() -> Caller:
    return Caller("alice", "research-bot")


@pytest.fixture
def open_store(tmp_path: Path, signer: SigningKey, clock: SimulatedClock) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_one(**overrides: Any) -> Store:
        arguments: dict[str, Any] = {"origin": ORIGIN, "signer": signer, "clock": clock, **overrides}
        store = Store.open(arguments.pop("path", tmp_path / "desk.db"), **arguments)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()


@pytest.fixture
def record(caller: Caller) -> Callable[..., int]:
    """Appends entries, each in its own unit, and returns the last seq."""

    def append(store: Store, count: int = 1, symbol: str = "AAPL", **payload: Any) -> int:
        seq = -1
        for number in range(count):
            with store.unit() as unit:
                entry = AuditEntry.by(
                    caller, EntryType.ORDER_INTENT, symbol=symbol, payload={"number": number, **payload}
                )
                seq = unit.append(entry)
        return seq

    return append


@pytest.fixture(scope="session")
def engine() -> PolicyEngine:
    return PolicyEngine.load()


@pytest.fixture
def facts() -> dict[str, Any]:
    """A plain purchase: 100 shares at 40 USD in a fresh paper account of 100,000 USD."""
    return {
        "action_mode": "paper",
        "live_enabled": False,
        "halted": False,
        "halt_scope": "",
        "principal": "alice",
        "principal_may_trade": True,
        "agent": "research-bot",
        "agent_may_trade": True,
        "mandate_required": False,
        "mandate_covers": True,
        "mandate_note": "",
        "account": "paper",
        "symbol": "AAPL",
        "side": "buy",
        "order_type": "market",
        "time_in_force": "day",
        "tradable": True,
        "restricted": False,
        "quantity_micros": 100_000_000,
        "notional_cents": 400_000,
        "volume_share_bps": 0,
        "reference_move_bps": 0,
        "limit_deviation_bps": 0,
        "position_after_cents": 400_000,
        "gross_after_cents": 400_000,
        "desk_gross_after_cents": 400_000,
        "short_after": False,
        "equity_cents": 10_000_000,
        "buying_power_cents": 10_000_000,
        "required_cash_cents": 400_100,
        "day_pnl_cents": 0,
        "desk_equity_cents": 10_000_000,
        "desk_day_pnl_cents": 0,
        "agent_sent_today_cents": 400_000,
        "account_sent_today_cents": 400_000,
        "messages_last_minute": 1,
        "desk_messages_last_minute": 1,
        "duplicates_last_10_s": 0,
        "repeats_last_10_min": 0,
        "throttled": False,
        "lease_lost": False,
        "reconciliation_breaks": 0,
        "session_open": True,
        "session_note": "",
        "quote_known": True,
        "quote_age_s": 86_400,
        "tainted": False,
        "taint_note": "",
        "overrides": (),
        "approvals": 0,
        "approvals_independent": 0,
        "witness_required": False,
        "witness_consistent": True,
        "witness_age_s": 0,
    }
