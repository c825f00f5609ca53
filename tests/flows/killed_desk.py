"""The process that is killed: a desk over the Alpaca adapter, trading as fast as it may; and two wrong ones.

It is forked from a process that has imported everything and started no thread, so that a restart costs a
tenth of a second. What it says to whoever kills it goes through a pipe, a line each, written before the next
step: what was said outlives it.

    S in_doubt              it has reconciled, with so many orders in doubt when it began, and waits
    P preview_id            it is about to submit this
    A preview_id order_id   the desk acknowledged it
    R preview_id code       the desk refused it
    C order_id              the desk acknowledged its cancel
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread
from pydantic import SecretStr
from tests.tools.orders.conftest import NOW, enroll

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.principals import Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, WallClock, format_time
from neural_trader_governance.terms.orders import Order, OrderIntent
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import AlpacaTradingSettings
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts, commitments, previews
from neural_trader_tools.orders.desk import SCHEMAS, Desk, Submission
from neural_trader_tools.orders.following import Following
from neural_trader_tools.orders.hearing import Hearing
from neural_trader_tools.orders.order_ids import order_id_of, random_id

TRADERS = 4
SYMBOLS = ("AAPL", "GOOG")
STAND_IN = "IBM"
CASH = 500_000
START = "2012-06-04T22:00:00Z"
PACE = timedelta(minutes=3)
"""So much later does each restart happen, so that policy's rates bind no cycle."""
A_CYCLE = 100
"""Orders that one cycle can name: no two of a home have the same symbol, side and limit."""
ORIGIN = "neural-trader.test/desk"


@dataclass(frozen=True, slots=True)
class Home:
    """What outlives a kill: files, keys, and where the exchange is."""

    path: Path
    archive: Path
    key: SigningKey
    issuer: SigningKey
    policy: PolicyEngine
    url: str
    key_id: str
    secret: str
    prices: dict[str, Decimal]
    """At which the home began: what orders' limits are counted from."""

    @property
    def replay(self) -> ReplayClock:
        return ReplayClock(Archive(self.archive), self.path / "replay.db")

    def open(self, clock: "Late | SimulatedClock") -> Store:
        return Store.open(self.path / "desk.db", origin=ORIGIN, signer=self.key, clock=clock, schemas=SCHEMAS)

    def found(self) -> None:
        """Opens the account and enrols who trades."""
        with self.open(SimulatedClock(NOW)) as store:
            with store.unit() as unit:
                accounts.open_account(
                    unit.connection,
                    account="paper",
                    cash=Decimal(CASH),
                    currency="USD",
                    opened_time=format_time(NOW),
                )
                for trader in range(TRADERS):
                    accounts.permit_agent(unit.connection, account="paper", agent=f"agent-{trader}")
            enroll(store, self.issuer, "test", Role.TRADER)
            for trader in range(TRADERS):
                enroll(store, self.issuer, f"agent-{trader}", Role.TRADER, kind="agent")


class Late:
    """The machine's clock, some cycles later."""

    def __init__(self, cycle: int) -> None:
        self._later = cycle * PACE

    def now(self) -> datetime:
        return WallClock().now() + self._later


class RecordedLate(Desk):
    """Wrong: submits, then records; a preview is spent only when its order is recorded."""

    def _name(self, preview_id: str) -> str:
        return order_id_of(preview_id)

    async def _submit(self, preview_id: str, caller: Caller) -> Submission:
        def look() -> OrderIntent:
            with self.store.read() as connection:
                preview = previews.find_preview(connection, preview_id)
                preview.require_open(self.clock.now())
                return preview.intent

        intent = await anyio.to_thread.run_sync(look)
        name = self._name(preview_id)
        send = self.broker.submit if intent.replaces is None else self.broker.replace
        report = await send(name, intent)
        _, receipt = await anyio.to_thread.run_sync(self._commitments.order, preview_id, caller)
        await anyio.to_thread.run_sync(self._ledger.record_report, report, caller, False)
        return Submission(await self.order(name), receipt, ())


class NamedAnew(RecordedLate):
    """Wrong twice: each attempt at a preview is an order of another name, as where none is sent."""

    def _name(self, preview_id: str) -> str:
        name = random_id("nt")
        _NAMES[preview_id] = name
        return name


_NAMES: dict[str, str] = {}


def _named(preview_id: str) -> str:
    return _NAMES.get(preview_id) or order_id_of(preview_id)


DESKS: dict[str, type[Desk]] = {"": Desk, "recorded-late": RecordedLate, "named-anew": NamedAnew}


