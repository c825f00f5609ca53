"""Every control at the desk, on real parts: what policy is told, and that a restart forgets none of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest

from neural_trader_governance import leases, mandates, overrides, taints, throttles
from neural_trader_governance.audit import witnessing
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import IntegrityError, RiskError
from neural_trader_governance.halts import Scope, halt
from neural_trader_governance.identity import Caller
from neural_trader_governance.mandate_register import Mandate, issue
from neural_trader_governance.overrides import Override
from neural_trader_governance.policy.contexts import PolicyContext
from neural_trader_governance.principals import Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_governance.untrusted.readings import Source
from neural_trader_tools.brokers.port import BrokerReport
from neural_trader_tools.orders import accounts, breaks, messages
from neural_trader_tools.orders.desk import SCHEMAS
from neural_trader_tools.orders.machine import WORKING

pytestmark = pytest.mark.anyio
Build = Callable[..., OrderIntent]
OTHER = Caller(principal="test", agent="agent-2")
LEASE = timedelta(seconds=300)
RESTING = {"type": "limit", "limit_price": "400.00", "time_in_force": "gtc"}


def reopen(floor: Any) -> None:
    """What a restart is: the store closed and opened from its file, nothing carried over."""
    signer = floor.store.signer
    floor.store.close()
    floor.store = Store.open(
        floor.home / "desk.db", origin=floor.store.origin, signer=signer, clock=floor.clock, schemas=SCHEMAS
    )


async def submit(floor: Any, intent: OrderIntent, caller: Caller | None = None) -> Any:
    desk, caller = floor.desk(), caller or floor.agent
    return (await desk.submit((await desk.preview(intent, caller)).preview_id, caller)).order


async def rules(floor: Any, intent: OrderIntent, caller: Caller | None = None) -> list[str]:
    """The rules against an order, asked by a preview; none if it is allowed."""
    preview = await floor.desk().preview(intent, caller or floor.agent)
    return [reason.rule for reason in preview.verdict.reasons]


def decisions(floor: Any) -> list[dict[str, Any]]:
    with floor.store.read() as connection:
        query = "SELECT entry FROM audit_entries WHERE type = 'policy.decision' ORDER BY seq"
        return [json.loads(row[0])["payload"] for row in connection.execute(query).fetchall()]


def context(floor: Any) -> dict[str, Any]:
    return decisions(floor)[-1]["context"]


def permit(floor: Any, account: str, agent: str) -> None:
    with floor.store.unit() as unit:
        opened = format_time(floor.clock.now())
        accounts.open_account(
            unit.connection, account=account, cash=Decimal(100_000), currency="USD", opened_time=opened
        )
        accounts.permit_agent(unit.connection, account=account, agent=agent)
    floor.enroll(agent, Role.TRADER, kind="agent")


def send(floor: Any, intent: OrderIntent, count: int = 1, cents: int = 1) -> None:
    """Counts orders as their submission does, without the venue."""
    day = floor.replay.now().date()
    with floor.store.unit() as unit:
        for number in range(count):
            messages.count_order(
                unit.connection,
                intent.model_copy(update={"symbol": f"S{number}", "quantity": Decimal(number + 100)}),
                cents=cents,
                now=floor.clock.now(),
                day=day,
            )


async def test_the_hundred_and_first_message_of_a_minute_is_refused_also_after_a_restart(
    floor: Any, intent: Build
) -> None:
    send(floor, intent(), 99)
    assert await rules(floor, intent()) == []
    assert context(floor)["messages_last_minute"] == 100
    await submit(floor, intent())
    reopen(floor)
    assert await rules(floor, intent(quantity="3")) == ["message_rate"]
    floor.clock.advance(timedelta(seconds=60))
    assert await rules(floor, intent(quantity="3")) == []


async def test_a_cancel_is_counted_at_once_and_never_refused(floor: Any, intent: Build) -> None:
    order = await submit(floor, intent(**RESTING))
    send(floor, intent(), 200)
    canceled = await floor.desk().cancel(order.client_order_id, floor.agent)
    assert canceled.state == OrderState.CANCELED
    assert await rules(floor, intent(quantity="3")) == ["message_rate"]
    assert context(floor)["messages_last_minute"] == 1 + 200 + 1 + 1, "order, others, cancel, and this one"


async def test_messages_of_all_agents_count_for_the_desk(floor: Any, intent: Build) -> None:
    send(floor, intent(agent="agent-2"), 299)
    assert await rules(floor, intent()) == []
    send(floor, intent(agent="agent-3"))
    assert await rules(floor, intent()) == ["desk_message_rate"]


async def test_a_refused_submission_counts_nothing(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    with pytest.raises(RiskError, match="approval_required"):
        await desk.submit(preview.preview_id, floor.agent)
    with floor.store.read() as connection:
        assert connection.execute("SELECT COUNT(*) FROM messages").fetchone()[0] == 0
        assert connection.execute("SELECT COUNT(*) FROM sent_values").fetchone()[0] == 0


async def test_the_same_order_again_waits_ten_seconds(floor: Any, intent: Build) -> None:
    desk = floor.desk()
    twin = await desk.preview(intent(), floor.agent)
    await submit(floor, intent())
    reopen(floor)
    assert await rules(floor, intent()) == ["duplicate_order"]
    assert await rules(floor, intent(reason="other words", strategy_id="s1")) == ["duplicate_order"]
    assert await rules(floor, intent(quantity="2.000000001")) == []
    with pytest.raises(RiskError, match=r"^denied: .*same order"):
        await floor.desk().submit(twin.preview_id, floor.agent)
    floor.clock.advance(timedelta(seconds=10) - timedelta(microseconds=1))
    assert await rules(floor, intent()) == ["duplicate_order"]
    floor.clock.advance(timedelta(microseconds=1))
    assert await rules(floor, intent()) == []


async def test_repeated_execution_switches_an_agent_off_until_a_person_enables_it(
    floor: Any, intent: Build
) -> None:
    def repeat(count: int) -> None:
        with floor.store.unit() as unit:
            for number in range(count):
                order = intent(quantity=str(number + 10))
                now, day = floor.clock.now(), floor.replay.now().date()
                messages.count_order(unit.connection, order, cents=1, now=now, day=day)

    repeat(19)
    assert await rules(floor, intent()) == []
    assert context(floor)["repeats_last_10_min"] == 20
    repeat(1)
    assert await rules(floor, intent(side="sell")) == ["no_short_sale"], "the other side is another pattern"
    assert await rules(floor, intent()) == ["repeated_execution"]
    assert floor.entry_types()[-2:] == ["policy.decision", "throttle.trip"]
    floor.clock.advance(timedelta(hours=3))
    reopen(floor)
    assert await rules(floor, intent(symbol="MSFT")) == ["throttled"]
    with floor.store.read() as connection:
        told = [row[0] for row in connection.execute("SELECT kind FROM alerts")]
    assert "throttle_trip" in told
    with pytest.raises(RiskError, match="person_required"), floor.store.unit() as unit:
        throttles.enable(unit, "agent-1", person=floor.agent, reason="trust me", now=floor.clock.now())
    with floor.store.unit() as unit:
        throttles.enable(unit, "agent-1", person=floor.person, reason="looked", now=floor.clock.now())
    assert await rules(floor, intent()) == []


async def test_a_new_strategy_name_for_every_order_repeats_all_the_same(floor: Any, intent: Build) -> None:
    with floor.store.unit() as unit:
        for number in range(20):
            order = intent(quantity=str(number + 10), strategy_id=f"s{number}")
            now, day = floor.clock.now(), floor.replay.now().date()
            messages.count_order(unit.connection, order, cents=1, now=now, day=day)
    assert await rules(floor, intent(strategy_id="fresh")) == ["repeated_execution"]


async def test_enabling_an_agent_forgives_the_repeats_before(floor: Any, intent: Build) -> None:
    with floor.store.unit() as unit:
        for number in range(20):
            order, day = intent(quantity=str(number + 10)), floor.replay.now().date()
            messages.count_order(unit.connection, order, cents=1, now=floor.clock.now(), day=day)
    assert await rules(floor, intent()) == ["repeated_execution"]
    with floor.store.unit() as unit:
        throttles.enable(unit, "agent-1", person=floor.person, reason="meant", now=floor.clock.now())
    assert await rules(floor, intent()) == []


async def test_what_was_sent_on_a_trading_day_is_bounded_per_agent_and_per_account(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2012, 6, 1, 21, 0, tzinfo=UTC))
    await rules(floor, intent())
    own = context(floor)["notional_cents"]
    send(floor, intent(), cents=100_000_000 - own)
    assert await rules(floor, intent()) == []
    assert context(floor)["agent_sent_today_cents"] == 100_000_000
    send(floor, intent(), cents=1)
    reopen(floor)
    assert await rules(floor, intent()) == ["agent_sent_today"]
    floor.replay.step()
    assert await rules(floor, intent()) == [], "the desk's next trading day"
    own = context(floor)["notional_cents"]
    send(floor, intent(agent="agent-2"), cents=200_000_000 - own)
    assert await rules(floor, intent()) == []
    send(floor, intent(agent="agent-3"), cents=1)
    assert await rules(floor, intent()) == ["account_sent_today"]


async def test_the_desk_sees_the_exposure_and_the_loss_of_all_accounts(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2000, 9, 28, 20, 0, tzinfo=UTC))  # AAPL loses half on the next day
    permit(floor, "second", "agent-1")
    close = floor.replay.quote("AAPL").last
    for quantity in (9_000 // close, 8_000 // close):
        await submit(floor, intent(quantity=str(quantity), account="second"))
    resting = {**RESTING, "limit_price": str((close * Decimal("0.95")).quantize(Decimal("0.01")))}
    await submit(floor, intent(quantity="10", account="second", **resting))
    await rules(floor, intent())
    held = (9_000 // close + 8_000 // close) * close + 10 * Decimal(resting["limit_price"])
    assert context(floor)["gross_after_cents"] == 2 * close * 100
    assert context(floor)["desk_gross_after_cents"] == (held + 2 * close) * 100
    assert context(floor)["desk_equity_cents"] == 20_000_000
    floor.replay.step()
    await rules(floor, intent())
    facts = context(floor)
    assert facts["day_pnl_cents"] == 0
    lost = (9_000 // close + 8_000 // close) * (close - floor.replay.quote("AAPL").last) * 100
    assert facts["desk_day_pnl_cents"] == -lost < -700_000


async def test_a_position_counts_with_the_orders_that_still_work_for_it(floor: Any, intent: Build) -> None:
    await submit(floor, intent(quantity="10"))
    await submit(floor, intent(quantity="5", **RESTING))
    await rules(floor, intent(quantity="2"))
    assert context(floor)["position_after_cents"] == 17 * 43_047
    assert context(floor)["gross_after_cents"] == 12 * 43_047 + 5 * 40_000


async def test_the_share_of_daily_volume_is_what_the_bars_say(floor: Any, intent: Build) -> None:
    bars = floor.archive.bars("AAPL", "1d", as_of=floor.replay.now()).tail(20)
    mean = Decimal(repr(float(bars["volume"].mean())))
    await rules(floor, intent(quantity="90000"))
    share = (90_000 * 10_000 / mean).to_integral_value(ROUND_CEILING)
    assert context(floor)["volume_share_bps"] == share > 0
    tenth = int(mean / 10)
    assert "volume_share" not in await rules(floor, intent(quantity=str(tenth)))
    assert "volume_share" in await rules(floor, intent(quantity=str(tenth + 1)))


async def test_a_market_that_left_its_five_session_median_stops_either_side(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(datetime(2000, 9, 28, 20, 0, tzinfo=UTC))
    await submit(floor, intent(quantity="10"))
    assert await rules(floor, intent()) == []
    floor.replay.step()
    assert "price_collar_5_sessions" in await rules(floor, intent(quantity="3"))
    assert await rules(floor, intent(side="sell")) == ["price_collar_5_sessions"]
    closes = floor.archive.bars("AAPL", "1d", as_of=floor.replay.now()).tail(5)["close"]
    moved = (Decimal(repr(closes.median())) - Decimal(repr(closes[-1]))) / Decimal(repr(closes.median()))
    assert abs(context(floor)["reference_move_bps"] - moved * 10_000) <= 1


@pytest.mark.parametrize(
    ("moment", "note"),
    [
        (datetime(2013, 2, 28, 21, 0, tzinfo=UTC), None),
        (datetime(2013, 3, 1, 3, 0, tzinfo=UTC), None),  # still Thursday evening in New York
        (datetime(2013, 3, 2, 15, 0, tzinfo=UTC), "2013-03-02 is a Saturday"),
        (datetime(2012, 12, 25, 15, 0, tzinfo=UTC), "no session on 2012-12-25"),
        (datetime(2012, 10, 29, 15, 0, tzinfo=UTC), "no session on 2012-10-29"),
        (datetime(2012, 12, 24, 15, 0, tzinfo=UTC), None),  # a session, whose bar is not known yet
    ],
)
async def test_orders_wait_for_a_session_of_their_venue(
    make_floor: Callable[..., Any], intent: Build, moment: datetime, note: str | None
) -> None:
    floor = make_floor(moment)
    preview = await floor.desk().preview(intent(), floor.agent)
    said = [reason.message for reason in preview.verdict.reasons if reason.rule == "session_closed"]
    assert (said == []) == (note is None)
    assert note is None or (note in said[0] and preview.verdict.decision == "deny")


async def test_an_agent_that_stops_renewing_loses_its_working_orders(floor: Any, intent: Build) -> None:
    def renew(caller: Caller) -> None:
        with floor.store.unit() as unit:
            leases.renew(unit.connection, caller, now=floor.clock.now(), duration=LEASE)

    permit(floor, "paper", "agent-2")
    renew(floor.agent)
    mine = await submit(floor, intent(**RESTING))
    theirs = await submit(floor, intent(agent="agent-2", **RESTING), OTHER)  # it never held a lease
    floor.clock.advance(LEASE - timedelta(microseconds=1))
    await floor.desk().reconcile(OTHER)
    assert (await floor.desk().order(mine.client_order_id)).state == OrderState.ACCEPTED
    floor.clock.advance(timedelta(microseconds=1))
    reopen(floor)
    assert await rules(floor, intent(quantity="3")) == ["lease_lost"]
    settled = await floor.desk().reconcile(OTHER)  # any process does it, for whichever agent
    assert [found.client_order_id for found in settled] == [mine.client_order_id]
    desk = floor.desk()
    assert (await desk.order(mine.client_order_id)).state == OrderState.CANCELED
    assert (await desk.order(theirs.client_order_id)).state == OrderState.ACCEPTED
    assert (await floor.broker.order(mine.client_order_id)).state == "canceled"
    await desk.reconcile(OTHER)
    assert floor.entry_types().count("lease.lost") == 1
    with floor.store.read() as connection:
        assert "lease_lost" in [row[0] for row in connection.execute("SELECT kind FROM alerts")]
    renew(floor.agent)
    assert await rules(floor, intent(quantity="3")) == []


async def test_an_agent_that_left_nothing_working_loses_its_lease_without_a_word(
    floor: Any, intent: Build
) -> None:
    with floor.store.unit() as unit:
        leases.renew(unit.connection, floor.agent, now=floor.clock.now(), duration=LEASE)
    await submit(floor, intent())
    floor.clock.advance(LEASE)
    await floor.desk().reconcile(OTHER)
    assert "lease.lost" not in floor.entry_types()
    assert await rules(floor, intent(quantity="3")) == ["lease_lost"]


class Forgetful:
    """A venue that fills more than was ordered."""

    name, mode = "forgetful", "paper"

    def __init__(self, venue: Any) -> None:
        self.venue = venue

    def unsupported(self, intent: OrderIntent) -> str:
        return ""

    async def submit(self, client_order_id: str, intent: OrderIntent) -> BrokerReport:
        report = await self.venue.submit(client_order_id, intent)
        fill = report.fills[0]
        return report.model_copy(update={"fills": (fill.model_copy(update={"quantity": fill.quantity + 1}),)})

    async def order(self, client_order_id: str) -> BrokerReport | None:
        return None


async def test_a_venue_that_contradicts_the_desk_stops_the_account_until_a_person_looked(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk(Forgetful(floor.broker))
    preview = await desk.preview(intent(), floor.agent)
    with pytest.raises(IntegrityError, match="overfill"):
        await desk.submit(preview.preview_id, floor.agent)
    reopen(floor)
    assert await rules(floor, intent(quantity="3")) == ["reconciliation_break"]
    permit(floor, "second", "agent-1")
    assert await rules(floor, intent(quantity="3", account="second")) == []
    with floor.store.read() as connection:
        (found,) = breaks.list_open(connection)
        told = [row[0] for row in connection.execute("SELECT kind FROM alerts")]
    assert found.kind == "overfill"
    assert "reconciliation_break" in told
    with pytest.raises(RiskError, match="person_required"), floor.store.unit() as unit:
        breaks.resolve(unit, found.break_id, person=floor.agent, reason="fine")
    with floor.store.unit() as unit:
        breaks.resolve(unit, found.break_id, person=floor.person, reason="the venue corrected it")
    assert await rules(floor, intent(quantity="3")) == []
    with pytest.raises(RiskError, match="break_resolved"), floor.store.unit() as unit:
        breaks.resolve(unit, found.break_id, person=floor.person, reason="again")


async def test_an_order_that_the_venue_does_not_know_is_a_break_once(floor: Any, intent: Build) -> None:
    await submit(floor, intent(**RESTING))
    desk = floor.desk(Forgetful(floor.broker))
    await desk.reconcile(floor.agent)
    await desk.reconcile(floor.agent)
    with floor.store.read() as connection:
        assert [found.kind for found in breaks.list_open(connection)] == ["missing_at_venue"]
    assert await rules(floor, intent(quantity="3")) == ["reconciliation_break"]


def lift(floor: Any, key: SigningKey | None = None, **fields: Any) -> Override:
    """Grants an override of max_notional for an hour, unless told otherwise."""
    now = floor.clock.now()
    base: dict[str, Any] = {
        "rules": ("max_notional",),
        "agent": "agent-1",
        "account": "paper",
        "symbol": "AAPL",
        "not_before": now,
        "expires": now + timedelta(hours=1),
        "reason": "a block that was agreed",
    }
    signed = Override.model_validate({**base, **fields}).signed_by(key or floor.issuer)
    with floor.store.unit() as unit:
        overrides.grant(
            unit,
            signed,
            issuer=floor.issuer.verifying_key,
            overridable=floor.policy.overridable,
            caller=floor.person,
            now=now,
        )
    return signed


async def test_beyond_the_limit_goes_only_by_an_override_and_two_persons(floor: Any, intent: Build) -> None:
    large = intent(quantity="120")  # 51,656.40 USD
    assert await rules(floor, large) == ["max_notional", "approval_notional", "approval_quorum"]
    lift(floor)
    reopen(floor)
    desk = floor.desk()
    preview = await desk.preview(large, floor.agent)
    assert preview.verdict.decision == "needs_approval"
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    with pytest.raises(RiskError, match="approval_required"):
        await desk.submit(preview.preview_id, floor.agent)
    second = SigningKey.generate("second-approver")
    floor.enroll(
        "test", Role.TRADER, Role.APPROVER, key=second
    )  # the principal: not independent, but a person
    floor.inbox.approve(preview.preview_id, key=second, person=Caller(principal="test", agent=""))
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED
    assert context(floor)["overrides"] == ["max_notional"]
    assert (context(floor)["approvals"], context(floor)["approvals_independent"]) == (2, 1)


@pytest.mark.parametrize(
    "elsewhere",
    [{"agent": "agent-2"}, {"account": "second"}, {"symbol": "MSFT"}, {"rules": ("max_quantity",)}],
)
async def test_an_override_holds_for_what_it_names_and_nothing_else(
    floor: Any, intent: Build, elsewhere: dict[str, Any]
) -> None:
    lift(floor, **elsewhere)
    assert "max_notional" in await rules(floor, intent(quantity="120"))


async def test_an_override_ends_by_time_by_a_person_and_by_every_change_of_its_row(
    floor: Any, intent: Build
) -> None:
    large = intent(quantity="120")
    lift(floor, symbol="*")
    assert "max_notional" not in await rules(floor, large)
    floor.clock.advance(timedelta(hours=1))
    assert "max_notional" in await rules(floor, large)
    granted = lift(floor)
    assert "max_notional" not in await rules(floor, large)
    with floor.store.unit() as unit:
        unit.connection.execute(
            "UPDATE overrides SET document = replace(document, 'agreed', 'forged') WHERE override_id = ?",
            (granted.override_id,),
        )
    assert "max_notional" in await rules(floor, large)
    granted = lift(floor)
    with floor.store.unit() as unit:
        overrides.revoke(unit, granted.override_id, caller=floor.person, reason="enough")
    with floor.store.unit() as unit:  # somebody edits the table: the log still knows
        unit.connection.execute("DELETE FROM override_revocations")
    assert "max_notional" in await rules(floor, large)


async def test_a_halt_on_a_part_stops_that_part(floor: Any, intent: Build) -> None:
    with floor.store.unit() as unit:
        halt(unit, reason="odd prices", caller=floor.person, scope=Scope("symbol", "AAPL"))
    preview = await floor.desk().preview(intent(), floor.agent)
    assert [reason.message for reason in preview.verdict.reasons] == ["Trading is halted (symbol AAPL)"]
    assert await rules(floor, intent(symbol="MSFT")) == []


async def test_a_mandate_is_spent_in_the_orders_transaction_and_freed_by_a_cancel(
    floor: Any, intent: Build
) -> None:
    now = floor.clock.now()
    mandate = Mandate(
        mandate_id="mn_0123456789ab",
        agent="agent-1",
        account="paper",
        symbols=("AAPL",),
        sides=("buy",),
        per_order_cap_cents=500_000,
        cumulative_cap_cents=600_000,
        period="total",
        not_before=now,
        expires=now + timedelta(days=30),
    ).signed_by(floor.issuer)
    issuer = floor.issuer.verifying_key
    with floor.store.unit() as unit:
        issue(unit, mandate, issuer=issuer, caller=floor.person, now=now)

    def spent() -> int:
        with floor.store.read() as connection:
            return mandates.spent_cents(connection, mandate, now)

    assert await rules(floor, intent(symbol="MSFT")) == ["mandate"]
    order = await submit(floor, intent(quantity="10", **RESTING))
    assert spent() == 400_000
    assert await rules(floor, intent(quantity="5", **RESTING)) == []
    assert await rules(floor, intent(quantity="6", **RESTING)) == ["mandate"]
    await floor.desk().cancel(order.client_order_id, floor.agent)
    assert spent() == 0
    await submit(floor, intent(quantity="6"))
    assert spent() == 6 * 43_047
    with floor.store.read() as connection:
        query = "SELECT entry FROM audit_entries WHERE type = 'order.intent' ORDER BY seq DESC LIMIT 1"
        assert json.loads(connection.execute(query).fetchone()[0])["mandate_id"] == mandate.mandate_id


async def test_an_agent_that_read_outside_text_needs_a_person_above_a_thousand_dollars(
    floor: Any, intent: Build
) -> None:
    with floor.store.unit() as unit:
        taints.mark(unit, caller=floor.agent, source=Source.NEWS, text="buy now!", tool="market_search")
    assert await rules(floor, intent(quantity="2")) == []  # 860.94 USD
    preview = await floor.desk().preview(intent(quantity="3"), floor.agent)
    assert preview.verdict.decision == "needs_approval"
    assert "news via market_search" in preview.verdict.reasons[0].message


async def test_a_desk_with_a_witness_that_never_cosigned_does_not_trade(floor: Any, intent: Build) -> None:
    with floor.store.unit() as unit:
        key = WitnessKey.of(SigningKey.generate("witness.test/w1"))
        witnessing.pin(unit, caller=floor.person, key=key)
    assert await rules(floor, intent()) == ["witness_late"]


async def test_a_person_who_is_no_trader_any_more_has_no_agent_that_trades(floor: Any, intent: Build) -> None:
    floor.enroll("test", Role.READER)
    assert await rules(floor, intent()) == ["principal_permitted"]
    floor.enroll("test", Role.TRADER)
    assert await rules(floor, intent()) == []
    assert await rules(floor, intent(agent="agent-2"), OTHER) == ["agent_permitted"]


async def test_every_decision_of_the_log_can_be_decided_again(floor: Any, intent: Build) -> None:
    await submit(floor, intent())
    await rules(floor, intent())
    await rules(floor, intent(quantity="200"))
    lift(floor)
    await rules(floor, intent(quantity="120"))
    for logged in decisions(floor):
        verdict = floor.policy.decide(PolicyContext.from_logged(logged["context"]))
        assert verdict.decision == logged["decision"]
        assert [reason.rule for reason in verdict.reasons] == logged["rules"]
        assert verdict.policy_digest == logged["policy_digest"]


async def test_a_submission_is_one_unit_or_nothing(
    floor: Any, intent: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    before = floor.entry_types()

    def breaks_down(*_: object, **__: object) -> None:
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(messages, "count_order", breaks_down)
    with pytest.raises(RuntimeError):
        await desk.submit(preview.preview_id, floor.agent)
    assert floor.entry_types() == before
    assert await desk.orders(states=WORKING) == []
    assert (await desk.portfolio("paper")).reserved_cash == 0
    monkeypatch.undo()
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED
    assert verify_store(floor.home / "desk.db", floor.store.vkey).ok
