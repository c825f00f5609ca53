"""Strategies in the sandbox: same fills from a function and a class, digests, faults."""

from collections.abc import Callable

import numpy as np
import pytest

from neural_trader_governance.errors import NeuralTraderError, StrategyError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Limits
from neural_trader_tools.backtest.prices import VALUES, Prices
from neural_trader_tools.backtest.settings import BacktestRequest, Settings, read_settings
from neural_trader_tools.backtest.simulation import simulate
from neural_trader_tools.engine import guest
from neural_trader_tools.engine.session import Session
from neural_trader_tools.engine.strategy import configure

pytestmark = pytest.mark.anyio

CROSS_CLASS = """
class Cross(Strategy):
    fast: int = 20
    slow: int = 50

    def on_bar(self, bar):
        close = self.bars.close
        if len(close) >= self.slow:
            self.target(float(close[-self.fast:].mean() > close[-self.slow:].mean()))
"""
EVERYTHING = """
class Everything(Strategy):
    def on_bar(self, bar):
        if bar.number % 7 == 0:
            self.order = self.buy(fraction=0.3, limit=bar.close * 0.99, stop_loss=bar.close * 0.9,
                                  take_profit=bar.close * 1.05, time_in_force="day")
        if bar.number % 11 == 0:
            self.sell(quantity=5, stop=bar.low * 0.98, limit=bar.low * 0.96)
        if bar.number % 13 == 0:
            self.buy(quantity=2.5, trail=bar.close * 0.03)
        if bar.number % 29 == 0:
            self.cancel(self.order)
        if bar.number % 31 == 0:
            self.close()
        if self.position.quantity < 0 and self.equity < 90_000:
            self.target(0.25)

    def on_fill(self, fill):
        if fill.reason == "limit":
            self.sell(quantity=abs(fill.quantity) / 2, trail=fill.price * 0.02)
"""


@pytest.fixture(scope="module")
def bars(msft: Prices) -> Prices:
    return msft.tail(800)


def request(source: str, **changes: object) -> BacktestRequest:
    return BacktestRequest.model_validate({"source": source, "symbols": ("MSFT",), **changes})


async def test_a_function_and_a_class_that_mean_the_same_get_the_same_fills(
    sandbox: LocalSandbox, bars: Prices, example: Callable[[str], str]
) -> None:
    settings = read_settings(commission_bps=5, slippage_bps=2)
    function = await simulate(sandbox, request(example("sma_cross"), settings=settings), [bars])
    cls = await simulate(sandbox, request(CROSS_CLASS, settings=settings), [bars])
    assert len(function.replay.symbols[0].fills) > 5
    assert np.array_equal(function.replay.symbols[0].fills, cls.replay.symbols[0].fills)
    assert np.array_equal(function.replay.equity, cls.replay.equity)
    assert function.metrics() == cls.metrics()
    assert function.digest != cls.digest


@pytest.mark.parametrize("settings", [Settings(), Settings(fill="close", lots="whole", commission_bps=7)])
def test_the_guest_saw_the_fills_that_the_trusted_replay_makes(bars: Prices, settings: Settings) -> None:
    from neural_trader_tools.backtest.replay import replay_symbol
    from neural_trader_tools.backtest.stream import check_orders

    def no_feature(expression: str, frame: object) -> object:
        raise AssertionError(expression)

    session = Session(bars.frame(), 100_000.0, guest.rules(settings.model_dump()), no_feature)  # pyright: ignore[reportArgumentType]  # never called
    entry = guest.find_entry(guest.load(EVERYTHING))
    assert isinstance(entry, type)
    session.run(configure(entry, {}, session))
    trusted = replay_symbol("orders", check_orders(session.commands, len(bars)), bars, settings, 100_000.0)
    assert len(trusted.fills) > 50
    assert np.array_equal(trusted.fills, session.fills[: session.fill_count])
    assert np.array_equal(trusted.equity, session.equity)


