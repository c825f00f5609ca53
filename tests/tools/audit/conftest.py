"""A small log on a real disk: one order's life, a halt, and a memory."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

START = datetime(2013, 3, 1, 15, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    clock = SimulatedClock(START)
    signer = SigningKey.generate("desk.example/log")
    bot, other = Caller("alice", "bot"), Caller("alice", "other")
    intent = {"side": "buy", "quantity": "100", "symbol": "AAPL", "type": "market"}
    entries = [
        AuditEntry.by(bot, EntryType.ORDER_INTENT, symbol="AAPL", payload={"intent": intent}),
        AuditEntry.by(
            bot, EntryType.POLICY_DECISION, symbol="AAPL", payload={"decision": "deny", "rules": ["halted"]}
        ),
        AuditEntry.by(bot, EntryType.BROKER_FILL, symbol="AAPL", payload={"quantity": "100", "price": "40"}),
        AuditEntry.by(other, EntryType.BROKER_FILL, symbol="MSFT", payload={"quantity": "1"}),
        AuditEntry.by(other, EntryType.KILL, payload={"scope": "all", "reason": "x" * 400}),
    ]
    with Store.open(tmp_path / "desk.db", origin="desk.example/log", signer=signer, clock=clock) as opened:
        for entry in entries:
            with opened.unit() as unit:
                unit.append(entry)
            clock.advance(timedelta(minutes=1))
        yield opened
