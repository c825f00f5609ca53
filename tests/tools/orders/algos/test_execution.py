"""Parents on a whole desk: children pass policy, survive crashes and two processes, and can be stopped."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import anyio
import pytest
from tests.tools.orders.conftest import AGENT, PERSON, Floor

from neural_trader_governance import halts
from neural_trader_governance.errors import DataError, InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store, Unit
from neural_trader_tools.orders.algos.execution import Execution
from neural_trader_tools.orders.algos.parents import Child, Parent, ParentState
from neural_trader_tools.orders.algos.plan import Leg, Plan
from neural_trader_tools.orders.algos.request import Request
from neural_trader_tools.orders.algos.shortfall import measure_parent
from neural_trader_tools.orders.desk import Desk, Submission
from neural_trader_tools.orders.export import read_tables
from neural_trader_tools.orders.measuring import measure_orders

MONDAY = datetime(2012, 6, 4, 20, 0, tzinfo=UTC)
MakeFloor = Callable[[datetime | None], Floor]


class DiedError(Exception):
    """What ends a process between two of its writes."""


class DyingDesk(Desk):
    """A desk whose process is killed just before, or just after, an order is sent."""

    before = False

    async def submit(self, preview_id: str, caller: Caller) -> Submission:
        if not self.before:
            await Desk.submit(self, preview_id, caller)
        raise DiedError


def execution(floor: Floor, desk: Desk | None = None) -> Execution:
    return Execution(floor.store, desk or floor.desk(), floor.archive, floor.replay, floor.clock)


def dying(floor: Floor, *, before: bool) -> Desk:
    whole = floor.desk()
    names = ("store", "policy", "broker", "archive", "replay", "clock", "issuer")
    desk = DyingDesk(**{name: getattr(whole, name) for name in names})
    desk.before = before
    return desk


def request(*legs: Leg, **fields: Any) -> Request:
    days = fields.pop("days", 4)
    plan = {"algorithm": "twap", "start": MONDAY, "end": MONDAY + timedelta(days=days), "slices": 4}
    legs = legs or (Leg(symbol="MSFT", side="buy", quantity=Decimal(100)),)
    return Request("paper", legs, Plan.model_validate({**plan, **fields}), "a test of parents", "trend")


def start(floor: Floor, wanted: Request, caller: Caller = AGENT) -> str:
    return anyio.run(execution(floor).start, wanted, caller).parent_id


def look(floor: Floor, parent_id: str) -> tuple[Parent, list[Child]]:
    runner = execution(floor)
    return anyio.run(runner._parent, parent_id), anyio.run(runner.children, parent_id)  # pyright: ignore[reportPrivateUsage]


def live_through(floor: Floor, parent_id: str, days: int = 6, desk: Callable[[], Desk] | None = None) -> None:
    """Steps and reconciles, twice an hour of the machine's, a session after the other."""
    for _ in range(days):
        for _ in range(2):
            runner = execution(floor, desk() if desk else None)
            try:
                anyio.run(runner.step)
            except DiedError:
                floor.clock.advance(timedelta(minutes=10))
        anyio.run(floor.desk().reconcile, AGENT)
        floor.clock.advance(timedelta(minutes=30))
        floor.replay.step(1)


def test_a_time_weighted_parent_buys_a_part_a_day(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request())
    live_through(floor, parent_id)
    parent, children = look(floor, parent_id)
    assert (parent.state, parent.detail) == (ParentState.DONE, "filled 100 of 100 MSFT")
    assert [(child.quantity, child.filled, child.state) for child in children] == [(25, 25, "filled")] * 4
    orders = anyio.run(floor.desk().orders)
    assert {order.client_order_id for order in orders} == {child.client_order_id for child in children}
    assert orders[-1].intent.reason == f"a test of parents (child 1 of {parent_id}, twap)"
    assert orders[0].intent.strategy_id == "trend"
    with floor.store.read() as connection:
        table = read_tables(connection)[0]
    column = [name for name, _ in table.columns].index("parent_id")
    assert [row[column] for row in table.rows] == [parent_id] * 4
    types = floor.entry_types()
    assert (types.count("order.parent"), types.count("policy.decision")) == (2, 8), (
        "each child passed policy twice"
    )


@pytest.mark.parametrize("before", [True, False])
def test_a_process_that_dies_around_every_submission_sends_nothing_twice(
    make_floor: MakeFloor, before: bool
) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request())
    turns = iter(range(100))
    live_through(
        floor, parent_id, 8, lambda: dying(floor, before=before) if next(turns) % 2 == 0 else floor.desk()
    )
    parent, children = look(floor, parent_id)
    assert parent.state == ParentState.DONE
    assert sum(child.filled for child in children) == 100
    portfolio = anyio.run(floor.desk().portfolio, "paper")
    assert [position.quantity for position in portfolio.positions] == [100]
    assert any(child.void for child in children) == before, (
        "what expired unsent was sent again under a new id"
    )


