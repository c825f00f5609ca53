"""Plans are pure: whatever the moments at which they are asked, the children add up and none is too large."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neural_trader_tools.orders.algos.plan import Leg, Plan, profile_weights

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def plan(**fields: Any) -> Plan:
    return Plan.model_validate(
        {"algorithm": "twap", "start": START, "end": START + 4 * HOUR, "slices": 4, **fields}
    )


def leg(quantity: object = 10) -> Leg:
    return Leg(symbol="AAPL", side="buy", quantity=Decimal(str(quantity)))


def run(cut: Plan, wanted: Leg, moments: list[datetime], volume: Decimal = Decimal(0)) -> list[Decimal]:
    """Every child that the plan makes when it is asked at those moments, all of them filled."""
    children: list[Decimal] = []
    for moment in moments:
        if child := cut.child(wanted, sum(children, Decimal(0)), moment, volume):
            children.append(child)
    return children


def test_time_weighted_parts_are_equal_and_the_last_takes_the_rest() -> None:
    hours = [START + number * HOUR for number in range(4)]
    assert run(plan(), leg(10), hours) == [2, 3, 2, 3]
    assert run(plan(lot=Decimal("0.5")), leg("9.25"), hours) == [
        Decimal(2),
        Decimal("2.5"),
        2,
        Decimal("2.75"),
    ]
    assert plan().child(leg(), Decimal(0), START - HOUR, Decimal(0)) == 0
    assert plan().child(leg(), Decimal(0), START + 5 * HOUR, Decimal(0)) == 0, "after the end nothing is sent"


def test_volume_weighted_parts_follow_the_profile() -> None:
    hours = [START + number * HOUR for number in range(4)]
    cut = plan(algorithm="vwap", weights=(40, 10, 10, 40))
    assert run(cut, leg(100), hours) == [40, 10, 10, 40]


def test_a_share_of_the_markets_volume_is_never_exceeded() -> None:
    cut = plan(algorithm="pov", participation_bps=1_000)
    assert cut.child(leg(100), Decimal(0), START, Decimal(99)) == 9
    assert cut.child(leg(100), Decimal(9), START + HOUR, Decimal(100)) == 1
    assert cut.child(leg(100), Decimal(10), START + HOUR, Decimal(10_000)) == 90


def test_what_was_missed_is_made_up_for_in_parts() -> None:
    cut = plan(slices=10)
    late = START + 3 * HOUR + timedelta(minutes=59)
    assert cut.child(leg(100), Decimal(0), late, Decimal(0)) == 20
    assert cut.child(leg(100), Decimal(20), late, Decimal(0)) == 20


def any_plan(slices: int, weights: list[int], seed: int, jitter: Decimal, lot: Decimal) -> Plan:
    """A plan whose weights repeat those given; without any it is time-weighted."""
    return plan(
        algorithm="vwap" if weights else "twap",
        slices=slices,
        weights=tuple(weights[number % len(weights)] for number in range(slices)) if weights else (),
        seed=seed,
        jitter=jitter,
        lot=lot,
    )


PLANS = st.builds(
    any_plan,
    st.integers(1, 40),
    st.lists(st.integers(0, 1_000), max_size=5).filter(lambda given: not given or given[0] > 0),
    st.integers(0, 5),
    st.sampled_from([Decimal(0), Decimal("0.9")]),
    st.sampled_from([Decimal(1), Decimal("0.001"), Decimal(7)]),
)


@given(PLANS, st.integers(1, 10**6), st.lists(st.integers(0, 15_000), max_size=12))
def test_children_add_up_whenever_the_plan_is_asked(cut: Plan, eighths: int, seconds: list[int]) -> None:
    wanted = leg(Decimal(eighths) / 8)
    moments = sorted(START + timedelta(seconds=second) for second in seconds)
    children = run(cut, wanted, moments)
    assert sum(children) <= wanted.quantity
    assert all(Decimal(0) < child <= cut.child_max(wanted.quantity) for child in children)
    assert all(child % cut.lot == 0 for child in children[:-1])
    for moment in moments:
        assert cut.target(wanted.quantity, moment, Decimal(0)) <= wanted.quantity
    patient = run(cut, wanted, [cut.end] * (2 * cut.slices + 2))
    assert sum(patient) == wanted.quantity, "at the end everything has been sent"
    assert run(Plan.model_validate_json(cut.model_dump_json()), wanted, moments) == children


@given(PLANS)
def test_times_ascend_within_the_plan_and_only_the_seed_moves_them(cut: Plan) -> None:
    times = cut.due_times()
    assert times == sorted(times) == cut.due_times()
    assert cut.start <= times[0]
    assert times[-1] < cut.end
    if not cut.jitter:
        assert times[0] == cut.start
    elif cut.slices > 3:
        assert times != cut.model_copy(update={"seed": cut.seed + 1}).due_times()


def test_a_profile_is_the_volume_of_each_slices_time_of_day() -> None:
    bars = [(34_200, Decimal(10)), (34_200, Decimal(30)), (34_260, Decimal(5)), (40_000, Decimal(7))]
    assert profile_weights(bars, [(34_200, 34_260), (34_260, 40_000), (40_000, 41_000)]) == (40, 5, 7)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"end": START}, "end must be later"),
        ({"algorithm": "vwap"}, "needs weights"),
        ({"weights": (1, 1, 1, 1)}, "takes no weights"),
        ({"algorithm": "vwap", "weights": (1, 1)}, "one of each slice"),
        ({"algorithm": "vwap", "weights": (0, 0, 0, 0)}, "not all zero"),
        ({"algorithm": "pov"}, "needs participation_bps"),
        ({"participation_bps": 100}, "only that"),
        ({"slices": 0}, "greater than or equal to 1"),
        ({"participation_bps": 5_001}, "less than or equal to 5000"),
        ({"jitter": "1"}, "less than or equal to 0.9"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        plan(**fields)
    with pytest.raises(ValidationError, match="multiple of its tick"):
        Leg(symbol="AAPL", side="buy", quantity=Decimal(1), limit_price=Decimal("10.001"))
