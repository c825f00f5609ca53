"""The transition table: total, closed at its ends, and the only way to move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import ExecutionError
from neural_trader_governance.terms.orders import OrderState
from neural_trader_tools.orders.machine import TRANSITIONS, WORKING, advance


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(OrderState)


@pytest.mark.parametrize("end", [OrderState.FILLED, OrderState.REJECTED, OrderState.DENIED])
def test_ends_lead_nowhere(end: OrderState) -> None:
    assert not TRANSITIONS[end]


def test_a_late_fill_may_follow_a_cancel_but_nothing_revives_a_filled_order() -> None:
    assert advance(OrderState.CANCELED, OrderState.FILLED) == OrderState.FILLED
    with pytest.raises(ExecutionError, match="illegal_transition"):
        advance(OrderState.FILLED, OrderState.CANCELED)


@given(st.sampled_from(OrderState), st.sampled_from(OrderState))
def test_advance_agrees_with_the_table(current: OrderState, following: OrderState) -> None:
    if following == current or following in TRANSITIONS[current]:
        assert advance(current, following) == following
    else:
        with pytest.raises(ExecutionError):
            advance(current, following)


def test_every_working_state_can_still_fill() -> None:
    assert all(OrderState.FILLED in TRANSITIONS[state] for state in WORKING)
