"""Overrides: what the issuer signed for a while, and everything that somebody might try instead."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from neural_trader_governance import overrides
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.overrides import Override
from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

ISSUER = SigningKey.generate("issuer")
PERSON = Caller("alice", "")
ORDER = {"agent": "research-bot", "account": "paper", "symbol": "AAPL"}
Build = Callable[..., Override]


@pytest.fixture
def build(clock: SimulatedClock) -> Build:
    """An unsigned override of two rules for an hour, unless told otherwise."""

    def make(**fields: Any) -> Override:
        base: dict[str, Any] = {
            **ORDER,
            "rules": ("daily_loss", "max_notional"),
            "not_before": clock.now(),
            "expires": clock.now() + timedelta(hours=1),
            "reason": "agreed with the committee",
        }
        return Override.model_validate({**base, **fields})

    return make


@pytest.fixture
def grant(store: Store, clock: SimulatedClock, engine: PolicyEngine) -> Callable[..., int]:
    def put(document: Override, caller: Caller = PERSON) -> int:
        with store.unit() as unit:
            return overrides.grant(
                unit,
                document,
                issuer=ISSUER.verifying_key,
                overridable=engine.overridable,
                caller=caller,
                now=clock.now(),
            )

    return put


def lifted(store: Store, clock: SimulatedClock, **order: str) -> tuple[str, ...]:
    with store.read() as connection:
        return overrides.lifted_rules(
            connection, issuer=ISSUER.verifying_key, now=clock.now(), **{**ORDER, **order}
        )


def test_an_override_lifts_its_rules_until_it_ends(
    store: Store, clock: SimulatedClock, build: Build, grant: Callable[..., int]
) -> None:
    grant(build().signed_by(ISSUER))
    assert lifted(store, clock) == ("daily_loss", "max_notional")
    assert lifted(store, clock, agent="other-bot") == ()
    assert lifted(store, clock, account="second") == ()
    assert lifted(store, clock, symbol="MSFT") == ()
    clock.advance(timedelta(hours=1) - timedelta(microseconds=1))
    assert lifted(store, clock) != ()
    clock.advance(timedelta(microseconds=1))
    assert lifted(store, clock) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"rules": ()},
        {"rules": ("max_notional", "daily_loss")},
        {"rules": ("max_notional", "max_notional")},
        {"reason": ""},
        {"symbol": "aapl"},
    ],
)
def test_a_malformed_override_cannot_be_built(build: Build, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        build(**fields)


@pytest.mark.parametrize(("hours", "seconds"), [(24, 1), (0, 0), (-1, 0)])
def test_an_override_lasts_a_day_at_most(
    clock: SimulatedClock, build: Build, hours: int, seconds: int
) -> None:
    build(expires=clock.now() + timedelta(hours=24))
    with pytest.raises(ValidationError, match="24 hours"):
        build(expires=clock.now() + timedelta(hours=hours, seconds=seconds))


def test_only_a_person_with_the_pinned_issuers_signature_grants(
    store: Store, clock: SimulatedClock, build: Build, grant: Callable[..., int]
) -> None:
    signed = build().signed_by(ISSUER)
    with pytest.raises(RiskError, match="person_required"):
        grant(signed, Caller("alice", "research-bot"))
    for forged in (
        build(),
        build().signed_by(SigningKey.generate("issuer")),
        signed.model_copy(update={"symbol": "*"}),
        signed.model_copy(update={"expires": signed.expires + timedelta(hours=1)}),
        signed.model_copy(update={"rules": ("max_notional",)}),
    ):
        with pytest.raises(RiskError, match="signature_invalid"):
            grant(forged)
    assert lifted(store, clock) == ()


def test_no_override_lifts_what_the_policy_calls_final(build: Build, grant: Callable[..., int]) -> None:
    for rule in ("halted", "restricted_symbol", "mandate", "approval_quorum", "no_such_rule"):
        with pytest.raises(RiskError, match="rule_not_overridable"):
            grant(build(rules=(rule,)).signed_by(ISSUER))


def test_an_override_is_granted_once_whatever_became_of_its_row(
    store: Store, clock: SimulatedClock, build: Build, grant: Callable[..., int]
) -> None:
    signed = build().signed_by(ISSUER)
    grant(signed)
    with pytest.raises(RiskError, match="override_replayed"):
        grant(signed)
    with store.unit() as unit:
        overrides.revoke(unit, signed.override_id, caller=PERSON, reason="enough")
    assert lifted(store, clock) == ()
    with store.unit() as unit:
        unit.connection.execute("DELETE FROM overrides")
        unit.connection.execute("DELETE FROM override_revocations")
    with pytest.raises(RiskError, match="override_replayed"):
        grant(signed)
    clock.advance(timedelta(hours=2))
    with pytest.raises(RiskError, match="override_expired"):
        grant(build(not_before=signed.not_before, expires=signed.expires).signed_by(ISSUER))


def test_every_byte_of_a_stored_override_counts(
    store: Store, clock: SimulatedClock, build: Build, grant: Callable[..., int]
) -> None:
    signed = build().signed_by(ISSUER)
    grant(signed)
    text = signed.text()
    for place in range(len(text)):
        with store.unit() as unit:
            broken = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
            unit.connection.execute("UPDATE overrides SET document = ?", (broken,))
        assert lifted(store, clock) == (), place
    with store.unit() as unit:
        unit.connection.execute("UPDATE overrides SET document = ?", (text,))
    assert lifted(store, clock) != ()


def test_revoking_takes_a_person_and_a_known_id(store: Store) -> None:
    with pytest.raises(RiskError, match="person_required"), store.unit() as unit:
        overrides.revoke(unit, "ov_000000000000", caller=Caller("alice", "bot"), reason="x")
    with pytest.raises(InputError, match="unknown_override"), store.unit() as unit:
        overrides.revoke(unit, "ov_000000000000", caller=PERSON, reason="x")
