"""The transition table: total, closed at its ends, the only way to move, and played again from the log."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import ExecutionError
from neural_trader_governance.terms.orders import OrderState
from neural_trader_tools.orders.machine import TABLE, TRANSITIONS, WORKING, Event, advance, follow

ENDED = set(TABLE) - WORKING
VENUE_WORDS = [Event.ACCEPTED, Event.PARTIALLY_FILLED, Event.FILLED, Event.CANCELED, Event.EXPIRED]
TEN = Decimal(10)


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    assert set(TABLE) | {OrderState.PREVIEWED, OrderState.AWAITING_APPROVAL} < set(OrderState)


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


@given(st.sampled_from(sorted(WORKING)), st.sampled_from(VENUE_WORDS), st.integers(0, 12))
def test_a_working_order_understands_every_word_of_a_venue(
    state: OrderState, event: Event, filled: int
) -> None:
    after = follow(state, event, filled=Decimal(filled), quantity=TEN)
    assert (after == OrderState.FILLED) == (filled >= 10), "what is filled decides, not what it is called"


@given(st.sampled_from(sorted(ENDED)), st.sampled_from(Event), st.integers(0, 9))
def test_nothing_revives_an_order_that_ended(state: OrderState, event: Event, filled: int) -> None:
    try:
        assert follow(state, event, filled=Decimal(filled), quantity=TEN) == state
    except ExecutionError:
        assert event in {Event.CANCEL_ASKED, Event.REPLACE_ASKED} or state == OrderState.REJECTED


NEWS = st.lists(
    st.sampled_from(
        [
            (Event.ACCEPTED, 0),
            (Event.PARTIALLY_FILLED, 4),
            (Event.PARTIALLY_FILLED, 3),
            (Event.FILLED, 3),
            (Event.UNCLEAR, 0),
        ]
    ),
    unique=True,
    min_size=1,
)


@given(NEWS)
def test_the_order_of_news_does_not_matter_to_where_it_ends(news: list[tuple[Event, int]]) -> None:
    ends: set[OrderState] = set()
    for told in (news, news[::-1], sorted(news, key=lambda each: each[1])):
        state, filled = OrderState.ACCEPTED, Decimal(0)
        for event, more in told:
            filled += more
            state = follow(state, event, filled=filled, quantity=TEN)
        ends.add(state)
    assert len(ends) == 1
