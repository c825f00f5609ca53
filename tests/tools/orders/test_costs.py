"""Implementation shortfall against Perold's definition, by hand and on the desk."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import ExecutionError
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.orders.costs import Benchmarks, Execution, measure, summarise
from neural_trader_tools.orders.measuring import Measured, market_between, measure_orders

from .conftest import AGENT, Floor

MONDAY = datetime(2012, 6, 4, 20, 0, tzinfo=UTC)
MakeFloor = Callable[[datetime | None], Floor]
Build = Callable[..., OrderIntent]
PRICES = st.integers(1, 10**6).map(lambda cents: Decimal(cents) / 100)
QUANTITIES = st.integers(1, 10**6).map(lambda eighths: Decimal(eighths) / 8)


def test_a_worked_example_by_hand() -> None:
    # Decided at 50.00 for 1,000; sent at 50.20; 800 filled at 50.50 on average; the last price is 51.00.
    fills = [
        Execution(Decimal(500), Decimal("50.40"), Decimal(5)),
        Execution(Decimal(300), Decimal(50) + Decimal(2) / 3, Decimal(3)),
    ]
    against = Benchmarks(
        Decimal(50), Decimal("50.20"), Decimal(51), vwap=Decimal("50.45"), volume=Decimal(8000)
    )
    cost = measure("buy", Decimal(1000), fills, against)
    assert (cost.delay, cost.opportunity, cost.fees) == (160, 200, 8)
    assert round(cost.trading, 6) == 240
    assert (round(cost.shortfall, 6), cost.shortfall_bps) == (608, Decimal("121.60"))
    assert (cost.average_price, cost.arrival_slippage_bps) == (Decimal("50.5"), Decimal("59.76"))
    assert (cost.vwap_slippage_bps, cost.participation) == (Decimal("9.91"), Decimal("0.1"))


@given(st.sampled_from(["buy", "sell"]), QUANTITIES, st.lists(st.tuples(PRICES, st.integers(1, 9))), PRICES,
       PRICES, PRICES)  # fmt: skip
def test_shortfall_is_what_paper_earns_more_than_reality(
    side: str,
    quantity: Decimal,
    parts: list[tuple[Decimal, int]],
    decided: Decimal,
    arrived: Decimal,
    last: Decimal,
) -> None:
    pieces = sum(part for _, part in parts) + 3
    fills = [Execution(quantity * part / pieces, price, Decimal("0.07")) for price, part in parts]
    cost = measure("buy" if side == "buy" else "sell", quantity, fills, Benchmarks(decided, arrived, last))
    sign = 1 if side == "buy" else -1
    paper = sign * quantity * (last - decided)
    real = sum((sign * fill.quantity * (last - fill.price) - fill.fee for fill in fills), Decimal(0))
    assert abs(cost.shortfall - (paper - real)) < Decimal("1e-12")
    assert cost.shortfall == cost.delay + cost.trading + cost.opportunity + cost.fees
    assert cost.vwap_slippage_bps is None
    assert (cost.average_price is None) == (not fills)


@pytest.fixture
def placed(make_floor: MakeFloor, intent: Build) -> tuple[Floor, list[str]]:
    """Filled at once after a day of waiting; filled a day later at a limit; resting far below the market."""
    floor = make_floor(MONDAY)
    desk = floor.desk()
    last = floor.replay.quote("MSFT").last
    waiting = anyio.run(desk.preview, intent(symbol="MSFT", quantity="10", strategy_id="late"), AGENT)
    near, far = ((last * Decimal(part)).quantize(Decimal("0.01")) for part in ("0.999", "0.5"))
    ids: list[str] = []
    for price in (near, far):
        fields = {"symbol": "MSFT", "type": "limit", "limit_price": price, "time_in_force": "gtc"}
        preview = anyio.run(desk.preview, intent(**fields, quantity="20"), AGENT)
        ids.append(anyio.run(desk.submit, preview.preview_id, AGENT).order.client_order_id)
    floor.replay.step(1)
    ids.insert(0, anyio.run(desk.submit, waiting.preview_id, AGENT).order.client_order_id)
    anyio.run(desk.reconcile, AGENT)
    return floor, ids


def measured(floor: Floor, **options: object) -> Measured:
    with floor.store.read() as connection:
        return measure_orders(connection, floor.archive, floor.replay, **options)  # pyright: ignore[reportArgumentType]


def test_orders_are_measured_from_their_decision_and_their_arrival(placed: tuple[Floor, list[str]]) -> None:
    floor, ids = placed
    costs = {each.client_order_id: each for each in measured(floor).costs}
    assert set(costs) == set(ids)
    late, near, far = (costs[each] for each in ids)
    monday = floor.archive.bars("MSFT", as_of=MONDAY).get_column("close").to_list()[-1]
    tuesday = floor.replay.quote("MSFT").last
    assert late.cost.decision_price == round(Decimal(repr(monday)), 2)
    assert (late.cost.arrival_price, late.cost.trading) == (tuesday, 0)
    assert late.cost.delay == 10 * (tuesday - late.cost.decision_price)
    assert (late.cost.vwap, late.vwap_source) == (None, ""), "no bar lies between arrival and fill"
    assert near.state == "filled"
    assert near.cost.trading < 0 == near.cost.opportunity
    assert near.vwap_source == "1 bars of 1d, typical prices"
    assert far.cost.filled == far.cost.trading == 0
    assert far.cost.opportunity == 20 * (tuesday - far.cost.decision_price)
    groups = {line.group: line for line in summarise(costs.values(), "strategy")}
    assert groups["late"].shortfall == late.cost.shortfall
    (total,) = summarise(costs.values(), "all")
    assert total.shortfall == sum(each.cost.shortfall for each in costs.values())
    assert total.orders == 3


def test_a_day_an_account_or_one_order_can_be_chosen(placed: tuple[Floor, list[str]]) -> None:
    floor, ids = placed
    assert [each.client_order_id for each in measured(floor, day=floor.replay.now().date()).costs] == ids[:1]
    assert measured(floor, account="other").costs == []
    assert [each.client_order_id for each in measured(floor, client_order_id=ids[2]).costs] == ids[2:]
    with pytest.raises(ExecutionError, match="unknown_order"):
        measured(floor, client_order_id="nt_0")


def test_an_order_without_a_noted_price_is_named(placed: tuple[Floor, list[str]]) -> None:
    floor, ids = placed
    with floor.store.unit() as unit:
        unit.connection.execute("DELETE FROM arrivals")
    found = measured(floor)
    assert (found.costs, {order for order, _ in found.unmeasured}) == ([], set(ids))


def test_the_markets_price_is_weighted_by_its_volume(make_floor: MakeFloor) -> None:
    floor = make_floor(datetime(2012, 6, 6, 20, 0, tzinfo=UTC))
    found = market_between(floor.archive, "MSFT", MONDAY, floor.replay.now())
    bars = floor.archive.bars("MSFT", as_of=floor.replay.now(), adjust="none").tail(2)
    typical, volume = (pl.col("high") + pl.col("low") + pl.col("close")) / 3, pl.col("volume")
    wanted = float(bars.select((typical * volume).sum() / volume.sum()).item())
    assert found.vwap is not None
    assert float(found.vwap) == pytest.approx(wanted)
    assert found.source == "2 bars of 1d, typical prices"