@pytest.mark.parametrize("after", [False, True])
def test_a_process_that_dies_at_any_write_of_a_step_sends_nothing_twice(
    make_floor: MakeFloor, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request(Leg(symbol="MSFT", side="buy", quantity=Decimal(97)), slices=4, days=4))
    whole, writes, fatal = Store.unit, 0, 0

    @contextmanager
    def mortal(self: Store) -> Generator[Unit]:
        nonlocal writes
        writes += 1
        if writes == fatal and not after:
            raise DiedError
        with whole(self) as unit:
            yield unit
        if writes == fatal:
            raise DiedError

    monkeypatch.setattr(Store, "unit", mortal)
    deaths = 0
    for session in range(7):
        for number in range(1, 7):  # a step makes five writes: preview, child, order, report, end
            writes, fatal = 0, number
            try:
                anyio.run(execution(floor).step)
            except DiedError:
                deaths += 1
                floor.clock.advance(timedelta(seconds=12))
        writes, fatal = 0, 0
        anyio.run(partial(floor.desk().reconcile, AGENT, in_doubt_after=timedelta(0)))
        floor.clock.advance(timedelta(minutes=7 if session % 2 else 1))
        if session < 5:
            floor.replay.step(1)
    parent, children = look(floor, parent_id)
    assert deaths > 10
    assert parent.state in {ParentState.DONE, ParentState.ENDED}
    orders = {order.client_order_id: order for order in anyio.run(floor.desk().orders)}
    assert set(orders) == {child.client_order_id for child in children if child.state is not None}
    held = sum(position.quantity for position in anyio.run(floor.desk().portfolio, "paper").positions)
    assert held == sum(child.filled for child in children) == 97


def test_two_processes_that_step_at_once_make_one_child(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request(Leg(symbol="MSFT", side="buy", quantity=Decimal(40)), slices=1))

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(execution(floor).step)

    anyio.run(both)
    parent, children = look(floor, parent_id)
    assert (parent.state, len(children)) == (ParentState.DONE, 1)
    assert len(anyio.run(floor.desk().orders)) == 1