@dataclass(slots=True)
class Trading:
    """One life of the desk."""

    home: Home
    desk: Desk
    cycle: int
    said: int
    seed: int
    made: int = 0
    following: Following | None = None

    def say(self, *words: object) -> None:
        os.write(self.said, (" ".join(str(word) for word in words) + "\n").encode())

    async def live(self, go: int, again: Sequence[tuple[str, str]]) -> None:
        """Reconciles, waits to be told to go on, then retries what was not answered and trades on."""
        for symbol in SYMBOLS:  # read its prices once, as a server that runs has done long ago
            await anyio.to_thread.run_sync(self.desk.replay.quote, symbol)
        in_doubt = await anyio.to_thread.run_sync(self._in_doubt)
        await self.desk.reconcile(Caller("test", ""))
        self.say("S", in_doubt)
        await anyio.to_thread.run_sync(os.read, go, 1)
        async with anyio.create_task_group() as tasks:
            if self.following is not None:
                tasks.start_soon(self.following.keep)
                while self.following.problem:  # noqa: ASYNC110 - it tells files and people, not tasks
                    await anyio.sleep(0.01)
                self.say("H", self.following.connections)
            for trader in range(TRADERS):
                tasks.start_soon(
                    self._trade, trader, [each for each in again if each[1] == f"agent-{trader}"]
                )
        await anyio.sleep_forever()

    def _in_doubt(self) -> int:
        with self.desk.store.read() as connection:
            query = "SELECT COUNT(*) FROM orders WHERE state IN ('submitted', 'unknown')"
            return int(connection.execute(query).fetchone()[0])

    async def _trade(self, trader: int, again: Sequence[tuple[str, str]]) -> None:
        chance = random.Random(self.seed * TRADERS + trader)  # noqa: S311 - what to trade, not a secret
        caller = Caller("test", f"agent-{trader}")
        for preview_id, _ in again:
            await self._submit(preview_id, caller)
        resting: list[Order] = []
        while self.made < A_CYCLE:
            self.made += 1
            intent = self._intent(self.cycle * A_CYCLE + self.made, caller.agent, chance)
            if resting and chance.random() < 0.3:
                order = resting.pop(chance.randrange(len(resting)))
                if chance.random() < 0.5:
                    canceled = await self.desk.cancel(order.client_order_id, caller)
                    self.say("C", canceled.client_order_id)
                    continue
                same = {"symbol": order.intent.symbol, "side": order.intent.side}
                intent = intent.model_copy(update=same | {"replaces": order.client_order_id})
            try:
                preview = await self.desk.preview(intent, caller)
            except NeuralTraderError as error:
                self.say("R", "-", error.code)
                continue
            if preview.verdict.decision != "allow":
                self.say("R", preview.preview_id, preview.verdict.reasons[0].rule)
                continue
            order = await self._submit(preview.preview_id, caller)
            if order is not None and order.state == "accepted":
                resting.append(order)

    async def _submit(self, preview_id: str, caller: Caller) -> Order | None:
        self.say("P", preview_id, caller.agent)
        try:
            order = (await self.desk.submit(preview_id, caller)).order
        except NeuralTraderError as error:
            self.say("R", preview_id, error.code)
            return None
        self.say("A", preview_id, order.client_order_id)
        return order

    def _intent(self, number: int, agent: str, chance: random.Random) -> OrderIntent:
        """Returns the order of that number: some meet the market, some rest 4 to 8 % away from it."""
        symbol = chance.choice(SYMBOLS)
        side, quantity = ("sell", 1) if chance.random() < 0.35 else ("buy", chance.randint(1, 2))
        away = Decimal(number) / 100 - (self.home.prices[symbol] * Decimal("0.08") if number % 2 else 0)
        price = self.home.prices[symbol] + (away if side == "buy" else -away)
        return OrderIntent.model_validate(
            {
                "symbol": symbol,
                "side": side,
                "quantity": quantity,
                "type": "limit",
                "limit_price": price.quantize(Decimal("0.01")),
                "time_in_force": chance.choice(("day", "gtc")),
                "agent": agent,
                "reason": "kill test",
            }
        )


def live(
    home: Home, cycle: int, wrong: str, seed: int, said: int, go: int, again: Sequence[tuple[str, str]]
) -> None:
    """Is the desk until it is killed. Called in a fork.

    Args:
        home: What the lives before left.
        cycle: Which life this is.
        wrong: Of `DESKS`.
        seed: Of what is traded.
        said: Descriptor that lines are written to.
        go: Descriptor that is read once before trading.
        again: Previews, and their agents, whose submissions were not answered.
    """

    async def run() -> None:
        clock = Late(cycle)
        settings = AlpacaTradingSettings(
            url=home.url,
            key_id=SecretStr(home.key_id),
            secret_key=SecretStr(home.secret),
            stand_in_symbol=STAND_IN,
        )
        archive, broker = Archive(home.archive, clock), AlpacaBroker(settings, clock)
        desk = DESKS[wrong](
            store=home.open(clock),
            policy=home.policy,
            broker=broker,
            archive=archive,
            replay=ReplayClock(archive, home.path / "replay.db"),
            clock=clock,
            issuer=home.issuer.verifying_key,
        )
        if wrong == "named-anew":
            commitments.order_id_of = _named
        trading = Trading(home, desk, cycle, said, seed)
        if cycle % 2:  # news and answers race to book the same fills
            hearing = Hearing(home.path / "trade-updates.json", clock)
            trading.following = Following(desk, broker, hearing, Caller("test", ""))
        await trading.live(go, again)

    anyio.run(run)
