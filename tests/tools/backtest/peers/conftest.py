"""Peers beside us: the same decisions over the same bars, ours in a Strategy class and the trusted replay."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import SymbolReplay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine.guest import rules
from neural_trader_tools.engine.session import Session
from neural_trader_tools.engine.strategy import Strategy, configure
from neural_trader_tools.features.catalogue import evaluate


@pytest.fixture(scope="session")
def peer(lacking: Callable[[str], NoReturn]) -> Callable[[str], ModuleType]:
    """Imports a peer, or skips visibly; CI has them all."""

    def find(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            lacking(f"{name} is not installed ({error}): make peers")

    return find


@pytest.fixture(scope="session")
def ours() -> Callable[..., SymbolReplay]:
    """Runs a Strategy class in this process, then its order stream through the trusted engine."""

    def run(strategy: type[Strategy], prices: Prices, settings: Settings) -> SymbolReplay:
        cash = float(settings.cash)
        session = Session(prices.frame(), cash, rules(settings.model_dump(mode="python")), evaluate)
        session.run(configure(strategy, {}, session))
        return replay_symbol("orders", session.commands.copy(), prices, settings, cash)

    return run


@pytest.fixture(scope="session")
def walk() -> Callable[..., Prices]:
    """A seeded random walk with gaps between the bars, one bar a day."""

    def make(seed: int, count: int = 600, spread: float = 0.01) -> Prices:
        generator = np.random.default_rng(seed)
        close = 100.0 * np.exp(np.cumsum(generator.normal(0.0, spread, count)))
        open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(generator.normal(0.0, spread / 2, count))
        top, bottom = np.maximum(open_, close), np.minimum(open_, close)
        high = top * np.exp(np.abs(generator.normal(0.0, spread / 2, count)))
        low = bottom * np.exp(-np.abs(generator.normal(0.0, spread / 2, count)))
        times = np.arange(count, dtype=np.int64) * 86_400_000_000 + 1_262_304_000_000_000
        return Prices("WALK", times, open_, high, low, close, np.full(count, 1e6))

    return make


@pytest.fixture(scope="session")
def real(daily: Callable[[str], pl.DataFrame]) -> Callable[[str], Prices]:
    """Real daily bars of the sample data, the newest 1,500."""

    def read(symbol: str) -> Prices:
        frame = daily(symbol).tail(1_500)
        low = pl.min_horizontal("open", "low", "close")
        high = pl.max_horizontal("open", "high", "close")
        return Prices.from_frame(symbol, frame.with_columns(low=low, high=high))

    return read


@pytest.fixture(scope="session")
def pandas_frame() -> Callable[[Prices], Any]:
    """Bars as the peers want them: Open … Volume on a time index."""

    def make(prices: Prices) -> Any:
        pd: Any = importlib.import_module("pandas")
        index = pd.DatetimeIndex(prices.times.astype("datetime64[us]"))
        columns = {name.title(): getattr(prices, name) for name in ("open", "high", "low", "close", "volume")}
        return pd.DataFrame(columns, index=index)

    return make
