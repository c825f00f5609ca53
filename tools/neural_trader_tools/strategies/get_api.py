"""The tool `strategy_get_api`: the documentation of strategies, whose examples are run by a test."""

from typing import Annotated, Final

from pydantic import BaseModel, Field

from neural_trader_governance.errors import InputError
from neural_trader_tools.engine.faults import did_you_mean

TOPICS: Final[dict[str, str]] = {
    "overview": """\
A strategy is one Python file with a function `signals(bars, **params)` (topic `signals`), a stateless
compiled `rule` over features (topic `rule`: the fastest, made for sweeps), or a class that extends
`Strategy` (topic `class`: orders, fills, state), or a function `weights(bars)` that decides on all symbols
together (topic `portfolio`). It runs in a sandbox: no files, network or processes;
importable are numpy, polars, math, statistics, datetime, a few of the standard library, and
neural_trader_tools.features. A decision on a bar fills at the next bar's open (fill="close": at the bar's
own close). What leaves the sandbox is decisions; a trusted engine plays them. Workflow: strategy_save,
strategy_check (look-ahead!), backtest_start, backtest_get. Other topics: orders, features, rules,
metrics.
""",
    "signals": """\
`signals` gets all bars as a polars.DataFrame (time, open, high, low, close, volume) and returns the
target exposure of each bar, -1 … 1, as polars.Series or numpy.ndarray. NaN or null keeps the last target;
a trade happens only when the target changes. Use what was known on the bar only: rolling windows and
positive shifts, no `shift(-1)`, no centered windows, no mean over the whole column. Called once per
symbol.

```python
import polars as pl

def signals(bars: pl.DataFrame, fast: int = 20, slow: int = 50) -> pl.Series:
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(pl.Float64)
```
""",
    "rule": """\
FEATURES names what the rule sees, with parameters in braces (or a column: "close"); `rule` gets their
values on one bar, in order, and returns the target exposure, -1 … 1; NaN keeps the last. Keyword-only
arguments are the parameters: int, float or bool. It is compiled to machine code and skipped while a feature
is NaN. No state, no history, no polars: numbers, if, math, and plain functions of the file.

```python
FEATURES = ("sma({fast})", "sma({slow})", "rsi(14)", "close")

def rule(fast_sma, slow_sma, rsi, close, *, fast: int = 20, slow: int = 50, hot: float = 80.0):
    if rsi > hot and close > fast_sma:
        return 0.5
    return 1.0 if fast_sma > slow_sma else 0.0
```
""",
    "portfolio": """\
`weights` gets the bars of all symbols in one polars.DataFrame (time, symbol, open, high, low, close, volume;
sorted by time, then symbol) and returns time, symbol, weight: what part of equity the symbol is to be from
then on, negative for short; the absolute weights of one time sum to 1 at most. A time or symbol that is not
returned is left alone, a weight that is returned again restores what prices have moved. All are filled
together at the next open. One purse pays for all; give several symbols to backtest_start.

```python
import polars as pl

def weights(bars: pl.DataFrame, window: int = 120) -> pl.DataFrame:
    strength = pl.col("close").pct_change(window).over("symbol")
    month = pl.col("time").dt.month()
    frame = bars.with_columns(strength=strength, is_new=(month != month.shift(1)).over("symbol"))
    chosen = frame.filter(pl.col("is_new"), pl.col("strength").is_not_null())
    best = pl.col("strength").rank("ordinal", descending=True).over("time") == 1
    return chosen.select("time", "symbol", weight=pl.when(best).then(1.0).otherwise(0.0))
```

For orders of each symbol a class defines `on_bars`: bars is a dict of the symbols that have a bar at this
time. Everything of topics `class` and `orders` is there, with the symbol first: self.buy(symbol, ...), sell,
target, close, self.cancel(order), self.feature(symbol, expression, interval=None), self.bars[symbol],
self.positions[symbol].quantity, self.orders[symbol]; self.symbols, self.cash, self.equity (of all), and
self.rebalance({symbol: weight}). fill.symbol in on_fill. Fractions are of the whole equity.

```python
class Dips(Strategy):
    size: float = 0.3

    def on_bars(self, bars):
        for symbol, bar in bars.items():
            mean = self.feature(symbol, "sma(20)")[-1]
            week = self.feature(symbol, "close", interval="1w")[-1]
            if self.positions[symbol].quantity == 0 and week * 0.8 < bar.close < mean:
                self.buy(symbol, fraction=self.size, limit=bar.close, stop_loss=bar.close * 0.9)
            elif bar.number % 20 == 0:
                self.close(symbol)
```
interval= gives a feature of longer bars, for one symbol too (topic `class`): the value of the last longer bar
that was over. For functions: neural_trader_tools.features.intervals.on_interval(bars, "sma(20)", "1d").
""",
    "class": """\
Annotated class attributes are parameters. `Strategy` is predefined. on_bar sees bars up to the one that
just closed.

```python
class Breakout(Strategy):
    window: int = 20
    loss: float = 0.05

    def on_bar(self, bar):
        high = self.bars.high
        if len(high) <= self.window:
            return
        if self.position.quantity == 0 and bar.close > high[-self.window - 1 : -1].max():
            self.buy(fraction=0.9, stop_loss=bar.close * (1 - self.loss))
        elif bar.close < self.bars.low[-self.window - 1 : -1].min():
            self.close()

    def on_fill(self, fill):
        self.last_price = fill.price
```
bar: number, time, open, high, low, close, volume. self.bars.close and the like: numpy arrays up to and
including this bar. self.cash, self.equity, self.position.quantity (negative: short), self.orders
(waiting). on_start() comes first.
""",
    "compiled": """\
A function `on_bar` at the top of a file is compiled and played in one loop with the engine: a class for
millions of bars. bars.close[-1] and features.NAME[-1] end with this bar; desk.cash, position, equity,
number, fills (since the last bar, columns of engine.orders.FILL_COLUMNS). From engine.desk come buy, sell
(arguments of topic `orders`; day=True, by_part=True, oco=number), target, close, cancel(desk, number) and
waits(desk, number). What is kept between bars stands in STATE, with its first value (int or float).

```python
from neural_trader_tools.engine.desk import buy, cancel, waits

FEATURES = {"fast": "sma({fast})"}
STATE = {"entry": -1}

def on_bar(bars, features, state, desk, *, fast: int = 10, away: float = 0.01):
    if desk.position == 0.0 and bars.close[-1] > features.fast[-1]:
        if waits(desk, state.entry):
            cancel(desk, state.entry)
        limit = bars.close[-1] * (1.0 - away)
        state.entry = buy(desk, fraction=0.9, limit=limit, stop_loss=limit * 0.95)
```
""",
    "orders": """\
self.buy / self.sell(quantity= units | fraction= of equity, limit=, stop=, trail=, take_profit=,
stop_loss=, trail_loss=, trail_by="distance"|"part", oco=, time_in_force="gtc"|"day");
self.target(exposure); self.close(); self.cancel(order). Without a price it is a market order; limit and
stop together are a stop-limit; trail is the distance of a trailing stop and stands alone; take_profit and
stop_loss are prices that protect the filled position, one cancels the other; trail_loss is the distance
at which a stop-loss follows the best price since the fill. oco= an order that waits: the first fill of
the two cancels the other.

```python
class Pullback(Strategy):
    def on_bar(self, bar):
        if self.position.quantity == 0 and not self.orders:
            self.entry = self.buy(
                fraction=0.5,
                limit=bar.close * 0.98,
                take_profit=bar.close * 1.04,
                stop_loss=bar.close * 0.95,
            )
        elif self.orders and bar.number % 5 == 0:
            self.cancel(self.entry)

    def on_fill(self, fill):
        if fill.reason == "limit":
            self.sell(quantity=fill.quantity / 2, stop=fill.price * 0.97, time_in_force="day")
```
""",
    "features": """\
In a class, self.feature("rsi(14)") gives the feature's values up to this bar (numpy; NaN while warming
up); features_search lists them. Name it in on_start to compute it early.

```python
class Reversion(Strategy):
    low: float = 45.0

    def on_start(self):
        self.feature("rsi(14)")

    def on_bar(self, bar):
        rsi = self.feature("rsi(14)")[-1]
        self.target(1.0 if rsi < self.low else 0.0 if rsi > 55 else float("nan"))
```
""",
    "rules": """\
Buy limit: min(open, limit); buy stop: max(open, stop) (gaps cost); sells mirrored. Stop-loss and
take-profit reached in one bar: the stop-loss. Trailing stops follow finished bars. Slippage worsens
market and stop fills, commission is bps of the notional. Targets and fractions are sized at the fill,
commission included. No leverage: what equity cannot carry is rejected (a warning tells). Several symbols:
equal capital, one run each. Cash 100000, costs 0 by default.
""",
    "metrics": """\
Returns per bar, 252 daily bars a year, risk-free 0; trades are round trips from flat to flat; ratios are
fractions, durations bars; undefined is null. deflated_sharpe_ratio is the probability that the Sharpe
ratio is not the luck of the best of all `trials`: every different backtest that shares a symbol and some
of the period counts, and every combination of a sweep; backtest_compare ranks by it. Trust
nothing below 30 trades, or with a deflated Sharpe ratio below 0.95.
""",
}


class StrategyApi(BaseModel):
    """Documentation of the strategy API."""

    topic: str
    text: str = Field(description="Markdown with runnable examples")
    topics: list[str]


async def strategy_get_api(
    *,
    topic: Annotated[
        str,
        Field(
            description="overview, signals, rule, class, compiled, orders, features, rules, metrics or all"
        ),
    ] = "overview",
) -> StrategyApi:
    """Returns how to write a strategy, with examples that run. Read `overview`, then a form's topic."""
    if topic != "all" and topic not in TOPICS:
        raise InputError(
            "unknown_topic", f"there is no topic {topic!r:.40}", did_you_mean(topic, [*TOPICS, "all"])
        )
    text = (
        "\n".join(f"# {name}\n{part}" for name, part in TOPICS.items()) if topic == "all" else TOPICS[topic]
    )
    return StrategyApi(topic=topic, text=text, topics=list(TOPICS))
