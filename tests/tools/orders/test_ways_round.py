"""Ways round policy, approval and the books that a reviewer looked for: each was open once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from neural_trader_governance.errors import InputError, IntegrityError, NetworkError, RiskError
from neural_trader_governance.principals import Role
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.brokers.port import BrokerReport
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.orders import previews
from neural_trader_tools.orders.ledger import Ledger
from neural_trader_tools.orders.previews import APPROVAL_TTL, WAITING_MAX
from neural_trader_tools.orders.valuation import estimate_price
from neural_trader_tools.trading.halt import trading_halt

pytestmark = pytest.mark.anyio
Build = Callable[..., OrderIntent]
CLOSE = Decimal("430.47")  # AAPL on 2013-03-01, the sample's last day


async def test_a_fractional_buy_whose_value_is_finer_than_a_micro_is_submitted(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="1.123456789"), floor.agent)
    assert preview.verdict.decision == "allow"
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    assert order.state == OrderState.FILLED
    assert (await desk.portfolio("paper")).cash == Decimal("100000") - Decimal("483.62")


async def test_a_buy_reserves_whole_cents_which_is_what_its_fill_will_take(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(
        intent(quantity="0.333", type="limit", limit_price="400.01", time_in_force="gtc"), floor.agent
    )
    await desk.submit(preview.preview_id, floor.agent)
    assert (await desk.portfolio("paper")).reserved_cash == Decimal("133.21")  # 133.20333


async def test_a_marketable_sell_limit_is_judged_at_the_price_that_it_will_get(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    for quantity in ("20", "21"):
        bought = await desk.preview(intent(quantity=quantity), floor.agent)
        await desk.submit(bought.preview_id, floor.agent)
    sale = await desk.preview(
        intent(side="sell", quantity="25", type="limit", limit_price="395.00"), floor.agent
    )
    assert sale.notional == 25 * CLOSE, "it fills at once at the last close, above its limit"
    assert sale.verdict.decision == "needs_approval"


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"side": "sell", "type": "limit", "limit_price": "90"}, "100"),
        ({"side": "sell", "type": "limit", "limit_price": "110"}, "110"),
        ({"side": "sell", "type": "stop_limit", "stop_price": "95", "limit_price": "90"}, "95"),
        ({"side": "sell", "type": "stop_limit", "stop_price": "105", "limit_price": "90"}, "100"),
        ({"side": "sell", "type": "stop_limit", "stop_price": "95", "limit_price": "98"}, "98"),
        ({"side": "sell", "type": "stop", "stop_price": "95"}, "95"),
        ({"side": "buy", "type": "limit", "limit_price": "110"}, "110"),
        ({"side": "buy", "type": "stop", "stop_price": "110"}, "121"),
        ({"side": "buy", "type": "stop", "stop_price": "95"}, "100"),
        ({"side": "buy", "type": "trailing_stop", "trail_price": "5"}, "115.5"),
        ({"side": "buy", "type": "trailing_stop", "trail_percent": "2"}, "112.2"),
        ({"side": "sell", "type": "trailing_stop", "trail_percent": "2"}, "98"),
        ({"side": "sell", "type": "oco", "take_profit": "120", "stop_loss": "90"}, "120"),
        ({"side": "buy", "type": "oco", "take_profit": "80", "stop_loss": "110"}, "121"),
    ],
)
async def test_the_price_that_governs_is_the_largest_that_the_venue_gives_at_first(
    intent: Build, fields: dict[str, str], price: str
) -> None:
    assert estimate_price(intent(**fields), Decimal(100)) == Decimal(price)


@pytest.mark.parametrize("number", ["1e30", "1e999999", "99999999999999999999999999999999.01"])
@pytest.mark.parametrize("name", ["limit_price", "stop_price"])
async def test_a_price_beyond_all_sense_is_refused_by_name(intent: Build, name: str, number: str) -> None:
    other = {"limit_price": "1", "stop_price": "1"}
    with pytest.raises(ValidationError, match=name):
        intent(type="stop_limit", **{**other, name: number})


class Lost:
    """A venue whose answers are lost on the way."""

    name, mode = "lost", "paper"

    def __init__(self, venue: Any) -> None:
        self.venue = venue

    def unsupported(self, intent: OrderIntent) -> str:
        return ""

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        await self.venue.submit(client_order_id, intent)
        raise NetworkError("connection_lost", "the venue's answer was lost", "wait")


async def test_a_halt_cancels_every_order_though_one_of_them_is_in_doubt(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    lost = floor.desk(Lost(floor.broker))
    ids: list[str] = []
    for through, quantity in ((desk, "1"), (lost, "2"), (desk, "3")):
        resting = intent(type="limit", limit_price="400.00", time_in_force="gtc", quantity=quantity)
        preview = await through.preview(resting, floor.agent)
        ids.append((await through.submit(preview.preview_id, floor.agent)).order.client_order_id)
    assert (await desk.order(ids[1])).state == OrderState.UNKNOWN
    result = await trading_halt(floor.store, desk, floor.agent, reason="drill")
    assert sorted(result.canceled) == sorted(ids)
    assert [(await floor.broker.order(one)).state for one in ids] == ["canceled"] * 3


async def test_an_answer_from_before_a_cancel_does_not_undo_the_cancel(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(type="limit", limit_price="400.00", time_in_force="gtc"), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    stale = await floor.broker.order(order.client_order_id)

    class Unreachable:
        name, mode = "unreachable", "paper"

        async def cancel(self, client_order_id: str) -> BrokerReport:
            raise NetworkError("unreachable", "no route", "wait")

    canceling = await floor.desk(Unreachable()).cancel(order.client_order_id, floor.agent)
    assert canceling.state == OrderState.PENDING_CANCEL
    ledger = Ledger(floor.store, floor.archive, floor.replay, floor.clock)
    ledger.record_report(stale, floor.agent, True)
    await desk.reconcile(floor.agent)
    assert (await desk.order(order.client_order_id)).state == OrderState.CANCELED


@pytest.mark.parametrize(
    "lie", [{"symbol": "MSFT"}, {"side": "sell"}, {"client_order_id": "nt_another"}, {"currency": "EUR"}]
)
async def test_a_fill_that_is_not_of_its_order_is_not_booked(
    floor: Any, intent: Build, lie: dict[str, str]
) -> None:
    class Confused:
        name, mode = "confused", "paper"

        def unsupported(self, intent: OrderIntent) -> str:
            return ""

        async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
            report = await floor.broker.submit(client_order_id, intent)
            return report.model_copy(update={"fills": (report.fills[0].model_copy(update=lie),)})

    desk = floor.desk(Confused())
    preview = await desk.preview(intent(), floor.agent)
    with pytest.raises(IntegrityError, match="foreign_fill"):
        await desk.submit(preview.preview_id, floor.agent)
    assert (await desk.portfolio("paper")).cash == 100_000


async def test_a_fill_that_a_report_names_twice_is_booked_once(floor: Any, intent: Build) -> None:
    class Stammering:
        name, mode = "stammering", "paper"

        def unsupported(self, intent: OrderIntent) -> str:
            return ""

        async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
            report = await floor.broker.submit(client_order_id, intent)
            return report.model_copy(update={"fills": report.fills * 2})

    desk = floor.desk(Stammering())
    preview = await desk.preview(intent(), floor.agent)
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED
    assert (await desk.portfolio("paper")).cash == 100_000 - 2 * CLOSE
    assert floor.entry_types().count("broker.fill") == 1


async def test_an_older_answer_does_not_take_a_partial_fill_back(floor: Any, intent: Build) -> None:
    class Slow:
        """Fills one of two, and rests."""

        name, mode = "slow", "paper"

        def unsupported(self, intent: OrderIntent) -> str:
            return ""

        async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
            report = await floor.broker.submit(client_order_id, intent)
            half = report.fills[0].model_copy(update={"quantity": Decimal(1)})
            return report.model_copy(update={"state": "partially_filled", "fills": (half,)})

    desk = floor.desk(Slow())
    preview = await desk.preview(intent(), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    assert (await desk.portfolio("paper")).reserved_cash == CLOSE
    ledger = Ledger(floor.store, floor.archive, floor.replay, floor.clock)
    older = BrokerReport(client_order_id=order.client_order_id, state="accepted")
    assert ledger.record_report(older, floor.agent, True) == OrderState.PARTIALLY_FILLED


async def test_a_fill_booked_after_a_split_that_it_came_before_is_carried_over_it(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2005, 2, 17, 21, 0, tzinfo=UTC))  # AAPL splits 2:1 on 2005-02-28
    desk = floor.desk()
    resting = await desk.preview(
        intent(quantity="10", type="limit", limit_price="86.50", time_in_force="gtc"), floor.agent
    )
    order = (await desk.submit(resting.preview_id, floor.agent)).order
    assert order.state == OrderState.ACCEPTED
    floor.replay.step(6)
    assert floor.replay.now() == datetime(2005, 2, 28, 21, tzinfo=UTC)
    after = await desk.preview(intent(quantity="1"), floor.agent)
    await desk.submit(after.preview_id, floor.agent)  # on the new shares, before the older fill is booked
    await desk.reconcile(floor.agent)
    assert (await desk.order(order.client_order_id)).state == OrderState.FILLED
    (position,) = (await desk.portfolio("paper")).positions
    assert position.quantity == 2 * 10 + 1


async def test_the_approved_band_of_a_cheap_share_is_five_percent_too(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    with floor.store.unit() as unit:
        unit.connection.execute("UPDATE previews SET price = '0.01'")
    approval = floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person).approval
    assert (approval.price_low, approval.price_high) == (Decimal("0.0095"), Decimal("0.0105"))


async def test_a_decision_at_submit_records_the_price_that_it_was_given_on(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    floor.replay.step()
    submission = await desk.submit(preview.preview_id, floor.agent)
    with floor.store.read() as connection:
        rows = connection.execute(
            "SELECT entry FROM audit_entries WHERE type = 'policy.decision' ORDER BY seq"
        ).fetchall()
    assert f'"price":"{submission.order.average_price:.2f}"' in bytes(rows[-1][0]).decode()


async def test_a_clock_on_auto_cannot_be_set_to_before_an_order(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    await desk.submit(preview.preview_id, floor.agent)
    with pytest.raises(InputError, match="clock_backwards"):
        await desk.set_clock(datetime(2012, 6, 1, tzinfo=UTC))
    assert floor.replay.horizon() is None
    later = datetime(2013, 3, 2, tzinfo=UTC)
    assert await desk.set_clock(later) == floor.replay.now() == later


async def test_a_clock_on_auto_may_be_set_back_while_nothing_was_ordered(floor: Any) -> None:
    moment = datetime(2012, 6, 1, tzinfo=UTC)
    assert await floor.desk().set_clock(moment) == moment


async def test_nobody_previews_in_another_agents_name(floor: Any, intent: Build) -> None:
    with pytest.raises(RiskError, match="intent_not_yours"):
        await floor.desk().preview(intent(agent="agent-2"), floor.agent)


async def test_a_late_correction_of_an_old_bar_fills_nothing(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(type="limit", limit_price="400.00", time_in_force="gtc"), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    known = floor.archive.bars("AAPL", adjust="none")
    old = known.slice(10, 1).with_columns(close=pl.col("close") + 0.01, known_time=pl.lit(floor.clock.now()))
    _import(floor, "1d", pl.concat([old, _bar_of_today(floor, known)]))
    assert floor.replay.now() > floor.clock.now(), "the clock is on auto and moves with the import"
    await desk.reconcile(floor.agent)
    after = await desk.order(order.client_order_id)
    assert after.state == OrderState.ACCEPTED, f"filled at {after.average_price}, a price of 2000"


async def test_a_few_old_hourly_bars_do_not_stop_orders_from_meeting_daily_ones(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    known = floor.archive.bars("AAPL", adjust="none")
    _import(floor, "1h", known.head(1))
    desk = floor.desk()
    held = await desk.preview(intent(), floor.agent)
    await desk.submit(held.preview_id, floor.agent)
    day = await desk.preview(intent(type="limit", limit_price="400.00"), floor.agent)
    order = (await desk.submit(day.preview_id, floor.agent)).order
    floor.replay.step()
    await desk.reconcile(floor.agent)
    assert (await desk.order(order.client_order_id)).state == OrderState.EXPIRED
    assert abs((await desk.portfolio("paper")).day_pnl) < 100, "since yesterday, not since 2000"


def _bar_of_today(floor: Any, known: pl.DataFrame) -> pl.DataFrame:
    now = floor.clock.now()
    times = {"event_time": now.replace(hour=0), "known_time": now.replace(hour=21)}
    return known.tail(1).with_columns(
        **{name: pl.lit(time).cast(known.schema[name]) for name, time in times.items()}
    )


def _import(floor: Any, interval: str, bars: pl.DataFrame) -> None:
    dataset = DataSet(
        dataset_id="test",
        source="the sample, altered for a test",
        licence="CC0",
        imported_at=floor.clock.now(),
        file_digest="",
        known_time_assumed=False,
        rows_read=bars.height,
        rows_added=0,
    )
    bars = bars.with_columns(pl.col("known_time").cast(bars.schema["event_time"]))
    floor.archive.write(
        [Batch(Instrument(symbol="AAPL", name="Apple"), interval, bars, dataset, known_time_given=True)]
    )


async def test_a_venue_whose_file_fails_leaves_orders_in_doubt_and_the_rest_alone(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    for quantity in ("1", "2"):
        preview = await desk.preview(
            intent(type="limit", limit_price="400.00", time_in_force="gtc", quantity=quantity), floor.agent
        )
        await desk.submit(preview.preview_id, floor.agent)
    (floor.home / "paper.db").write_bytes(b"not a database at all" * 500)
    for name in ("paper.db-wal", "paper.db-shm"):
        (floor.home / name).unlink(missing_ok=True)
    assert await desk.reconcile(floor.agent) == []
    preview = await desk.preview(intent(), floor.agent)
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.UNKNOWN


async def test_an_agent_that_was_retired_while_a_person_thought_submits_nothing(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    for roles in ((), (Role.RESEARCHER,)):
        floor.enroll(floor.agent.agent, *roles, kind="agent")
        other = await desk.preview(intent(quantity="30"), floor.agent)
        assert other.verdict.decision == "deny"
        assert "agent_permitted" in [reason.rule for reason in other.verdict.reasons]
    with pytest.raises(RiskError, match="denied: "):
        await desk.submit(preview.preview_id, floor.agent)


async def test_an_agent_cannot_bury_the_inbox_of_a_person(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    kept = [await desk.preview(intent(quantity="30"), floor.agent) for _ in range(WAITING_MAX)]
    with pytest.raises(RiskError, match="too_many_waiting"):
        await desk.preview(intent(quantity="30"), floor.agent)
    assert (await desk.preview(intent(), floor.agent)).verdict.decision == "allow", "others are judged"
    assert len(floor.inbox.pending()) == WAITING_MAX
    floor.inbox.reject(kept[0].preview_id, person=floor.person, reason="no")
    await desk.preview(intent(quantity="30"), floor.agent)
    with pytest.raises(RiskError, match="too_many_waiting"):
        await desk.preview(intent(quantity="30"), floor.agent)
    floor.clock.advance(APPROVAL_TTL)
    await desk.preview(intent(quantity="30"), floor.agent)


async def test_a_loop_of_previews_fills_no_disk(floor: Any, intent: Build, monkeypatch: Any) -> None:
    monkeypatch.setattr(previews, "PREVIEWS_A_MINUTE_MAX", 5)
    desk = floor.desk()
    for _ in range(5):
        await desk.preview(intent(), floor.agent)
    size = floor.store.head().size
    with pytest.raises(RiskError, match="preview_rate"):
        await desk.preview(intent(), floor.agent)
    assert floor.store.head().size == size, "nothing is logged of it"
    floor.clock.advance(timedelta(minutes=1))
    assert (await desk.preview(intent(), floor.agent)).verdict.decision == "allow"
