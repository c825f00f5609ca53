"""The kernel by itself: nanoseconds a bar, beside a loop that knows one strategy only (the bound, no engine).

Two cases, each with the same equity from both: a target that changes when two averages cross, and a limit
entry every fifth bar with a take-profit and a stop-loss, the order before it canceled. The other loop has no
book, no order states, no fills and no sizes to find; it is what the same arithmetic costs at least.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from backtest import CASH, COMMISSION_BPS, sma_targets, walk
from results import Case, time_ms, write_results

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.compiled import compiled

SIZE = 100.0
REST_BARS = 5


@compiled
def crossing(open_: Any, close: Any, targets: Any, rate: float, cash: float, equity: Any) -> None:
    """Long at the next open where the target is 1, flat where it is 0."""
    units = 0.0
    wanted = 0.0
    for bar in range(close.shape[0]):
        if wanted > 0.0 and units == 0.0:
            units = cash / (open_[bar] * (1.0 + rate))
            cash -= units * open_[bar] * (1.0 + rate)
        elif wanted == 0.0 and units > 0.0:
            cash += units * open_[bar] * (1.0 - rate)
            units = 0.0
        if targets[bar] == targets[bar]:
            wanted = targets[bar]
        equity[bar] = cash + units * close[bar]


@compiled
def brackets(
    open_: Any, high: Any, low: Any, close: Any, rate: float, cash: float, equity: Any, rows: Any
) -> int:
    """Limit entry that rests five bars, then a take-profit and a stop-loss; also notes its orders as rows."""
    units, limit, profit, loss = 0.0, 0.0, 0.0, 0.0
    is_resting = False
    count = 0
    resting_row = -1
    for bar in range(close.shape[0]):
        if units > 0.0:
            price = 0.0
            if open_[bar] >= profit:
                price = open_[bar]
            elif low[bar] <= loss:
                price = min(open_[bar], loss)
            elif high[bar] >= profit:
                price = profit
            if price > 0.0:
                cash += units * price * (1.0 - rate)
                units = 0.0
        elif is_resting and low[bar] <= limit:
            price = min(open_[bar], limit)
            cash -= SIZE * price * (1.0 + rate)
            units = SIZE
            is_resting = False
            if price <= loss or low[bar] <= loss:  # gapped beyond it, or stopped in the same bar
                cash += units * min(price, loss) * (1.0 - rate)
                units = 0.0
            elif price < limit and high[bar] >= profit:  # an entry at the open: the whole bar counts
                cash += units * profit * (1.0 - rate)
                units = 0.0
        if units == 0.0 and (bar + 1) % REST_BARS == 0:
            limit = close[bar] * 0.9995
            profit, loss = limit * 1.002, limit * 0.998
            if rows.shape[0] > 0:
                if is_resting:
                    rows[count, 0], rows[count, 1], rows[count, 3] = bar, 2, resting_row
                    count += 1
                rows[count, 0], rows[count, 1], rows[count, 2], rows[count, 3] = bar, 0, 1, SIZE
                rows[count, 5], rows[count, 8], rows[count, 9] = limit, profit, loss
                resting_row = count
                count += 1
            is_resting = True
        equity[bar] = cash + units * close[bar]
    return count


def player(
    prices: Prices, commands: np.ndarray, rules: np.ndarray, cash: float
) -> tuple[Callable[[], Any], Any]:
    """Returns a play into buffers that are used again, and its equity."""
    bars = len(prices)
    account = np.zeros(kernel.ACCOUNT_SIZE)
    fills = np.zeros((kernel.fills_max(len(commands), bars, rules), len(o.FILL_COLUMNS)))
    equity, positions = np.zeros(bars), np.zeros(bars)
    states = np.zeros(len(commands), dtype=np.int64)

    def play() -> float:
        kernel.play(
            prices.open, prices.high, prices.low, prices.close, prices.volume, prices.times, np.empty(0),
            commands, cash, rules, account, fills, equity, positions, states,
        )  # fmt: skip
        return account[kernel.FILLS]

    return play, equity


def main() -> None:
    rate = COMMISSION_BPS / 10_000
    cash = 1e7
    rules = kernel.make_rules(commission=rate)
    cases: list[Case] = []
    for count in (100_000, 1_000_000):
        prices = walk(count)
        bound = np.zeros(count)
        targets = sma_targets(prices.close)
        commands = kernel.target_changes(targets)
        play, equity = player(prices, commands, rules, CASH)
        fills = play()
        crossing(prices.open, prices.close, targets, rate, CASH, bound)
        np.testing.assert_allclose(equity, bound, rtol=1e-9)
        ours = time_ms(play, rounds=15)
        peer = time_ms(
            lambda p=prices, t=targets, b=bound: crossing(p.open, p.close, t, rate, CASH, b), rounds=15
        )
        name = f"SMA 20/50, {count:,} bars, {int(fills):,} fills: {count / ours / 1e3:.0f}M bars/s"
        cases.append(Case(name, ours, peer, "one-strategy loop", "ms"))

        rows = np.full((2 * count // REST_BARS + 2, len(o.COLUMNS)), np.nan)
        rows[:, [o.SIDE, o.SIZED_BY, o.TIME_IN_FORCE, o.TRAIL_BY]] = 0.0
        prices_of = (prices.open, prices.high, prices.low, prices.close)
        commands = rows[: brackets(*prices_of, rate, cash, bound, rows)].copy()
        play, equity = player(prices, commands, rules, cash)
        fills = play()
        np.testing.assert_allclose(equity, bound, rtol=1e-9)
        none = np.empty((0, len(o.COLUMNS)))
        ours = time_ms(play, rounds=15)
        peer = time_ms(lambda p=prices_of, b=bound, n=none: brackets(*p, rate, cash, b, n), rounds=15)
        name = (
            f"limit + take-profit + stop-loss, {count:,} bars, {len(commands):,} rows, {int(fills):,} fills: "
            f"{count / ours / 1e3:.0f}M bars/s"
        )
        cases.append(Case(name, ours, peer, "one-strategy loop", "ms"))
    write_results("engine", cases)


if __name__ == "__main__":
    main()
