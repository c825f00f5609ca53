"""Whatever stream a guest forges: it is refused, or the bars alone say when and at what price it fills."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.cautions import find_warnings
from neural_trader_tools.backtest.digest import run_digest
from neural_trader_tools.backtest.metrics import compute_metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import orders_frame, trades_frame
from neural_trader_tools.backtest.replay import Replay, SymbolReplay, replay_symbol
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.stream import read_stream
from neural_trader_tools.engine import orders as o

NAN = float("nan")
BARS = 12
DAY_US = 86_400_000_000
EXTREME = [
    5e-324, 1e-310, 1e-200, 1e-30, 1e-12, 0.01, 0.5, 0.999999, 1.0, 1.0000001, 3.0, 7.5, 9.99, 10.0, 10.01,
    11.0, 1e3, 1e9, 1e15, 1e16, 1e200, 1.7e308,
]  # fmt: skip
NONSENSE = [NAN, float("inf"), float("-inf"), -0.0, 0.0, -1.0, -5e-324, -1e308, 0.5, 2.0**53, 2.0**63]


def make_prices(seed: int, scale: float = 1.0) -> Prices:
    generator = np.random.default_rng(seed)
    close = 10.0 * np.exp(np.cumsum(generator.normal(0, 0.08, BARS))) * scale
    open_ = close * np.exp(generator.normal(0, 0.05, BARS))
    high = np.maximum(open_, close) * (1 + generator.random(BARS) * 0.05)
    low = np.minimum(open_, close) * (1 - generator.random(BARS) * 0.05)
    times = np.arange(BARS, dtype=np.int64) * (DAY_US // 3)
    return Prices("X", times, open_, high, low, close, np.ones(BARS))


@st.composite
def rows(draw: st.DrawFn) -> list[list[float]]:
    """Rows that mostly keep the rules, with sizes and prices at every order of magnitude."""
    bars = sorted(draw(st.lists(st.integers(0, BARS - 1), max_size=24)))
    found: list[list[float]] = []
    value = st.sampled_from(EXTREME) | st.floats(5e-324, 1.7e308)
    price = st.sampled_from([NAN, NAN, *EXTREME])
    for number, bar in enumerate(bars):
        action = draw(st.sampled_from([o.ORDER, o.ORDER, o.ORDER, o.TARGET, o.CANCEL]))
        row = [float(bar), float(action), 0.0, 0.0, 0.0, NAN, NAN, NAN, NAN, NAN, 0.0, NAN, NAN, 0.0]
        if action == o.ORDER:
            row[o.SIDE] = draw(st.sampled_from([1.0, -1.0]))
            row[o.SIZED_BY] = draw(st.sampled_from([0.0, 1.0]))
            size = draw(value)
            row[o.SIZE] = min(size, 1.0) if row[o.SIZED_BY] else min(size, o.SIZE_MAX)
            for column in range(o.LIMIT, o.STOP_LOSS + 1):
                row[column] = draw(price)
            if not np.isnan(row[o.TRAIL]):
                row[o.LIMIT] = row[o.STOP] = NAN
            row[o.TIME_IN_FORCE] = draw(st.sampled_from([0.0, 1.0]))
            row[o.TRAIL_LOSS] = draw(price)
            row[o.OCO] = draw(st.sampled_from([NAN, NAN, 0.0])) if number else NAN
        elif action == o.TARGET:
            row[o.SIZE] = draw(st.sampled_from([-0.0, 0.0, 5e-324, -1e-310, 1e-12, 0.3, -0.7, 1.0, -1.0]))
        else:
            row[o.SIZE] = float(draw(st.integers(0, max(number - 1, 0))))
        if draw(st.integers(0, 40)) == 0:  # and sometimes nonsense anywhere
            row[draw(st.integers(0, 13))] = draw(st.sampled_from(NONSENSE))
        found.append(row)
    return found


def columns_of(table: Sequence[Sequence[float]]) -> dict[str, NDArray[np.float64]]:
    names = o.COLUMNS if not table or len(table[0]) == len(o.COLUMNS) else o.COLUMNS_BEFORE_3
    array = np.array(table, dtype=np.float64).reshape(-1, len(names))
    return {name: array[:, number].copy() for number, name in enumerate(names)}


def check_fills(found: SymbolReplay, settings: Settings, cash: float) -> None:
    """Every fill lies after its decision, within its bar's range and slippage, and the account adds up."""
    bars, commands, slippage = found.prices, found.commands, settings.slippage_bps / 1e4
    money, held, row = cash, 0.0, 0
    for bar in range(len(bars)):
        while row < len(found.fills) and found.fills[row, o.FILL_BAR] == bar:
            order, traded, price, cost, reason, after = found.fills[row, 1:].tolist()
            if order >= 0:
                decided = commands[int(order), o.BAR]
                at_close = settings.fill == "close" and reason in (o.BY_MARKET, o.BY_TARGET)
                assert decided <= bar if at_close else decided < bar
                assert commands[int(order), o.ACTION] != o.CANCEL
            slips = reason not in (o.BY_LIMIT, o.BY_STOP_LIMIT, o.BY_TAKE_PROFIT, o.BY_LIQUIDATION)
            allowed = slippage if slips else 0.0
            assert bars.low[bar] * (1 - allowed) * (1 - 1e-12) <= price
            assert price <= bars.high[bar] * (1 + allowed) * (1 + 1e-12)
            money -= traded * price + cost
            held += traded
            assert after == pytest.approx(held, rel=1e-9, abs=1e-9 * abs(traded))
            held = after  # the kernel makes a position of rounding errors flat
            assert cost == pytest.approx(abs(traded) * price * settings.commission_bps / 1e4, rel=1e-9)
            row += 1
        assert found.equity[bar] == pytest.approx(money + held * bars.close[bar], rel=1e-6, abs=1e-6 * cash)
    assert row == len(found.fills)


