"""What else could have come: bands, windows, costs."""

from datetime import UTC, datetime

import numpy as np
import pytest

from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.backtest.sweeps.montecarlo import bootstrap, reshuffle
from neural_trader_tools.backtest.sweeps.stress import cost_shocks, windows

CHANCE = np.random.default_rng(2)


def test_another_order_of_trades_ends_at_the_same_wealth() -> None:
    trades = CHANCE.normal(0.01, 0.05, 60)
    bands = reshuffle(trades, seed=1)
    assert bands is not None
    assert bands.wealth == pytest.approx([float(np.prod(1.0 + trades))] * 5)
    assert bands.max_drawdown[0] < bands.max_drawdown[2] < bands.max_drawdown[4]
    assert reshuffle(trades, seed=1) == bands
    assert reshuffle(trades, seed=2) != bands
    assert reshuffle(trades[:4], seed=1) is None


def test_a_bootstrap_spreads_around_what_was() -> None:
    returns = CHANCE.normal(0.0005, 0.01, 1_000)
    bands = bootstrap(returns, seed=1, draws=2_000)
    assert bands is not None
    assert bands.wealth[0] < float(np.prod(1.0 + returns)) < bands.wealth[4]
    assert bands.block_bars == pytest.approx(10.0)
    # log wealth of independent returns has the deviation of one times the root of their number
    spread = (np.log(bands.wealth[4]) - np.log(bands.wealth[0])) / (2 * 1.645)
    assert spread == pytest.approx(np.log1p(returns).std() * np.sqrt(1_000), rel=0.15)


def test_a_bootstrap_in_blocks_keeps_dependence() -> None:
    steps = CHANCE.normal(0.0, 0.005, 2_000)
    smooth = np.convolve(steps, np.ones(20), mode="same") / 4.0
    alone, together = (bootstrap(smooth, seed=3, block_bars=length) for length in (1.0, 50.0))
    assert alone is not None
    assert together is not None
    assert np.log(together.wealth[4]) > 2.0 * np.log(alone.wealth[4])


def test_ruin_is_final() -> None:
    bands = bootstrap(np.array([0.1] * 50 + [-1.5] * 50), seed=1)
    assert bands is not None
    assert bands.wealth == (0.0,) * 5
    assert bands.max_drawdown == (1.0,) * 5
    assert bands.loss_probability == 1.0


def test_named_windows_are_given_where_the_data_has_them_and_the_worst_ones_are_found() -> None:
    begin = int(datetime(2008, 1, 1, tzinfo=UTC).timestamp())
    times = (begin + 86_400 * np.arange(700, dtype=np.int64)) * 1_000_000
    equity = np.full(700, 100.0)
    equity[250:] = 50.0
    found = {window.name: window for window in windows(times, equity, np.linspace(1.0, 2.0, 700))}
    assert "Covid crash" not in found
    crisis = found["financial crisis"]
    assert (crisis.first, crisis.return_total) == (datetime(2008, 9, 1, tzinfo=UTC), pytest.approx(-0.5))
    assert crisis.max_drawdown == pytest.approx(0.5)
    assert crisis.hold_return is not None
    assert crisis.hold_return > 0.0
    worst = found["worst 1 bars"]
    assert worst.first == worst.last == datetime.fromtimestamp(times[250] / 1e6, UTC)


def test_cost_shocks_add_to_the_slippage_that_was_asked_for() -> None:
    asked: list[float] = []

    def play(settings: Settings) -> tuple[float, float | None]:
        asked.append(settings.slippage_bps)
        return 0.0, None

    shocks = cost_shocks(Settings(slippage_bps=3.0), play)
    assert asked == [8.0, 13.0, 28.0]
    assert [shock.added_bps for shock in shocks] == [5.0, 10.0, 25.0]
