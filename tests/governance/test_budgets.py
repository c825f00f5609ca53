"""Budgets: signed by the pinned issuer, the newest stands, an older one never comes back, damage refuses."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from neural_trader_governance.budgets import Budget, bounds_of, period_days, read_budgets, set_budget
from neural_trader_governance.errors import RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.usage import Bound

NOW = datetime(2013, 3, 1, 15, tzinfo=UTC)
PERSON = Caller("alice", "")
STRATEGY = "0123456789ab"


@pytest.fixture(scope="module")
def issuer() -> SigningKey:
    return SigningKey.generate("desk.example/issuer")


def budget(key: SigningKey, **changes: Any) -> Budget:
    fields = {"agent": "agent-1", "period": "day", "limit_micros": 5_000_000, "issued_time": NOW}
    return Budget.model_validate({**fields, **changes}).signed_by(key)


def put(store: Store, key: SigningKey, document: Budget, caller: Caller = PERSON) -> None:
    with store.unit() as unit:
        set_budget(unit, document, issuer=key.verifying_key, caller=caller)


def bounds(store: Store, key: SigningKey, strategy: str = "", now: datetime = NOW) -> list[Bound]:
    with store.read() as connection:
        return bounds_of(
            read_budgets(connection, issuer=key.verifying_key, agent="agent-1"), strategy=strategy, now=now
        )


def test_a_budget_bounds_its_agent_in_its_calendar_period(store: Store, issuer: SigningKey) -> None:
    assert bounds(store, issuer) == []
    put(store, issuer, budget(issuer))
    put(store, issuer, budget(issuer, period="month", limit_micros=9))
    day, month = bounds(store, issuer)
    assert day == Bound(
        "the budget of agent-1 for the day 2013-03-01", None, "2013-03-01", "2013-03-01", 5_000_000
    )
    assert (month.name, month.first_day, month.last_day, month.limit_micros) == (
        "the budget of agent-1 for the month 2013-03", "2013-03-01", "2013-03-31", 9,
    )  # fmt: skip


def test_a_strategys_budget_bounds_that_strategy_only(store: Store, issuer: SigningKey) -> None:
    put(store, issuer, budget(issuer, strategy=STRATEGY))
    assert bounds(store, issuer, "f" * 12) == []
    assert [bound.strategy for bound in bounds(store, issuer, STRATEGY)] == [STRATEGY]


def test_the_newest_replaces_and_an_older_one_never_comes_back(store: Store, issuer: SigningKey) -> None:
    generous = budget(issuer, limit_micros=10**12)
    put(store, issuer, generous)
    put(store, issuer, budget(issuer, limit_micros=1, issued_time=NOW + timedelta(seconds=1)))
    assert [bound.limit_micros for bound in bounds(store, issuer)] == [1]
    with pytest.raises(RiskError, match="budget_replayed"):
        put(store, issuer, generous)
    with pytest.raises(RiskError, match="budget_replayed"):
        put(store, issuer, budget(issuer, limit_micros=10**12))
    put(store, issuer, budget(issuer, limit_micros=None, issued_time=NOW + timedelta(seconds=2)))
    assert bounds(store, issuer) == []


def test_only_a_person_with_the_pinned_key_sets_one(store: Store, issuer: SigningKey) -> None:
    with pytest.raises(RiskError, match="person_required"):
        put(store, issuer, budget(issuer), Caller("alice", "agent-1"))
    other = SigningKey.generate(issuer.name)
    for forged in (
        budget(other),
        budget(issuer).model_copy(update={"limit_micros": 10**12}),
        budget(issuer).model_copy(update={"agent": "agent-2"}),
    ):
        with pytest.raises(RiskError, match="signature_invalid"):
            put(store, issuer, forged)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM budgets",
        "UPDATE budgets SET agent = 'agent-2'",
        "UPDATE budgets SET document = replace(document, '5000000', '6000000')",
        "UPDATE budgets SET document = replace(document, 'agent-1', 'agent-2'), agent = 'agent-2'",
        "UPDATE budgets SET document = ''",
    ],
)
def test_a_damaged_budget_refuses_what_costs(store: Store, issuer: SigningKey, damage: str) -> None:
    put(store, issuer, budget(issuer))
    with store.unit() as unit:
        unit.connection.execute(damage)
    with pytest.raises(RiskError, match="budget_invalid"):
        bounds(store, issuer)


def test_another_agent_is_not_refused_for_it(store: Store, issuer: SigningKey) -> None:
    put(store, issuer, budget(issuer))
    with store.unit() as unit:
        unit.connection.execute("DELETE FROM budgets")
    with store.read() as connection:
        assert read_budgets(connection, issuer=issuer.verifying_key, agent="agent-2") == []


def test_periods_end_with_their_days_in_utc() -> None:
    assert period_days("day", datetime.fromisoformat("2013-02-28T23:30:00-01:00")) == ("2013-03-01",) * 2
    assert period_days("month", datetime(2012, 2, 29, tzinfo=UTC)) == ("2012-02-01", "2012-02-29")
