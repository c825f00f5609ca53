"""vectorbt fills as we do: every order and the equity, to 1e-9, at closes and at next opens."""

from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import SymbolReplay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.strategy import Bar, Fill, Strategy

pytestmark = pytest.mark.filterwarnings("ignore")
CASH = Decimal(1_000_000)
Run = Callable[..., SymbolReplay]


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> Prices:
    name, seed = request.param
    return request.getfixturevalue("walk")(seed) if name == "walk" else request.getfixturevalue("real")(name)


EVERY = pytest.mark.parametrize("bars", [("walk", 1), ("walk", 2), ("IBM", 0)], indirect=True, ids=str)


def same_orders(found: SymbolReplay, portfolio: Any) -> None:
    """Compares fills: bar, signed size, price, commission; and equity at every close."""
    orders = portfolio.orders.records
    assert len(found.fills) == len(orders) > 10
    sign = np.where(orders["side"] == 0, 1.0, -1.0)
    np.testing.assert_array_equal(found.fills[:, 0], orders["idx"])
    np.testing.assert_allclose(found.fills[:, 2], sign * orders["size"], rtol=1e-9)
    np.testing.assert_allclose(found.fills[:, 3], orders["price"], rtol=1e-9)
    np.testing.assert_allclose(found.fills[:, 4], orders["fees"], rtol=1e-9)
    np.testing.assert_allclose(found.equity, portfolio.value().to_numpy(), rtol=1e-9)


