"""Equity as it went, beside the statements of its days."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import anyio
import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.orders.equity import EquityPoint, equity_history
from neural_trader_tools.orders.statement import day_statement

from .conftest import AGENT, Floor

MakeFloor = Callable[[datetime | None], Floor]
Build = Callable[..., OrderIntent]
BEFORE_SPLIT = datetime(2003, 2, 13, 21, 0, tzinfo=UTC)  # a Thursday; MSFT splits 2:1 on Tuesday 18 February


def read(floor: Floor, now: datetime | None = None) -> list[EquityPoint]:
    with floor.store.read() as connection:
        points, unpriced = equity_history(connection, "paper", floor.archive, now or floor.replay.now())
    assert unpriced == 0
    return points


def trade(floor: Floor, build: Build, **fields: object) -> None:
    desk = floor.desk()
    preview = anyio.run(desk.preview, build(**fields), AGENT)
    anyio.run(desk.submit, preview.preview_id, AGENT)
    anyio.run(desk.reconcile, AGENT)


@pytest.fixture
def split(make_floor: MakeFloor, intent: Build) -> Floor:
    """Bought two days before a split, partly sold on the day after it."""
    floor = make_floor(BEFORE_SPLIT)
    trade(floor, intent, symbol="MSFT", quantity="30")
    floor.replay.step(3)
    trade(floor, intent, symbol="MSFT", quantity="15", side="sell")
    floor.replay.step(2)
    anyio.run(floor.desk().reconcile, AGENT)
    return floor


def test_each_day_ends_as_its_statement_says_through_a_split_too(split: Floor) -> None:
    points = read(split)
    assert [each.time for each in points] == sorted({each.time for each in points})
    ends = {each.time.date(): each.equity for each in points}
    assert len(ends) == 6
    with split.store.read() as connection:
        for day, equity in ends.items():
            told = day_statement(connection, "paper", split.archive, split.replay, day=day)
            assert equity == told.closing.equity, day
    assert points[-1].equity == anyio.run(split.desk().portfolio, "paper").equity
    moves = [abs(after.equity - before.equity) for before, after in pairwise(points)]
    assert 0 < max(moves) < 200, "a split moves nothing"


def test_what_came_later_changes_no_earlier_point(split: Floor) -> None:
    whole = read(split)
    for point in whole:
        assert read(split, point.time)[-1] == point


def test_what_the_owner_pays_in_is_told_apart_and_a_new_account_has_one_point(
    make_floor: MakeFloor,
) -> None:
    floor = make_floor(BEFORE_SPLIT)
    (only,) = read(floor)
    assert (only.time, only.equity, only.paid_in) == (floor.replay.now(), Decimal(100_000), 0)
    with floor.store.read() as connection, pytest.raises(InputError, match="no account 'nobody'"):
        equity_history(connection, "nobody", floor.archive, floor.replay.now())
