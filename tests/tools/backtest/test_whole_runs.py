"""What must hold of a whole run, from a strategy's text to the equity, in each form that a strategy may have.

`tests/tools/engine/test_properties.py` holds the engine to the same under every rule, for any orders; here
the decisions are a strategy's own. The guest runs in this process: that the sandbox changes nothing is
shown by the tests that use it.
"""

import functools
import importlib
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import anyio
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_sandbox.port import Job, Sandbox, SandboxResult
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.simulation import simulate
from neural_trader_tools.engine import guest
from neural_trader_tools.engine import orders as o

DAY = 86_400_000_000
CASH = 100_000.0
COSTS: dict[str, Any] = {"commission_bps": 7.0, "slippage_bps": 3.0}
SOURCES = {
    "signals": """
import polars as pl
def signals(bars):
    close = bars["close"]
    return (close.rolling_mean(3) > close.rolling_mean(8)).cast(pl.Float64) - 0.4
""",
    "rule": """
FEATURES = ("sma(3)", "sma(8)", "close")
def rule(fast, slow, close, *, size: float = 0.9):
    if fast > slow:
        return size
    return -0.3 if close < slow else 0.0
""",
    "on_bar": """
class Dips(Strategy):
    def on_bar(self, bar):
        for order in self.orders:
            self.cancel(order)
        if not self.position.quantity:
            self.buy(fraction=0.6, limit=bar.close * 0.99, take_profit=bar.close * 1.02,
                     stop_loss=bar.close * 0.97)
        elif bar.close > self.feature("sma(3)")[-1]:
            self.sell(fraction=0.2, stop=bar.low)
""",
    "compiled on_bar": """
from neural_trader_tools.engine.desk import buy, cancel, waits
STATE = {"entry": -1}
def on_bar(bars, features, state, desk):
    if waits(desk, state.entry):
        cancel(desk, state.entry)
    if desk.position == 0.0:
        close = bars.close[-1]
        state.entry = buy(desk, fraction=0.6, limit=close * 0.99, take_profit=close * 1.02,
                          stop_loss=close * 0.97)
""",
    "weights": """
import polars as pl
def weights(bars):
    strength = pl.col("close") / pl.col("close").rolling_mean(5).over("symbol")
    return bars.with_columns(strength=strength).filter(pl.col("strength").is_not_null()).select(
        "time", "symbol", weight=pl.when(pl.col("strength") > 1).then(0.3).otherwise(-0.1))
""",
    "on_bars": """
class Dips(Strategy):
    def on_bars(self, bars):
        for symbol, bar in bars.items():
            for order in self.orders[symbol]:
                self.cancel(order)
            if not self.positions[symbol].quantity:
                self.buy(symbol, fraction=0.2, limit=bar.close * 0.99, take_profit=bar.close * 1.02,
                         stop_loss=bar.close * 0.97)
""",
}


class Here:
    """Runs jobs in this process."""

    async def run(self, job: Job, limits: object, *, watch: object = None) -> SandboxResult:
        module, _, name = job.entry.partition(":")
        tables = {name: pl.read_ipc_stream(bytes(cast("Any", table))) for name, table in job.tables.items()}
        value, columns = getattr(importlib.import_module(module), name)(job.arguments, tables)
        return SandboxResult("ok", value=value, columns=columns)


@pytest.fixture(scope="module", autouse=True)
def compiled_once() -> Any:
    """Compiles each rule once for all runs of it."""
    patch, load, find = pytest.MonkeyPatch(), guest.load, guest.find_entry
    found: dict[int, Any] = {}

    def entry(namespace: Any) -> Any:
        return found.setdefault(id(namespace), found.get(id(namespace)) or find(namespace))

    patch.setattr(guest, "load", functools.cache(load))
    patch.setattr(guest, "find_entry", entry)
    yield
    patch.undo()


def market(seed: int) -> list[Prices]:
    """Three symbols, each with days without a bar."""
    rng, found = np.random.default_rng(seed), list[Prices]()
    for symbol in "ABC":
        days = np.flatnonzero(rng.random(60) < 0.9)
        close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, len(days))))
        open_ = close * np.exp(rng.normal(0, 0.01, len(days)))
        high = np.maximum(open_, close) * (1 + rng.random(len(days)) * 0.01)
        low = np.minimum(open_, close) * (1 - rng.random(len(days)) * 0.01)
        found.append(Prices(symbol, days * DAY, open_, high, low, close, np.full(len(days), 1e6)))
    return found


def times_four(bars: Prices) -> Prices:
    return replace(bars, **{name: getattr(bars, name) * 4 for name in ("open", "high", "low", "close")})


def same_money(found: Replay) -> NDArray[np.float64]:
    """Cash and positions, from nothing but the fills, at every time."""
    value = np.full(len(found.times), CASH)
    for symbol in found.symbols:
        own, bars = symbol.prices.times, symbol.fills[:, 0].astype(int)
        spent = symbol.fills[:, 2] * symbol.fills[:, 3] + symbol.fills[:, 4]
        held = np.cumsum(np.bincount(bars, symbol.fills[:, 2], len(own)))
        worth = held * symbol.prices.close - np.cumsum(np.bincount(bars, spent, len(own)))
        last = np.searchsorted(own, found.times, side="right") - 1
        value += np.where(last >= 0, worth[last], 0.0)
    return value


@pytest.mark.parametrize("form", SOURCES)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), fill=st.sampled_from(["next_open", "close"]), cut=st.integers(20, 55))
def test_whatever_its_form_a_strategys_run_keeps_the_books_time_and_scale(
    form: str, seed: int, fill: Any, cut: int
) -> None:
    async def go(prices: list[Prices], cash: float = CASH) -> Replay:
        chosen = Settings(cash=Decimal(str(cash)), fill=fill, **COSTS)
        symbols = tuple(bars.symbol for bars in prices)
        request = BacktestRequest(source=SOURCES[form], symbols=symbols, settings=chosen)
        return (await simulate(cast("Sandbox", Here()), request, prices)).replay

    async def every() -> tuple[Replay, Replay, Replay, Replay]:
        return (
            await go(prices),
            await go(prices[::-1]),
            await go([bars.head(int((bars.times < cut * DAY).sum())) for bars in prices]),
            await go([times_four(bars) for bars in prices], 4 * CASH),
        )

    prices = market(seed)
    found, turned, early, scaled = anyio.run(every)
    assert sum(len(symbol.fills) for symbol in found.symbols) > 10
    np.testing.assert_allclose(found.equity, same_money(found), rtol=1e-9)
    for symbol in found.symbols:
        bars, order = symbol.fills[:, 0].astype(int), symbol.fills[:, 1].astype(int)
        decided = symbol.commands[order, o.BAR]
        if "weights" not in form:  # a row of weights is numbered by the portfolio's times
            by_now = np.isin(symbol.fills[:, 5], (o.BY_MARKET, o.BY_TARGET)) & (fill == "close")
            assert (bars >= decided + np.where(by_now, 0, 1)).all()
        slip = COSTS["slippage_bps"] / 1e4 + 1e-12
        assert (symbol.fills[:, 3] <= symbol.prices.high[bars] * (1 + slip)).all()
        assert (symbol.fills[:, 3] >= symbol.prices.low[bars] * (1 - slip)).all()
    np.testing.assert_allclose(turned.equity, found.equity, rtol=1e-12)
    np.testing.assert_array_equal(early.equity, found.equity[: len(early.equity)])
    assert len(early.equity) < len(found.equity)
    np.testing.assert_allclose(scaled.equity, 4 * found.equity, rtol=1e-12)
