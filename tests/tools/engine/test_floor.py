"""Portfolio strategies with orders, stepped: what they see, and what the replay makes of it."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_tools.backtest.portfolio import Panel
from neural_trader_tools.backtest.portfolio_orders import read_decisions, replay_decisions
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import orders_frame
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.floor import Floor, find_portfolio, run_portfolio
from neural_trader_tools.engine.guest import evaluator, load, rules
from neural_trader_tools.engine.portfolio_strategy import Portfolio, configure_portfolio
from neural_trader_tools.engine.surroundings import Surroundings

DAY = 86_400_000_000

MIXED = """
class Mixed(Strategy):
    size: float = 0.3
    told = 0

    def on_bars(self, bars):
        assert list(bars) == sorted(bars)
        if "B" in bars and bars["B"].number % 9 == 0:
            self.rebalance({"A": 0.25, "B": -0.25})
        for symbol, bar in bars.items():
            assert self.bars[symbol].close[-1] == bar.close
            mean = self.feature(symbol, "sma(5)")[-1]
            if self.positions[symbol].quantity == 0 and not self.orders[symbol] and bar.close < mean:
                self.buy(symbol, fraction=self.size, limit=bar.close * 0.99, take_profit=bar.close * 1.03,
                         stop_loss=bar.close * 0.95, time_in_force="day")
            elif bar.number % 7 == 0:
                first = self.sell(symbol, quantity=1, stop=bar.close * 0.98)
                self.buy(symbol, quantity=2, limit=bar.close * 0.97, oco=first)
            elif bar.number % 11 == 0:
                self.close(symbol)
            for order in self.orders[symbol][2:]:
                self.cancel(order)
        self.seen.append((self.cash, self.equity, *(self.positions[one].quantity for one in self.symbols)))

    def on_start(self):
        self.seen = []

    def on_fill(self, fill):
        assert fill.symbol in self.symbols
        self.told += 1
"""


def walk(symbol: str, seed: int, count: int = 120, times: NDArray[np.int64] | None = None) -> Prices:
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, count)))
    open_ = close * np.exp(rng.normal(0, 0.005, count))
    high, low = np.maximum(open_, close) * 1.01, np.minimum(open_, close) * 0.99
    times = np.arange(count) * DAY if times is None else times
    return Prices(symbol, times, open_, high, low, close, np.full(count, 1e4))


@pytest.fixture
def three() -> Panel:
    holes = np.delete(np.arange(123), [5, 60, 61]) * DAY
    return Panel.by_name(
        [walk("C", 1), walk("A", 2, times=holes), walk("B", 3, times=np.arange(20, 140) * DAY)]
    )


def step(source: str, panel: Panel, params: Any = None, **chosen: Any) -> tuple[Floor, Any]:
    settings = Settings(cash=Decimal(10_000), **chosen)
    floor = Floor(
        panel.frame(), [one.symbol for one in panel.prices], 10_000.0,
        rules(settings.model_dump(mode="python")), evaluator({}),
    )  # fmt: skip
    with Surroundings(0, panel.frame()["time"][0]) as surroundings:
        strategy = configure_portfolio(find_portfolio(load(source, Portfolio)), params or {}, floor)
        floor.run(strategy, surroundings)
    return floor, strategy


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"fill": "close", "commission_bps": 10},
        {"margin": 0.5, "slippage_bps": 5, "lots": "whole"},
        {"volume_cap": 0.002, "settlement_days": 1},
    ],
)
def test_what_a_strategy_sees_is_what_the_replay_makes_of_its_decisions(three: Panel, chosen: Any) -> None:
    floor, strategy = step(MIXED, three, **chosen)
    settings = Settings(cash=Decimal(10_000), **chosen)
    decided = read_decisions({"kind": "portfolio"}, floor.columns(), three, settings.exposure_max)
    replay = replay_decisions(decided, three, settings, 10_000.0)
    inside, owners = floor.fills
    assert strategy.told > 20
    for number, symbol in enumerate(replay.symbols):
        mine = inside[owners == number]
        np.testing.assert_array_equal(np.delete(mine, 1, axis=1), np.delete(symbol.fills, 1, axis=1))
    if chosen.get("fill") != "close":  # at the close, fills come after the decision
        np.testing.assert_allclose([seen[1] for seen in strategy.seen], replay.equity, rtol=1e-12)
    assert len(orders_frame(replay)) == len(decided.commands) + (~np.isnan(decided.weights)).sum()


def test_what_comes_later_changes_no_earlier_decision(three: Panel) -> None:
    whole = step(MIXED, three)[0].columns()
    for cut in (30, 71, 100):
        short = Panel.by_name([one.head(int((one.times < three.times[cut]).sum())) for one in three.prices])
        part = step(MIXED, short)[0].columns()
        rows = whole["bar"] < cut
        for name in ("symbol", "bar", "size", "limit", "stop", "oco"):
            np.testing.assert_array_equal(part[name], whole[name][rows])
        np.testing.assert_array_equal(part["row"], whole["row"][whole["row"] < cut])


BODY = "class S(Strategy):\n    def on_bars(self, bars):\n        "


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("self.buy('AA', quantity=1)", "unknown_symbol", "AA"),
        ("self.buy('B', quantity=1)", "no_bar_yet", "B has no bar yet"),
        ("self.buy('A', quantity=1, fraction=0.1)", "invalid_order", "either quantity"),
        ("self.buy('A', quantity=1, limit=-1)", "invalid_order", "limit"),
        ("self.rebalance({'A': 0.6, 'C': -0.6})", "target_out_of_range", "1.2"),
        ("self.rebalance({'A': float('inf')})", "target_out_of_range", "inf"),
        ("self.target('A', 2.0)", "target_out_of_range", "2.0"),
        ("self.target('A', 0.5); self.rebalance({'A': 0.1})", "invalid_order", "a target and a weight"),
        ("self.buy('C', quantity=1, oco=self.buy('A', quantity=1))", "invalid_order", "names one of A"),
        ("[self.buy('A', quantity=1) for _ in range(65)]", "too_many_orders", "64"),
        ("self.feature('A', 'smaa(5)')", "invalid_feature", "smaa"),
        ("self.feature('A', 'sma(5)', interval='5y')", "invalid_feature", "5y"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_reason(
    three: Panel, body: str, code: str, says: str
) -> None:
    with pytest.raises(StrategyFault) as caught:
        step(BODY + body, three)
    assert caught.value.code == code
    assert says in str(caught.value)


def test_nothing_can_be_ordered_before_the_first_bar(three: Panel) -> None:
    source = BODY + "pass\n    def on_start(self):\n        self.rebalance({'A': 0.1})"
    with pytest.raises(StrategyFault, match="no bar was seen"):
        step(source, three)


def test_the_entry_of_the_sandbox_returns_decisions_only(three: Panel) -> None:
    arguments = {
        "source": BODY + "self.rebalance({'A': self.w, 'C': 0.5})\n    w: float = 0.1",
        "symbols": ["A", "B", "C"],
        "settings": {"cash": 1_000},
        "params": {"w": 0.2},
    }
    value, columns = run_portfolio(arguments, {"bars": three.frame()})
    assert value == {"kind": "portfolio"}
    assert columns["row"].tolist() == list(range(len(three.times)))
    np.testing.assert_array_equal(columns["weight"][:3], [0.2, np.nan, 0.5])
    assert len(columns["bar"]) == 0
