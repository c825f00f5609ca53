"""Settings: what is read, what is refused, and what digests say of them."""

from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from neural_trader_governance.errors import InputError, StrategyError
from neural_trader_tools.backtest.configuration import trial_of
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import orders_frame
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import RULES, BacktestRequest, Settings, read_settings
from neural_trader_tools.market.adjustment import dividends_paid

RULES_SET: dict[str, Any] = {
    "commission_per_unit": "0.005",
    "commission_min": 1,
    "spread_bps": 2,
    "borrow_bps_annual": 300,
    "margin": 0.5,
    "volume_cap": 0.1,
    "dividends": "paid",
    "same_bar": "next_bar",
}


def test_rules_are_read_and_absent_ones_have_their_defaults() -> None:
    read = read_settings(rules=RULES_SET)
    assert (read.commission_per_unit, read.commission_min) == (Decimal("0.005"), Decimal(1))
    assert (read.spread_bps, read.margin, read.exposure_max) == (2.0, 0.5, 2.0)
    assert (read.volume_cap, read.dividends, read.settlement_days) == (0.1, "paid", 0)
    assert read_settings(rules={}) == read_settings() == Settings()


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"margine": 0.5}, "margin"),
        ({"margin": 0}, "margin"),
        ({"margin": 1.5}, "margin"),
        ({"margin": "NaN"}, "margin"),
        ({"volume_cap": 0}, "volume_cap"),
        ({"volume_cap": 2}, "volume_cap"),
        ({"settlement_days": 3}, "settlement_days"),
        ({"settlement_days": 0.5}, "whole number"),
        ({"settlement_days": 1, "margin": 0.5}, "margin account"),
        ({"dividends": "payed"}, "paid"),
        ({"commission_min": -1}, "commission_min"),
        ({"spread_bps": "much"}, "spread_bps"),
    ],
)
def test_an_impossible_rule_is_refused_by_name(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_settings(rules=rules)


def test_a_digest_names_a_rule_only_where_it_is_set() -> None:
    request = BacktestRequest(source="x", symbols=("X",))
    assert not set(request.settings.for_digest()) & set(RULES)
    plain = trial_of(request, "", None).config_digest
    for name in RULES:
        value = RULES_SET.get(name, 1)
        other = request.model_copy(update={"settings": read_settings(rules={name: value})})
        assert set(other.settings.for_digest()) & set(RULES) == {name}
        assert trial_of(other, "", None).config_digest != plain


def test_dividends_fall_on_the_first_bar_from_their_ex_date_in_shares_of_today() -> None:
    def times(*days: int) -> pl.Series:
        return pl.Series([day * 86_400_000_000 for day in days]).cast(pl.Datetime("us", "UTC"))

    actions = pl.DataFrame(
        {
            "event_time": times(1, 3, 4, 6, 99),
            "kind": ["dividend", "dividend", "split", "dividend", "dividend"],
            "value": [7.0, 1.0, 2.0, 0.25, 9.0],
        }
    )
    # day 1 is the first bar's own, day 3 has a bar and a split of 2 after it, day 6 has none: the next one
    paid = dividends_paid(times(1, 2, 3, 5, 8), actions)
    assert np.array_equal(paid, [0.0, 0.0, 0.5, 0.0, 0.25])


def play(
    price: list[float], settings: Settings, row: list[float], dividends: list[float] | None = None
) -> Replay:
    bars, paid = np.array(price, dtype=float), np.array(dividends or [], dtype=float)
    times = np.arange(len(price), dtype=np.int64) * 86_400_000_000
    prices = Prices("X", times, bars, bars, bars, bars, np.full(len(price), 100.0), paid)
    stream = np.array([row], dtype=np.float64)
    return Replay.combine([replay_symbol("orders", stream, prices, settings, 1e5)], 1e5)


NAN = float("nan")
BUY = [0.0, 0.0, 1.0, 25.0, 0.0, NAN, NAN, NAN, NAN, NAN, 0.0, NAN, NAN, 0.0]


def test_an_order_that_is_filled_in_parts_shows_their_sum_and_average() -> None:
    shown = orders_frame(play([10, 10, 20, 40, 40], read_settings(rules={"volume_cap": 0.1}), BUY))
    assert shown["filled_quantity"].to_list() == [25.0]
    assert shown["filled_price"].to_list() == pytest.approx([(100 + 200 + 200) / 25])


def test_dividends_of_the_prices_reach_equity() -> None:
    found = play([10, 10, 10], Settings(), BUY, [0.0, 0.0, 0.5])
    assert found.equity.tolist() == [1e5, 1e5, 1e5 + 12.5]


def test_equity_beyond_all_numbers_is_an_error() -> None:
    with pytest.raises(StrategyError, match="too large"):
        play([1, 1, 1.7e308], Settings(), BUY)
