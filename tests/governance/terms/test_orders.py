"""Intents, bars and the rest: frozen, validated, with a JSON schema."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.fills import Fill
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.market import Bar, Quote, Trade, interval_duration
from neural_trader_governance.terms.orders import Order, OrderIntent
from neural_trader_governance.terms.portfolios import Portfolio
from neural_trader_governance.terms.signals import Signal
from neural_trader_governance.terms.term import Term

INTENT: dict[str, Any] = {
    "symbol": "AAPL",
    "side": "buy",
    "quantity": "1",
    "agent": "agent-1",
    "reason": "test",
}
BAR: dict[str, Any] = {
    "symbol": "AAPL",
    "interval": "1d",
    "event_time": datetime(2013, 3, 1, 14, 30, tzinfo=UTC),
    "known_time": datetime(2013, 3, 1, 21, 0, tzinfo=UTC),
    "open": 10.0,
    "high": 12.0,
    "low": 9.0,
    "close": 11.0,
    "volume": 5.0,
}


@pytest.mark.parametrize("term", [Bar, Quote, Trade, Signal, Instrument, OrderIntent, Order, Fill, Portfolio])
def test_every_term_is_frozen_closed_and_has_a_schema(term: type[Term]) -> None:
    assert term.model_config.get("frozen") is True
    assert term.model_json_schema()["additionalProperties"] is False


def test_an_intent_cannot_be_changed_or_carry_more_than_it_says() -> None:
    intent = OrderIntent.model_validate(INTENT)
    with pytest.raises(ValidationError):
        setattr(intent, "quantity", intent.quantity * 2)  # noqa: B010 - a checker would refuse the plain form
    with pytest.raises(ValidationError):
        OrderIntent.model_validate({**INTENT, "approved": True})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"symbol": "aapl"}, "symbol"),
        ({"symbol": "AAPL\n"}, "symbol"),
        ({"symbol": "\u0410APL"}, "symbol"),
        ({"quantity": "0"}, "greater than 0"),
        ({"quantity": "-1"}, "greater than 0"),
        ({"quantity": "2000000000"}, "less than or equal"),
        ({"quantity": "NaN"}, "not finite"),
        ({"quantity": "0.0000000001"}, "finer than 1e-9"),
        ({"type": "limit"}, "needs limit_price"),
        ({"limit_price": "10"}, "takes no limit_price"),
        ({"type": "stop"}, "needs stop_price"),
        ({"type": "stop_limit", "limit_price": "10"}, "needs stop_price"),
        ({"type": "limit", "limit_price": "10.001"}, "tick"),
        ({"type": "trailing_stop"}, "needs one trail"),
        ({"type": "trailing_stop", "trail_price": "1", "trail_percent": "1"}, "needs one trail"),
        ({"trail_percent": "1"}, "needs one trail"),
        ({"type": "trailing_stop", "trail_percent": "100"}, "less than 100"),
        ({"type": "trailing_stop", "trail_price": "1", "take_profit": "9"}, "brings no exits"),
        ({"type": "oco", "take_profit": "9"}, "needs take_profit and stop_loss"),
        ({"type": "oco", "take_profit": "9", "stop_loss": "8"}, "gaining side"),
        ({"take_profit": "8", "stop_loss": "9"}, "gaining side"),
        ({"type": "limit", "limit_price": "10", "take_profit": "9"}, "wrong side of 10"),
        ({"type": "limit", "limit_price": "10", "stop_loss": "10"}, "wrong side of 10"),
        ({"take_profit": "9", "quantity": "1.5"}, "whole units"),
        ({"take_profit": "9", "time_in_force": "ioc"}, "day or gtc"),
        ({"type": "stop", "stop_price": "9", "time_in_force": "opg"}, "market and limit"),
        ({"agent": "../agent"}, "agent"),
        ({"reason": ""}, "reason"),
    ],
)
def test_a_malformed_intent_is_refused_in_words(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OrderIntent.model_validate({**INTENT, **changes})


def test_an_order_without_the_later_terms_is_written_as_if_there_were_none() -> None:
    plain = OrderIntent.model_validate(INTENT)
    assert sorted(plain.model_dump(mode="json")) == [
        *("account", "agent", "limit_price", "quantity", "reason", "side"),
        *("stop_price", "strategy_id", "symbol", "time_in_force", "type"),
    ], "its hash is what it was, so that no approval and no preview is void after an upgrade"
    bracket = OrderIntent.model_validate({**INTENT, "take_profit": "12", "stop_loss": "9"})
    assert OrderIntent.model_validate_json(bracket.model_dump_json()) == bracket
    assert bracket.model_dump(mode="json")["take_profit"] == "12"
    assert (plain.is_plain, bracket.is_plain, bracket.has_exits) == (True, False, True)


def test_a_penny_stock_has_a_finer_tick() -> None:
    OrderIntent.model_validate({**INTENT, "type": "limit", "limit_price": "0.1234"})


@pytest.mark.parametrize(
    "changes",
    [
        {"high": 10.5},
        {"low": 10.5},
        {"open": float("nan")},
        {"close": 0.0},
        {"volume": -1.0},
        {"known_time": datetime(2013, 3, 1, 14, 0, tzinfo=UTC)},
        {"event_time": datetime(2013, 3, 1, 14, 30)},  # noqa: DTZ001 - naive on purpose
        {"interval": "1 day"},
    ],
)
def test_an_impossible_bar_is_refused(changes: dict[str, Any]) -> None:
    Bar.model_validate(BAR)
    with pytest.raises(ValidationError):
        Bar.model_validate({**BAR, **changes})


def test_intervals_have_lengths_and_nothing_else_does() -> None:
    assert interval_duration("90s") == interval_duration("1m") * 1.5
    for wrong in ("", "0m", "1y", "m", "1.5h", "-1d"):
        with pytest.raises(InputError, match=r"^invalid_interval: "):
            interval_duration(wrong)
