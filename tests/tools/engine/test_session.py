"""A session calls the kernel only where something may happen; a strategy must not notice."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_tools.engine import guest, kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.session import Session
from neural_trader_tools.engine.strategy import Bar, Fill, Order, Strategy, configure

Floats = NDArray[np.float64]
HOUR_US = 3_600_000_000


def frame(seed: int, bars: int, *, dividends: bool = False) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, bars)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(draw.normal(0, 0.004, bars))
    high = np.maximum(open_, close) * np.exp(np.abs(draw.normal(0, 0.004, bars)))
    low = np.minimum(open_, close) / np.exp(np.abs(draw.normal(0, 0.004, bars)))
    time = pl.Series(np.arange(bars) * 7 * HOUR_US).cast(pl.Datetime("us", "UTC"))
    columns = {"time": time, "open": open_, "high": high, "low": low, "close": close}
    columns["volume"] = draw.integers(0, 40, bars).astype(float)
    if dividends:
        columns["dividend"] = np.where(draw.random(bars) < 0.05, 0.5, 0.0)
    return pl.DataFrame(columns)


class Chance(Strategy):
    """Places and cancels whatever there is, and writes down what it sees."""

    seed: int = 0

    def on_start(self) -> None:
        self.draw = np.random.default_rng(self.seed)
        self.seen: list[tuple[Any, ...]] = []
        self.told: list[Fill] = []

    def on_fill(self, fill: Fill) -> None:
        self.told.append(fill)
        if self.draw.random() < 0.1 and abs(fill.quantity) >= o.SIZE_MIN:  # a cap may leave less of an order
            self.sell(quantity=abs(fill.quantity), stop=fill.price * 0.97)

    def on_bar(self, bar: Bar) -> None:
        for _ in range(int(self.draw.integers(0, 3)) if self.draw.random() < 0.4 else 0):
            self.act(bar.close)
        ids = [order.order_id for order in self.orders]
        self.seen.append((self.cash, self.position.quantity, self.equity, ids, len(self.told)))

    def act(self, price: float) -> None:
        draw, kind = self.draw, int(self.draw.integers(0, 9))
        near, far = 1 - draw.uniform(0.001, 0.02), 1 - draw.uniform(0.021, 0.04)
        how: dict[str, Any] = {"quantity": float(draw.integers(1, 20))}
        if draw.random() < 0.3:
            how = {"fraction": draw.uniform(0.05, 0.5)}
        if draw.random() < 0.3:
            how["time_in_force"] = "day"
        place = self.buy if draw.random() < 0.6 else self.sell
        buys = place == self.buy
        below, above = (price * near, price / near) if buys else (price / near, price * near)
        if kind == 0:
            self.target(float(np.round(draw.uniform(-1, 1), 1)))
        elif kind == 1:
            self.close()
        elif kind == 2 and self.orders:
            self.cancel(self.orders[int(draw.integers(len(self.orders)))])
        elif kind == 3:
            place(**how)
        elif kind == 4:
            place(**how, limit=below, take_profit=above, stop_loss=price * far if buys else price / far)
        elif kind == 5:
            first = place(**how, stop=above, trail_loss=0.02, trail_by="part")
            place(quantity=3, limit=below, oco=first)
        elif kind == 6:
            place(**how, stop=above, limit=above / near if buys else above * near)
        elif kind == 7:
            place(**how, trail=price * 0.02)
        elif self.orders:
            place(quantity=1, limit=below, oco=self.orders[0])


def rule_row(draw: dict[str, Any]) -> dict[str, Any]:
    return {"cash": 10_000.0, "commission_bps": 5, "slippage_bps": 3, **draw}


RULES = st.fixed_dictionaries(
    {"fill": st.sampled_from(["next_open", "close"]), "lots": st.sampled_from(["fractional", "whole"])},
    optional={
        "margin": st.sampled_from([0.5, 0.2]),
        "volume_cap": st.just(0.3),
        "settlement_days": st.sampled_from([1, 2]),
        "borrow_bps_annual": st.just(5_000.0),
    },
).map(rule_row)


def slowly(
    bars: pl.DataFrame, rules: Floats, cash: float, rows: Floats
) -> tuple[Floats, list[tuple[Any, ...]]]:
    """Calls the kernel for every order and on every bar: what a strategy has to see, and the fills."""
    times = bars["time"].to_physical().to_numpy()
    columns = {name: bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume")}
    paid = bars["dividend"].to_numpy() if "dividend" in bars.columns else np.empty(0)
    account, states = np.zeros(kernel.ACCOUNT_SIZE), np.zeros(len(rows) + 1, dtype=np.int64)
    account[kernel.CASH] = cash
    book = np.empty((o.WORKING_MAX, kernel.BOOK_SIZE))
    fills = np.empty((kernel.fills_max(len(rows), len(times), rules), len(o.FILL_COLUMNS)))
    seen: list[tuple[Any, ...]] = []
    row = 0
    for bar in range(len(times)):
        open_, high, low, close, volume = (float(columns[name][bar]) for name in columns)
        if kernel.needs_begin(rules, paid):
            before = max(bar - 1, 0)
            dividend = float(paid[bar]) if len(paid) else 0.0
            kernel.begin(
                times[bar], times[before], columns["close"][before], dividend, volume, rules, account
            )
        if account[kernel.BOOKED] > 0:
            kernel.match(bar, open_, high, low, times, rules, account, book, fills, states)
        cash, held, told = account[kernel.CASH], account[kernel.POSITION], int(account[kernel.FILLS])
        while row < len(rows) and rows[row, o.BAR] == bar:
            kernel.submit(bar, row, rows[row], close, times, rules, account, book, states)
            row += 1
        waits = book[: int(account[kernel.BOOKED])]
        is_order = (waits[:, kernel.LEG] == 0) & (waits[:, kernel.KIND] != o.BY_TARGET)
        ids = waits[is_order & (waits[:, kernel.ID] >= 0), kernel.ID].astype(int).tolist()
        seen.append((cash, held, cash + held * close, ids, told))
        kernel.finish(bar, close, rules, account, book, fills, states)
    return fills[: int(account[kernel.FILLS])], seen


def played(bars: pl.DataFrame, rules: Floats, cash: float, rows: Floats) -> tuple[Floats, Floats]:
    """Plays the stream as the trusted side does."""
    times = bars["time"].to_physical().to_numpy()
    paid = bars["dividend"].to_numpy() if "dividend" in bars.columns else np.empty(0)
    account, states = np.zeros(kernel.ACCOUNT_SIZE), np.zeros(len(rows), dtype=np.int64)
    fills = np.empty((kernel.fills_max(len(rows), len(times), rules), len(o.FILL_COLUMNS)))
    equity, positions = np.empty(len(times)), np.empty(len(times))
    columns = [bars[name].to_numpy() for name in ("open", "high", "low", "close", "volume")]
    open_, high, low, close, volume = columns
    kernel.play(
        open_, high, low, close, volume, times, paid, rows, cash, rules, account, fills, equity, positions,
        states,
    )  # fmt: skip
    return fills[: int(account[kernel.FILLS])], equity


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), given_rules=RULES, dividends=st.booleans())
def test_what_a_strategy_sees_is_what_the_kernel_called_on_every_bar_makes(
    seed: int, given_rules: dict[str, Any], dividends: bool
) -> None:
    bars, rules, cash = frame(seed, 250, dividends=dividends), guest.rules(given_rules), 10_000.0
    session = Session(bars, cash, rules, no_feature)
    strategy = configure(Chance, {"seed": seed % 1_000}, session)
    assert isinstance(strategy, Chance)
    session.run(strategy)
    fills, seen = slowly(bars, rules, cash, session.commands)
    assert np.array_equal(session.fills[: session.fill_count], fills)
    assert strategy.seen == seen
    assert [fill.order_id for fill in strategy.told] == fills[: len(strategy.told), o.FILL_ORDER].tolist()
    trusted, equity = played(bars, rules, cash, session.commands)
    assert np.array_equal(trusted, fills)
    assert np.array_equal(session.equity, equity)


def no_feature(expression: str, bars: pl.DataFrame) -> Floats:
    raise AssertionError(expression)


def test_more_orders_than_may_wait_are_refused_where_they_are_placed() -> None:
    class Many(Strategy):
        def on_bar(self, bar: Bar) -> None:
            for _ in range(60):
                self.placed = bar.number
                self.buy(quantity=1, limit=1.0)

    session = Session(frame(1, 20), 1e6, guest.rules({}), no_feature)
    strategy = configure(Many, {}, session)
    with pytest.raises(StrategyFault, match="too_many_orders"):
        session.run(strategy)
    assert len(session.commands) == o.WORKING_MAX - 1


def test_a_bar_tells_its_time_and_an_order_what_was_asked_for() -> None:
    bar = Bar(3, 86_400_000_000, 1.0, 2.0, 0.5, 1.5, 9.0)
    assert bar.time.isoformat() == "1970-01-02T00:00:00+00:00"
    assert (bar.number, bar.low, bar.volume) == (3, 0.5, 9.0)

    class Once(Strategy):
        def on_bar(self, bar: Bar) -> None:
            if bar.number == 0:
                self.order = self.sell(fraction=0.5, limit=np.float64(1e6))

    session = Session(frame(1, 3), 1e6, guest.rules({}), no_feature)
    strategy = configure(Once, {}, session)
    session.run(strategy)
    assert strategy.orders == [Order(0, "sell", None, 0.5, 1e6, None, None, 0)]
    assert session.commands.shape == (1, len(o.COLUMNS))