@EVERY
@pytest.mark.parametrize("direction", ["longonly", "shortonly"])
@pytest.mark.parametrize(("fees", "slippage"), [(0.0, 0.0), (0.001, 0.0005)])
@pytest.mark.parametrize("fill", ["close", "next_open"])
def test_entries_and_exits_of_fixed_size(
    bars: Prices,
    direction: str,
    fees: float,
    slippage: float,
    fill: Any,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    dice = np.random.default_rng(6).random(len(bars))
    entries, exits = dice < 0.2, dice > 0.8
    if fill == "next_open":  # the peer's way: signals moved by one bar, filled at that bar's open
        moved = {"entries": np.r_[False, entries[:-1]], "exits": np.r_[False, exits[:-1]]}
    else:
        moved = {"entries": entries, "exits": exits}
    frame = pandas_frame(bars)
    portfolio = peer("vectorbt").Portfolio.from_signals(
        frame["Close"], **moved, price=frame["Open" if fill == "next_open" else "Close"], size=100.0,
        direction=direction, fees=fees, slippage=slippage, init_cash=float(CASH), freq="1D",
    )  # fmt: skip

    class Ours(Strategy):
        def on_bar(self, bar: Bar) -> None:
            held = self.position.quantity
            enter, leave = (self.buy, self.sell) if direction == "longonly" else (self.sell, self.buy)
            if entries[bar.number] and not held:
                enter(quantity=100.0)
            elif exits[bar.number] and held:
                leave(quantity=abs(held))

    costs: dict[str, Any] = {"commission_bps": fees * 1e4, "slippage_bps": slippage * 1e4}
    same_orders(ours(Ours, bars, Settings(cash=CASH, fill=fill, **costs)), portfolio)


@EVERY
@pytest.mark.parametrize("fees", [0.0, 0.001])
@pytest.mark.parametrize("whole", [False, True])
def test_all_in_and_out_and_short_by_targets(
    bars: Prices,
    fees: float,
    whole: bool,
    peer: Callable[[str], ModuleType],
    pandas_frame: Callable[[Prices], Any],
) -> None:
    """Long with all cash, or flat: cost and commission are the equity. The peer calls it size=inf."""
    dice = np.random.default_rng(7).random(len(bars))
    targets = np.where(dice < 0.1, 1.0, np.where(dice > 0.9, 0.0, np.nan))
    frame = pandas_frame(bars)
    portfolio = peer("vectorbt").Portfolio.from_signals(
        frame["Close"], targets == 1.0, targets == 0.0, size=np.inf, fees=fees, init_cash=float(CASH),
        size_granularity=1.0 if whole else None, freq="1D",
    )  # fmt: skip
    settings = Settings(
        cash=CASH, commission_bps=fees * 1e4, fill="close", lots="whole" if whole else "fractional"
    )
    same_orders(replay_symbol("signals", targets, bars, settings, float(CASH)), portfolio)


@EVERY
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("kind", ["stop_loss", "take_profit", "both", "trail"])
def test_exits_by_stop_loss_take_profit_and_trailing_stop(
    bars: Prices,
    side: int,
    kind: str,
    peer: Callable[[str], ModuleType],
    ours: Run,
    pandas_frame: Callable[[Prices], Any],
) -> None:
    """Entries and signalled exits at the close; levels are parts of the entry price, which is that close.

    A bar that opens beyond the take-profit fills it there: no other price comes before. The peer lets the
    stop-loss come first where the same bar reaches that too; such a trade is compared up to its exit.
    """
    loss, profit = 0.02, 0.03
    dice = np.random.default_rng(8).random(len(bars))
    frame = pandas_frame(bars)
    stops: dict[str, Any] = {}
    if kind in ("stop_loss", "both", "trail"):
        stops["sl_stop"] = loss
    if kind in ("take_profit", "both"):
        stops["tp_stop"] = profit
    portfolio = peer("vectorbt").Portfolio.from_signals(
        frame["Close"], dice < 0.3, dice > 0.9, size=100.0,
        direction="longonly" if side > 0 else "shortonly", open=frame["Open"], high=frame["High"],
        low=frame["Low"], sl_trail=kind == "trail", init_cash=float(CASH), fees=0.001, freq="1D", **stops,
    )  # fmt: skip
    goals: dict[int, float] = {}

    class Ours(Strategy):
        def on_start(self) -> None:
            self.left = -1
            self.best = 0.0

        def on_fill(self, fill: Fill) -> None:
            if fill.position == 0.0:
                self.left = fill.bar

        def on_bar(self, bar: Bar) -> None:
            number = bar.number
            enter, leave = (self.buy, self.sell) if side > 0 else (self.sell, self.buy)
            for order in self.orders:
                self.cancel(order)
            if self.position.quantity:
                self.best = max(self.best, bar.high) if side > 0 else min(self.best, bar.low)
                if dice[number] > 0.9:
                    leave(quantity=100.0)
                    return
            elif self.left == number or dice[number] >= 0.3:  # the peer ignores entries on a bar of a stop
                return
            else:
                self.best = bar.close
                legs: dict[str, Any] = {}
                if kind in ("stop_loss", "both"):
                    legs["stop_loss"] = bar.close * (1 - side * loss)
                if kind in ("take_profit", "both"):
                    legs["take_profit"] = goals[number] = bar.close * (1 + side * profit)
                enter(quantity=100.0, **legs)
            if kind == "trail":
                leave(quantity=100.0, stop=self.best * (1 - side * loss))

    found = ours(Ours, bars, Settings(cash=CASH, commission_bps=10.0, fill="close"))
    if kind != "both":
        same_orders(found, portfolio)
        return
    orders = portfolio.orders.records
    np.testing.assert_array_equal(found.fills[:, 0], orders["idx"])
    ends, entries = found.fills[1::2, 0].astype(int), found.fills[: len(found.fills) // 2 * 2 : 2, 0]
    goal = np.array([goals[int(entry)] for entry in entries])
    but = (side * (bars.open[ends] - goal) > 0) & (orders["price"][1::2] != bars.open[ends])
    assert but.sum() <= 2
    np.testing.assert_allclose(found.fills[1::2, 3][but], bars.open[ends[but]], rtol=1e-9)
    np.testing.assert_allclose(found.fills[1::2, 3][~but], orders["price"][1::2][~but], rtol=1e-9)
    np.testing.assert_allclose(found.fills[::2, 3], orders["price"][::2], rtol=1e-9)
