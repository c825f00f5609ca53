"""Live trading: what a person signed for one policy and a while, and what somebody might try instead."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from neural_trader_governance import live
from neural_trader_governance.alerts import read_alerts
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.live import LivePermit
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

ISSUER = SigningKey.generate("issuer")
PERSON = Caller("alice", "")
POLICY, OTHER = "a" * 64, "b" * 64
Build = Callable[..., LivePermit]
Permit = Callable[..., int]


@pytest.fixture
def build(clock: SimulatedClock) -> Build:
    """An unsigned permit for a day, unless told otherwise."""

    def make(**fields: Any) -> LivePermit:
        base: dict[str, Any] = {
            "policy_digest": POLICY,
            "not_before": clock.now(),
            "expires": clock.now() + timedelta(days=1),
            "reason": "reviewed with risk",
        }
        return LivePermit.model_validate({**base, **fields})

    return make


@pytest.fixture
def permit(store: Store, clock: SimulatedClock) -> Permit:
    def put(document: LivePermit, caller: Caller = PERSON, policy: str = POLICY) -> int:
        with store.unit() as unit:
            return live.permit_live(
                unit,
                document,
                issuer=ISSUER.verifying_key,
                policy_digest=policy,
                caller=caller,
                now=clock.now(),
            )

    return put


def is_permitted(store: Store, clock: SimulatedClock, policy: str = POLICY) -> bool:
    with store.read() as connection:
        return live.is_permitted(
            connection, issuer=ISSUER.verifying_key, policy_digest=policy, now=clock.now()
        )


def test_a_permit_is_for_one_policy_and_ends_by_itself(
    store: Store, clock: SimulatedClock, build: Build, permit: Permit
) -> None:
    assert not is_permitted(store, clock)
    permit(build().signed_by(ISSUER))
    assert is_permitted(store, clock)
    assert not is_permitted(store, clock, OTHER), "who activates another policy has switched it off"
    with store.read() as connection:
        assert [alert.kind for alert, _ in read_alerts(connection)] == ["live_trading"]
    clock.advance(timedelta(days=1))
    assert not is_permitted(store, clock)


def test_a_person_ends_every_permit_and_nothing_revives_one(
    store: Store, clock: SimulatedClock, build: Build, permit: Permit
) -> None:
    signed = build().signed_by(ISSUER)
    permit(signed)
    with store.unit() as unit, pytest.raises(RiskError, match="person_required"):
        live.end_live(unit, caller=Caller("alice", "bot"), reason="no")
    with store.unit() as unit, pytest.raises(InputError, match="invalid_reason"):
        live.end_live(unit, caller=PERSON, reason=" ")
    with store.unit() as unit:
        live.end_live(unit, caller=PERSON, reason="enough")
    assert not is_permitted(store, clock)
    with store.unit() as unit:
        unit.connection.execute("DELETE FROM live_ends")
    assert not is_permitted(store, clock), "the log knows that it ended"
    with store.unit() as unit:
        unit.connection.execute("UPDATE live_permits SET seq = 1000000")
    assert not is_permitted(store, clock), "its row names another entry"
    with store.unit() as unit:
        unit.connection.execute("DELETE FROM live_permits")
    with pytest.raises(RiskError, match="permit_replayed"):
        permit(signed)
    permit(build().signed_by(ISSUER))
    assert is_permitted(store, clock), "a new one is a new word"


def test_only_a_person_with_the_pinned_issuers_signature_permits(
    store: Store, clock: SimulatedClock, build: Build, permit: Permit
) -> None:
    signed = build().signed_by(ISSUER)
    with pytest.raises(RiskError, match="person_required"):
        permit(signed, Caller("alice", "bot"))
    for forged in (
        build(),
        build().signed_by(SigningKey.generate("issuer")),
        signed.model_copy(update={"policy_digest": OTHER}),
        signed.model_copy(update={"expires": signed.expires + timedelta(days=1)}),
    ):
        with pytest.raises(RiskError, match="signature_invalid"):
            permit(forged)
    with pytest.raises(RiskError, match="permit_of_another_policy"):
        permit(signed, policy=OTHER)
    with store.unit() as unit:
        forged = build(expires=signed.expires + timedelta(days=2)).signed_by(SigningKey.generate("issuer"))
        unit.connection.execute(
            "INSERT INTO live_permits VALUES (?, ?, ?, 0)", (forged.permit_id, forged.nonce, forged.text())
        )
    assert not is_permitted(store, clock), "a row put there by hand permits nothing"


@pytest.mark.parametrize(("days", "seconds"), [(0, 0), (31, 1), (-1, 0)])
def test_a_permit_lasts_a_month_at_most(build: Build, clock: SimulatedClock, days: int, seconds: int) -> None:
    with pytest.raises(ValidationError):
        build(expires=clock.now() + timedelta(days=days, seconds=seconds))
    with pytest.raises(ValidationError):
        build(reason="")
