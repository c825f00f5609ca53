"""A strategy told one bar at a time, through a real stream into the real sandbox, and what it may answer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import NeuralTraderError, StrategyError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Limits
from neural_trader_tools.backtest.live import (
    BarMessage,
    LiveBar,
    LiveFill,
    LiveStrategy,
    OrdersAnswer,
    TargetAnswer,
    read_answer,
    rows_of,
)
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.simulation import decide
from neural_trader_tools.backtest.strict import LateError, decide_strictly
from neural_trader_tools.engine import orders as o

pytestmark = pytest.mark.anyio

TALKATIVE = """
import datetime

class Talkative(Strategy):
    def on_start(self):
        self.told = []

    def on_fill(self, fill):
        self.told.append(fill)

    def on_bar(self, bar):
        for fill in self.told:
            print(fill.order_id, fill.reason, fill.quantity, fill.position)
        print(len(self.bars), bar.number, self.cash, self.position.quantity, self.equity,
              [order.order_id for order in self.orders], datetime.datetime.now().date())
        self.told = []
        if bar.number == 2:
            self.first = self.buy(quantity=3, limit=bar.close * 0.9, stop_loss=1.0, time_in_force="day")
            self.sell(fraction=0.5, trail=2.0)
            self.target(0.25)
        if bar.number == 3:
            self.cancel(self.first)
            assert [order.order_id for order in self.orders] == [1]
"""
MANY = """
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


def request(source: str, **changes: object) -> BacktestRequest:
    return BacktestRequest.model_validate({"source": source, "symbols": ("MSFT",), **changes})


def message(bars: Prices, number: int, **account: Any) -> BarMessage:
    values = {name: float(getattr(bars, name)[number]) for name in ("open", "high", "low", "close", "volume")}
    bar = LiveBar(number=number, time_us=int(bars.times[number]), **values)
    told: dict[str, Any] = {"cash": 1_000.0, "position": 0.0, **account}
    return BarMessage(bar=bar, **told)


async def test_a_strategy_is_told_its_bars_fills_and_account(sandbox: LocalSandbox, msft: Prices) -> None:
    live = await LiveStrategy.open(sandbox, request(TALKATIVE), msft.head(2))
    try:
        answer = await live.decide(message(msft, 2))
        assert isinstance(answer, OrdersAnswer)
        assert [command.action for command in answer.commands] == ["order", "order", "target"]
        assert answer.commands[0].side == "buy"
        assert answer.commands[0].limit == pytest.approx(msft.close[2] * 0.9)
        assert (answer.commands[0].time_in_force, answer.commands[1].sized_by) == ("day", "fraction")
        fill = LiveFill(
            order_id=1, bar=3, quantity=-2.0, price=5.0, commission=0.0, reason="trail", position=-2.0
        )
        later = await live.decide(message(msft, 3, fills=(fill,), working=(0, 1), position=-2.0))
        assert isinstance(later, OrdersAnswer)
        assert [(command.action, command.size) for command in later.commands] == [("cancel", 0.0)]
        assert live.commands_count == 4
        with pytest.raises(ValueError, match="bar 9 was told where 4 is the next"):
            await live.decide(message(msft, 9))
    finally:
        await live.aclose()


@pytest.mark.parametrize("settings", [Settings(), Settings(fill="close", lots="whole", commission_bps=7)])
async def test_told_bar_by_bar_it_gives_the_stream_of_the_whole_run(
    sandbox: LocalSandbox, msft: Prices, settings: Settings
) -> None:
    bars = msft.tail(400)
    asked = request(MANY, settings=settings)
    _, whole = await decide(sandbox, asked, bars, cash=100_000.0)
    _, strict = await decide_strictly(sandbox, asked, bars, cash=100_000.0)
    assert len(whole) > 100
    np.testing.assert_allclose(strict, whole, rtol=1e-12)


async def test_of_a_function_only_the_last_target_counts(sandbox: LocalSandbox, msft: Prices) -> None:
    source = "def signals(bars):\n    return (bars['close'] == bars['close'][-1]).cast(float)\n"
    live = await LiveStrategy.open(sandbox, request(source), msft.head(5))
    try:
        assert await live.decide(message(msft, 5)) == TargetAnswer(kind="signals", target=1.0)
    finally:
        await live.aclose()
    nothing = "import polars as pl\ndef signals(bars):\n    return pl.Series([None] * bars.height)\n"
    kind, targets = await decide_strictly(sandbox, request(nothing), msft.head(5), cash=1.0)
    assert kind == "signals"
    assert np.isnan(targets).all()


