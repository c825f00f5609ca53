"""Positions that an account brings with it: booked once, in the books, the ledger and the log alike."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.money import from_micros, from_nanos
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.orders.accounting.books import Books
from neural_trader_tools.orders.journal import audit, read_journal
from neural_trader_tools.orders.statement import day_statement
from neural_trader_tools.orders.transfers import HeldLot, read_lots, receive
from neural_trader_tools.orders.valuation import Pricer

from .conftest import AGENT, PERSON, Floor

BEFORE_DIVIDEND = datetime(2012, 5, 11, 20, 0, tzinfo=UTC)
BEFORE_SPLIT = datetime(2005, 2, 24, 21, 0, tzinfo=UTC)
MakeFloor = Callable[[datetime | None], Floor]
Build = Callable[..., OrderIntent]


def lot(
    symbol: str = "MSFT", quantity: str = "10", opened: str = "2003-01-06T00:00:00Z", **cost: str
) -> HeldLot:
    return HeldLot.model_validate(
        {"symbol": symbol, "quantity": quantity, "opened": opened, **(cost or {"unit_cost": "20"})}
    )


def bring(floor: Floor, *lots: HeldLot) -> list[int]:
    with floor.store.unit() as unit:
        return receive(
            unit, "paper", lots, PERSON, archive=floor.archive, now=floor.replay.now(), reason="moved here"
        )


def books(floor: Floor, method: Any = "fifo") -> Books:
    now = floor.replay.now()
    with floor.store.read() as connection:
        journal = read_journal(connection, "paper", floor.archive, now)
        checks = audit(connection, journal, floor.archive, Pricer(floor.archive, floor.replay, now))
    assert [each for each in checks if not each.ok] == []
    return Books.replay(journal.events, journal.currency, method)


def sell(floor: Floor, intent: OrderIntent) -> None:
    desk = floor.desk()
    preview = anyio.run(desk.preview, intent, AGENT)
    assert anyio.run(desk.submit, preview.preview_id, AGENT).order.state == "filled"


def test_lots_are_held_at_their_cost_and_the_oldest_is_sold_first(
    make_floor: MakeFloor, intent: Build
) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    cash = anyio.run(floor.desk().portfolio, "paper").cash
    seqs = bring(floor, lot(opened="2011-01-03T00:00:00Z", unit_cost="28"), lot(cost="200.01"))
    assert (len(seqs), floor.entry_types().count("account.transfer")) == (2, 2)
    held = anyio.run(floor.desk().portfolio, "paper")
    assert held.cash == cash
    assert [(row.symbol, row.quantity, row.average_price) for row in held.positions] == [
        ("MSFT", Decimal(20), Decimal("24.0005"))
    ]
    opened = books(floor).positions["MSFT"].lots
    assert [(each.opened_time.year, from_micros(each.cost)) for each in opened] == [
        (2003, Decimal("200.01")),
        (2011, Decimal(280)),
    ]
    sell(floor, intent(symbol="MSFT", side="sell", quantity="10"))
    after = books(floor)
    assert [from_micros(each.cost) for _, each in after.closed] == [Decimal("200.01")]
    assert from_nanos(after.positions["MSFT"].quantity) == 10


def test_what_was_brought_is_no_profit_of_its_day_and_is_paid_dividends(make_floor: MakeFloor) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    bring(floor, lot(quantity="100", unit_cost="1"))
    with floor.store.read() as connection:
        statement = day_statement(
            connection, "paper", floor.archive, floor.replay, day=BEFORE_DIVIDEND.date()
        )
    assert statement.reconciled
    assert statement.day_pnl == sum(each.day_pnl for each in statement.strategies)
    assert abs(statement.day_pnl) < 100, "the day's move of 100 shares, not what they are worth"
    floor.replay.step(2)  # Tuesday, the ex-date of 0.20
    anyio.run(floor.desk().reconcile, AGENT)
    assert books(floor).payments == {"dividend": 20_000_000}


def test_a_split_after_the_transfer_counts_and_one_before_is_contained(make_floor: MakeFloor) -> None:
    floor = make_floor(BEFORE_SPLIT)
    bring(floor, lot("AAPL", "7", opened="1999-01-04T00:00:00Z"))  # Apple split in 2000 as well
    floor.replay.step(2)
    assert from_nanos(books(floor).positions["AAPL"].quantity) == 14


def test_again_is_refused_and_books_nothing(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    bring(floor, lot())
    sell(floor, intent(symbol="IBM", quantity="1"))
    for lots, code in (
        ((lot(),), "already_held"),
        ((lot("IBM"),), "already_held"),
        ((lot("AAPL"), lot("AAPL", "-3")), "long_and_short"),
        ((lot("AAPL", opened="2013-01-01T00:00:00Z"),), "not_opened_yet"),
    ):
        with pytest.raises(InputError) as caught:
            bring(floor, lot("GOOG"), *lots)
        assert caught.value.code == code
    with pytest.raises(DataError):
        bring(floor, lot("GOOG"), lot("NOSUCH"))
    assert floor.entry_types().count("account.transfer") == 1
    assert "GOOG" not in books(floor).positions


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**13), st.integers(0, 10**13), st.booleans()), min_size=1, max_size=6)
)
def test_whatever_is_brought_is_what_both_methods_hold(lots: list[tuple[int, int, bool]]) -> None:
    from neural_trader_governance.terms.money import Money
    from neural_trader_tools.orders.accounting.events import Received

    moment = datetime(2020, 1, 2, tzinfo=UTC)
    for short in (False, True):
        sign = -1 if short else 1
        events = [
            Received(
                event_id=str(number),
                event_time=moment,
                symbol="A",
                quantity=from_nanos(sign * quantity),
                cost=Money(amount=from_micros(sign * cost)),
                opened_time=moment,
            )
            for number, (quantity, cost, _) in enumerate(lots)
        ]
        for method in ("fifo", "average"):
            held = Books.replay(events, "USD", method)
            assert held.cash == 0
            assert held.positions["A"].quantity == sign * sum(each[0] for each in lots)
            assert held.positions["A"].cost == sign * sum(each[1] for each in lots)


def test_files_are_read_to_the_last_digit_or_refused_by_the_lot(tmp_path: Path) -> None:
    table = tmp_path / "lots.csv"
    table.write_text(
        "symbol,quantity,cost,unit_cost,opened\nAAPL,1.5,,100.10,2010-01-04\nIBM,-2,300,,2011-01-04T15:00:00Z\n"
    )
    listed = tmp_path / "lots.json"
    listed.write_text(
        json.dumps(
            [
                {"symbol": "AAPL", "quantity": 1.5, "unit_cost": "100.10", "opened": "2010-01-04"},
                {"symbol": "IBM", "quantity": "-2", "cost": 300, "opened": "2011-01-04T15:00:00Z"},
            ]
        )
    )
    assert read_lots(table) == read_lots(listed)
    assert [each.signed_cost for each in read_lots(table)] == [Decimal("150.15"), Decimal(-300)]
    for text, says in (
        ("symbol,quantity,cost,opened\nAAPL,1,,2010-01-04\n", "lot 1"),
        (
            "symbol,quantity,cost,opened\nAAPL,1,5,2010-01-04\naapl,1,5,2010-01-04\n",
            "lot 2 of bad.csv: symbol",
        ),
        ("symbol,quantity,cost,opened\nAAPL,0,5,2010-01-04\n", "quantity 0"),
        ("symbol,quantity,cost,opened\nAAPL,1.0000000001,5,2010-01-04\n", "finer"),
        ("symbol,quantity,cost,opened\nAAPL,1,5,yesterday\n", "opened"),
        ("symbol,quantity,cost,opened,note\nAAPL,1,5,2010-01-04,x\n", "note"),
        ("symbol\n", "no list"),
    ):
        bad = tmp_path / "bad.csv"
        bad.write_text(text)
        with pytest.raises(InputError, match=says):
            read_lots(bad)
