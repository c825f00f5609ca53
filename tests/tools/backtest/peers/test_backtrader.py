"""backtrader fills as we do: every execution, to 1e-9, of market, limit, stop and bracket orders."""

from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import SymbolReplay
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.strategy import Bar, Strategy

pytestmark = pytest.mark.filterwarnings("ignore")
CASH = Decimal(1_000_000)
Run = Callable[..., SymbolReplay]


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> Prices:
    name, seed = request.param
    return request.getfixturevalue("walk")(seed) if name == "walk" else request.getfixturevalue("real")(name)


EVERY = pytest.mark.parametrize("bars", [("walk", 1), ("walk", 2), ("MSFT", 0)], indirect=True, ids=str)


def executions(peer: Callable[[str], ModuleType], frame: Any, strategy: type, commission: float) -> Any:
    """Returns (bar, signed size, price, commission) of their executions, and their equity at the end."""
    bt = peer("backtrader")
    cerebro: Any = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.broker.setcash(float(CASH))
    cerebro.broker.setcommission(commission=commission)
    cerebro.addstrategy(strategy)
    (ran,) = cerebro.run()
    return np.array(ran.executed), cerebro.broker.getvalue()


def recorder(peer: Callable[[str], ModuleType]) -> Any:
    """Returns their base class, extended to write down what is executed."""

    class Recorder(peer("backtrader").Strategy):
        def __init__(self) -> None:
            self.executed: list[tuple[float, ...]] = []

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                done = order.executed
                self.executed.append((len(self) - 1, done.size, done.price, done.comm))

    return Recorder


def same(found: SymbolReplay, executed: Any, value: float) -> None:
    assert len(found.fills) == len(executed) > 10
    np.testing.assert_allclose(found.fills[:, [0, 2, 3, 4]], executed, rtol=1e-9)
    np.testing.assert_allclose(found.equity[-1], value, rtol=1e-9)


@EVERY
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("kind", ["market", "limit", "stop", "stop_limit"])
def test_entries_of_every_type_and_market_exits(
    bars: Prices,
    side: int,
    kind: str,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = np.random.default_rng(9).random((len(bars), 2))
    bt = peer("backtrader")

    def levels(close: float, second: float) -> tuple[float, float]:
        """A limit on the good side, a stop on the bad one; of a stop-limit, a limit beyond its stop."""
        return close * (1 - side * 0.01 * (0.5 + second)), close * (1 + side * 0.01 * (0.5 + second))

    class Theirs(recorder(peer)):
        entry: Any = None
        placed = 0

        def next(self) -> None:
            bar = len(self) - 1
            first, second = dice[bar]
            size = self.position.size
            limit, stop = levels(self.data.close[0], second)
            how: dict[str, Any] = {"market": {"exectype": bt.Order.Market}}.get(kind, {})
            if kind == "limit":
                how = {"exectype": bt.Order.Limit, "price": limit}
            elif kind == "stop":
                how = {"exectype": bt.Order.Stop, "price": stop}
            elif kind == "stop_limit":
                how = {"exectype": bt.Order.StopLimit, "price": stop, "plimit": stop * (1 + side * 0.004)}
            if size:
                if first < 0.3:
                    (self.sell if size > 0 else self.buy)(size=abs(size))
            elif self.entry is None or not self.entry.alive():
                self.entry = (self.buy if side > 0 else self.sell)(size=100, **how)
                self.placed = bar
            elif bar - self.placed >= 3:
                self.cancel(self.entry)

    class Ours(Strategy):
        def on_start(self) -> None:
            self.placed = 0

        def on_bar(self, bar: Bar) -> None:
            first, second = dice[bar.number]
            size = self.position.quantity
            limit, stop = levels(bar.close, second)
            how: dict[str, Any] = {}
            if kind == "limit":
                how = {"limit": limit}
            elif kind == "stop":
                how = {"stop": stop}
            elif kind == "stop_limit":
                how = {"stop": stop, "limit": stop * (1 + side * 0.004)}
            if size:
                if first < 0.3:
                    (self.sell if size > 0 else self.buy)(quantity=abs(size))
            elif not self.orders:
                (self.buy if side > 0 else self.sell)(quantity=100.0, **how)
                self.placed = bar.number
            elif bar.number - self.placed >= 3:
                for order in self.orders:
                    self.cancel(order)

    found = ours(Ours, bars, Settings(cash=CASH, commission_bps=10.0))
    same(found, *executions(peer, pandas_frame(bars), Theirs, 0.001))
