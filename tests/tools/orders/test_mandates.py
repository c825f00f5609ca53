"""Mandates through the desk: charged as the order is written, settled by what the venue answers."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from neural_trader_governance import mandates
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import RiskError
from neural_trader_governance.mandate_register import Mandate, issue, revoke
from neural_trader_governance.terms.orders import OrderIntent, OrderState

pytestmark = pytest.mark.anyio
Build = Callable[..., OrderIntent]
CLOSE = Decimal("430.47")  # AAPL on 2013-03-01, the sample's last day


def mandated(floor: Any, **changes: Any) -> Mandate:
    """Puts a mandate of the test agent in force: AAPL both ways, 1,000 USD an order, 2,000 USD a day."""
    fields: dict[str, Any] = {
        "mandate_id": "mn_0123456789ab",
        "agent": floor.agent.agent,
        "account": "paper",
        "symbols": ("AAPL",),
        "sides": ("buy", "sell"),
        "per_order_cap_cents": 100_000,
        "cumulative_cap_cents": 200_000,
        "period": "day",
        "not_before": floor.clock.now() - timedelta(days=1),
        "expires": floor.clock.now() + timedelta(days=30),
    }
    mandate = Mandate.model_validate({**fields, **changes}).signed_by(floor.issuer)
    with floor.store.unit() as unit:
        issue(
            unit,
            mandate,
            issuer=floor.issuer.verifying_key,
            caller=floor.person,
            now=floor.clock.now(),
        )
    return mandate


def spent(floor: Any, mandate: Mandate) -> int:
    with floor.store.read() as connection:
        return mandates.spent_cents(connection, mandate, floor.clock.now())


async def rules(floor: Any, intent: OrderIntent) -> list[str]:
    preview = await floor.desk().preview(intent, floor.agent)
    return [reason.rule for reason in preview.verdict.reasons]


async def test_an_order_within_its_mandate_is_charged_what_it_was_worth_and_names_it(
    floor: Any, intent: Build
) -> None:
    mandate = mandated(floor)
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    assert preview.verdict.decision == "allow"
    assert spent(floor, mandate) == 0, "looking costs nothing"
    submission = await desk.submit(preview.preview_id, floor.agent)
    assert submission.order.state == OrderState.FILLED
    assert spent(floor, mandate) == 2 * CLOSE * 100
    with floor.store.read() as connection:
        entry = read_entry(connection, submission.order.audit_seq)
    assert entry.mandate_id == mandate.mandate_id


async def test_what_no_mandate_covers_is_denied_with_the_reason(floor: Any, intent: Build) -> None:
    assert await rules(floor, intent(symbol="MSFT")) == []
    mandated(floor)
    preview = await floor.desk().preview(intent(symbol="MSFT"), floor.agent)
    (reason,) = preview.verdict.reasons
    assert reason.rule == "mandate"
    assert "mn_0123456789ab does not name MSFT" in reason.message
    assert await rules(floor, intent(quantity="3")) == ["mandate"]
    assert await rules(floor, intent()) == []


async def test_a_revocation_stops_an_order_that_was_previewed_before(floor: Any, intent: Build) -> None:
    mandate = mandated(floor)
    desk = floor.desk()
    preview = await desk.preview(intent(), floor.agent)
    with floor.store.unit() as unit:
        revoke(unit, mandate.mandate_id, caller=floor.person, reason="enough")
    with pytest.raises(RiskError, match="mn_0123456789ab is revoked"):
        await desk.submit(preview.preview_id, floor.agent)
    assert await desk.orders() == []
    assert spent(floor, mandate) == 0


async def test_what_never_filled_is_free_again(floor: Any, intent: Build) -> None:
    mandate = mandated(floor)
    desk = floor.desk()
    low = intent(type="limit", limit_price="400.00")
    preview = await desk.preview(low, floor.agent)
    submission = await desk.submit(preview.preview_id, floor.agent)
    assert submission.order.state == OrderState.ACCEPTED
    held = spent(floor, mandate)
    assert held >= 80_000
    await desk.cancel(submission.order.client_order_id, floor.agent)
    assert spent(floor, mandate) == 0


async def test_submissions_at_once_from_two_desks_stay_within_the_cap(floor: Any, intent: Build) -> None:
    mandate = mandated(floor)
    desks = [floor.desk(), floor.desk()]
    previews = [
        await desks[number % 2].preview(intent(quantity=f"2.0{number}"), floor.agent)  # no two the same
        for number in range(6)
    ]
    assert {preview.verdict.decision for preview in previews} == {"allow"}
    refused: list[str] = []

    async def submit(number: int) -> None:
        try:
            await desks[number % 2].submit(previews[number].preview_id, floor.agent)
        except RiskError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(submit, number)
    assert len(refused) == 4, "two of about 861 USD fit into 2,000 USD"
    assert all("mn_0123456789ab has " in reason for reason in refused)
    assert 172_000 <= spent(floor, mandate) <= 200_000
    assert len(await desks[0].orders()) == 2


async def test_a_desk_that_requires_mandates_denies_who_has_none(floor: Any, intent: Build) -> None:
    desk = dataclasses.replace(floor.desk(), mandates_required=True)
    preview = await desk.preview(intent(), floor.agent)
    assert [reason.rule for reason in preview.verdict.reasons] == ["mandate"]
