"""A run told by a peer's conventions is what the installed peer says of it."""

from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.conventions import restate
from neural_trader_tools.backtest.metrics import Metrics, compute_metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, SymbolReplay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.strategy import Bar, Strategy

pytestmark = pytest.mark.filterwarnings("ignore")
CASH = Decimal(100_000)
Peer = Callable[[str], ModuleType]


@pytest.fixture(params=[("walk", 11), ("walk", 12), ("AAPL", 0)], ids=str)
def bars(request: pytest.FixtureRequest) -> Prices:
    name, seed = request.param
    return request.getfixturevalue("walk")(seed) if name == "walk" else request.getfixturevalue("real")(name)


def told(found: SymbolReplay, convention: str) -> Metrics:
    replay = Replay.combine([found], float(CASH))
    return restate(compute_metrics(replay, 252.0), replay, convention, "1d")


def agree(metrics: Metrics, expected: dict[str, float]) -> None:
    found = {name: getattr(metrics, name) for name in expected}
    assert found == pytest.approx(expected, rel=1e-9)


def dice(bars: Prices) -> Any:
    return np.random.default_rng(13).random(len(bars))


class Ours(Strategy):
    """In and out by chance, a hundred units, long."""

    chance: Any = None

    def on_bar(self, bar: Bar) -> None:
        if bar.number < 1:
            return
        if self.position.quantity:
            if self.chance[bar.number] < 0.2:
                self.sell(quantity=100.0)
        elif self.chance[bar.number] > 0.7:
            self.buy(quantity=100.0)


@pytest.fixture
def next_open(bars: Prices, ours: Callable[..., SymbolReplay]) -> SymbolReplay:
    class Dealt(Ours):
        pass

    Dealt.chance = dice(bars)
    return ours(Dealt, bars, Settings(cash=CASH, commission_bps=10.0, lots="whole"))


