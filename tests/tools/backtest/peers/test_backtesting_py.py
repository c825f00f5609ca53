"""backtesting.py fills as we do: trade by trade, to 1e-9, on the same decisions."""

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


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> Prices:
    """Seeded synthetic bars, the sample's AAPL, and the GOOG that the peer ships."""
    name, seed = request.param
    if name == "walk":
        return request.getfixturevalue("walk")(seed)
    if name == "AAPL":
        return request.getfixturevalue("real")("AAPL")
    shipped = request.getfixturevalue("peer")("backtesting.test").GOOG.tail(1_500)
    times = shipped.index.to_numpy().astype("datetime64[us]").astype(np.int64)
    low = shipped[["Open", "Low", "Close"]].min(axis=1).to_numpy()
    high = shipped[["Open", "High", "Close"]].max(axis=1).to_numpy()
    columns = (shipped[name].to_numpy(dtype=float) for name in ("Open", "Close", "Volume"))
    open_, close, volume = (np.ascontiguousarray(column) for column in columns)
    return Prices("GOOG", times, open_, np.ascontiguousarray(high), np.ascontiguousarray(low), close, volume)


EVERY = pytest.mark.parametrize(
    "bars", [("walk", 1), ("walk", 2), ("GOOG", 0), ("AAPL", 0)], indirect=True, ids=str
)


def theirs(
    peer: Callable[[str], ModuleType], frame: Any, strategy: type, commission: float, **options: Any
) -> tuple[Any, Any]:
    """Returns their statistics and their closed trades in order of entry."""
    run = (
        peer("backtesting")
        .Backtest(frame, strategy, cash=float(CASH), commission=commission, **options)
        .run()
    )
    return run, run["_trades"].sort_values(["EntryBar", "ExitBar"])


def same_trades(found: SymbolReplay, expected: Any, but: NDArray[np.bool_] | None = None) -> None:
    """Compares closed trades: bars, signed size, both prices, profit after commission.

    `but` marks trades that end otherwise for a reason that the test states: only their entries are compared.
    """
    closed = found.trades[~np.isnan(found.trades[:, 1])]
    assert len(closed) == len(expected) > 10
    np.testing.assert_array_equal(closed[:, 0], expected["EntryBar"])
    np.testing.assert_array_equal(closed[:, 1], expected["ExitBar"])
    np.testing.assert_allclose(closed[:, 2] * closed[:, 3], expected["Size"], rtol=1e-9)
    np.testing.assert_allclose(closed[:, 4], expected["EntryPrice"], rtol=1e-9)
    if but is not None:
        assert but.sum() < len(closed) / 100
        closed, expected = closed[~but], expected[~but]
    np.testing.assert_allclose(closed[:, 5], expected["ExitPrice"], rtol=1e-9)
    np.testing.assert_allclose(closed[:, 7], expected["PnL"], rtol=1e-9, atol=1e-9 * float(CASH))


def chance(prices: Prices, seed: int) -> NDArray[np.float64]:
    """Two numbers in 0 … 1 for each bar, known to both sides."""
    return np.random.default_rng(seed).random((len(prices), 2))


