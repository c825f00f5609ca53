"""What is compiled inside a guest: the code of a rule or an `on_bar`, and nothing else."""

from collections.abc import Callable, Sequence

import polars as pl
import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.simulation import simulate

pytestmark = pytest.mark.anyio

LISTENS = """
import dataclasses
_events = dataclasses.sys.modules["numba.core.event"]
_heard = {"on_start": lambda self, event: print("compiling"), "on_end": lambda self, event: None}
for _kind in ("numba:compile", "numba:run_pass"):
    _events.register(_kind, type("Listener", (_events.Listener,), _heard)())
"""
"""Put before a strategy, it prints whenever its process compiles anything."""
QUIET = {
    "signals": """
import polars as pl
from neural_trader_tools.features.functions import rsi, sma
def signals(bars):
    close = bars["close"].to_numpy()
    return pl.Series((sma(close, 20) < close) & (rsi(close, 14) < 70))
""",
    "a class with features and orders": """
class Dips(Strategy):
    def on_bar(self, bar):
        if self.position.quantity == 0 and bar.close < self.feature("sma(20)")[-1]:
            self.buy(fraction=0.5, limit=bar.close, stop_loss=bar.close * 0.9, take_profit=bar.close * 1.1)
        elif self.feature("rsi(14)")[-1] > 70:
            self.close()
""",
    "weights": """
import polars as pl
def weights(bars):
    strength = pl.col("close").pct_change(60).over("symbol")
    return bars.select("time", "symbol", weight=pl.when(strength > 0).then(0.5).otherwise(0.0))
""",
    "on_bars": """
class Rotation(Strategy):
    def on_bars(self, bars):
        for symbol, bar in bars.items():
            week = self.feature(symbol, "sma(3)", interval="1w")[-1]
            if self.positions[symbol].quantity == 0 and bar.close > week:
                self.buy(symbol, fraction=0.2, limit=bar.close, stop_loss=bar.close * 0.9)
            elif bar.number % 20 == 0:
                self.rebalance({symbol: 0.1})
""",
}
COMPILED = {
    "rule": """
FEATURES = ("sma(20)", "close")
def rule(mean, close):
    return 1.0 if close > mean else 0.0
""",
    "on_bar": """
from neural_trader_tools.engine.desk import buy, close
FEATURES = {"mean": "sma(20)"}
STATE = {"bought": 0}
def on_bar(bars, features, state, desk):
    if desk.position == 0.0 and bars.close[-1] > features.mean[-1]:
        state.bought += buy(desk, fraction=0.5, stop_loss=bars.close[-1] * 0.9)
    elif desk.number % 20 == 0:
        close(desk)
""",
}


async def said(sandbox: LocalSandbox, source: str, prices: Sequence[Prices]) -> str:
    """What a run of the strategy and of the listener before it prints."""
    printed: list[str] = []
    symbols = tuple(each.symbol for each in prices)
    request = BacktestRequest(source=LISTENS + source, symbols=symbols)
    await simulate(sandbox, request, prices, printed=printed.append)
    return "".join(printed)


@pytest.mark.parametrize("name", QUIET)
async def test_nothing_is_compiled_for_a_strategy_that_is_not(
    sandbox: LocalSandbox, daily: Callable[[str], pl.DataFrame], name: str
) -> None:
    """The zygote has compiled the engine and the features; a guest that did it again would cost seconds."""
    symbols = ["AAPL", "IBM"] if name in ("weights", "on_bars") else ["AAPL"]
    prices = [Prices.from_frame(symbol, daily(symbol)).tail(300) for symbol in symbols]
    assert await said(sandbox, QUIET[name], prices) == ""


@pytest.mark.parametrize("name", COMPILED)
async def test_a_compiled_strategy_is_the_exception_and_the_listener_hears_it(
    sandbox: LocalSandbox, msft: Prices, name: str
) -> None:
    assert "compiling" in await said(sandbox, COMPILED[name], [msft.tail(300)])
