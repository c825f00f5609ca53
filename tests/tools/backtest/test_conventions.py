"""Conventions against figures that the peers themselves gave for the same run.

Recorded from backtesting.py 0.6.6, vectorbt 1.2.0, backtrader 1.9.78, empyrical-reloaded 0.7.1 and
quantstats 0.0.86, fed with the equity and trades of `played`; tests/tools/backtest/peers asks installed ones.
"""

import numpy as np
import pytest

from neural_trader_tools.backtest.conventions import restate
from neural_trader_tools.backtest.metrics import Metrics, compute_metrics, periods_per_year
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings

DAY = 86_400_000_000
RECORDED: dict[tuple[str, str], dict[str, float]] = {
    ("backtesting.py", "1d"): {
        "return_total": 0.10704168850219489,
        "cagr": 0.2524574559893893,
        "volatility_annual": 0.12781958178789168,
        "sharpe_ratio": 1.8799259220181077,
        "sortino_ratio": 3.634683407599831,
        "calmar_ratio": 7.561026930546275,
        "max_drawdown": 0.031780252517525476,
        "exposure_time": 0.6333333333333333,
        "win_rate": 0.6666666666666665,
        "profit_factor": 10.700103931724332,
        "expectancy": 0.017582084970538342,
        "sqn": 2.045213240665533,
        "kelly": 0.621684284717766,
    },
    ("vectorbt", "1d"): {
        "cagr": 0.3624861386331928,
        "volatility_annual": 0.12329581100092782,
        "sharpe_ratio": 2.570841888765488,
        "sortino_ratio": 4.000581566587268,
        "max_drawdown": 0.03178025251752559,
        "calmar_ratio": 11.406018200556954,
    },
    ("empyrical", "1d"): {
        "return_total": 0.10704168850219342,
        "cagr": 0.24029134514457606,
        "volatility_annual": 0.10287297860742313,
        "sharpe_ratio": 2.145182945040322,
        "sortino_ratio": 3.338059779970988,
        "calmar_ratio": 7.561026930546391,
        "max_drawdown": 0.031780252517525635,
    },
    ("quantstats", "1d"): {
        "cagr": 0.24029134514457606,
        "volatility_annual": 0.10287297860742313,
        "sharpe_ratio": 2.145182945040322,
        "sortino_ratio": 3.3380597799709886,
        "calmar_ratio": 7.561026930546403,
        "max_drawdown": 0.03178025251752559,
        "win_rate": 0.6447368421052632,
        "profit_factor": 1.5637029821533868,
        "expectancy": 0.0008549140712892367,
        "kelly": 0.23242270734714474,
        "exposure_time": 0.64,
    },
    ("backtrader", "1d"): {
        "cagr": 0.23806757306473503,
        "sharpe_ratio": 2.04755896613997,
        "max_drawdown": 0.03178025251752542,
        "max_drawdown_duration": 21.0,
    },
    ("backtesting.py", "1h"): {
        "return_total": 0.10704168850219489,
        "cagr": 4.027396462875208,
        "volatility_annual": 0.7745165834329694,
        "sharpe_ratio": 4.078692120731537,
        "sortino_ratio": 77.43878922980859,
        "calmar_ratio": 99.40181200517202,
        "max_drawdown": 0.031780252517525476,
        "exposure_time": 0.6333333333333333,
        "win_rate": 0.6666666666666665,
        "profit_factor": 10.700103931724332,
        "expectancy": 0.017582084970538342,
        "sqn": 2.045213240665533,
        "kelly": 0.621684284717766,
    },
    ("vectorbt", "1h"): {
        "cagr": 1673.8280404295083,
        "volatility_annual": 0.6040236487498121,
        "sharpe_ratio": 12.594501673696792,
        "sortino_ratio": 19.59876702504594,
        "max_drawdown": 0.03178025251752559,
        "calmar_ratio": 52668.80870460222,
    },
    ("empyrical", "1h"): {
        "return_total": 0.10092388120607243,
        "cagr": 3.159014686223916,
        "volatility_annual": 0.18569457895682456,
        "sharpe_ratio": 7.7832987041843,
        "sortino_ratio": 35.429892327385126,
        "calmar_ratio": 222.473551485426,
        "max_drawdown": 0.014199506705995386,
    },
    ("quantstats", "1h"): {
        "cagr": 3.159014686223916,
        "volatility_annual": 0.18569457895682456,
        "sharpe_ratio": 7.7832987041843,
        "sortino_ratio": 35.429892327385126,
        "calmar_ratio": 222.4735514854266,
        "max_drawdown": 0.014199506705995346,
        "win_rate": 0.6428571428571429,
        "profit_factor": 5.447719354914392,
        "expectancy": 0.005671890447022987,
        "kelly": 0.5248523226790952,
        "exposure_time": 0.83,
    },
}


