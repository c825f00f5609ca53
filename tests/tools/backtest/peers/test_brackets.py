"""Brackets after limit and stop entries, leverage and fractional units: as in backtesting.py and backtrader.

`same_bar="next_bar"` lets the exits of an entry that filled inside a bar begin with the next one, as both do;
our default assumes the worse. All differ in one thing, on purpose: a bar that opens beyond the take-profit of
what is held fills it at its open, whatever the bar reaches later, because no other price comes before.
"""

from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import SymbolReplay
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.strategy import Bar, Strategy

pytestmark = pytest.mark.filterwarnings("ignore")
CASH = Decimal(1_000_000)
Run = Callable[..., SymbolReplay]
WAIT = 4


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> Prices:
    """Seeded synthetic bars, the sample's AAPL, and the GOOG that backtesting.py ships."""
    name, seed = request.param
    if name == "walk":
        return request.getfixturevalue("walk")(seed)
    if name == "AAPL":
        return request.getfixturevalue("real")("AAPL")
    shipped = request.getfixturevalue("peer")("backtesting.test").GOOG.tail(1_000)
    times = shipped.index.to_numpy().astype("datetime64[us]").astype(np.int64)
    low = shipped[["Open", "Low", "Close"]].min(axis=1)
    high = shipped[["Open", "High", "Close"]].max(axis=1)
    columns = (shipped["Open"], high, low, shipped["Close"], shipped["Volume"])
    return Prices("GOOG", times, *(np.ascontiguousarray(column, dtype=np.float64) for column in columns))


EVERY = pytest.mark.parametrize("bars", [("walk", 1), ("GOOG", 0), ("AAPL", 0)], indirect=True, ids=str)


def entry(close: float, side: int, kind: str, second: float) -> tuple[float, float, float]:
    """Returns the level of an entry and its stop-loss and take-profit, some as near as one bar's range."""
    away = -0.006 if kind == "limit" else 0.006
    level = close * (1 + side * away * (0.5 + second))
    near = 0.006 + 0.02 * second
    return level, level * (1 - side * near * 1.1), level * (1 + side * near)


def strategies(
    peer: Callable[[str], ModuleType], bars: Prices, side: int, kind: str, size: float = 100.0
) -> tuple[type, type[Strategy]]:
    """The same decisions for backtesting.py and for us: an entry waits, its exits are its bracket."""
    dice = np.random.default_rng(6).random(len(bars))

    class Theirs(peer("backtesting").Strategy):
        def init(self) -> None:
            self.placed = 0

        def next(self) -> None:
            bar = len(self.data) - 1
            if self.position:
                return
            waiting = [order for order in self.orders if not order.is_contingent]
            if waiting and bar - self.placed >= WAIT:
                waiting[0].cancel()
            elif not waiting:
                level, loss, profit = entry(self.data.Close[-1], side, kind, dice[bar])
                (self.buy if side > 0 else self.sell)(size=size, sl=loss, tp=profit, **{kind: level})
                self.placed = bar

    class Ours(Strategy):
        def on_start(self) -> None:
            self.placed = 0

        def on_bar(self, bar: Bar) -> None:
            if bar.number < 1 or self.position.quantity:
                return
            if self.orders and bar.number - self.placed >= WAIT:
                self.cancel(self.orders[0])
            elif not self.orders:
                level, loss, profit = entry(bar.close, side, kind, dice[bar.number])
                how: dict[str, Any] = {kind: level, "stop_loss": loss, "take_profit": profit}
                (self.buy if side > 0 else self.sell)(quantity=abs(size), **how)
                self.placed = bar.number

    return Theirs, Ours


def closed(found: SymbolReplay) -> NDArray[np.float64]:
    """Entry and exit bars, signed size, both prices, profit."""
    trades = found.trades[~np.isnan(found.trades[:, 1])]
    return np.column_stack([trades[:, 0:2], trades[:, 2] * trades[:, 3], trades[:, 4:6], trades[:, 7]])


