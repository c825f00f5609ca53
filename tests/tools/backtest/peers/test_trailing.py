"""Trailing stops beside the peers, fill by fill: each peer's own, and ours where it follows the same.

backtrader and whoever moves a stop-loss in backtesting.py follow closes; ours and vectorbt's follow highs and
lows, so what follows closes is a stop that the strategy moves.
"""

from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import SymbolReplay
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.strategy import Bar, Fill, Strategy

pytestmark = pytest.mark.filterwarnings("ignore")
CASH = Decimal(1_000_000)
AMOUNT = 1.7
Run = Callable[..., SymbolReplay]


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> Prices:
    name, seed = request.param
    return request.getfixturevalue("walk")(seed) if name == "walk" else request.getfixturevalue("real")(name)


EVERY = pytest.mark.parametrize("bars", [("walk", 1), ("IBM", 0)], indirect=True, ids=str)
SIDES = pytest.mark.parametrize("side", [1, -1])


def mover(dice: Any, side: int) -> type[Strategy]:
    """Enters by chance at the market and moves a stop with the closes."""

    class Mover(Strategy):
        level = 0.0

        def on_bar(self, bar: Bar) -> None:
            enter, leave = (self.buy, self.sell) if side > 0 else (self.sell, self.buy)
            if bar.number < 1:
                return
            if not self.position.quantity:
                if dice[bar.number] < 0.3 and not self.orders:
                    enter(quantity=100)
                return
            new = bar.close - side * AMOUNT
            held = bool(self.orders)
            if held and side * (new - self.level) <= 0:
                return
            for order in self.orders:
                self.cancel(order)
            self.level = new
            leave(quantity=100, stop=new)

    return Mover


