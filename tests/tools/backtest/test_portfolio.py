"""Portfolio strategies through the real sandbox: weights of many symbols over one purse."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from neural_trader_governance.errors import StrategyError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.portfolio import Panel, replay_portfolio
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import orders_frame, trades_frame
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.simulation import Simulation, simulate
from neural_trader_tools.backtest.stream import read_weights
from neural_trader_tools.engine import orders as o

pytestmark = pytest.mark.anyio

MOMENTUM = """
import polars as pl

def weights(bars: pl.DataFrame, window: int = 60, every: int = 21) -> pl.DataFrame:
    past = bars.with_columns(strength=pl.col("close").pct_change(window).over("symbol"))
    days = bars["time"].unique().sort().gather_every(every)
    chosen = past.filter(pl.col("time").is_in(days.implode()), pl.col("strength").is_not_null())
    best = pl.col("strength").rank("ordinal", descending=True).over("time") <= 2
    return chosen.select("time", "symbol", weight=pl.when(best).then(0.5).otherwise(0.0))
"""


@pytest.fixture
def five(daily: Callable[[str], pl.DataFrame]) -> list[Prices]:
    found: list[Prices] = []
    for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
        frame = daily(symbol).tail(1_000)
        low, high = pl.min_horizontal("open", "low", "close"), pl.max_horizontal("open", "high", "close")
        found.append(Prices.from_frame(symbol, frame.with_columns(low=low, high=high)))
    return found


@pytest.fixture
def run(sandbox: LocalSandbox) -> Callable[..., Any]:
    async def go(source: str, prices: list[Prices], **params: Any) -> Simulation:
        symbols = tuple(one.symbol for one in prices)
        request = BacktestRequest(
            source=source,
            symbols=symbols,
            params=params,
            settings=Settings(cash=Decimal(100_000), commission_bps=5),
        )
        return await simulate(sandbox, request, prices)

    return go


async def test_a_rotation_on_real_prices_is_what_polars_and_the_engine_make_of_it_outside(
    run: Callable[..., Any], five: list[Prices]
) -> None:
    found = await run(MOMENTUM, five, window=40)
    panel = Panel.of(five)
    frame = pl.read_ipc_stream(bytes(panel.table()))
    namespace: dict[str, Any] = {}
    exec(MOMENTUM, namespace)  # noqa: S102 - our own text
    wide = (
        namespace["weights"](frame, window=40).pivot(on="symbol", index="time", values="weight").sort("time")
    )
    rows = np.asarray(np.searchsorted(panel.times, wide["time"].to_physical().to_numpy()), dtype=np.int64)
    weights = wide.select(one.symbol for one in five).to_numpy()
    rules = Settings(cash=Decimal(100_000), commission_bps=5)
    expected = replay_portfolio(rows, np.ascontiguousarray(weights), panel, rules, 100_000.0)
    np.testing.assert_array_equal(found.replay.equity, expected.equity)
    metrics, _ = found.metrics()
    assert metrics.trade_count > 10
    assert metrics.commission_total > 0
    assert trades_frame(found.replay)["symbol"].n_unique() == 4
    assert orders_frame(found.replay)["state"].is_in(["filled", "done"]).all()
    assert found.digest == (await run(MOMENTUM, five, window=40)).digest


async def test_minutes_of_many_symbols_are_weighed_hour_by_hour_with_what_days_before_said(
    sandbox: LocalSandbox,
) -> None:
    opens = np.concatenate(
        [day * 86_400_000_000 + 52_200_000_000 + np.arange(390) * 60_000_000 for day in range(4)]
    )
    prices: list[Prices] = []
    for number in range(30):
        close = 50 * np.exp(np.cumsum(np.random.default_rng(number).normal(0, 0.0005, len(opens))))
        columns = (close.copy(), close * 1.001, close * 0.999, close, np.full(len(opens), 1e5))
        prices.append(Prices(f"S{number:02d}", opens, *columns))
    source = (
        "import polars as pl\nfrom neural_trader_tools.features.intervals import on_interval\n"
        "def weights(bars):\n"
        "  frame = bars.with_columns(day=on_interval(bars, 'close', '1d'))\n"
        "  frame = frame.with_columns(best=pl.col('day').rank('ordinal').over('time') <= 3)\n"
        "  frame = frame.filter(pl.col('time').dt.minute() == 0, pl.col('day').is_not_nan())\n"
        "  return frame.select('time', 'symbol', weight=pl.col('best').cast(pl.Float64) / 3)\n"
    )
    request = BacktestRequest(source=source, symbols=tuple(one.symbol for one in prices), interval="1m")
    found = await simulate(sandbox, request, prices)
    fills = {one.prices.symbol: one.fills for one in found.replay.symbols if len(one.fills)}
    closes = {one.symbol: one.close[np.array([389, 779, 1169])] for one in prices}
    held = [sorted(closes, key=lambda name, day=day: closes[name][day])[:3] for day in range(3)]
    assert set(fills) == {name for names in held for name in names}
    first = {name for name, rows in fills.items() if rows[0, o.FILL_BAR] < 780}
    assert first == set(held[0]), "nothing is bought before a day was over"
    assert all(rows[0, o.FILL_BAR] >= 420 for rows in fills.values())


async def test_wide_frames_say_the_same_as_long_ones(run: Callable[..., Any], five: list[Prices]) -> None:
    wide = MOMENTUM.replace(
        'return chosen.select("time"',
        'return (lambda long: long.pivot(on="symbol", index="time", values="weight"))('
        'chosen.with_columns(pl.col("symbol").cast(pl.String)).select("time"',
    ).replace(".otherwise(0.0))", ".otherwise(0.0)))")
    long_, found = await run(MOMENTUM, five), await run(wide, five)
    np.testing.assert_array_equal(found.replay.equity, long_.replay.equity)


ORDERS = """
class Dips(Strategy):
    size: float = 0.2

    def on_bars(self, bars):
        for symbol, bar in bars.items():
            mean = self.feature(symbol, "sma(20)")[-1]
            if self.positions[symbol].quantity == 0 and not self.orders[symbol] and bar.close < 0.97 * mean:
                self.buy(symbol, fraction=self.size, limit=bar.close * 0.99, take_profit=mean,
                         stop_loss=bar.close * 0.9, time_in_force="day")
        if "IBM" in bars and bars["IBM"].number % 63 == 0:
            self.rebalance({"IBM": 0.1, "MSFT": 0.1})
