"""Each warning: when it is given, and when it is not."""

from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.cautions import find_warnings
from neural_trader_tools.backtest.metrics import compute_metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o

DAY = 86_400_000_000


def run(
    closes: Any,
    targets: Any,
    *,
    volume: float = 1e9,
    trials: Any = (),
    kind: str = "signals",
    **settings: Any,
) -> dict[str, str]:
    """Plays targets, or orders, at the close and returns the warnings by code."""
    close = np.asarray(closes, dtype=np.float64)
    times = np.arange(len(close), dtype=np.int64) * DAY
    bars = Prices("X", times, close, close, close, close, np.full(len(close), volume))
    chosen = Settings(cash=1000, fill="close", **settings)  # pyright: ignore[reportArgumentType]  # an int
    symbol = replay_symbol(kind, np.asarray(targets, dtype=np.float64), bars, chosen, 1000.0)
    replay = Replay.combine([symbol], 1000.0)
    found = find_warnings(replay, compute_metrics(replay, 252.0, trials), chosen, 252.0)
    texts = dict(text.split(": ", 1) for text in found)
    assert len(texts) == len(found)
    return texts


def sawtooth(bars: int = 400, rise: float = 1.01, fall: float = 0.995) -> tuple[Any, Any]:
    """Prices that rise and fall in turn, and targets that hold every rise: a sure gain."""
    moves = np.where(np.arange(bars) % 4 < 2, rise, fall)
    moves = moves * np.exp(np.random.default_rng(0).normal(0, 0.001, bars))
    closes = 100.0 * np.cumprod(moves)
    targets = np.where((np.arange(bars) + 1) % 4 < 2, 1.0, 0.0)
    targets[-1] = 0.0
    return closes, targets


def test_a_long_sure_and_cheap_result_has_few_warnings() -> None:
    closes, targets = sawtooth()
    assert set(run(closes, targets, commission_bps=1.0)) == {"survivorship"}


def test_a_strategy_that_never_trades_is_told_so_and_nothing_else() -> None:
    closes, targets = sawtooth()
    found = run(closes, targets * np.nan)
    assert found == {"no_trades": "the strategy never traded, it ordered nothing; the ratios say nothing."}
    poor = run(np.asarray(closes) * 1e6, targets, lots="whole")  # its cash buys no unit
    assert set(poor) == {"no_trades"}
    assert "none of its 2" in poor["no_trades"]


def test_ruin_and_what_equity_could_not_carry_are_named_first_and_counted() -> None:
    rising = [10.0, 10.0, 16.0, 24.0, 40.0, 40.0]
    found = run(rising, [-1.0, np.nan, np.nan, np.nan, np.nan, np.nan])
    assert next(iter(found)) == "ruined"
    nan = float("nan")
    order = [[0, o.ORDER, 1, 1000, o.QUANTITY, nan, nan, nan, nan, nan, o.GTC, nan, nan, 0]]
    beyond = run(rising, order, kind="orders")
    assert beyond["rejected"].startswith("1 orders: equity could not carry them")
    assert "none of its 1 orders and targets filled" in beyond["no_trades"]


def test_few_trades_few_bars_and_open_ones_are_named() -> None:
    found = run([10, 11, 12, 13, 12, 14], [1, 1, 0, 1, 1, 1])
    assert found["few_trades"].startswith("1 closed trades")
    assert found["few_bars"].startswith("6 bars")
    assert "1 positions" in found["open_trades"]


def test_a_record_too_short_for_its_ratio_is_told_how_long_it_must_be() -> None:
    closes = 100 * np.cumprod(1 + np.random.default_rng(6).normal(0.0006, 0.01, 300))
    found = run(closes, np.ones(300), commission_bps=1.0)
    assert "short" in found
    assert found["short"].startswith("300 bars; this Sharpe ratio needs ")


def test_one_trade_that_makes_the_profit_is_named() -> None:
    closes = np.full(100, 100.0) * np.exp(np.random.default_rng(1).normal(0, 0.0005, 100))
    closes[50:] *= 1.5
    targets = np.tile([1.0, 1.0, 1.0, 0.0, 0.0], 20)
    targets[45:55] = 1.0
    assert "of the profit; without it" in run(closes, targets)["one_trade"]


def test_what_costs_would_eat_is_told() -> None:
    closes, targets = sawtooth(rise=1.002, fall=0.9995)
    assert "bps of each traded notional eat the profit" in run(closes, targets)["no_costs"]
    twice = run(closes, targets, commission_bps=13.0)
    assert twice["costs"].startswith("at twice the costs of 13.0 bps this loses")
    assert "costs" not in run(closes, targets, commission_bps=1.0)


def test_the_break_even_cost_is_the_commission_that_leaves_nothing() -> None:
    closes, targets = sawtooth()
    close = np.asarray(closes)
    bars = Prices("X", np.arange(len(close)) * DAY, close, close, close, close, close)

    def profit(commission_bps: float) -> tuple[float, float]:
        chosen = Settings(cash=1000, fill="close", commission_bps=commission_bps)  # pyright: ignore[reportArgumentType]
        replay = Replay.combine([replay_symbol("signals", targets, bars, chosen, 1000.0)], 1000.0)
        found = compute_metrics(replay, 252.0)
        return found.return_total, found.break_even_cost_bps or 0.0

    low, high = 0.0, 200.0
    for _ in range(40):  # find the cost at which nothing is left, by running
        middle = (low + high) / 2
        low, high = (middle, high) if profit(middle)[0] > 0 else (low, middle)
    assert profit(low)[1] == pytest.approx(0.0, abs=1e-3)
    assert profit(low - 1.0)[1] == pytest.approx(1.0, rel=0.1)  # near it, to first order


def test_a_second_half_that_lost_it_is_named() -> None:
    moves = np.random.default_rng(2).normal(0, 0.005, 600) + np.where(np.arange(600) < 300, 0.002, -0.001)
    found = run(100 * np.cumprod(1 + moves), np.ones(600), commission_bps=1.0)
    assert "in the first half" in found["decay"]
    steady = run(100 * np.cumprod(1 + np.random.default_rng(2).normal(0.001, 0.005, 600)), np.ones(600))
    assert "decay" not in steady


def test_fills_larger_than_the_bars_could_bear_are_counted() -> None:
    closes, targets = sawtooth()
    assert "capacity" not in run(closes, targets, volume=1e6)
    assert "took over 1% of their bar's volume" in run(closes, targets, volume=100.0)["capacity"]
    assert "capacity" not in run(closes, targets, volume=0.0)  # a source without volumes says nothing


def test_luck_is_named_with_the_trials_that_made_it() -> None:
    closes = 100 * np.cumprod(1 + np.random.default_rng(6).normal(0.0008, 0.01, 300))
    tried = [0.1 * (-1) ** number for number in range(199)]
    found = run(closes, np.ones(300), trials=tried)
    assert "after 200 trials" in found["luck"]
    assert found["many_trials"].startswith("200 backtests saw this data")
    assert "many_trials" not in run(closes, np.ones(300), trials=tried[:50])


def test_survivorship_is_named_only_where_time_has_passed() -> None:
    closes, targets = sawtooth()
    assert "survivorship" in run(closes, targets)
    assert "survivorship" not in run(closes[:300], targets[:300])
