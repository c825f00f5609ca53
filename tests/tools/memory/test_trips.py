from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import to_micros
from neural_trader_tools.memory.trips import Trip, Trips
from neural_trader_tools.orders.accounts import cash_movement

START = datetime(2012, 1, 3, 15, tzinfo=UTC)


def fill(number: int, quantity: int, price: str, fee: str = "0", symbol: str = "AAPL") -> Fill:
    """A signed quantity at a price, one hour after the fill before."""
    moment = START + timedelta(hours=number)
    return Fill(
        execution_id=f"x{number}", client_order_id=f"nt_{number}", symbol=symbol,
        side="buy" if quantity > 0 else "sell", quantity=Decimal(abs(quantity)), price=Decimal(price),
        fee=Decimal(fee), event_time=moment, known_time=moment, clock="wall", rule="test",
    )  # fmt: skip


def trips(factor: str = "1", previewed: str | None = None) -> Trips:
    """`factor` is the split that happens between any two moments."""
    price = None if previewed is None else Decimal(previewed)
    return Trips(lambda symbol, since, until: Decimal(factor), lambda order: price)


def play(book: Trips, fills: list[Fill]) -> list[Trip]:
    return [trip for at, each in enumerate(fills) if (trip := book.feed("paper", each, at)) is not None]


def test_a_round_trip_earns_what_its_fills_moved() -> None:
    (trip,) = play(
        trips(previewed="10"),
        [
            fill(0, 100, "10", "1"),
            fill(1, 100, "11", "1"),
            fill(2, -150, "12", "1"),
            fill(3, -50, "9.50", "1"),
        ],
    )
    assert trip.profit == to_micros(Decimal(-1001 - 1101 + 1799 + 474))
    assert (trip.sign, trip.fills, trip.fees, trip.orders) == (
        1, 4, to_micros(Decimal(4)), ["nt_0", "nt_1", "nt_2", "nt_3"],
    )  # fmt: skip
    assert trip.profit_bps == 814  # 171 of 2,102
    # 100 bought 1.00 above the preview, 50 sold 0.50 below, 150 sold 2.00 above
    assert trip.slippage == to_micros(Decimal(100 + 25 - 300))
    assert (trip.opened_time, trip.closed_time) == (START, START + timedelta(hours=3))


def test_a_fill_that_crosses_zero_ends_one_trip_and_begins_the_next() -> None:
    first, second = play(trips(), [fill(0, 10, "10"), fill(1, -30, "11", "3"), fill(2, 20, "12")])
    assert (first.sign, first.profit, first.fees) == (1, to_micros(Decimal(9)), to_micros(Decimal(1)))
    assert (second.sign, second.profit, second.fees) == (-1, to_micros(Decimal(-22)), to_micros(Decimal(2)))
    assert (first.last_seq, second.first_seq, second.orders) == (1, 1, ["nt_1", "nt_2"])


def test_a_split_changes_what_is_held_and_no_cash() -> None:
    book = trips("2")
    assert play(book, [fill(0, 10, "10"), fill(1, -20, "6")])[0].profit == to_micros(Decimal(20))


@given(
    st.lists(
        st.tuples(st.sampled_from(["AAPL", "MSFT"]), st.integers(-9, 9).filter(bool), st.integers(1, 50)),
        max_size=30,
    )
)
def test_closed_trips_and_open_ones_together_are_all_the_cash_that_moved(
    moves: list[tuple[str, int, int]],
) -> None:
    book = trips()
    fills = [
        fill(at, quantity, str(price), "0.01", symbol) for at, (symbol, quantity, price) in enumerate(moves)
    ]
    closed = play(book, fills)
    still = list(book._open.values())  # pyright: ignore[reportPrivateUsage] - what is left to count
    assert sum(trip.profit for trip in [*closed, *still]) == sum(
        to_micros(cash_movement(each)) for each in fills
    )
    assert sum(trip.fees for trip in [*closed, *still]) == 10_000 * len(fills)
    assert all(trip.held == 0 for trip in closed)
    assert all(trip.held for trip in still)
