"""Accounting by fills alone: no money made, none lost, positions equal to the sum of fills."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import to_micros, to_nanos
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounts import Holding, apply_fill, cash_movement

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def fill(side: str, quantity: str, price: str, fee: str = "0") -> Fill:
    return Fill.model_validate(
        {
            "execution_id": "x",
            "client_order_id": "o",
            "symbol": "AAPL",
            "side": side,
            "quantity": quantity,
            "price": price,
            "fee": fee,
            "event_time": NOW,
            "known_time": NOW,
            "clock": "replay",
            "rule": "test",
        }
    )


def test_cash_is_rounded_to_the_cent_against_the_account() -> None:
    assert cash_movement(fill("buy", "0.333", "10.01")) == Decimal("-3.34")  # 3.33333
    assert cash_movement(fill("sell", "0.333", "10.01")) == Decimal("3.33")
    assert cash_movement(fill("buy", "1", "10", "0.5")) == Decimal("-10.50")
    assert cash_movement(fill("sell", "1", "10", "0.5")) == Decimal("9.50")


def test_a_round_trip_realises_its_profit_and_leaves_no_cost() -> None:
    bought = apply_fill(Holding(), quantity=to_nanos(Decimal(10)), cash=-to_micros(Decimal(1000)))
    sold = apply_fill(bought, quantity=-to_nanos(Decimal(10)), cash=to_micros(Decimal(1200)))
    assert (sold.quantity, sold.cost, sold.realized) == (0, 0, to_micros(Decimal(200)))


def test_a_fill_across_zero_closes_at_average_cost_and_opens_the_rest() -> None:
    held = Holding(quantity=10, cost=1000)
    flipped = apply_fill(held, quantity=-15, cash=1800)
    assert (flipped.quantity, flipped.realized, flipped.cost) == (-5, 200, -600)


@given(
    st.lists(
        st.tuples(st.integers(-(10**12), 10**12).filter(bool), st.integers(1, 10**10)),
        min_size=1,
        max_size=30,
    )
)
def test_cash_plus_cost_less_profit_is_conserved(trades: list[tuple[int, int]]) -> None:
    holding, cash = Holding(), 0
    for quantity, amount in trades:
        movement = -amount if quantity > 0 else amount
        holding = apply_fill(holding, quantity=quantity, cash=movement)
        cash += movement
    assert holding.quantity == sum(quantity for quantity, _ in trades)
    assert cash == holding.realized - holding.cost
    if holding.quantity == 0:
        assert holding.cost == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(10**10), 10**10),
            st.integers(-5 * 10**9, 5 * 10**9),
            st.sampled_from(["AAPL", "MSFT"]),
            st.integers(-(10**9), 10**9),
        ),
        max_size=12,
    ),
    st.integers(-(10**10), 10**10) | st.integers(-2, 2).map(lambda hours: hours * 3_600_000_000),
)
def test_sums_by_the_hour_are_the_sums_of_the_fills_since_any_moment(
    fills: list[tuple[int, int, str, int]], since_us: int
) -> None:
    connection = sqlite3.connect(":memory:")
    old = len(fills) // 2  # of a store that was made before the sums were kept
    rows = [
        (f"e{number}", "o", "paper", symbol, at, cash, quantity, "{}", number)
        for number, (at, cash, symbol, quantity) in enumerate(fills)
    ]
    before = accounts.SCHEMA.partition("CREATE TABLE IF NOT EXISTS fill_hours")[0]
    connection.executescript(before)
    insert = "INSERT INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    connection.executemany(insert, rows[:old])
    for _ in range(2):
        connection.executescript(accounts.SCHEMA)
    connection.executemany(insert, rows[old:])
    since = [row for row in rows if row[4] >= since_us]
    cash, proceeds = accounts.cash_since(connection, "paper", since_us)
    assert to_micros(cash) == sum(row[5] for row in since)
    assert to_micros(proceeds) == sum(max(row[5], 0) for row in since)
    for symbol in ("AAPL", "MSFT"):
        traded = accounts.traded_since(connection, "paper", symbol, since_us)
        assert to_nanos(traded) == sum(row[6] for row in since if row[3] == symbol)
    connection.close()
