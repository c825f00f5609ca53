"""Requests are spaced by what the provider's headers say, and by the plan where they say nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.market.providers.conftest import Hand

from neural_trader_governance.errors import NetworkError
from neural_trader_tools.market.providers.budget import RateBudget

pytestmark = pytest.mark.anyio


def headers(remaining: int, reset_s: float, limit: int = 200) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": str(int(reset_s)),
    }


async def test_without_headers_the_plan_holds_over_every_minute(hand: Hand) -> None:
    budget = RateBudget("massive", 5, hand, hand.sleep)
    sent: list[float] = []
    for _ in range(11):
        await budget.take()
        sent.append(hand.now_s)
    assert [round(moment - sent[0]) for moment in sent] == [0] * 5 + [60] * 5 + [120]


async def test_it_waits_for_the_reset_that_the_provider_names(hand: Hand) -> None:
    budget = RateBudget("alpaca", 200, hand, hand.sleep)
    budget.observe(200, headers(0, hand.now_s + 17))
    await budget.take()
    assert hand.slept == [17.0]


async def test_a_429_is_waited_out_as_the_answer_says(hand: Hand) -> None:
    budget = RateBudget("alpaca", 200, hand, hand.sleep)
    budget.observe(429, {"retry-after": "9"})
    await budget.take()
    budget.observe(429, {"retry-after": "Thu, 01 Jan 2026 00:00:29 GMT"})
    await budget.take()
    budget.observe(429, headers(0, hand.now_s + 5))
    await budget.take()
    assert hand.slept == [9.0, 20.0, 5.0]


async def test_a_longer_pause_is_an_error_that_names_it(hand: Hand) -> None:
    budget = RateBudget("alpaca", 200, hand, hand.sleep)
    budget.observe(429, {"retry-after": "3600"})
    with pytest.raises(NetworkError, match="takes no more requests for 3600 s") as refused:
        await budget.take()
    assert (refused.value.code, hand.slept) == ("provider_rate_limited", [])


@pytest.mark.parametrize("text", ["", "-1", "1e9", "NaN", "²", "9" * 40, "1767225600000", "soon"])
async def test_headers_that_make_no_sense_cost_at_most_a_minute(hand: Hand, text: str) -> None:
    budget = RateBudget("alpaca", 200, hand, hand.sleep)
    budget.observe(200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": text, "x-ratelimit-limit": text})
    await budget.take()
    assert sum(hand.slept) <= 60


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 7))
async def test_no_minute_ever_holds_more_than_the_plan(pauses: list[float], plan: int) -> None:
    hand = Hand()
    budget = RateBudget("massive", plan, hand, hand.sleep)
    sent: list[float] = []
    for pause in pauses:
        hand.now_s += pause
        await budget.take()
        sent.append(hand.now_s)
    for first, later in zip(sent, sent[plan:], strict=False):
        assert later - first >= 60 - 1e-6
