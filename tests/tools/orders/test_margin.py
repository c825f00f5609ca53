"""Borrowed cash costs interest once a day, and an account that is called takes only what closes positions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import RiskError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.money import Money
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.orders import accounts
from neural_trader_tools.orders.accounting.settlement import ZONE
from neural_trader_tools.orders.desk import SCHEMAS
from neural_trader_tools.orders.interest import Interest
from neural_trader_tools.orders.postings import Posting, list_postings, post

from .conftest import AGENT, NOW, PERSON, Floor

OPENED = datetime(2012, 6, 1, 16, 0, tzinfo=UTC)
CENT = Decimal("0.01")
MakeFloor = Callable[[datetime | None], Floor]


def pay(store: Store, amount: str, moment: datetime, kind: str = "fee") -> None:
    with store.unit() as unit:
        paid = Money(amount=Decimal(amount), currency="USD")
        number = len(list_postings(unit.connection, "lent"))
        post(unit, Posting(f"{kind}/{number}", "lent", None, kind, moment, paid), PERSON)  # type: ignore[arg-type]


def unsplit(symbol: str, since: datetime, until: datetime) -> Decimal:
    return Decimal(1)


def charged(store: Store) -> list[tuple[date, Decimal]]:
    """The days that were charged, and what for each."""
    with store.read() as connection:
        return [
            (each.event_time.astimezone(ZONE).date() - timedelta(days=1), each.amount.amount)
            for each in list_postings(connection, "lent")
            if each.kind == "interest"
        ]


@pytest.fixture
def lent(tmp_path: Path) -> Callable[[], tuple[Store, ReplayClock]]:
    """Makes a store with one margin account of 10,000 USD, and a clock."""
    made: list[int] = []

    def make() -> tuple[Store, ReplayClock]:
        made.append(0)
        place = tmp_path / str(len(made))
        archive = Archive(place / "archive")
        replay = ReplayClock(archive)
        replay.set(OPENED)
        key, clock = SigningKey.generate("test"), SimulatedClock(NOW)
        store = Store.open(place / "desk.db", origin="test", signer=key, clock=clock, schemas=SCHEMAS)
        with store.unit() as unit:
            accounts.open_account(
                unit.connection, account="lent", cash=Decimal(10_000), currency="USD",
                opened_time="2012-06-01T00:00:00Z", kind="margin",
            )  # fmt: skip
        return store, replay

    return make


MakeLent = Callable[[], tuple[Store, ReplayClock]]


def test_each_day_is_charged_a_360th_of_the_rate_weekends_too(lent: MakeLent) -> None:
    store, replay = lent()
    interest = Interest(store, replay, Decimal("0.08"))
    assert interest.book(PERSON) == [], "days before the rate was set are free"
    pay(store, "-46000", OPENED)
    replay.set(datetime(2012, 6, 5, 3, 59, tzinfo=UTC))  # a minute before midnight in New York
    assert len(interest.book(PERSON)) == 3
    assert charged(store) == [
        (date(2012, 6, 1), Decimal("-8.00")),
        (date(2012, 6, 2), Decimal("-8.01")),  # 36,008 x 0.08 / 360 = 8.00178
        (date(2012, 6, 3), Decimal("-8.01")),
    ]
    assert interest.book(PERSON) == []
    with store.read() as connection:
        (last,) = [each for each in list_postings(connection, "lent") if "06-03" in each.posting_id]
        cash = connection.execute("SELECT cash FROM accounts").fetchone()[0]
    assert last.detail == "2012-06-03: 8 % a year on 36016.01, actual/360"
    assert cash == -36_024_020_000
    store.close()


def test_a_purchase_is_lent_from_its_settlement_on(lent: MakeLent) -> None:
    store, replay = lent()
    interest = Interest(store, replay, Decimal("0.036"))
    interest.book(PERSON)
    fill = Fill(
        execution_id="x1", client_order_id="nt_1", symbol="AAPL", side="buy", quantity=Decimal(100),
        price=Decimal(200), fee=Decimal(0), event_time=OPENED, known_time=OPENED, clock="replay", rule="test",
    )  # fmt: skip
    with store.unit() as unit:
        accounts.post_fill(unit.connection, account="lent", fill=fill, audit_seq=0, split_between=unsplit)
    replay.set(datetime(2012, 6, 6, 5, tzinfo=UTC))
    interest.book(PERSON)
    assert [day for day, _ in charged(store)] == [date(2012, 6, 4), date(2012, 6, 5)], "bought on a Friday"
    store.close()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fees=st.lists(st.tuples(st.integers(0, 30 * 24), st.integers(1, 2_000_000)), max_size=5),
    looks=st.lists(st.integers(0, 30 * 24), max_size=6),
    rate=st.integers(0, 2500),
)
def test_it_is_the_same_however_often_somebody_looks(
    lent: MakeLent, fees: list[tuple[int, int]], looks: list[int], rate: int
) -> None:
    store, replay = lent()
    interest = Interest(store, replay, Decimal(rate) / 10_000)
    interest.book(PERSON)
    for hours, cents in fees:
        pay(store, str(-cents * CENT), OPENED + timedelta(hours=hours))
    for hours in [*sorted(looks), 30 * 24]:
        replay.set(OPENED + timedelta(hours=hours))
        interest.book(PERSON)
    expected, cash = list[tuple[date, Decimal]](), Decimal(10_000)
    for number in range(30):  # the plain model: a balance, a day at a time
        day = date(2012, 6, 1) + timedelta(days=number)
        for hours, cents in fees:
            if (OPENED + timedelta(hours=hours)).astimezone(ZONE).date() == day:
                cash -= cents * CENT
        if cash < 0 and rate:
            charge = (-cash * rate / 10_000 / 360).quantize(CENT, ROUND_CEILING)
            expected.append((day, -charge))
            cash -= charge
    assert charged(store) == expected
    store.close()


def test_days_without_a_rate_are_not_charged_later(lent: MakeLent) -> None:
    store, replay = lent()
    interest = Interest(store, replay, Decimal("0.08"))
    interest.book(PERSON)
    pay(store, "-20000", OPENED)
    for day, rate in ((4, "0.08"), (8, "0"), (10, "0.05")):
        replay.set(datetime(2012, 6, day, 5, tzinfo=UTC))
        replace(interest, rate=Decimal(rate)).book(PERSON)
    assert [day.day for day, _ in charged(store)] == [1, 2, 3, 8, 9]
    store.close()


def test_a_cash_account_borrows_nothing(lent: MakeLent) -> None:
    store, replay = lent()
    with store.unit() as unit:
        unit.connection.execute("DELETE FROM account_kinds")
    interest = Interest(store, replay, Decimal("0.08"))
    interest.book(PERSON)
    pay(store, "-20000", OPENED)
    replay.set(datetime(2012, 6, 9, 5, tzinfo=UTC))
    assert interest.book(PERSON) == []
    store.close()


@pytest.mark.anyio
async def test_a_called_account_takes_only_what_closes_positions(
    make_floor: MakeFloor, intent: Callable[..., OrderIntent]
) -> None:
    floor = make_floor(datetime(2012, 6, 4, 20, 0, tzinfo=UTC))
    with floor.store.unit() as unit:
        accounts.open_account(
            unit.connection, account="lent", cash=Decimal(10_000), currency="USD",
            opened_time="2012-06-01T00:00:00Z", kind="margin",
        )  # fmt: skip
        accounts.permit_agent(unit.connection, account="lent", agent=AGENT.agent)
    desk, earlier = floor.desk(), floor.replay.now() - timedelta(days=2)  # so that no day's loss binds

    async def trade(side: str, quantity: int) -> str:
        preview = await desk.preview(intent(account="lent", side=side, quantity=str(quantity)), AGENT)
        return (await desk.submit(preview.preview_id, AGENT)).order.state

    assert await trade("buy", 10) == "filled"
    waiting = await desk.preview(intent(account="lent", side="buy", quantity="1"), AGENT)
    value = (await desk.portfolio("lent")).positions[0].market_value
    assert value is not None
    cash = (await desk.portfolio("lent")).cash
    pay(floor.store, str(-(cash + (value * 3 / 4).quantize(CENT) + 1)), earlier)
    called = await desk.portfolio("lent")
    assert called.maintenance == pytest.approx(value / 4, abs=CENT)
    assert called.margin_call == called.maintenance - called.equity > 0
    with pytest.raises(RiskError, match=r"margin_call: lent lacks 1\.0.* takes only orders that close"):
        await trade("buy", 2)
    with pytest.raises(RiskError, match="margin_call"):
        await desk.submit(waiting.preview_id, AGENT)
    with pytest.raises(RiskError, match="margin_call"):
        await trade("sell", 11)
    assert await trade("sell", 2) == "filled", "which lowers what is required"
    assert (await desk.portfolio("lent")).margin_call == 0
    pay(floor.store, "9000", earlier, "deposit")
    assert await trade("buy", 1) == "filled"
