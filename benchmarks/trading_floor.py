"""A desk with everything around it, for benchmarks: shipped policy, signed log, real prices, our exchange."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from neural_trader_governance import principals
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.principals import Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, format_time
from neural_trader_tools.brokers.port import Broker
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.desk import SCHEMAS, Desk

NOW = datetime(2012, 6, 5, 13, 30, tzinfo=UTC)
"""A session begins; the newest daily close is the day before's."""
ORIGIN = "bench/desk"


@dataclass(slots=True)
class Floor:
    """One store and what is around it."""

    place: Path
    clock: SimulatedClock
    archive: Archive
    replay: ReplayClock
    store: Store
    key: SigningKey
    issuer: SigningKey
    policy: PolicyEngine

    def desk(self, broker: Broker) -> Desk:
        """Returns the desk of a venue."""
        return Desk(
            store=self.store,
            policy=self.policy,
            broker=broker,
            archive=self.archive,
            replay=self.replay,
            clock=self.clock,
            issuer=self.issuer.verifying_key,
        )

    def enroll(self, name: str, kind: principals.Kind = "agent") -> Caller:
        """Enrols a trader."""
        with self.store.unit() as unit:
            document = principals.sign_enrolment(
                unit.connection,
                self.issuer,
                kind=kind,
                name=name,
                roles=frozenset({Role.TRADER}),
                time=self.clock.now(),
            )
            caller = Caller("bench", "")
            principals.enroll(unit, document, issuer=self.issuer.verifying_key, caller=caller)
        return Caller("bench", name)

    def open_account(self, name: str, cash: int, agents: list[str]) -> None:
        """Opens an account that these agents may trade."""
        with self.store.unit() as unit:
            accounts.open_account(
                unit.connection,
                account=name,
                cash=Decimal(cash),
                currency="USD",
                opened_time=format_time(self.clock.now()),
            )
            for agent in agents:
                accounts.permit_agent(unit.connection, account=name, agent=agent)


def open_floor(place: Path) -> Floor:
    """Makes everything in a folder; the sample prices, too."""
    clock = SimulatedClock(NOW)
    archive = Archive(place / "archive", clock)
    fetch_sample(archive)
    replay = ReplayClock(archive)
    replay.set(NOW)
    key, issuer = SigningKey.generate(ORIGIN), SigningKey.generate("issuer")
    store = Store.open(place / "desk.db", origin=ORIGIN, signer=key, clock=clock, schemas=SCHEMAS)
    floor = Floor(place, clock, archive, replay, store, key, issuer, PolicyEngine.load())
    floor.enroll("bench", "person")
    return floor