def played(interval: str) -> tuple[Replay, Metrics]:
    """120 business days, or 17 of them in hours; long, half, short and flat in turn, at 5 bps a fill."""
    bars = 120
    random = np.random.default_rng(4)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.001, 0.01, bars)))
    open_ = close * np.exp(random.normal(0.0, 0.003, bars))
    offsets = np.arange(bars, dtype=np.int64)
    days = (16_440 + offsets // 5 * 7 + offsets % 5) * DAY  # business days from 2015-01-05
    times = days
    if interval == "1h":
        times = (days[:18, None] + np.arange(14, 21) * 3_600_000_000).ravel()[:bars]
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) * 0.998
    prices = Prices("X", times, open_, high, low, close, np.full(bars, 1e6))
    targets = np.repeat([1.0, 0.0, 0.5, -1.0, 0.0, 1.0, -0.5, 0.0, 1.0, 0.0], 12)
    settings = Settings(commission_bps=5.0)
    replay = Replay.combine([replay_symbol("signals", targets, prices, settings, 100_000.0)], 100_000.0)
    return replay, compute_metrics(replay, periods_per_year(interval, times))


@pytest.mark.parametrize(("convention", "interval"), RECORDED)
def test_a_convention_gives_the_figures_of_its_peer(convention: str, interval: str) -> None:
    replay, ours = played(interval)
    found = restate(ours, replay, convention, interval).model_dump()
    expected = RECORDED[convention, interval]
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_what_says_how_far_to_trust_a_result_is_the_same_in_every_convention() -> None:
    replay, ours = played("1d")
    for convention in ("default", "backtesting.py", "vectorbt", "backtrader", "empyrical", "quantstats"):
        found = restate(ours, replay, convention, "1d")
        assert found.sharpe_ci == ours.sharpe_ci
        assert found.deflated_sharpe_ratio == ours.deflated_sharpe_ratio
        assert found.equity_final == ours.equity_final
    assert restate(ours, replay, "default", "1d") is ours


def test_a_run_that_never_trades_or_is_ruined_gives_nulls_and_no_nonsense() -> None:
    line = np.full(50, 10.0)
    times = np.arange(50, dtype=np.int64) * DAY
    flat = Prices("X", times, line, line, line, line, line)
    rising = np.append(np.full(10, 10.0), np.full(40, 100.0))
    ruin = Prices("X", times, rising, rising, rising, rising, line)
    for prices, target in ((flat, 0.0), (ruin, -1.0)):
        symbol = replay_symbol("signals", np.full(50, target), prices, Settings(), 100_000.0)
        replay = Replay.combine([symbol], 100_000.0)
        ours = compute_metrics(replay, 252.0)
        for convention in ("backtesting.py", "vectorbt", "backtrader", "empyrical", "quantstats"):
            found = restate(ours, replay, convention, "1d")
            values = [value for value in found.model_dump().values() if isinstance(value, float)]
            assert np.isfinite(values).all()
            if target == 0.0:
                assert found.sharpe_ratio is None or convention == "backtrader"