"""


async def test_orders_of_many_symbols_come_through_the_sandbox_and_symbols_in_any_order_give_the_same(
    run: Callable[..., Any], five: list[Prices]
) -> None:
    found = await run(ORDERS, five, size=0.3)
    metrics, _ = found.metrics()
    assert metrics.trade_count > 20
    orders = orders_frame(found.replay)
    assert {"filled", "expired"} <= set(orders["state"])
    assert {"order", "target"} <= set(orders["action"])
    assert [one.prices.symbol for one in found.replay.symbols] == [one.symbol for one in five]
    turned = await run(ORDERS, five[::-1], size=0.3)
    np.testing.assert_array_equal(turned.replay.equity, found.replay.equity)
    for one, other in zip(turned.replay.symbols[::-1], found.replay.symbols, strict=True):
        np.testing.assert_array_equal(one.fills, other.fills)


@pytest.mark.slow
async def test_five_hundred_symbols_fit_into_the_sandbox(run: Callable[..., Any]) -> None:
    times = np.arange(2_500) * 86_400_000_000
    prices: list[Prices] = []
    for number in range(500):
        rng = np.random.default_rng(number)
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.015, len(times))))
        high, low, volume = close * 1.01, close * 0.99, np.full(len(times), 1e6)
        prices.append(Prices(f"S{number:03d}", times, close.copy(), high, low, close, volume))
    source = ORDERS.replace("IBM", "S000").replace("MSFT", "S499")
    source = source.replace('self.feature(symbol, "sma(20)")[-1]', "self.bars[symbol].close[-20:].mean()")
    found = await run(source, prices, size=0.01)
    assert sum(len(symbol.fills) for symbol in found.replay.symbols) > 5_000
    assert len(found.replay.symbols) == 500


async def test_a_fault_in_on_bars_is_told_with_its_line(run: Callable[..., Any], five: list[Prices]) -> None:
    with pytest.raises(StrategyError, match=r"line 3 of the strategy") as caught:
        await run(
            "class S(Strategy):\n    def on_bars(self, bars):\n        self.buy('X', quantity=1)\n", five
        )
    assert caught.value.code == "unknown_symbol"


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("return 1", "signals_type", "weights returned a int"),
        ("return bars.select('time')", "signals_type", "do not ascend, or one twice"),
        ("return pl.DataFrame({'symbol': ['AAPL']})", "signals_type", "without time"),
        ("return bars.select('time', 'symbol').head(4)", "signals_type", "without weight"),
        (
            "return bars.select('time', symbol=pl.lit('APPL'), weight=pl.lit(0.1)).head(1)",
            "unknown_symbol",
            "AAPL",
        ),
        ("return bars.select('time', 'symbol', weight=pl.lit(0.3)).head(4)", "target_out_of_range", "1.2"),
        ("return bars.select('time', 'symbol', weight=pl.lit('x')).head(1)", "signals_type", "String"),
        (
            "return bars.select(pl.col('time').dt.offset_by('1s'), 'symbol', weight=pl.lit(0.1)).head(4)",
            "signals_type",
            "at which there is no bar",
        ),
        (
            "return pl.concat([bars.select('time', 'symbol', weight=pl.lit(0.1)).head(1)] * 2)",
            "signals_type",
            "twice",
        ),
    ],
)
async def test_what_cannot_be_weights_is_refused_with_the_reason(
    run: Callable[..., Any], five: list[Prices], body: str, code: str, says: str
) -> None:
    with pytest.raises(StrategyError) as caught:
        await run(f"import polars as pl\ndef weights(bars):\n    {body}\n", five)
    assert caught.value.code == code
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("value", "row", "weight", "says"),
    [
        ({"kind": "signals"}, [0.0], [0.1, 0.1], "header"),
        ({"kind": "weights"}, [0.0], [0.1], "1 weights for 1 rows of 2"),
        ({"kind": "weights"}, [9.0], [0.1, 0.1], "does not exist"),
        ({"kind": "weights"}, [0.5], [0.1, 0.1], "does not exist"),
        ({"kind": "weights"}, [np.nan], [0.1, 0.1], "does not exist"),
        ({"kind": "weights"}, [1.0, 1.0], [0.1] * 4, "before the row above"),
        ({"kind": "weights"}, [0.0], [np.inf, 0.1], "infinite"),
        ({"kind": "weights"}, [0.0], [0.7, -0.7], "sum to more than 1"),
    ],
)
def test_forged_weights_are_refused(value: Any, row: list[float], weight: list[float], says: str) -> None:
    with pytest.raises(StrategyError, match=says) as caught:
        read_weights(value, {"row": np.array(row), "weight": np.array(weight)}, 9, 2)
    assert caught.value.code == "forged_stream"