def same(found: NDArray[np.float64], expected: NDArray[np.float64], bars: Prices) -> None:
    """Compares trades; the few that end in a bar that opens beyond our take-profit differ in its price."""
    assert len(found) == len(expected) > 10
    np.testing.assert_array_equal(found[:, :2], expected[:, :2])
    np.testing.assert_allclose(found[:, 2:4], expected[:, 2:4], rtol=1e-9)
    ends = found[:, 1].astype(int)
    other = ~np.isclose(found[:, 4], expected[:, 4], rtol=1e-9)
    np.testing.assert_allclose(found[other, 4], bars.open[ends[other]], rtol=1e-12)
    side = np.sign(found[:, 2])
    assert (side[other] * (found[other, 4] - expected[other, 4]) > 0).all()
    assert other.sum() <= max(2, len(found) // 20)
    np.testing.assert_allclose(found[~other, 5], expected[~other, 5], rtol=1e-9, atol=1e-9 * float(CASH))


def theirs(run: Any) -> NDArray[np.float64]:
    """Returns their closed trades as `closed` does."""
    names = ["EntryBar", "ExitBar", "Size", "EntryPrice", "ExitPrice", "PnL"]
    return run["_trades"].sort_values(["EntryBar", "ExitBar"])[names].to_numpy(dtype=float)


@EVERY
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("kind", "fill"), [("limit", "next_open"), ("stop", "next_open"), ("limit", "close")]
)
def test_brackets_after_limit_and_stop_entries_begin_with_the_next_bar_where_that_is_asked_for(
    bars: Prices,
    side: int,
    kind: str,
    fill: Any,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    """With trade_on_close the peer fills a stop at its level where the bar opened beyond it; we never do."""
    other, mine = strategies(peer, bars, side, kind)
    settings = Settings(cash=CASH, commission_bps=10.0, lots="whole", fill=fill)
    run = (
        peer("backtesting")
        .Backtest(
            pandas_frame(bars), other, cash=float(CASH), commission=0.001, trade_on_close=fill == "close"
        )
        .run()
    )
    found = closed(ours(mine, bars, settings.model_copy(update={"same_bar": "next_bar"})))
    same(found, theirs(run), bars)
    worse = closed(ours(mine, bars, settings))
    inside = worse[:, 0] == worse[:, 1]
    assert inside.any()
    assert len(worse) != len(found) or not np.allclose(worse, found)  # the setting is what makes it equal


@EVERY
def test_stop_entries_whose_take_profit_comes_in_the_same_bar_take_it_there(
    bars: Prices, peer: Callable[[str], ModuleType], ours: Run, pandas_frame: Callable[[Prices], Any]
) -> None:
    _, mine = strategies(peer, bars, 1, "stop")
    found = closed(ours(mine, bars, Settings(cash=CASH, lots="whole", same_bar="next_bar")))
    at_once = found[found[:, 0] == found[:, 1]]
    assert len(at_once) > 3
    assert (at_once[:, 5] >= 0).all()


@EVERY
@pytest.mark.parametrize("side", [1, -1])
def test_leverage_carries_positions_beyond_equity(
    bars: Prices,
    side: int,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    bars = bars.head(150)  # as long as equity carries them: the peer knows no maintenance
    units = float(int(1.6e6 / bars.close.max()))
    other, mine = strategies(peer, bars, side, "limit", units)
    run = (
        peer("backtesting")
        .Backtest(pandas_frame(bars), other, cash=float(CASH), commission=0.0002, margin=0.25)
        .run()
    )
    settings = Settings(cash=CASH, commission_bps=2.0, lots="whole", margin=0.25, same_bar="next_bar")
    replay = ours(mine, bars, settings)
    assert (np.abs(replay.positions * bars.close) > replay.equity).any()
    same(closed(replay), theirs(run), bars)


@EVERY
def test_fractional_units(
    bars: Prices, peer: Callable[[str], ModuleType], ours: Run, pandas_frame: Callable[[Prices], Any]
) -> None:
    unit = 1e-4
    other, _ = strategies(peer, bars, 1, "limit", 3.25 / unit)
    _, mine = strategies(peer, bars, 1, "limit", 3.25)
    run = (
        peer("backtesting.lib")
        .FractionalBacktest(
            pandas_frame(bars), other, cash=float(CASH), commission=0.001, fractional_unit=unit
        )
        .run()
    )
    settings = Settings(cash=CASH, commission_bps=10.0, same_bar="next_bar")
    same(closed(ours(mine, bars, settings)), theirs(run), bars)


@pytest.mark.parametrize("bars", [("walk", 1), ("walk", 2), ("AAPL", 0)], indirect=True, ids=str)
@pytest.mark.parametrize("side", [1, -1])
def test_brackets_of_backtrader_after_a_limit_entry(
    bars: Prices,
    side: int,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    """Its stop entries let the take-profit wait for the next bar too, so only limits are equal."""
    bt = peer("backtrader")
    dice = np.random.default_rng(6).random(len(bars))
    executed: list[tuple[float, ...]] = []

    class Theirs(bt.Strategy):
        bracket: Any = ()
        placed = 0

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                done = order.executed
                executed.append((len(self) - 1, done.size, done.price, done.comm))

        def next(self) -> None:
            bar = len(self) - 1
            if self.position.size or bar < 1:
                return
            if self.bracket and self.bracket[0].alive():
                if bar - self.placed >= WAIT:
                    self.cancel(self.bracket[0])
                return
            level, loss, profit = entry(self.data.close[0], side, "limit", dice[bar])
            place = self.buy_bracket if side > 0 else self.sell_bracket
            self.bracket = place(size=100, price=level, stopprice=loss, limitprice=profit)
            self.placed = bar

    cerebro: Any = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=pandas_frame(bars)))
    cerebro.broker.setcash(float(CASH))
    cerebro.broker.setcommission(commission=0.001)
    cerebro.addstrategy(Theirs)
    cerebro.run()

    class Ours(strategies(peer, bars, side, "limit")[1]):
        pass

    found = ours(Ours, bars, Settings(cash=CASH, commission_bps=10.0, same_bar="next_bar"))
    expected = np.array(executed)
    assert len(found.fills) == len(expected) > 20
    np.testing.assert_array_equal(found.fills[:, 0], expected[:, 0])
    np.testing.assert_allclose(found.fills[:, 2], expected[:, 1], rtol=1e-9)
    other = ~np.isclose(found.fills[:, 3], expected[:, 2], rtol=1e-9)
    assert other.sum() <= max(1, len(expected) // 40)
    bar = found.fills[other, 0].astype(int)
    np.testing.assert_allclose(found.fills[other, 3], bars.open[bar], rtol=1e-12)