@EVERY
@SIDES
def test_a_stop_loss_that_is_moved_in_backtesting_py(
    bars: Prices,
    side: int,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = np.random.default_rng(11).random(len(bars))

    class Theirs(peer("backtesting").Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            if not self.position and not self.orders and dice[len(self.data) - 1] < 0.3:
                (self.buy if side > 0 else self.sell)(size=100)
            for trade in self.trades:
                level = self.data.Close[-1] - side * AMOUNT
                if trade.sl is None or side * (level - trade.sl) > 0:
                    trade.sl = level

    run = peer("backtesting").Backtest(pandas_frame(bars), Theirs, cash=float(CASH), commission=0.001).run()
    expected = run["_trades"].sort_values("EntryBar")
    found = ours(mover(dice, side), bars, Settings(cash=CASH, commission_bps=10.0, lots="whole"))
    closed = found.trades[~np.isnan(found.trades[:, 1])]
    names = ["EntryBar", "ExitBar", "EntryPrice", "ExitPrice", "PnL"]
    assert len(closed) > 20
    theirs = expected[names].to_numpy(dtype=float)
    if len(theirs) > len(closed):  # the peer closes what is open at the end
        theirs = theirs[: len(closed)]
    np.testing.assert_allclose(closed[:, [0, 1, 4, 5, 7]], theirs, rtol=1e-9, atol=1e-9 * float(CASH))


@EVERY
@SIDES
def test_stop_trail_of_backtrader(
    bars: Prices,
    side: int,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    bt = peer("backtrader")
    dice = np.random.default_rng(12).random(len(bars))
    executed: list[tuple[float, ...]] = []

    class Theirs(bt.Strategy):
        trail: Any = None

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                done = order.executed
                executed.append((len(self) - 1, done.size, done.price, done.comm))

        def next(self) -> None:
            bar = len(self) - 1
            enter, leave = (self.buy, self.sell) if side > 0 else (self.sell, self.buy)
            if bar < 1:
                return
            if not self.position.size:
                if dice[bar] < 0.3:
                    enter(size=100)
            elif self.trail is None or not self.trail.alive():
                self.trail = leave(size=100, exectype=bt.Order.StopTrail, trailamount=AMOUNT)

    cerebro: Any = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=pandas_frame(bars)))
    cerebro.broker.setcash(float(CASH))
    cerebro.broker.setcommission(commission=0.001)
    cerebro.addstrategy(Theirs)
    cerebro.run()
    found = ours(mover(dice, side), bars, Settings(cash=CASH, commission_bps=10.0))
    assert len(found.fills) == len(executed) > 40
    np.testing.assert_allclose(found.fills[:, [0, 2, 3, 4]], executed, rtol=1e-9)
    np.testing.assert_allclose(found.equity[-1], cerebro.broker.getvalue(), rtol=1e-9)


@EVERY
@SIDES
def test_our_own_trail_follows_highs_and_lows_as_that_of_vectorbt(
    bars: Prices,
    side: int,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = np.random.default_rng(13).random(len(bars))
    frame = pandas_frame(bars)
    portfolio = peer("vectorbt").Portfolio.from_signals(
        frame["Close"], dice < 0.3, dice > 0.95, size=100.0,
        direction="longonly" if side > 0 else "shortonly", open=frame["Open"], high=frame["High"],
        low=frame["Low"], sl_stop=0.02, sl_trail=True, init_cash=float(CASH), fees=0.001, freq="1D",
    )  # fmt: skip

    class Ours(Strategy):
        left = -1

        def on_fill(self, fill: Fill) -> None:
            if fill.position == 0.0:
                self.left = fill.bar

        def on_bar(self, bar: Bar) -> None:
            enter, leave = (self.buy, self.sell) if side > 0 else (self.sell, self.buy)
            if self.position.quantity:
                if dice[bar.number] > 0.95:
                    leave(quantity=100.0)
            elif (
                self.left != bar.number and dice[bar.number] < 0.3
            ):  # the peer takes no entry on a stop's bar
                enter(quantity=100.0, trail_loss=0.02, trail_by="part")

    found = ours(Ours, bars, Settings(cash=CASH, commission_bps=10.0, fill="close"))
    orders = portfolio.orders.records
    sign = np.where(orders["side"] == 0, 1.0, -1.0)
    assert len(found.fills) == len(orders) > 40
    np.testing.assert_array_equal(found.fills[:, 0], orders["idx"])
    np.testing.assert_allclose(found.fills[:, 2], sign * orders["size"], rtol=1e-9)
    np.testing.assert_allclose(found.fills[:, 3], orders["price"], rtol=1e-9)
    np.testing.assert_allclose(found.equity, portfolio.value().to_numpy(), rtol=1e-9)


@EVERY
@pytest.mark.parametrize("fill", ["close", "next_open"])
def test_both_directions_of_vectorbt_reverse_in_one_fill(
    bars: Prices,
    fill: Any,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = np.random.default_rng(14).random(len(bars))
    long_, short = dice < 0.15, dice > 0.85
    moved = (np.r_[False, each[:-1]] if fill == "next_open" else each for each in (long_, short))
    entries, exits = moved
    frame = pandas_frame(bars)
    portfolio = peer("vectorbt").Portfolio.from_signals(
        frame["Close"], entries, exits, price=frame["Open" if fill == "next_open" else "Close"], size=100.0,
        direction="both", fees=0.001, slippage=0.0005, init_cash=float(CASH), freq="1D",
    )  # fmt: skip

    class Ours(Strategy):
        def on_bar(self, bar: Bar) -> None:
            held = self.position.quantity
            if long_[bar.number] and held <= 0:
                self.buy(quantity=100.0 - held)
            elif short[bar.number] and held >= 0:
                self.sell(quantity=100.0 + held)

    settings = Settings(cash=CASH, commission_bps=10.0, slippage_bps=5.0, fill=fill)
    found = ours(Ours, bars, settings)
    orders = portfolio.orders.records
    sign = np.where(orders["side"] == 0, 1.0, -1.0)
    assert len(found.fills) == len(orders) > 40
    assert (np.abs(found.fills[1:, 2]) == 200).all()
    np.testing.assert_array_equal(found.fills[:, 0], orders["idx"])
    np.testing.assert_allclose(found.fills[:, 2], sign * orders["size"], rtol=1e-9)
    np.testing.assert_allclose(found.fills[:, 3], orders["price"], rtol=1e-9)
    np.testing.assert_allclose(found.equity, portfolio.value().to_numpy(), rtol=1e-9)
