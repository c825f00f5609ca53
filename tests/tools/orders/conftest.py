"""A whole desk on real parts: SQLite store, shipped policy, paper venue, real sample prices."""

import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from neural_trader_governance import principals
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.principals import Kind, Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, format_time
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.paper import PaperBroker
from neural_trader_tools.brokers.port import Broker
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.desk import SCHEMAS, Desk
from neural_trader_tools.orders.inbox import Inbox

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AGENT = Caller(principal="test", agent="agent-1")
PERSON = Caller(principal="approver", agent="")


@dataclass
class Floor:
    """Everything around one desk that a test may want to touch."""

    home: Path
    clock: SimulatedClock
    archive: Archive
    replay: ReplayClock
    store: Store
    policy: PolicyEngine
    key: SigningKey
    issuer: SigningKey
    broker: Broker
    agent: Caller = AGENT
    person: Caller = PERSON

    def desk(self, broker: Broker | None = None) -> Desk:
        """Another process's view of the same home."""
        return Desk(
            store=self.store,
            policy=self.policy,
            broker=broker or self.broker,
            archive=self.archive,
            replay=self.replay,
            clock=self.clock,
            issuer=self.issuer.verifying_key,
        )

    @property
    def inbox(self) -> Inbox:
        issuer = self.issuer.verifying_key
        return Inbox(self.store, self.policy, self.clock, issuer, self.desk().judge_signed)

    def enroll(self, name: str, *roles: Role, kind: Kind = "person", key: SigningKey | None = None) -> None:
        """Enrols somebody, or changes his roles; no roles retires him."""
        enroll(self.store, self.issuer, name, *roles, kind=kind, key=key)

    def entry_types(self) -> list[str]:
        """What the log holds, but for the enrolments that the floor began with."""
        with self.store.read() as connection:
            rows = connection.execute("SELECT type FROM audit_entries ORDER BY seq").fetchall()
        return [row[0] for row in rows if row[0] != "principal.enroll"]


def enroll(
    store: Store,
    issuer: SigningKey,
    name: str,
    *roles: Role,
    kind: Kind = "person",
    key: SigningKey | None = None,
) -> None:
    """Puts one signed enrolment in force."""
    with store.unit() as unit:
        document = principals.sign_enrolment(
            unit.connection,
            issuer,
            kind=kind,
            name=name,
            roles=frozenset(roles),
            time=NOW,
            vkey=None if key is None else key.vkey,
        )
        principals.enroll(unit, document, issuer=issuer.verifying_key, caller=PERSON)


@pytest.fixture
def make_floor(sample_archive_root: Path, tmp_path: Path) -> Generator[Callable[[datetime | None], Floor]]:
    """Builds a floor whose replay clock stands at a moment (the end of the sample by default)."""
    stores: list[Store] = []

    def make(replay_time: datetime | None = None) -> Floor:
        shutil.copytree(sample_archive_root, tmp_path / "archive")
        clock = SimulatedClock(NOW)
        archive = Archive(tmp_path / "archive", clock)
        replay = ReplayClock(archive)
        if replay_time is not None:
            replay.set(replay_time)
        store = Store.open(
            tmp_path / "desk.db",
            origin="neural-trader.test/desk",
            signer=SigningKey.generate("neural-trader.test/desk"),
            clock=clock,
            schemas=SCHEMAS,
        )
        stores.append(store)
        with store.unit() as unit:
            accounts.open_account(
                unit.connection,
                account="paper",
                cash=Decimal(100_000),
                currency="USD",
                opened_time=format_time(clock.now()),
            )
            accounts.permit_agent(unit.connection, account="paper", agent=AGENT.agent)
        broker = PaperBroker(tmp_path / "paper.db", archive, replay, clock)
        key, issuer = SigningKey.generate("approver"), SigningKey.generate("issuer")
        enroll(store, issuer, AGENT.principal, Role.TRADER)
        enroll(store, issuer, AGENT.agent, Role.TRADER, kind="agent")
        enroll(store, issuer, PERSON.principal, Role.APPROVER, key=key)
        return Floor(tmp_path, clock, archive, replay, store, PolicyEngine.load(), key, issuer, broker)

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def floor(make_floor: Callable[[datetime | None], Floor]) -> Floor:
    return make_floor(None)


@pytest.fixture
def intent() -> Callable[..., OrderIntent]:
    """Builds an intent of the test agent; AAPL, 2 shares, market, unless told otherwise."""

    def build(**fields: object) -> OrderIntent:
        base: dict[str, object] = {
            "symbol": "AAPL",
            "side": "buy",
            "quantity": "2",
            "agent": AGENT.agent,
            "reason": "a test of the desk",
        }
        return OrderIntent.model_validate({**base, **fields})

    return build