def test_a_canceled_parent_sends_nothing_more_and_cancels_what_works(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    low = Leg(symbol="MSFT", side="buy", quantity=Decimal(100), limit_price=Decimal("20.00"))
    parent_id = start(floor, request(low))
    anyio.run(execution(floor).step)
    _, (child,) = look(floor, parent_id)
    assert (child.state, child.is_working) == ("accepted", True)
    with pytest.raises(RiskError, match="belongs to agent agent-1"):
        anyio.run(execution(floor).cancel, parent_id, Caller("test", "agent-2"))
    canceled = anyio.run(execution(floor).cancel, parent_id, PERSON)
    assert canceled.state == ParentState.CANCELED
    live_through(floor, parent_id, 3)
    assert [each.state for each in look(floor, parent_id)[1]] == ["canceled"]
    assert anyio.run(execution(floor).cancel, parent_id, PERSON).state == ParentState.CANCELED


def test_nothing_is_sent_while_trading_is_halted(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request())
    with floor.store.unit() as unit:
        halts.halt(unit, caller=PERSON, reason="a drill")
    before = len(floor.entry_types())
    assert anyio.run(execution(floor).step) == 0
    parent, children = look(floor, parent_id)
    assert (parent.state, children, len(floor.entry_types())) == (ParentState.RUNNING, [], before)


def test_what_policy_denies_for_good_stops_the_parent(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request(Leg(symbol="MSFT", side="sell", quantity=Decimal(10))))
    live_through(floor, parent_id, 2)
    parent, children = look(floor, parent_id)
    assert (parent.state, children) == (ParentState.STOPPED, [])
    assert "would leave MSFT short" in parent.detail


def test_children_are_seconds_apart_and_nothing_is_asked_meanwhile(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request())
    assert anyio.run(execution(floor).step) == 1
    floor.replay.step(1)
    before = len(floor.entry_types())
    assert anyio.run(execution(floor).step) == 0
    assert len(floor.entry_types()) == before
    floor.clock.advance(timedelta(seconds=12))
    assert anyio.run(execution(floor).step) == 1
    assert look(floor, parent_id)[0].detail == ""


def test_the_same_order_of_another_parent_lets_it_wait(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    start(floor, request())
    anyio.run(execution(floor).step)
    parent_id = start(floor, request())
    assert anyio.run(execution(floor).step) == 0
    parent, children = look(floor, parent_id)
    assert (parent.state, children) == (ParentState.RUNNING, [])
    assert "the same order less than 10 seconds ago" in parent.detail
    before = len(floor.entry_types())
    anyio.run(execution(floor).step)
    assert len(floor.entry_types()) == before, "it does not even ask"
    floor.clock.advance(timedelta(seconds=12))
    assert anyio.run(execution(floor).step) == 1


def test_a_child_that_needs_a_person_waits_for_one(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    large = Leg(symbol="MSFT", side="buy", quantity=Decimal(500))  # about 14,000 USD
    parent_id = start(floor, request(large, slices=1))
    assert anyio.run(execution(floor).step) == 1
    _, (child,) = look(floor, parent_id)
    assert (child.is_pending, anyio.run(execution(floor).step)) == (True, 0)
    floor.inbox.approve(child.preview_id, key=floor.key, person=PERSON)
    anyio.run(execution(floor).step)
    parent, (child,) = look(floor, parent_id)
    assert (parent.state, child.state) == (ParentState.DONE, "filled")


def test_a_child_that_nobody_approves_stops_the_parent(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    parent_id = start(floor, request(Leg(symbol="MSFT", side="buy", quantity=Decimal(500)), slices=1))
    anyio.run(execution(floor).step)
    floor.clock.advance(timedelta(minutes=16))
    anyio.run(execution(floor).step)
    parent, (child,) = look(floor, parent_id)
    assert (parent.state, parent.detail) == (ParentState.STOPPED, "child 1 was not approved")
    assert child.void == "expired"


def test_a_basket_sends_each_leg_once(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    legs = [Leg(symbol=symbol, side="buy", quantity=Decimal(5)) for symbol in ("AAPL", "IBM")]
    low = Leg(symbol="MSFT", side="buy", quantity=Decimal(5), limit_price=Decimal(20))
    parent_id = start(floor, request(*legs, low, algorithm="now", slices=1))
    assert anyio.run(execution(floor).step) == 3
    live_through(floor, parent_id, 3)
    parent, children = look(floor, parent_id)
    assert [(child.leg, child.state) for child in children] == [(0, "filled"), (1, "filled"), (2, "expired")]
    assert parent.detail == "filled 5 of 5 AAPL, 5 of 5 IBM, 0 of 5 MSFT"
    assert parent.state == ParentState.ENDED


def test_a_share_of_volume_follows_the_market_until_the_end(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    wanted = request(algorithm="pov", slices=1, participation_bps=1, days=2)
    parent_id = start(floor, wanted)
    assert anyio.run(execution(floor).step) == 0, "nothing has been traded since the start"
    floor.replay.step(1)
    volume = floor.archive.bars("MSFT", as_of=floor.replay.now()).get_column("volume").to_list()[-1]
    anyio.run(execution(floor).step)
    parent, (child,) = look(floor, parent_id)
    assert child.filled == min(100, int(volume / 10_000))
    assert parent.state == ParentState.DONE


def test_what_cannot_be_started_is_refused_in_words(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    with pytest.raises(RiskError, match="agent_required"):
        start(floor, request(), PERSON)
    with pytest.raises(InputError, match="plan_over"):
        start(floor, request(start=MONDAY - timedelta(days=9), end=MONDAY - timedelta(days=2)))
    with pytest.raises(DataError, match="unknown_symbol"):
        start(floor, request(Leg(symbol="NONE", side="buy", quantity=Decimal(1))))
    with pytest.raises(InputError, match="unknown_parent"):
        look(floor, "pa_0")


def test_a_parent_is_measured_from_its_start(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    decided = floor.replay.quote("MSFT").last
    parent_id = start(floor, request())
    floor.replay.step(1)
    arrived = floor.replay.quote("MSFT").last
    live_through(floor, parent_id)
    parent, children = look(floor, parent_id)
    with floor.store.read() as connection:
        (leg,) = measure_parent(connection, floor.archive, floor.replay, parent)
        orders = measure_orders(connection, floor.archive, floor.replay).costs
    cost = leg.cost
    assert (cost.filled, cost.decision_price, cost.arrival_price) == (100, decided, arrived)
    assert cost.delay == 100 * (arrived - decided)
    paid = sum(
        child.filled * (order.cost.average_price or 0)
        for child, order in zip(children, orders[::-1], strict=True)
    )
    assert cost.trading == paid - 100 * arrived
    assert cost.shortfall == paid - 100 * decided, "everything was filled"
    assert leg.vwap_source.endswith("bars of 1d, typical prices")


def test_a_split_stops_a_parent(make_floor: MakeFloor) -> None:
    friday = datetime(2005, 2, 25, 21, 0, tzinfo=UTC)  # AAPL splits 2:1 on Monday
    floor = make_floor(friday)
    leg = Leg(symbol="AAPL", side="buy", quantity=Decimal(40))
    parent_id = start(floor, request(leg, start=friday, end=friday + timedelta(days=4)))
    live_through(floor, parent_id, 3)
    parent, (child,) = look(floor, parent_id)
    assert (parent.state, child.filled) == (ParentState.STOPPED, 10)
    assert "a split of AAPL changed the shares" in parent.detail
