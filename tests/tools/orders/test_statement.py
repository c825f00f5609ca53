"""A day's statement beside what the desk itself says, and exports that add up."""

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import polars as pl
import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.export import check_cash, read_tables, write_tables
from neural_trader_tools.orders.statement import Statement, day_statement

from .conftest import AGENT, Floor

BEFORE_DIVIDEND = datetime(2012, 5, 11, 20, 0, tzinfo=UTC)  # a Friday; MSFT pays 0.20 on Tuesday 15 May
MakeFloor = Callable[[datetime | None], Floor]
Build = Callable[..., OrderIntent]


@pytest.fixture
def traded(make_floor: MakeFloor, intent: Build) -> Floor:
    """Three days of two strategies: bought on Friday, held on Monday, paid and partly sold on Tuesday."""
    floor = make_floor(BEFORE_DIVIDEND)
    desk = floor.desk()

    def trade(**fields: object) -> None:
        preview = anyio.run(desk.preview, intent(**fields), AGENT)
        anyio.run(desk.submit, preview.preview_id, AGENT)

    trade(symbol="MSFT", quantity="30", strategy_id="value", reason="=cmd|' /C calc'!A0")
    trade(symbol="MSFT", quantity="10", strategy_id="trend")
    trade(symbol="AAPL", quantity="3")
    floor.replay.step(2)
    trade(symbol="MSFT", quantity="15", side="sell", strategy_id="trend-2")
    anyio.run(desk.reconcile, AGENT)
    return floor


def statement(floor: Floor, day: date | None = None) -> Statement:
    with floor.store.read() as connection:
        return day_statement(connection, "paper", floor.archive, floor.replay, day=day)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_day_adds_up_and_agrees_with_the_desk(traded: Floor) -> None:
    today, portfolio = statement(traded), anyio.run(traded.desk().portfolio, "paper")
    assert today.day == date(2012, 5, 15)
    assert today.reconciled
    assert (today.closing.equity, today.closing.cash) == (portfolio.equity, portfolio.cash)
    assert today.closing.settled_cash == portfolio.settled_cash < today.closing.cash
    assert today.dividends == Decimal("8.00")
    assert today.day_pnl == portfolio.day_pnl == today.closing.equity - today.opening.equity
    assert sum(line.day_pnl for line in today.strategies) == today.day_pnl
    assert [line.strategy for line in today.strategies] == ["", "trend", "trend-2", "value"]
    assert [line.dividends for line in today.strategies] == [0, 2, 0, 6]
    assert list(today.settles) == ["2012-05-16"]
    assert len(today.trades) == 1


def test_yesterdays_closing_is_todays_opening(traded: Floor) -> None:
    friday, monday, tuesday = (statement(traded, date(2012, 5, day)) for day in (11, 14, 15))
    assert (friday.closing, monday.closing) == (monday.opening, tuesday.opening)
    assert len(friday.trades) == 3
    assert (friday.day_pnl, monday.trades) == (0, ())
    total = sum(each.day_pnl for each in (friday, monday, tuesday))
    assert total == tuesday.closing.equity - 100_000


def test_a_day_that_has_not_begun_has_no_statement(traded: Floor) -> None:
    with pytest.raises(
        InputError, match="2012-05-17 has not begun: the desk's clock stands at 2012-05-15T20"
    ):
        statement(traded, date(2012, 5, 17))


def test_exports_hold_decimals_and_add_up_to_the_ledger(traded: Floor, tmp_path: Path) -> None:
    with traded.store.read() as connection:
        tables = read_tables(connection)
        (check,) = check_cash(connection, tables)
    assert check.ok
    assert check.ledger != 100_000
    write_tables(tmp_path / "csv", tables, "csv")
    write_tables(tmp_path / "parquet", tables, "parquet")
    for name, column in (("orders", "filled_value"), ("fills", "cash"), ("payments", "amount")):
        rows = read_csv(tmp_path / "csv" / f"{name}.csv")
        frame = pl.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        assert frame.columns == list(rows[0])
        assert isinstance(frame.schema[column], pl.Decimal)
        assert [Decimal(row[column]) for row in rows] == frame.get_column(column).to_list()
        assert frame.height == len(rows) == {"orders": 4, "fills": 4, "payments": 1}[name]
    reasons = {row["reason"] for row in read_csv(tmp_path / "csv" / "orders.csv")}
    (formula,) = reasons - {"a test of the desk"}
    assert {row["parent_id"] for row in read_csv(tmp_path / "csv" / "orders.csv")} == {""}
    assert formula.startswith("'="), "a spreadsheet does not run an agent's words"
    with pytest.raises(InputError, match="exists already"):
        write_tables(tmp_path / "csv", tables, "csv")


def test_an_export_that_does_not_add_up_says_so(traded: Floor) -> None:
    with traded.store.unit() as unit:
        accounts.open_account(
            unit.connection, account="other", cash=Decimal(7), currency="EUR", opened_time="2026-01-01"
        )
        unit.connection.execute("UPDATE accounts SET cash = cash + 1 WHERE account = 'paper'")
    with traded.store.read() as connection:
        checks = check_cash(connection, read_tables(connection))
        assert [(each.account, each.currency, each.ok) for each in checks] == [
            ("other", "EUR", True),
            ("paper", "USD", False),
        ]
        assert [
            each.account for each in check_cash(connection, read_tables(connection, "other"), "other")
        ] == ["other"]


def test_an_export_of_nothing_has_its_columns(floor: Floor, tmp_path: Path) -> None:
    with floor.store.read() as connection:
        paths = write_tables(tmp_path, read_tables(connection), "parquet")
    assert [pl.read_parquet(path).height for path in paths] == [0, 0, 0]
    assert pl.read_parquet(paths[1]).schema["price"] == pl.Decimal(38, 6)
