"""Books against a model that knows only sums: whatever happens to an account, in whatever order."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from neural_trader_governance.errors import DataError, InputError, IntegrityError
from neural_trader_governance.terms.money import Money, to_micros, to_nanos
from neural_trader_tools.orders.accounting.attribution import UNATTRIBUTED, attribute
from neural_trader_tools.orders.accounting.books import Books
from neural_trader_tools.orders.accounting.events import (
    Event,
    Opened,
    Paid,
    Released,
    Renamed,
    Reserved,
    Split,
    Traded,
)
from neural_trader_tools.orders.accounting.margin import assess

START = datetime(2026, 1, 5, 15, tzinfo=UTC)
CENTS = st.integers(1, 5_000_000).map(lambda cents: Decimal(cents) / 100)


def usd(amount: object) -> Money:
    return Money(amount=Decimal(str(amount)))


def opened(cash: object = 10_000) -> Opened:
    return Opened(event_id="open", event_time=START, cash=usd(cash))


def traded(number: int, symbol: str, quantity: object, cash: object, **more: Any) -> Traded:
    base: dict[str, Any] = {"fee": usd(0), "settles_on": date(2026, 1, 6), "event_time": START}
    return Traded(
        event_id=f"fill-{number}",
        symbol=symbol,
        quantity=Decimal(str(quantity)),
        cash=usd(cash),
        **{**base, **more},
    )


class BooksMachine(RuleBasedStateMachine):
    """Two methods of lots and three strategies beside plain sums."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = [opened()]
        self.books = {"fifo": Books("USD", "fifo"), "average": Books("USD", "average")}
        self.cash, self.held, self.reserves = Decimal(10_000), Counter[str](), Counter[str]()
        self.unsettled: list[tuple[date, Decimal]] = []
        self.now = START
        for each in self.books.values():
            each.apply(self.events[0])

    def happen(self, event: Event) -> None:
        self.events.append(event)
        for each in self.books.values():
            each.apply(event)

    def place(self) -> dict[str, Any]:
        self.now += timedelta(hours=9)
        return {"event_id": f"e{len(self.events)}", "event_time": self.now}

    symbols = st.sampled_from(["AAPL", "MSFT"])

    @rule(symbol=symbols, shares=st.integers(1, 40_000), cash=CENTS, selling=st.booleans(),
          strategy=st.sampled_from(["", "a", "b"]))  # fmt: skip
    def trade(self, symbol: str, shares: int, cash: Decimal, selling: bool, strategy: str) -> None:
        quantity = Decimal(shares) / 8 * (-1 if selling else 1)
        settles = (self.now + timedelta(days=2)).date()
        moved = cash if selling else -cash
        self.happen(
            Traded(**self.place(), symbol=symbol, quantity=quantity, cash=usd(moved), fee=usd("0.01"),
                   settles_on=settles, strategy=strategy)
        )  # fmt: skip
        self.cash += moved
        self.held[symbol] += to_nanos(quantity)
        if selling:
            self.unsettled.append((settles, cash))

    @rule(kind=st.sampled_from(["deposit", "withdrawal", "dividend", "interest", "fee"]), amount=CENTS,
          symbol=symbols)  # fmt: skip
    def pay(self, kind: Any, amount: Decimal, symbol: str) -> None:
        signed = -amount if kind in {"withdrawal", "fee"} else amount
        of = symbol if kind == "dividend" else None
        self.happen(Paid(**self.place(), kind=kind, amount=usd(signed), symbol=of))
        self.cash += signed

    @rule(symbol=symbols, ratio=st.sampled_from([2, 7]))
    def split(self, symbol: str, ratio: int) -> None:
        if abs(self.held[symbol]) < 10**17:
            self.happen(Split(**self.place(), symbol=symbol, ratio=Decimal(ratio)))
            self.held[symbol] *= ratio

    @rule(order=st.sampled_from(["o1", "o2"]), amount=CENTS)
    def reserve(self, order: str, amount: Decimal) -> None:
        self.happen(Reserved(**self.place(), client_order_id=order, amount=usd(amount)))
        self.reserves[order] += to_micros(amount)

    @precondition(lambda self: self.reserves.total() > 0)
    @rule(data=st.data(), share=st.sampled_from([1, 2]))
    def release(self, data: st.DataObject, share: int) -> None:
        order = data.draw(st.sampled_from(sorted(name for name, held in self.reserves.items() if held)))
        micros = -(-self.reserves[order] // share)
        amount = usd(Decimal(micros) / 10**6)
        self.happen(Released(**self.place(), client_order_id=order, amount=amount))
        self.reserves[order] -= micros

    @rule()
    def hear_everything_again(self) -> None:
        for event in self.events:
            for each in self.books.values():
                each.apply(event)

    @invariant()
    def the_books_are_the_sums(self) -> None:
        prices = {"AAPL": usd("17.31"), "MSFT": usd("0.77")}
        worths = set[int]()
        for method, books in self.books.items():
            assert books.cash == to_micros(self.cash)
            quantities = {symbol: lots.quantity for symbol, lots in books.positions.items()}
            assert {symbol: held for symbol, held in quantities.items() if held} == {
                symbol: held for symbol, held in self.held.items() if held
            }
            assert books.reserved == self.reserves.total() >= 0
            assert all(held > 0 for held in books.held_back.values())
            for ahead in range(4):
                day = self.now.date() + timedelta(days=ahead)
                waiting = sum((cash for due, cash in self.unsettled if due > day), Decimal(0))
                assert books.settled_cash(day) == to_micros(self.cash - waiting)
            cost = sum(lots.cost for lots in books.positions.values())
            paid = sum(books.payments.values())
            assert books.cash == books.opening + paid + books.realized - cost, "no money is made"
            assert books.realized == sum(each.profit for _, each in books.closed)
            worth = books.worth(prices)
            assert worth.equity == books.opening + paid + books.realized + worth.unrealized
            worths.add(worth.equity)
            assert assess(books, prices, "cash").buying_power == max(books.cash - books.reserved, 0)
            assert assess(books, prices, "margin").buying_power >= 0
            assert method == books.method
        assert len(worths) == 1, "how lots are chosen changes no equity"

    def teardown(self) -> None:
        for method, books in self.books.items():
            replayed = Books.replay(self.events, "USD", books.method)
            assert replayed == books
            parts = attribute(self.events, "USD", books.method)
            assert sum(part.cash for part in parts.values()) == books.cash, method
            for symbol, lots in books.positions.items():
                shares = [part.positions[symbol] for part in parts.values() if symbol in part.positions]
                assert sum(each.quantity for each in shares) == lots.quantity
                assert sum(each.realized - each.cost for each in shares) == lots.realized - lots.cost


def test_no_order_of_events_makes_money_or_loses_a_share() -> None:
    run_state_machine_as_test(
        BooksMachine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )


def test_another_currency_is_refused_in_words() -> None:
    books = Books.replay([opened()], "USD")
    foreign = Paid(
        event_id="x", event_time=START, kind="deposit", amount=Money(amount=Decimal(5), currency="EUR")
    )
    with pytest.raises(InputError, match="5 EUR cannot be booked in an account of USD"):
        books.apply(foreign)
    books.apply(traded(1, "AAPL", 1, -10))
    with pytest.raises(InputError, match="foreign_currency"):
        books.worth({"AAPL": Money(amount=Decimal(5), currency="EUR")})
    assert books.cash == to_micros(Decimal(9_990)), "what was refused changed nothing"


def test_an_order_cannot_give_back_more_than_it_holds() -> None:
    books = Books.replay([opened()], "USD")
    books.apply(Reserved(event_id="a", event_time=START, client_order_id="o", amount=usd(5)))
    with pytest.raises(IntegrityError, match="gives back 6 and holds 5"):
        books.apply(Released(event_id="b", event_time=START, client_order_id="o", amount=usd(6)))
    assert books.reserved == to_micros(Decimal(5))


def test_a_purchase_that_brings_cash_is_no_fill() -> None:
    with pytest.raises(IntegrityError, match="wrong_movement"):
        Books.replay([opened(), traded(1, "AAPL", 1, 10)], "USD")


def test_a_sale_may_cost_more_than_it_brings() -> None:
    books = Books.replay([opened(), traded(1, "AAPL", 1, -10), traded(2, "AAPL", -1, "-0.50")], "USD")
    assert (books.realized, books.unsettled) == (to_micros(Decimal("-10.5")), {})


def test_a_renamed_company_keeps_its_lots() -> None:
    rename = Renamed(event_id="r", event_time=START, symbol="FB", new_symbol="META")
    books = Books.replay([opened(), traded(1, "FB", 2, -20), rename, traded(2, "META", -2, 30)], "USD")
    assert (books.realized, "FB" in books.positions) == (to_micros(Decimal(10)), False)


def test_what_is_held_without_a_price_has_no_worth() -> None:
    books = Books.replay([opened(), traded(1, "AAPL", 1, -10)], "USD")
    with pytest.raises(DataError, match="AAPL is held but has no price"):
        books.worth({})


@pytest.mark.parametrize(
    ("cash", "quantity", "price", "initial", "maintenance", "buying_power", "call"),
    [
        # 10,000 bought with 5,000 of one's own: fully margined (12 CFR 220.12(a))
        (5_000, 100, 100, 5_000, 2_500, 0, 0),
        (10_000, 100, 100, 5_000, 2_500, 10_000, 0),
        # short of 100 at 100 with 5,000 of one's own: 150 % of the value, the proceeds included
        (5_000, -100, 100, 5_000, 3_000, 0, 0),
        # shorts below 5 USD: 2.50 USD a share or 100 % (FINRA 4210(c)(2)); at 6 USD: 5 USD a share
        (5_000, -1_000, 2, 1_000, 2_500, 8_000, 0),
        (5_000, -1_000, 6, 3_000, 5_000, 4_000, 0),
        (1_000, 10, 100, 500, 250, 0, 0),  # below 2,000 of equity nobody lends
    ],
)
def test_margin_is_what_the_rules_print(
    cash: int, quantity: int, price: int, initial: int, maintenance: int, buying_power: int, call: int
) -> None:
    books = Books.replay([opened(cash), traded(1, "AAPL", quantity, -quantity * price)], "USD")
    got = assess(books, {"AAPL": usd(price)}, "margin")
    wanted = [to_micros(Decimal(each)) for each in (initial, maintenance, buying_power, call)]
    assert [got.initial, got.maintenance, got.buying_power, got.call] == wanted


def test_a_loss_beyond_maintenance_is_called() -> None:
    books = Books.replay([opened(5_000), traded(1, "AAPL", 100, -10_000)], "USD")
    got = assess(books, {"AAPL": usd(60)}, "margin")  # worth 6,000, debit 5,000: 1,000 of equity, 1,500 asked
    assert got.call == to_micros(Decimal(500))


def test_a_dividend_is_divided_by_what_each_strategy_holds() -> None:
    events = [
        opened(),
        traded(1, "AAPL", 2, -20, strategy="a"),
        traded(2, "AAPL", 1, -10, strategy="b"),
        Paid(event_id="d", event_time=START, kind="dividend", amount=usd("1.00"), symbol="AAPL"),
    ]
    parts = attribute(events, "USD")
    assert [parts[name].payments.get("dividend", 0) for name in ("a", "b", UNATTRIBUTED)] == [
        666_667,
        333_333,
        0,
    ]