def test_backtesting_py(
    bars: Prices, next_open: SymbolReplay, peer: Peer, pandas_frame: Callable[[Prices], Any]
) -> None:
    chance = dice(bars)

    class Theirs(peer("backtesting").Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            first = chance[len(self.data) - 1]
            if self.position:
                if first < 0.2:
                    self.sell(size=100)
            elif first > 0.7:
                self.buy(size=100)

    run = peer("backtesting").Backtest(pandas_frame(bars), Theirs, cash=float(CASH), commission=0.001).run()
    agree(
        told(next_open, "backtesting.py"),
        {
            "equity_final": run["Equity Final [$]"],
            "return_total": run["Return [%]"] / 100,
            "cagr": run["CAGR [%]"] / 100,
            "volatility_annual": run["Volatility (Ann.) [%]"] / 100,
            "sharpe_ratio": run["Sharpe Ratio"],
            "sortino_ratio": run["Sortino Ratio"],
            "calmar_ratio": run["Calmar Ratio"],
            "max_drawdown": -run["Max. Drawdown [%]"] / 100,
            "exposure_time": run["Exposure Time [%]"] / 100,
            "trade_count": run["# Trades"],
            "win_rate": run["Win Rate [%]"] / 100,
            "profit_factor": run["Profit Factor"],
            "sqn": run["SQN"],
            "kelly": run["Kelly Criterion"],
        },
    )
    if bars.symbol == "WALK":  # the peer counts calendar days, and these bars have one on each
        agree(
            told(next_open, "backtesting.py"), {"max_drawdown_duration": run["Max. Drawdown Duration"].days}
        )


def test_vectorbt(bars: Prices, peer: Peer, pandas_frame: Callable[[Prices], Any]) -> None:
    chance = dice(bars)
    targets = np.where(chance < 0.2, 0.0, np.where(chance > 0.7, 1.0, np.nan))
    frame = pandas_frame(bars)
    portfolio = peer("vectorbt").Portfolio.from_signals(
        frame["Close"],
        targets == 1.0,
        targets == 0.0,
        size=np.inf,
        fees=0.001,
        init_cash=float(CASH),
        freq="1D",
    )
    rules = Settings(cash=CASH, commission_bps=10.0, fill="close")
    closed = portfolio.trades.closed
    agree(
        told(replay_symbol("signals", targets, bars, rules, float(CASH)), "vectorbt"),
        {
            "equity_final": portfolio.final_value(),
            "return_total": portfolio.total_return(),
            "cagr": portfolio.annualized_return(),
            "volatility_annual": portfolio.annualized_volatility(),
            "sharpe_ratio": portfolio.sharpe_ratio(),
            "sortino_ratio": portfolio.sortino_ratio(),
            "calmar_ratio": portfolio.calmar_ratio(),
            "max_drawdown": -portfolio.max_drawdown(),
            "trade_count": closed.count(),
            "win_rate": closed.win_rate(),
            "profit_factor": closed.profit_factor(),
            "expectancy": closed.expectancy(),
        },
    )


def test_backtrader(
    bars: Prices, next_open: SymbolReplay, peer: Peer, pandas_frame: Callable[[Prices], Any]
) -> None:
    bt, chance = peer("backtrader"), dice(bars)

    class Theirs(bt.Strategy):
        def next(self) -> None:
            first = chance[len(self) - 1]
            if len(self) < 2:
                return
            if self.position:
                if first < 0.2:
                    self.sell(size=100)
            elif first > 0.7:
                self.buy(size=100)

    cerebro: Any = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=pandas_frame(bars)))
    cerebro.broker.setcash(float(CASH))
    cerebro.broker.setcommission(commission=0.001)
    cerebro.addstrategy(Theirs)
    analyzers = bt.analyzers
    cerebro.addanalyzer(analyzers.SharpeRatio_A, _name="sharpe", timeframe=bt.TimeFrame.Days)
    cerebro.addanalyzer(analyzers.DrawDown, _name="drawdown")
    cerebro.addanalyzer(analyzers.SQN, _name="sqn")
    cerebro.addanalyzer(analyzers.TradeAnalyzer, _name="trades")
    (ran,) = cerebro.run()
    found = {
        name: getattr(ran.analyzers, name).get_analysis() for name in ("sharpe", "drawdown", "sqn", "trades")
    }
    trades = found["trades"]
    agree(
        told(next_open, "backtrader"),
        {
            "equity_final": cerebro.broker.getvalue(),
            "sharpe_ratio": found["sharpe"]["sharperatio"],
            "max_drawdown": found["drawdown"]["max"]["drawdown"] / 100,
            "max_drawdown_duration": found["drawdown"]["max"]["len"],
            "sqn": found["sqn"]["sqn"],
            "trade_count": trades["total"]["closed"],
            "win_rate": trades["won"]["total"] / trades["total"]["closed"],
            "expectancy": trades["pnl"]["net"]["average"],
        },
    )


def test_empyrical(next_open: SymbolReplay, peer: Peer) -> None:
    empyrical, gains = peer("empyrical"), next_open.equity[1:] / next_open.equity[:-1] - 1.0
    agree(
        told(next_open, "empyrical"),
        {
            "return_total": empyrical.cum_returns_final(gains),
            "cagr": empyrical.annual_return(gains),
            "volatility_annual": empyrical.annual_volatility(gains),
            "sharpe_ratio": empyrical.sharpe_ratio(gains),
            "sortino_ratio": empyrical.sortino_ratio(gains),
            "calmar_ratio": empyrical.calmar_ratio(gains),
            "max_drawdown": -empyrical.max_drawdown(gains),
        },
    )


def test_quantstats(bars: Prices, next_open: SymbolReplay, peer: Peer) -> None:
    stats, pandas = peer("quantstats").stats, peer("pandas")
    gains = next_open.equity[1:] / next_open.equity[:-1] - 1.0
    series = pandas.Series(gains, index=pandas.DatetimeIndex(bars.times[1:].astype("datetime64[us]")))
    agree(
        told(next_open, "quantstats"),
        {
            "return_total": stats.comp(series),
            "cagr": stats.cagr(series),
            "volatility_annual": stats.volatility(series),
            "sharpe_ratio": stats.sharpe(series),
            "sortino_ratio": stats.sortino(series),
            "calmar_ratio": stats.calmar(series),
            "max_drawdown": -stats.max_drawdown(series),
            "win_rate": stats.win_rate(series),
            "profit_factor": stats.profit_factor(series),
            "expectancy": stats.expected_return(series),
            "kelly": stats.kelly_criterion(series),
            "exposure_time": stats.exposure(series),
        },
    )
