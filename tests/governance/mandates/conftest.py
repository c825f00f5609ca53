"""An office that issues mandates on a real store, and a plain order that asks about them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from neural_trader_governance import mandates
from neural_trader_governance.identity import Caller
from neural_trader_governance.mandate_register import Mandate, issue
from neural_trader_governance.mandates import MandateStanding
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.store import Store

NOW = datetime(2013, 3, 1, 15, tzinfo=UTC)
AGENT = "research-bot"
PERSON = Caller("alice", "")
FIELDS: dict[str, Any] = {
    "mandate_id": "mn_0123456789ab",
    "agent": AGENT,
    "account": "paper",
    "symbols": ("AAPL", "BRK.B"),
    "sides": ("buy",),
    "per_order_cap_cents": 100_000,
    "cumulative_cap_cents": 250_000,
    "period": "day",
    "not_before": datetime(2013, 3, 1, tzinfo=UTC),
    "expires": datetime(2013, 3, 31, tzinfo=UTC),
    "nonce": "0123456789abcdef0123456789abcdef",
}
ORDER: dict[str, Any] = {
    "agent": AGENT,
    "account": "paper",
    "symbol": "AAPL",
    "side": "buy",
    "notional_cents": 100_000,
    "now": NOW,
}


@dataclass
class Office:
    """Issues and asks: every call takes the plain mandate or order with the changes that it names."""

    store: Store
    key: SigningKey
    person: Caller = PERSON
    agent: str = AGENT
    now: datetime = NOW

    @property
    def pinned(self) -> VerifyingKey:
        return self.key.verifying_key

    def signed(self, key: SigningKey | None = None, **changes: Any) -> Mandate:
        return Mandate.model_validate({**FIELDS, **changes}).signed_by(key or self.key)

    def issue(self, **changes: Any) -> Mandate:
        mandate = self.signed(**changes)
        with self.store.unit() as unit:
            issue(unit, mandate, issuer=self.pinned, caller=self.person, now=NOW)
        return mandate

    def ask(self, **changes: Any) -> MandateStanding:
        with self.store.read() as connection:
            return mandates.assess(connection, issuer=self.pinned, **{**ORDER, **changes})

    def submit(self, client_order_id: str, **changes: Any) -> MandateStanding:
        """Assesses and, where a mandate covers it, charges an order in one transaction."""
        order = {**ORDER, **changes}
        with self.store.unit() as unit:
            standing = mandates.assess(unit.connection, issuer=self.pinned, **order)
            if standing.mandate_id is not None:
                mandates.spend(
                    unit.connection,
                    standing.mandate_id,
                    issuer=self.pinned,
                    client_order_id=client_order_id,
                    cents=order["notional_cents"],
                    now=order["now"],
                )
        return standing


@pytest.fixture(scope="session")
def issuer() -> SigningKey:
    return SigningKey.generate("desk.example/issuer")


@pytest.fixture
def office(store: Store, issuer: SigningKey) -> Office:
    return Office(store, issuer)


@pytest.fixture
def open_office(open_store: Callable[..., Store], issuer: SigningKey) -> Callable[[], Office]:
    """Opens the same home again, as a process that starts does."""
    return lambda: Office(open_store(), issuer)
