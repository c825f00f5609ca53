"""Portfolio strategies that peek are caught, also across symbols; honest ones pass."""

from collections.abc import Callable
from typing import Any, cast

import polars as pl
import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.check import Check, StrategyChecked
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import BacktestRequest

pytestmark = pytest.mark.anyio

MOMENTUM = """
import polars as pl

def weights(bars: pl.DataFrame, window: int = 60) -> pl.DataFrame:
    past = bars.with_columns(strength=pl.col("close").pct_change(window).over("symbol"))
    chosen = past.filter(pl.col("strength").is_not_null(), pl.col("time").dt.day() < 8)
    best = pl.col("strength").rank("ordinal", descending=True).over("time") <= 2
    return chosen.select("time", "symbol", weight=pl.when(best).then(0.5).otherwise(0.0))
"""
HEAD = "import polars as pl\n\ndef weights(bars):\n"
PEEKERS = {
    "tomorrow's return of the symbol itself": (
        "    ahead = pl.col('close').shift(-1).over('symbol')\n"
        "    return bars.select('time', 'symbol', weight=(ahead > pl.col('close')).cast(pl.Float64) / 4)\n"
    ),
    "tomorrow's return of another symbol": (
        "    up = pl.col('close').shift(-1) > pl.col('close')\n"
        "    lead = bars.filter(pl.col('symbol') == 'IBM').select('time', up=up)\n"
        "    return bars.filter(pl.col('symbol') == 'AAPL').join(lead, on='time').select(\n"
        "        'time', 'symbol', weight=pl.col('up').cast(pl.Float64))\n"
    ),
    "the best symbol of the whole sample": (
        "    best = bars.group_by('symbol', maintain_order=True).agg(\n"
        "        r=pl.col('close').last() / pl.col('close').first()).sort('r')['symbol'][-1]\n"
        "    return bars.filter(pl.col('symbol') == best).select('time', 'symbol', weight=pl.lit(1.0))\n"
    ),
}


ORDERS = """
class Dips(Strategy):
    def on_bars(self, bars):
        for symbol, bar in bars.items():
            mean = self.feature(symbol, "sma(20)")[-1]
            slow = self.feature(symbol, "sma(3)", interval="1w")[-1]
            if self.positions[symbol].quantity == 0 and slow * 0.9 < bar.close < mean:
                self.buy(symbol, fraction=0.2, limit=bar.close * 0.99, stop_loss=bar.close * 0.9,
                         time_in_force="day")
            elif bar.number % 40 == 0:
                self.close(symbol)
"""
PEEKING_ORDERS = """
class Peek(Strategy):
    def on_bars(self, bars):
        every, now = self.bars["IBM"]._columns["close"], len(self.bars["IBM"])  # behind the desk's back
        if every[min(now + 5, len(every) - 1)] > every[now - 1]:
            self.buy("AAPL", quantity=1)
        elif self.positions["AAPL"].quantity:
            self.close("AAPL")
"""


@pytest.fixture
def check(sandbox: LocalSandbox, daily: Callable[[str], pl.DataFrame]) -> Callable[[str], Any]:
    class Desk:  # the two things that a check asks of the service
        features = "neural_trader_tools.features.catalogue"

    desk = Desk()
    desk.sandbox = sandbox  # type: ignore[attr-defined]
    prices: list[Prices] = []
    for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
        frame = daily(symbol).tail(300)
        low, high = pl.min_horizontal("open", "low", "close"), pl.max_horizontal("open", "high", "close")
        prices.append(Prices.from_frame(symbol, frame.with_columns(low=low, high=high)))

    async def run(source: str) -> StrategyChecked:
        request = BacktestRequest(source=source, symbols=tuple(one.symbol for one in prices))
        return await Check(cast(Backtests, desk), request).run_portfolio(prices, 8)

    return run


async def test_an_honest_rotation_passes(check: Callable[[str], Any]) -> None:
    checked = await check(MOMENTUM)
    assert checked.ok, checked
    assert checked.look_ahead.checked_cuts >= 8


async def test_an_honest_strategy_with_orders_passes(check: Callable[[str], Any]) -> None:
    checked = await check(ORDERS)
    assert checked.ok, checked
    assert checked.look_ahead.checked_cuts >= 8


async def test_a_strategy_whose_orders_peek_at_another_symbol_is_caught(check: Callable[[str], Any]) -> None:
    checked = await check(PEEKING_ORDERS)
    assert [problem.code for problem in checked.problems] == ["look_ahead"]
    said = {checked.look_ahead.violations[0].before, checked.look_ahead.violations[0].after}
    assert any("AAPL" in word for word in said)


@pytest.mark.parametrize("body", PEEKERS.values(), ids=PEEKERS.keys())
async def test_a_peeker_is_caught(check: Callable[[str], Any], body: str) -> None:
    checked = await check(HEAD + body)
    assert [problem.code for problem in checked.problems] == ["look_ahead"]
    assert checked.look_ahead.differences > 0
    assert checked.look_ahead.violations[0].before != checked.look_ahead.violations[0].after


async def test_chance_is_reported(check: Callable[[str], Any]) -> None:
    checked = await check(
        HEAD
        + "    place = id(object()) // 16 % 997\n"
        + "    return bars.select('time', 'symbol', weight=pl.lit(place / 9970)).head(4)\n"
    )
    assert [problem.code for problem in checked.problems] == ["not_deterministic"]


async def test_a_failure_is_told_with_its_line(check: Callable[[str], Any]) -> None:
    checked = await check(HEAD + "    return bars.select('nothing')\n")
    assert [(problem.code, problem.line) for problem in checked.problems] == [("strategy_failed", 4)]
