"""The desk's sentence, told on real parts, with everything that may interrupt it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import DataError, InputError, NetworkError, RiskError
from neural_trader_governance.halts import halt, resume
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.brokers.port import BrokerReport

pytestmark = pytest.mark.anyio
Build = Callable[..., OrderIntent]
CLOSE = Decimal("430.47")  # AAPL on 2013-03-01, the sample's last day


async def test_a_market_order_is_previewed_submitted_filled_and_held(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    assert preview.verdict.decision == "allow"
    assert preview.price == CLOSE
    assert preview.notional == 2 * CLOSE

    submission = await desk.submit(preview.preview_id, floor.agent)
    assert submission.order.state == OrderState.FILLED
    assert submission.order.average_price == CLOSE
    (fill,) = submission.fills
    assert (fill.price, fill.clock, fill.event_time) == (CLOSE, "replay", floor.replay.now())
    assert fill.rule == "market: last close known at the replay clock"
    portfolio = await desk.portfolio("paper")
    assert portfolio.cash == 100_000 - 2 * CLOSE
    assert portfolio.equity == 100_000
    assert portfolio.day_pnl == 0
    assert portfolio.reserved_cash == 0
    assert [(p.symbol, p.quantity, p.average_price) for p in portfolio.positions] == [("AAPL", 2, CLOSE)]
    assert floor.entry_types() == [
        "policy.decision", "policy.decision", "order.intent", "broker.ack", "broker.fill",
    ]  # fmt: skip
    assert verify_store(floor.home / "desk.db", floor.store.vkey).ok


async def test_the_intent_is_durable_before_the_broker_is_called(floor: Any, intent: Build) -> None:
    seen: list[list[str]] = []

    class Watching:
        name, mode = "watching", "paper"

        def unsupported(self, intent: OrderIntent) -> str:
            return ""

        async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
            seen.append(floor.entry_types())
            return await floor.broker.submit(client_order_id, intent)

    desk = floor.desk(Watching())
    preview = await desk.preview(intent(), floor.agent)
    await desk.submit(preview.preview_id, floor.agent)
    assert seen == [["policy.decision", "policy.decision", "order.intent"]]


async def test_a_preview_is_single_use_and_the_second_submit_names_the_order(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    first = await desk.submit(preview.preview_id, floor.agent)
    with pytest.raises(RiskError, match="preview_used") as caught:
        await desk.submit(preview.preview_id, floor.agent)
    assert first.order.client_order_id in str(caught.value)
    assert len(await desk.orders()) == 1


async def test_a_denied_preview_says_why_and_cannot_be_submitted(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="200"), floor.agent)
    assert preview.verdict.decision == "deny"
    assert "max_notional" in {reason.rule for reason in preview.verdict.reasons}
    with pytest.raises(RiskError, match="preview_denied"):
        await desk.submit(preview.preview_id, floor.agent)
    assert await desk.orders() == []


async def test_a_large_order_waits_for_a_signature_and_waiting_consumes_nothing(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    assert preview.verdict.decision == "needs_approval"
    for _ in range(2):
        with pytest.raises(RiskError, match="approval_required"):
            await desk.submit(preview.preview_id, floor.agent)
    assert [p.preview_id for p in floor.inbox.pending()] == [preview.preview_id]
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    submission = await desk.submit(preview.preview_id, floor.agent)
    assert submission.order.state == OrderState.FILLED


async def test_an_approval_signed_by_another_key_is_worth_nothing(floor: Any, intent: Build) -> None:
    forger = SigningKey.generate("approver")
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    with pytest.raises(RiskError, match="approver_key_mismatch"):
        floor.inbox.approve(preview.preview_id, key=forger, person=floor.person)
    with pytest.raises(RiskError, match="approval_required"):
        await desk.submit(preview.preview_id, floor.agent)


async def test_a_rejected_preview_stays_rejected(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    floor.inbox.reject(preview.preview_id, person=floor.person, reason="too much of one thing")
    with pytest.raises(RiskError, match="preview_rejected"):
        await desk.submit(preview.preview_id, floor.agent)
    with pytest.raises(RiskError, match="preview_rejected"):
        floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)


async def test_a_preview_expires_and_an_approval_extends_it(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    small = await desk.preview(intent(), floor.agent)
    large = await desk.preview(intent(quantity="30"), floor.agent)
    floor.clock.advance(timedelta(minutes=14))
    with pytest.raises(RiskError, match="preview_expired"):
        await desk.submit(small.preview_id, floor.agent)
    floor.inbox.approve(large.preview_id, key=floor.key, person=floor.person)
    floor.clock.advance(timedelta(minutes=14))
    assert (await desk.submit(large.preview_id, floor.agent)).order.state == OrderState.FILLED


async def test_another_agent_cannot_submit_my_preview(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    with pytest.raises(RiskError, match="preview_not_yours"):
        await desk.submit(preview.preview_id, Caller(principal="test", agent="agent-2"))


async def test_a_halt_by_anybody_stops_the_next_submit(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    with floor.store.unit() as unit:
        halt(unit, reason="drill", caller=floor.agent)
    with pytest.raises(RiskError, match="halted"):
        await desk.submit(preview.preview_id, floor.agent)
    with floor.store.unit() as unit:
        resume(unit, caller=floor.person)
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED


async def test_policy_is_asked_again_at_submit(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    first = await desk.preview(intent(quantity="20"), floor.agent)
    again = await desk.preview(intent(side="sell", quantity="20"), floor.agent)
    assert first.verdict.decision == "allow"
    assert again.verdict.decision == "deny", "nothing is held yet, so the sale would be short"
    await desk.submit(first.preview_id, floor.agent)
    sale = await desk.preview(intent(side="sell", quantity="20"), floor.agent)
    twin = await desk.preview(intent(side="sell", quantity="20"), floor.agent)
    assert sale.verdict.decision == twin.verdict.decision == "allow"
    await desk.submit(sale.preview_id, floor.agent)
    with pytest.raises(RiskError, match="denied"):
        await desk.submit(twin.preview_id, floor.agent)
    assert len(await desk.orders()) == 2


async def test_a_denial_at_submit_is_remembered_with_its_reasons(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    await desk.submit((await desk.preview(intent(), floor.agent)).preview_id, floor.agent)
    sale = await desk.preview(intent(side="sell"), floor.agent)
    twin = await desk.preview(intent(side="sell"), floor.agent)
    await desk.submit(sale.preview_id, floor.agent)
    with pytest.raises(RiskError, match=r"^denied: .*short"):
        await desk.submit(twin.preview_id, floor.agent)
    with pytest.raises(RiskError, match=r"^preview_denied: .*short"):
        await desk.submit(twin.preview_id, floor.agent)


async def test_an_order_that_grew_beyond_the_limit_since_its_preview_waits_for_a_person(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 1, 24, 21, 0, tzinfo=UTC))  # AAPL rises 6 % on the next day
    desk = floor.desk()
    close = floor.replay.quote("AAPL").last
    preview = await desk.preview(intent(quantity=str(int(9_900 / close))), floor.agent)
    assert preview.verdict.decision == "allow"
    floor.replay.step()
    with pytest.raises(RiskError, match="approval_required"):
        await desk.submit(preview.preview_id, floor.agent)
    assert [waiting.preview_id for waiting in floor.inbox.pending()] == [preview.preview_id]
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED


async def test_an_approval_is_void_once_the_price_has_left_its_band(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 1, 24, 21, 0, tzinfo=UTC))
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="40"), floor.agent)
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    floor.replay.step()
    with pytest.raises(RiskError, match="approval_price_moved"):
        await desk.submit(preview.preview_id, floor.agent)


async def test_a_waiting_stop_buy_is_judged_and_reserved_beyond_its_stop(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    modest = await desk.preview(intent(type="stop", stop_price="440.00", quantity="10"), floor.agent)
    assert (modest.price, modest.notional) == (Decimal(484), Decimal(4840))
    large = await desk.preview(intent(type="stop", stop_price="440.00", quantity="22"), floor.agent)
    assert large.verdict.decision == "needs_approval", "9,680 at the stop, more after a gap"
    bounded = await desk.preview(
        intent(type="stop_limit", stop_price="440.00", limit_price="445.00", quantity="22"), floor.agent
    )
    assert bounded.verdict.decision == "allow"


async def test_only_its_agent_or_a_person_cancels_an_order_unless_trading_is_halted(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    desk, other = floor.desk(), Caller(principal="test", agent="agent-2")
    orders = [
        (await desk.submit((await desk.preview(order, floor.agent)).preview_id, floor.agent)).order
        for order in [
            intent(type="limit", limit_price="500.00", time_in_force="gtc", quantity=quantity)
            for quantity in ("1", "2", "3")
        ]
    ]
    with pytest.raises(RiskError, match="order_not_yours"):
        await desk.cancel(orders[0].client_order_id, other)
    assert (await desk.cancel(orders[0].client_order_id, floor.agent)).state == OrderState.CANCELED
    assert (await desk.cancel(orders[1].client_order_id, floor.person)).state == OrderState.CANCELED
    with floor.store.unit() as unit:
        halt(unit, reason="drill", caller=other)
    assert (await desk.cancel(orders[2].client_order_id, other)).state == OrderState.CANCELED


async def test_a_cancel_that_overtakes_its_order_bars_it(floor: Any, intent: Build) -> None:
    report = await floor.broker.cancel("nt_overtaken")
    assert report.state == "canceled"
    late = await floor.broker.submit("nt_overtaken", intent())
    assert (late.state, late.fills) == ("canceled", ())


async def test_working_buys_reserve_cash_until_they_end(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    desk = floor.desk()
    preview = await desk.preview(
        intent(type="limit", limit_price="560.00", quantity="10", time_in_force="gtc"), floor.agent
    )
    submission = await desk.submit(preview.preview_id, floor.agent)
    assert submission.order.state == OrderState.ACCEPTED
    portfolio = await desk.portfolio("paper")
    assert portfolio.reserved_cash == 5600
    assert portfolio.buying_power == 94_400
    canceled = await desk.cancel(submission.order.client_order_id, floor.agent)
    assert canceled.state == OrderState.CANCELED
    assert (await desk.portfolio("paper")).reserved_cash == 0


async def test_a_resting_limit_fills_when_the_replay_clock_moves_through_it(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    desk = floor.desk()
    bars = floor.archive.bars("AAPL", adjust="none", start=datetime(2012, 6, 2, tzinfo=UTC)).head(1)
    limit = f"{bars['low'][0] + 0.5:.2f}"
    preview = await desk.preview(intent(type="limit", limit_price=limit), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    assert order.state == OrderState.ACCEPTED
    floor.replay.step()
    settled = await desk.reconcile(floor.agent)
    assert [(found.client_order_id, found.after) for found in settled] == [
        (order.client_order_id, OrderState.FILLED)
    ]
    filled = await desk.order(order.client_order_id)
    assert filled.average_price is not None
    assert filled.average_price <= Decimal(limit)
    assert await desk.reconcile(floor.agent) == [], "reconciling again changes nothing"


async def test_a_day_order_that_never_touches_its_limit_expires_after_its_session(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    desk = floor.desk()
    preview = await desk.preview(intent(type="limit", limit_price="400.00"), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    floor.replay.step()
    await desk.reconcile(floor.agent)
    assert (await desk.order(order.client_order_id)).state == OrderState.EXPIRED
    assert (await desk.portfolio("paper")).reserved_cash == 0


async def test_an_unclear_answer_becomes_unknown_and_is_never_sent_again(floor: Any, intent: Build) -> None:
    class Deaf:
        """Executes, then loses the answer."""

        name, mode = "deaf", "paper"
        sent = 0

        def unsupported(self, intent: OrderIntent) -> str:
            return ""

        async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
            self.sent += 1
            await floor.broker.submit(client_order_id, intent)
            raise NetworkError("connection_lost", "the venue's answer was lost", "wait")

    deaf = Deaf()
    desk = floor.desk(deaf)
    preview = await desk.preview(intent(), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    assert order.state == OrderState.UNKNOWN
    healthy = floor.desk()
    assert await healthy.reconcile(floor.agent) == [], "too fresh: it may still be in flight"
    floor.clock.advance(timedelta(seconds=6))
    settled = await healthy.reconcile(floor.agent)
    assert [found.after for found in settled] == [OrderState.FILLED]
    assert deaf.sent == 1
    assert (await healthy.portfolio("paper")).cash == 100_000 - 2 * CLOSE


async def test_an_order_that_never_reached_the_venue_is_canceled_and_barred_there(
    floor: Any, intent: Build
) -> None:
    class Dead:
        name, mode = "dead", "paper"

        def unsupported(self, intent: OrderIntent) -> str:
            return ""

        async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
            raise NetworkError("unreachable", "no route", "wait")

    desk = floor.desk(Dead())
    preview = await desk.preview(intent(), floor.agent)
    order = (await desk.submit(preview.preview_id, floor.agent)).order
    floor.clock.advance(timedelta(seconds=6))
    healthy = floor.desk()
    await healthy.reconcile(floor.agent)
    settled = await healthy.order(order.client_order_id)
    assert settled.state in {OrderState.CANCELED, OrderState.REJECTED}
    late = await floor.broker.submit(order.client_order_id, order.intent)
    assert late.state == "rejected", "a submit that arrives after all is refused by the venue"
    assert (await healthy.portfolio("paper")).equity == 100_000


async def test_a_split_while_holding_changes_the_quantity_and_not_the_value(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2005, 2, 25, 21, 0, tzinfo=UTC))  # AAPL splits 2:1 on 2005-02-28
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="10"), floor.agent)
    bought = (await desk.submit(preview.preview_id, floor.agent)).order
    assert bought.average_price is not None
    floor.replay.step()
    portfolio = await desk.portfolio("paper")
    (position,) = portfolio.positions
    assert position.quantity == 20
    assert position.average_price == bought.average_price / 2
    assert abs(portfolio.day_pnl) < 100, "a day's move, not half the position"


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"symbol": "AAPLE"}, DataError), ({"account": "nobody"}, InputError)],
)
async def test_unknown_symbols_and_accounts_are_refused_by_name(
    floor: Any, intent: Build, fields: dict[str, str], error: type[Exception]
) -> None:
    before = floor.store.head().size
    with pytest.raises(error, match="unknown_"):
        await floor.desk().preview(intent(**fields), floor.agent)
    assert floor.store.head().size == before


async def test_an_index_cannot_be_traded(floor: Any, intent: Build) -> None:
    index = next(item.symbol for item in floor.archive.instruments() if not item.tradable)
    preview = await floor.desk().preview(intent(symbol=index), floor.agent)
    assert preview.verdict.decision == "deny"
    assert "not_tradable" in {reason.rule for reason in preview.verdict.reasons}
