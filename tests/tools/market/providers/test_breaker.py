"""A provider that keeps failing is left alone for a while, then tried again with one request."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.tools.market.providers.conftest import Hand

from neural_trader_tools.market.providers.breaker import OPEN_S_MAX, CircuitBreaker, CircuitOpenError


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.admit()
        breaker.failed("provider_failed")


def test_five_failures_in_a_row_open_it_and_a_success_between_them_does_not(hand: Hand) -> None:
    breaker = CircuitBreaker("alpaca", hand)
    fail(breaker, 4)
    breaker.admit()
    breaker.succeeded()
    fail(breaker, 4)
    assert breaker.circuit == "closed"
    fail(breaker, 1)
    assert breaker.circuit == "open"
    with pytest.raises(
        CircuitOpenError, match=r"alpaca failed 5 times in a row \(last: provider_failed\).* 30 s"
    ):
        breaker.admit()


def test_one_request_tries_it_again_and_others_wait_for_the_verdict(hand: Hand) -> None:
    breaker = CircuitBreaker("alpaca", hand)
    fail(breaker, 5)
    hand.now_s += 30
    assert breaker.circuit == "half_open"
    breaker.admit()
    with pytest.raises(CircuitOpenError):
        breaker.admit()
    breaker.abandoned()  # given up by us: the next may try
    breaker.admit()
    breaker.succeeded()
    assert breaker.circuit == "closed"


def test_a_trial_that_fails_doubles_the_pause_up_to_ten_minutes(hand: Hand) -> None:
    breaker = CircuitBreaker("alpaca", hand)
    fail(breaker, 5)
    pauses: list[float] = []
    for _ in range(7):
        hand.now_s = breaker.open_until
        fail(breaker, 1)
        pauses.append(breaker.open_until - hand.now_s)
    assert pauses == [60, 120, 240, 480, 600, 600, 600]


def test_the_pause_goes_on_doubling_where_every_trial_is_another_process(hand: Hand) -> None:
    breaker = CircuitBreaker("alpaca", hand)
    fail(breaker, 5)
    pauses: list[float] = []
    for _ in range(6):
        hand.now_s = breaker.open_until
        after = CircuitBreaker("alpaca", hand)
        after.restore(breaker.failures, breaker.open_until, breaker.last_failure)
        fail(after, 1)
        pauses.append(after.open_until - hand.now_s)
        breaker = after
    assert pauses == [60, 120, 240, 480, 600, 600]


def test_its_changes_are_logged_as_events(hand: Hand) -> None:
    breaker = CircuitBreaker("alpaca", hand)
    with capture_logs() as events:
        fail(breaker, 5)
        hand.now_s += 30
        breaker.admit()
        breaker.succeeded()
    assert [(one["event"], one["provider"]) for one in events] == [
        ("provider circuit open", "alpaca"),
        ("provider circuit half open", "alpaca"),
        ("provider circuit closed", "alpaca"),
    ]


def test_a_clock_that_was_put_back_does_not_keep_it_open_for_ever(hand: Hand) -> None:
    breaker = CircuitBreaker("alpaca", hand)
    fail(breaker, 5)
    hand.now_s -= 10_000_000
    with pytest.raises(CircuitOpenError, match=f"{OPEN_S_MAX:.0f} s"):
        breaker.admit()


@given(st.lists(st.tuples(st.sampled_from(("ok", "bad", "none")), st.integers(0, 700))))
def test_it_admits_exactly_while_it_is_not_open(steps: list[tuple[str, int]]) -> None:
    hand = Hand()
    breaker = CircuitBreaker("alpaca", hand)
    in_a_row = 0
    for outcome, wait_s in steps:
        hand.now_s += wait_s
        admitted = False
        with contextlib.suppress(CircuitOpenError):
            breaker.admit()
            admitted = True
        assert admitted == (in_a_row < 5 or hand.now_s >= breaker.open_until)
        if not admitted:
            continue
        if outcome == "ok":
            breaker.succeeded()
            in_a_row = 0
        elif outcome == "bad":
            breaker.failed("provider_failed")
            in_a_row += 1
        else:
            breaker.abandoned()
        assert (breaker.circuit == "closed") == (in_a_row < 5)
