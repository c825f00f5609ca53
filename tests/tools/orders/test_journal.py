"""Dividends, deposits and settlement on the desk, and a journal that the ledger must agree with."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest

from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.terms.money import Money, from_micros
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounting.books import Books
from neural_trader_tools.orders.accounting.events import Paid, Split, Traded
from neural_trader_tools.orders.journal import Check, Journal, audit, read_journal
from neural_trader_tools.orders.postings import Posting, post
from neural_trader_tools.orders.statement import day_statement
from neural_trader_tools.orders.valuation import Pricer

from .conftest import AGENT, PERSON, Floor

BEFORE_DIVIDEND = datetime(2012, 5, 11, 20, 0, tzinfo=UTC)  # a Friday; MSFT pays 0.20 on Tuesday 15 May
BEFORE_SPLIT = datetime(2005, 2, 24, 21, 0, tzinfo=UTC)  # AAPL 2:1 on Monday 28 February
MakeFloor = Callable[[datetime | None], Floor]
Build = Callable[..., OrderIntent]


def trade(floor: Floor, intent: OrderIntent) -> None:
    desk = floor.desk()
    preview = anyio.run(desk.preview, intent, AGENT)
    assert anyio.run(desk.submit, preview.preview_id, AGENT).order.state == "filled"


def portfolio(floor: Floor) -> Any:
    desk = floor.desk()
    anyio.run(desk.reconcile, AGENT)
    return anyio.run(desk.portfolio, "paper")


def read(floor: Floor) -> tuple[Journal, list[Check]]:
    now = floor.replay.now()
    with floor.store.read() as connection:
        journal = read_journal(connection, "paper", floor.archive, now)
        return journal, audit(connection, journal, floor.archive, Pricer(floor.archive, floor.replay, now))


def deposit(floor: Floor, sum_usd: str, **fields: Any) -> int | None:
    base: dict[str, Any] = {
        "posting_id": sum_usd,
        "account": "paper",
        "symbol": None,
        "kind": "deposit" if Decimal(sum_usd) > 0 else "withdrawal",
        "event_time": floor.replay.now(),
        "amount": Money(amount=Decimal(sum_usd)),
    }
    with floor.store.unit() as unit:
        return post(unit, Posting(**{**base, **fields}), PERSON)


def test_who_held_shares_before_the_ex_date_is_paid_once(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    trade(floor, intent(symbol="MSFT", quantity="33"))
    before = portfolio(floor).cash
    floor.replay.step(2)  # Tuesday's session, the ex-date
    for _ in range(2):
        after = portfolio(floor)
        assert after.cash == before + Decimal("6.60")
    assert floor.entry_types().count("account.post") == 1
    trade(floor, intent(symbol="MSFT", quantity="10"))  # bought on the ex-date: not entitled
    assert portfolio(floor).cash < before
    assert floor.entry_types().count("account.post") == 1


def test_a_dividend_is_profit_of_its_day_and_a_deposit_is_not(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    trade(floor, intent(symbol="MSFT", quantity="100"))
    floor.replay.step(1)
    equity = portfolio(floor).equity
    floor.replay.step(1)
    after = portfolio(floor)
    assert after.day_pnl == after.equity - equity
    deposit(floor, "500")
    assert portfolio(floor).day_pnl == after.day_pnl
    assert portfolio(floor).equity == after.equity + 500


def test_sale_proceeds_settle_on_the_next_settlement_day(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(datetime(2012, 10, 4, 20, 0, tzinfo=UTC))  # a Thursday; Monday is Columbus Day
    trade(floor, intent(symbol="MSFT", quantity="10"))
    floor.replay.step(1)
    trade(floor, intent(symbol="MSFT", quantity="10", side="sell"))
    sold = portfolio(floor)
    assert sold.cash - sold.settled_cash == pytest.approx(Decimal("297.8"), abs=Decimal(1))
    floor.replay.step(1)  # Monday: the stocks trade, the banks rest
    assert portfolio(floor).settled_cash < sold.cash
    floor.replay.step(1)
    assert portfolio(floor).settled_cash == portfolio(floor).cash == sold.cash


def test_the_journal_folds_to_what_the_ledger_kept(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(BEFORE_SPLIT)
    trade(floor, intent(symbol="AAPL", quantity="20", strategy_id="trend"))
    deposit(floor, "250.25")
    floor.replay.step(1)
    trade(floor, intent(symbol="AAPL", quantity="5", side="sell"))
    floor.replay.step(2)
    trade(floor, intent(symbol="AAPL", quantity="7", side="sell", strategy_id="trend"))
    last = floor.replay.quote("AAPL").last
    below = (last * Decimal("0.95")).quantize(Decimal("0.01"))
    resting = intent(symbol="AAPL", type="limit", limit_price=below)
    desk = floor.desk()
    anyio.run(desk.submit, anyio.run(desk.preview, resting, AGENT).preview_id, AGENT)
    journal, checks = read(floor)
    assert [check for check in checks if not check.ok] == []
    assert {"cash", "reserved cash", "AAPL quantity", "fills in the log"} <= {check.what for check in checks}
    kinds = [type(event) for event in journal.events]
    assert (kinds.count(Traded), kinds.count(Split), kinds.count(Paid)) == (3, 1, 1)
    books, now = Books.replay(journal.events, "USD"), portfolio(floor)
    assert (from_micros(books.cash), from_micros(books.reserved)) == (now.cash, now.reserved_cash)
    assert books.positions["AAPL"].quantity == 23 * 10**9


def test_a_balance_that_somebody_edited_is_named(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    trade(floor, intent(symbol="MSFT", quantity="10"))
    with floor.store.unit() as unit:
        unit.connection.execute("UPDATE accounts SET cash = cash + 1000000")
        unit.connection.execute("UPDATE orders SET filled = filled - 1")
        unit.connection.execute("UPDATE positions SET quantity = quantity + 5")
        unit.connection.execute('UPDATE fills SET fill = replace(fill, \'"fee":"0"\', \'"fee":"0.01"\')')
    _, checks = read(floor)
    wrong = {check.what.split(" nt_")[0] for check in checks if not check.ok}
    assert wrong == {"cash", "MSFT quantity", "fills that differ from the log", "filled of"}


def test_a_deleted_fill_is_missed_by_the_log(make_floor: MakeFloor, intent: Build) -> None:
    floor = make_floor(BEFORE_DIVIDEND)
    trade(floor, intent(symbol="MSFT", quantity="10"))
    with floor.store.unit() as unit:
        unit.connection.execute("DELETE FROM fills")
    _, checks = read(floor)
    assert Check("fills in the log", "0", "1") in checks


def test_a_posting_is_booked_once_and_refused_in_words(floor: Floor) -> None:
    assert deposit(floor, "5") is not None
    assert deposit(floor, "5") is None
    with pytest.raises(InputError, match="5 EUR cannot be booked in paper, which is in USD"):
        deposit(floor, "6", amount=Money(amount=Decimal(5), currency="EUR"))
    with pytest.raises(InputError, match="whole cents"):
        deposit(floor, "7.001")
    with pytest.raises(InputError, match="whole cents"):
        deposit(floor, "8", kind="withdrawal")
    with pytest.raises(InputError, match="unknown_account"):
        deposit(floor, "9", account="other")
    with pytest.raises(RiskError, match="paper has 100005 USD that no order holds back"):
        deposit(floor, "-100005.01")
    assert deposit(floor, "-100005") is not None
    assert portfolio(floor).cash == 0
    _, checks = read(floor)
    assert all(check.ok for check in checks)


def account(floor: Floor, name: str, cash: str, **fields: Any) -> None:
    with floor.store.unit() as unit:
        terms: dict[str, Any] = {"currency": "USD", "opened_time": "2026-11-22T12:00:00Z", **fields}
        accounts.open_account(unit.connection, account=name, cash=Decimal(cash), **terms)
        accounts.permit_agent(unit.connection, account=name, agent=AGENT.agent)


def test_a_margin_account_buys_twice_its_cash_and_a_cash_account_does_not(
    floor: Floor, intent: Build
) -> None:
    desk = floor.desk()
    for name, kind in (("plain", "cash"), ("geared", "margin")):
        account(floor, name, "5000", kind=kind)
    last = floor.replay.quote("MSFT").last
    shares = Decimal(9_000 // last)
    for name, verdict in (("plain", "deny"), ("geared", "allow")):
        preview = anyio.run(desk.preview, intent(symbol="MSFT", quantity=shares, account=name), AGENT)
        assert preview.verdict.decision == verdict
    trade(floor, intent(symbol="MSFT", quantity=shares, account="geared"))
    geared = anyio.run(desk.portfolio, "geared")
    assert (geared.cash, geared.equity) == (5_000 - shares * last, 5_000)
    assert geared.cash < 0
    assert geared.buying_power == 2 * (5_000 - shares * last / 2)
    beyond = Decimal(1_200 // last)
    more = anyio.run(desk.preview, intent(symbol="MSFT", quantity=beyond, account="geared"), AGENT)
    assert [reason.rule for reason in more.verdict.reasons] == ["buying_power"]
    with floor.store.read() as connection:
        statement = day_statement(connection, "geared", floor.archive, floor.replay)
    assert statement.reconciled
    assert statement.margin is not None
    assert (statement.margin.buying_power, statement.margin.call) == (geared.buying_power, 0)
    assert statement.margin.initial == shares * last / 2


def test_accounts_are_separate_and_each_has_one_currency(floor: Floor, intent: Build) -> None:
    account(floor, "second", "2000")
    account(floor, "euros", "5000", currency="EUR")
    trade(floor, intent(symbol="MSFT", quantity="3", account="second"))
    assert anyio.run(floor.desk().portfolio, "paper").positions == ()
    assert [each.quantity for each in anyio.run(floor.desk().portfolio, "second").positions] == [3]
    with pytest.raises(InputError, match="MSFT trades in USD, and euros is an account in EUR"):
        anyio.run(floor.desk().preview, intent(symbol="MSFT", account="euros"), AGENT)