async def test_a_failure_names_its_bar_and_ends_the_stream(sandbox: LocalSandbox, msft: Prices) -> None:
    source = "class A(Strategy):\n  def on_bar(self, bar):\n    1 / (bar.number - 3)\n"
    with pytest.raises(LateError, match=r"ZeroDivisionError.*line 3") as caught:
        await decide_strictly(sandbox, request(source), msft.head(9), cash=1.0)
    assert (caught.value.bars, caught.value.error.code) == (4, "strategy_failed")


async def test_a_strategy_that_cannot_start_says_why(sandbox: LocalSandbox) -> None:
    with pytest.raises(NeuralTraderError, match=r"ZeroDivisionError|division by zero"):
        await LiveStrategy.open(sandbox, request("class A(Strategy):\n  def on_start(self): 1 / 0\n"))
    with pytest.raises(NeuralTraderError, match="no_strategy"):
        await LiveStrategy.open(sandbox, request("x = 1\n"))
    for body in ("def weights(bars): ...\n", "class A(Strategy):\n  def on_bars(self, bars): ...\n"):
        with pytest.raises(NeuralTraderError, match="portfolio_unsupported"):
            await LiveStrategy.open(sandbox, request(body))


async def test_an_answer_that_does_not_come_ends_the_stream(sandbox: LocalSandbox, msft: Prices) -> None:
    source = "class A(Strategy):\n  def on_bar(self, bar):\n    while True: pass\n"
    live = await LiveStrategy.open(sandbox, request(source), limits=Limits(wall_time_s=0.5))
    try:
        with pytest.raises(StrategyError, match="strategy_timeout"):
            await live.decide(message(msft, 0))
    finally:
        await live.aclose()


async def test_a_stream_that_forges_its_answers_is_refused(sandbox: LocalSandbox, msft: Prices) -> None:
    """The guest is the stranger's: here it puts a cancellation of an order that does not exist yet."""
    source = (
        "class A(Strategy):\n"
        "  def on_bar(self, bar):\n"
        "    self._desk._commands.append({'action': 'cancel', 'size': 7.0})\n"
    )
    live = await LiveStrategy.open(sandbox, request(source))
    try:
        with pytest.raises(StrategyError, match=r"forged_stream.*not above it"):
            await live.decide(message(msft, 0))
    finally:
        await live.aclose()


ORDER = {"action": "order", "side": "buy", "size": 1.0}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"kind": "profit", "target": 1.0},
        {"kind": "signals"},
        {"kind": "signals", "target": 1.5},
        {"kind": "signals", "target": "1"},
        {"kind": "signals", "target": True},
        {"kind": "signals", "target": 0.5, "equity": 9e9},
        {"kind": "orders", "commands": None},
        {"kind": "orders", "commands": [ORDER] * 65},
        {"kind": "orders", "commands": [{**ORDER, "bar": 3}]},
        {"kind": "orders", "commands": [{**ORDER, "action": "fill"}]},
        {"kind": "orders", "commands": [{**ORDER, "side": "long"}]},
        {"kind": "orders", "commands": [{**ORDER, "size": None}]},
        {"kind": "orders", "commands": [{**ORDER, "size": float("nan")}]},
        {"kind": "orders", "commands": [{**ORDER, "limit": float("inf")}]},
        {"kind": "orders", "commands": [{**ORDER, "time_in_force": "ioc"}]},
    ],
)
def test_a_forged_answer_is_refused(value: Any) -> None:
    with pytest.raises(StrategyError, match="forged_stream"):
        read_answer(value)


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["kind", "commands", "target", "action", "size", "side"]), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_an_answer_or_refused(value: Any) -> None:
    try:
        answer = read_answer(value)
    except StrategyError as error:
        assert error.code == "forged_stream"  # noqa: PT017  # or it passes, below
        return
    if isinstance(answer, OrdersAnswer):
        assert rows_of(answer.commands, 0).shape == (len(answer.commands), len(o.COLUMNS))
    else:
        assert answer.target is None or -1 <= answer.target <= 1
