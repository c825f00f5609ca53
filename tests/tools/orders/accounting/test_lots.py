"""Lots by two methods: worked examples, and conservation whatever is traded."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_tools.orders.accounting.amounts import allocate, share
from neural_trader_tools.orders.accounting.lots import Lot, LotMethod, Lots
from neural_trader_tools.orders.accounts import Holding, apply_fill

START = datetime(2026, 1, 2, tzinfo=UTC)
METHODS: list[LotMethod] = ["fifo", "average"]
AMOUNTS = st.integers(-(10**18), 10**18)
TRADES = st.lists(
    st.tuples(st.integers(-(10**15), 10**15).filter(bool), st.integers(0, 10**14)), min_size=1, max_size=20
)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def test_first_in_first_out_closes_the_oldest_lot_first() -> None:
    lots = Lots("fifo")
    lots.trade(100, -1_000, day(0))
    lots.trade(100, -2_000, day(1))
    closed = lots.trade(-150, 3_000, day(2))
    assert [(each.opened_time, each.quantity, each.cost, each.proceeds) for each in closed] == [
        (day(0), 100, 1_000, 2_000),
        (day(1), 50, 1_000, 1_000),
    ]
    assert (lots.realized, list(lots.lots)) == (1_000, [Lot(day(1), 50, 1_000)])


def test_average_cost_closes_at_the_mean_of_what_was_paid() -> None:
    lots = Lots("average")
    lots.trade(100, -1_000, day(0))
    lots.trade(100, -2_000, day(1))
    lots.trade(-150, 3_000, day(2))
    assert (lots.realized, list(lots.lots)) == (750, [Lot(day(0), 50, 750)])


@pytest.mark.parametrize("method", METHODS)
def test_a_short_lot_is_worth_what_it_brought_less_what_closing_it_costs(method: LotMethod) -> None:
    lots = Lots(method)
    lots.trade(-100, 5_000, day(0))
    assert (lots.quantity, lots.cost) == (-100, -5_000)
    lots.trade(160, -6_400, day(1))  # covers 100 at 40 each and goes long 60
    assert (lots.realized, lots.quantity, lots.cost) == (1_000, 60, 2_400)


def test_a_reverse_split_rounds_the_whole_against_the_holder_and_keeps_the_cost() -> None:
    lots = Lots("fifo")
    for number in range(3):
        lots.trade(5, -100, day(number))
    lots.split(Decimal("0.5"))
    assert (lots.quantity, lots.cost) == (7, 300)


@given(TRADES, st.sampled_from(METHODS))
def test_cash_is_what_was_realised_less_what_is_open(
    trades: list[tuple[int, int]], method: LotMethod
) -> None:
    lots, cash = Lots(method), 0
    for number, (quantity, amount) in enumerate(trades):
        movement = -amount if quantity > 0 else amount
        cash += movement
        before = lots.realized
        closed = lots.trade(quantity, movement, day(number))
        assert lots.realized - before == sum(each.profit for each in closed)
        assert len({lot.quantity > 0 for lot in lots.lots}) <= 1, "never long and short at once"
        assert all(lot.quantity for lot in lots.lots)
    assert lots.quantity == sum(quantity for quantity, _ in trades)
    assert cash == lots.realized - lots.cost
    assert lots.lots or not lots.cost


@given(TRADES)
def test_the_average_method_is_the_ledgers_own_to_the_micro(trades: list[tuple[int, int]]) -> None:
    lots, holding = Lots("average"), Holding()
    for number, (quantity, amount) in enumerate(trades):
        movement = -amount if quantity > 0 else amount
        lots.trade(quantity, movement, day(number))
        holding = apply_fill(holding, quantity=quantity, cash=movement)
        assert (lots.quantity, lots.cost, lots.realized) == (holding.quantity, holding.cost, holding.realized)


@given(AMOUNTS, st.lists(st.integers(0, 10**15), min_size=1, max_size=9).filter(any))
def test_an_amount_is_divided_without_a_rest(amount: int, parts: list[int]) -> None:
    pieces = allocate(amount, parts)
    assert sum(pieces) == amount
    for piece, part in zip(pieces, parts, strict=True):
        assert abs(piece - amount * Decimal(part) / sum(parts)) <= 1


def test_a_share_is_exact_and_rounds_half_to_even() -> None:
    assert [share(amount, 1, 2) for amount in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert share(10**27 + 1, 10**27 - 1, 10**27 - 1) == 10**27 + 1
    assert share(7, -1, -2) == share(7, 1, 2) == 4