@given(
    rows(),
    st.integers(0, 5),
    st.sampled_from([1.0, 1e-6]),
    st.sampled_from([Settings(), Settings(commission_bps=7, slippage_bps=30), Settings(fill="close"),
                     Settings(lots="whole", fill="close", slippage_bps=1000, commission_bps=1000)]),
)  # fmt: skip
@example([[0.0, 0, 1, 5e-324, 0, NAN, NAN, NAN, NAN, NAN, 0]], 0, 1e-6, Settings())
@example([[0.0, 0, 1, 5e-324, 1, NAN, NAN, NAN, NAN, NAN, 0]], 0, 1.0, Settings())
@example([[0.0, 1, 0, 5e-324, 0, NAN, NAN, NAN, NAN, NAN, 0]], 0, 1e-6, Settings())
@example([[0.0, 1, 0, 5e-324, 0, NAN, NAN, NAN, NAN, NAN, 0]], 0, 1.0, Settings(commission_bps=7))
def test_a_forged_stream_is_refused_or_filled_by_the_bars(
    table: list[list[float]], seed: int, scale: float, settings: Settings
) -> None:
    prices, cash = make_prices(seed, scale), 1_000.0
    try:
        kind, stream = read_stream({"kind": "orders"}, columns_of(table), BARS)
        found = replay_symbol(kind, stream, prices, settings, cash)
    except StrategyError as error:
        assert error.code in ("forged_stream", "too_many_orders")  # noqa: PT017  # or it passes, below
        return
    check_fills(found, settings, cash)
    again = replay_symbol(kind, stream.copy(), prices, settings, cash)
    request = BacktestRequest(source="x", symbols=("X",), settings=settings)
    digests: set[str] = set()
    for one in (found, again):
        replay = Replay.combine([one], cash)
        metrics = compute_metrics(replay, 252.0)  # its model refuses NaN and infinity
        find_warnings(replay, metrics)
        assert trades_frame(replay).height == len(one.trades)
        assert orders_frame(replay).height == len(stream)
        digests.add(run_digest(request, [prices], replay))
    assert len(digests) == 1


@given(st.lists(st.sampled_from([NAN, -0.0, 0.0, 5e-324, -1e-310, 1e-15, 0.3, -0.7, 1.0, -1.0]),
                min_size=BARS, max_size=BARS), st.integers(0, 3), st.sampled_from([1.0, 1e-6]))  # fmt: skip
def test_any_target_array_is_filled_by_the_bars(targets: list[float], seed: int, scale: float) -> None:
    prices, settings = make_prices(seed, scale), Settings(commission_bps=3, slippage_bps=5)
    kind, stream = read_stream({"kind": "signals"}, {"target": np.array(targets)}, BARS)
    found = replay_symbol(kind, stream, prices, settings, 1_000.0)
    check_fills(found, settings, 1_000.0)
    compute_metrics(Replay.combine([found], 1_000.0), 252.0)


def test_the_sign_of_zero_changes_nothing() -> None:
    prices = make_prices(1)
    digests: set[str] = set()
    for zero in (0.0, -0.0):
        table = [
            [zero, 0, 1, 5, zero, NAN, NAN, NAN, NAN, NAN, zero],
            [3, 1, zero, zero, 0, *[NAN] * 5, 0],
            [4, 2, zero, zero, 0, *[NAN] * 5, 0],
        ]
        _, stream = read_stream({"kind": "orders"}, columns_of(table), BARS)
        assert not np.signbit(stream[stream == 0]).any()
        found = replay_symbol("orders", stream, prices, Settings(), 1_000.0)
        request = BacktestRequest(source="x", symbols=("X",))
        digests.add(run_digest(request, [prices], Replay.combine([found], 1_000.0)))
    assert len(digests) == 1


def test_more_rows_than_bars_allow_are_refused_before_they_are_looked_at() -> None:
    table = np.zeros((64 * BARS + 1, 11))
    with pytest.raises(StrategyError, match="769 rows, more than 64 on each bar"):
        read_stream({"kind": "orders"}, columns_of(table.tolist()), BARS)


def test_two_equal_rows_are_two_orders() -> None:
    """Nothing an honest strategy could not have asked for: equity bounds what both together may buy."""
    row = [0.0, 0, 1, 60, 0, NAN, NAN, NAN, NAN, NAN, 0]
    _, stream = read_stream({"kind": "orders"}, columns_of([row, row]), BARS)
    found = replay_symbol("orders", stream, make_prices(1), Settings(), 1_000.0)
    assert (len(found.fills), found.rejections) == (1, 1)