async def test_the_digest_is_stable_and_feels_every_input(sandbox: LocalSandbox, bars: Prices) -> None:
    source = (
        "import polars as pl\n"
        "def signals(bars, n=3):\n"
        "    return (bars['close'].diff(n) > 0).cast(pl.Float64)\n"
    )
    base = (await simulate(sandbox, request(source), [bars])).digest
    assert (await simulate(sandbox, request(source), [bars])).digest == base
    moved = Prices(
        **{name: getattr(bars, name).copy() for name in ("times", *VALUES)},
        symbol="MSFT",
    )
    moved.volume[5] += 1.0
    others = [
        (request(source + "\n"), bars),
        (request(source, params={"n": 3}), bars),
        (request(source, params={"n": 4}), bars),
        (request(source, seed=1), bars),
        (request(source, settings=Settings(commission_bps=0.5)), bars),
        (request(source), moved),
        (request(source), bars.head(799)),
    ]
    digests = {(await simulate(sandbox, other, [given])).digest for other, given in others}
    assert len(digests | {base}) == len(others) + 1


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("def signals(bars):\n    return 1 / 0\n", "strategy_failed", "ZeroDivisionError.*line 2"),
        ("def signals(bars):\n    return bars['close'] * 0 + 2\n", "target_out_of_range", "bar 0"),
        ("def signals(bars):\n    return bars['close'][:-1] * 0\n", "signals_shape", "799"),
        ("def signals(bars):\n    return 'buy'\n", "signals_type", "str"),
        ("def signals(bars):\n    return bars['close'].cast(str)\n", "signals_type", "String"),
        ("def signals(bars):\n    return bars['time'].dt.date() * 0\n", "strategy_failed", "Error"),
        ("def signals(bars):\n    return bars['time'] - bars['time']\n", "signals_type", "Duration"),
        ("def signals(bars):\n    return bars['close'].to_frame().to_struct()\n", "signals_type", "Struct"),
        (
            "class A(Strategy):\n    fsat: int = 1\n    def on_bar(self, bar): self.buy(quantity=1e300)\n",
            "invalid_order",
            "1e.300 exceeds",
        ),
        (
            "from neural_trader_tools.engine.faults import StrategyFault\n"
            "def signals(bars):\n    raise StrategyFault('sandbox_unavailable', 'no layer', 'run this')\n",
            "strategy_failed",
            "sandbox_unavailable",
        ),
        ("x = 1\n", "no_strategy", "neither"),
        (
            "def signals(bars):\n  return bars['close']*0\nclass A(Strategy): pass\n",
            "several_strategies",
            "2",
        ),
        ("import requests\n", "import_unavailable", "requests"),
        (
            "class A(Strategy):\n    fast: int = 1\n    def on_bar(self, bar): pass\n",
            "unknown_parameter",
            "fast",
        ),
        (
            "class A(Strategy):\n    fsat: int = 1\n    def on_bar(self, bar): self.buy()\n",
            "invalid_order",
            "quantity=",
        ),
        (
            "class A(Strategy):\n"
            "    fsat: int\n"
            "    def on_bar(self, bar): self.buy(quantity=1, trail=1, stop=2)\n",
            "unsupported_order",
            "trailing",
        ),
        (
            "class A(Strategy):\n  fsat=1\n  def on_start(self): self.buy(quantity=1)\n",
            "no_bar_yet",
            "on_bar",
        ),
        (
            "class A(Strategy):\n  fsat: int=1\n  def on_bar(self, bar): self.feature('smaa(3)')\n",
            "invalid_feature",
            "smaa",
        ),
        (
            "class A(Strategy):\n"
            "  fsat: int=1\n"
            "  def on_bar(self, bar):\n"
            "    for _ in range(99): self.buy(quantity=1, limit=1)\n",
            "too_many_orders",
            "64",
        ),
    ],
)
async def test_a_faulty_strategy_is_told_what_is_wrong(
    sandbox: LocalSandbox, bars: Prices, source: str, code: str, words: str
) -> None:
    params = {"fsat": 2} if "class A" in source and "fsat=1" not in source and "several" not in code else {}
    with pytest.raises(StrategyError, match=words) as caught:
        await simulate(sandbox, request(source, params=params), [bars])
    assert caught.value.code == code


async def test_hostile_code_meets_the_sandbox(
    sandbox: LocalSandbox, bars: Prices, example: Callable[[str], str]
) -> None:
    with pytest.raises(StrategyError, match="the sandbox stopped every attempt"):
        await simulate(sandbox, request(example("malicious")), [bars])


async def test_an_endless_strategy_is_stopped(sandbox: LocalSandbox, bars: Prices) -> None:
    with pytest.raises(NeuralTraderError) as caught:
        await simulate(sandbox, request("while True: pass\n"), [bars], limits=Limits(wall_time_s=1.0))
    assert caught.value.code == "strategy_timeout"


async def test_a_guest_that_forges_its_account_gains_nothing(sandbox: LocalSandbox, bars: Prices) -> None:
    source = """
class Forger(Strategy):
    def on_bar(self, bar):
        self._desk.cash = 1e12
        self._desk._cells.account[0] = 1e12
        if bar.number == 0:
            self.buy(fraction=1.0)
"""
    metrics, _ = (await simulate(sandbox, request(source), [bars])).metrics()
    assert metrics.equity_final < 1e7