@EVERY
@pytest.mark.parametrize("commission", [0.0, 0.002])
@pytest.mark.parametrize("fill", ["next_open", "close"])
def test_market_orders_long_and_short_and_whole_fractions_of_equity(
    bars: Prices,
    commission: float,
    fill: Any,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = chance(bars, 3)

    class Theirs(peer("backtesting").Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            first, second = dice[len(self.data) - 1]
            size = self.position.size
            if size and first < 0.2:
                (self.sell if size > 0 else self.buy)(size=abs(size))
            elif not size and first < 0.3:
                (self.buy if second < 0.5 else self.sell)(size=100 if first < 0.1 else 0.5)

    class Ours(Strategy):
        def on_bar(self, bar: Bar) -> None:
            first, second = dice[bar.number]
            size = self.position.quantity
            if bar.number < 1:  # the peer asks from the second bar on
                return
            if size and first < 0.2:
                (self.sell if size > 0 else self.buy)(quantity=abs(size))
            elif not size and first < 0.3:
                how: dict[str, Any] = {"quantity": 100.0} if first < 0.1 else {"fraction": 0.5}
                (self.buy if second < 0.5 else self.sell)(**how)

    settings = Settings(cash=CASH, commission_bps=commission * 1e4, fill=fill, lots="whole")
    found = ours(Ours, bars, settings)
    stats, trades = theirs(peer, pandas_frame(bars), Theirs, commission, trade_on_close=fill == "close")
    same_trades(found, trades)
    if fill == "next_open":
        np.testing.assert_allclose(found.equity, stats["_equity_curve"]["Equity"], rtol=1e-9)


@EVERY
@pytest.mark.parametrize("side", [1, -1])
def test_market_entries_with_take_profit_and_stop_loss(
    bars: Prices,
    side: int,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    """A bar that opens beyond the take-profit of what is held fills it there: no other price comes before.

    The peer lets the stop-loss come first where the same bar reaches that too.
    """
    dice = chance(bars, 4)
    goals: dict[int, float] = {}

    class Theirs(peer("backtesting").Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            first, second = dice[len(self.data) - 1]
            close = self.data.Close[-1]
            if not self.position and not self.orders and first < 0.5:
                near, far = close * (1 + side * 0.02 * (0.5 + second)), close * (1 - side * 0.015)
                (self.buy if side > 0 else self.sell)(size=100, tp=near, sl=far)

    class Ours(Strategy):
        def on_bar(self, bar: Bar) -> None:
            first, second = dice[bar.number]
            if bar.number and not self.position.quantity and not self.orders and first < 0.5:
                near = bar.close * (1 + side * 0.02 * (0.5 + second))
                far = bar.close * (1 - side * 0.015)
                goals[bar.number + 1] = near
                (self.buy if side > 0 else self.sell)(quantity=100, take_profit=near, stop_loss=far)

    found = ours(Ours, bars, Settings(cash=CASH, commission_bps=10.0, lots="whole"))
    stats, trades = theirs(peer, pandas_frame(bars), Theirs, 0.001)
    ends = trades["ExitBar"].to_numpy()
    goal = np.array([goals[entry] for entry in trades["EntryBar"]])
    at_open = (ends > trades["EntryBar"].to_numpy()) & (side * (bars.open[ends] - goal) > 0)
    but = at_open & ~np.isclose(trades["ExitPrice"], bars.open[ends], rtol=1e-12)
    same_trades(found, trades, but)
    exits = found.trades[~np.isnan(found.trades[:, 1])][:, 5]
    np.testing.assert_allclose(exits[at_open], bars.open[ends[at_open]], rtol=1e-12)
    if not but.any():
        np.testing.assert_allclose(found.equity, stats["_equity_curve"]["Equity"], rtol=1e-9)


@EVERY
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("kind", ["limit", "stop"])
def test_entries_by_limit_and_by_stop_that_wait_a_few_bars(
    bars: Prices,
    side: int,
    kind: str,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = chance(bars, 5)
    away = -0.01 * side if kind == "limit" else 0.01 * side

    class Theirs(peer("backtesting").Strategy):
        def init(self) -> None:
            self.placed = 0

        def next(self) -> None:
            bar = len(self.data) - 1
            first, second = dice[bar]
            size = self.position.size
            if size:
                if first < 0.3:
                    (self.sell if size > 0 else self.buy)(size=abs(size))
            elif not self.orders:
                level = self.data.Close[-1] * (1 + away * (0.5 + second))
                (self.buy if side > 0 else self.sell)(size=100, **{kind: level})
                self.placed = bar
            elif bar - self.placed >= 3:
                for order in list(self.orders):
                    order.cancel()

    class Ours(Strategy):
        def on_start(self) -> None:
            self.placed = 0

        def on_bar(self, bar: Bar) -> None:
            first, second = dice[bar.number]
            size = self.position.quantity
            if bar.number < 1:
                return
            if size:
                if first < 0.3:
                    (self.sell if size > 0 else self.buy)(quantity=abs(size))
            elif not self.orders:
                level = bar.close * (1 + away * (0.5 + second))
                (self.buy if side > 0 else self.sell)(quantity=100, **{kind: level})
                self.placed = bar.number
            elif bar.number - self.placed >= 3:
                for order in self.orders:
                    self.cancel(order)

    found = ours(Ours, bars, Settings(cash=CASH, commission_bps=10.0, lots="whole"))
    stats, trades = theirs(peer, pandas_frame(bars), Theirs, 0.001)
    same_trades(found, trades)
    np.testing.assert_allclose(found.equity, stats["_equity_curve"]["Equity"], rtol=1e-9)
