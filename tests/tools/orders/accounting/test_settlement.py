"""Settlement days beside the exchange's sessions, and FINRA's own examples."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from exchange_calendars import get_calendar  # pyright: ignore[reportMissingTypeStubs]

from neural_trader_tools.orders.accounting.settlement import (
    is_settlement_day,
    settlement_date,
    trade_date,
    unsettled_since,
)

BY_DECREE = {  # exchanges closed, banks open: deaths of presidents, attacks, a hurricane
    "1994-04-27", "2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14", "2004-06-11", "2007-01-02",
    "2012-10-29", "2012-10-30", "2018-12-05", "2025-01-09",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_a_settlement_day_is_a_session_on_which_banks_are_open() -> None:
    exchange: Any = get_calendar("XNYS", start="1990-01-01", end="2027-12-31")
    sessions = {moment.date() for moment in exchange.sessions}
    days = [date(1990, 1, 1) + timedelta(days=number) for number in range(365 * 38)]
    closed = {str(day) for day in days if is_settlement_day(day) and day not in sessions}
    assert closed == BY_DECREE
    banks_closed = [day for day in days if day in sessions and not is_settlement_day(day)]
    assert {day.month for day in banks_closed if day.year >= 1998} == {10, 11}  # Columbus, Veterans
    assert date(2026, 11, 11) in banks_closed
    assert len([day for day in banks_closed if day.year == 2024]) == 2


@pytest.mark.parametrize(
    ("traded", "settles"),
    [
        ("2024-10-10", "2024-10-11"),
        ("2024-10-11", "2024-10-15"),  # Friday before Columbus Day
        ("2024-10-14", "2024-10-15"),  # Columbus Day itself: stocks trade, banks do not
        ("2024-11-08", "2024-11-12"),
        ("2024-11-11", "2024-11-12"),  # Veterans Day
        ("2025-04-17", "2025-04-21"),  # before Good Friday
        ("2024-12-31", "2025-01-02"),
        ("2021-12-31", "2022-01-03"),  # New Year on a Saturday
        ("2026-07-02", "2026-07-06"),  # Independence Day on a Saturday
    ],
)
def test_a_trade_settles_on_the_next_settlement_day(traded: str, settles: str) -> None:
    assert settlement_date(date.fromisoformat(traded)) == date.fromisoformat(settles)


def test_two_days_cycle_skips_a_holiday_twice_over() -> None:
    assert settlement_date(date(2023, 10, 5), 2) == date(2023, 10, 10)


def test_a_trade_belongs_to_its_date_in_new_york() -> None:
    assert trade_date(datetime(2024, 10, 15, 2, tzinfo=UTC)) == date(2024, 10, 14)


def test_what_is_unsettled_at_any_hour_is_what_settles_later() -> None:
    for hour in range(0, 24 * 20, 7):
        moment = datetime(2024, 10, 7, tzinfo=UTC) + timedelta(hours=hour)
        since = unsettled_since(moment)
        assert settlement_date(trade_date(since)) > trade_date(moment)
        assert settlement_date(trade_date(since - timedelta(seconds=1))) <= trade_date(moment)
