"""The sweep's kernel: from target changes to the sums behind every metric, without making a curve.

It plays the same rules as `engine/kernel.py` for orders that are targets, with the same function for sizes;
tests hold the two against each other. Bars in which nothing trades are not visited one by one while the
account is flat or fully invested, see `ranges.py`; else they are.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.sweeps.ranges import range_extremes
from neural_trader_tools.engine.account import FILL_AT_CLOSE, fee
from neural_trader_tools.engine.compiled import compiled_bare
from neural_trader_tools.engine.sizing import TOLERANCE, target_position

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOTALS: Final = (
    "equity_final", "max_drawdown", "trade_count", "exposed_bars", "commission_total", "traded_value",
    "returns", "sum_1", "sum_2", "sum_3", "sum_4", "sum_down", "rejections", "ruined",
)  # fmt: skip
"""Per combination. returns: how many there are; sum_k: sum of their k-th powers; sum_down: of min(r, 0)^2."""
(EQUITY, DRAWDOWN, TRADES, EXPOSED, COMMISSIONS, TRADED, RETURNS, SUM_1, SUM_2, SUM_3, SUM_4, SUM_DOWN,
 REJECTIONS, RUINED) = range(14)  # fmt: skip
TOTALS_SIZE: Final = 14
CELL_SUM, CELL_SQUARES, CELL_EQUITY = 0, 1, 2
CELL_SIZE: Final = 3
"""Per combination and cell: sum of returns, of their squares, and equity at the cell's last close."""
INVESTED_TOLERANCE: Final = 1e-13


@compiled_bare
def play_changes(
    first: int,
    last: int,
    open_: Floats,
    close: Floats,
    offsets: Ints,
    bars: Floats,
    targets: Floats,
    cash_start: float,
    rules: Floats,
    edges: Ints,
    sums: Floats,
    ahead: Floats,
    behind: Floats,
    blocks: Floats,
    totals: Floats,
    cells: Floats,
) -> None:
    """Plays the combinations `first` to `last`, the last one excluded.

    Args:
        first: See above.
        last: See above.
        open_: Opens of the bars.
        close: Closes.
        offsets: Shape (combinations + 1,): where the changes of each begin in `bars` and `targets`.
        bars: Bar on which each change was decided, ascending within a combination.
        targets: The new target exposure.
        cash_start: Cash at the start.
        rules: The kernel's.
        edges: Bars at which cells begin, ascending from 0, and the number of bars.
        sums: `Ranges`, and so are ahead, behind and blocks.
        ahead: See sums.
        behind: See sums.
        blocks: See sums.
        totals: Out, (combinations, 14), see `TOTALS`.
        cells: Out, (combinations, cells, 3).
    """
    size = close.shape[0]
    at_close = rules[FILL_AT_CLOSE] != 0.0
    delay = 0 if at_close else 1
    for each in range(first, last):
        cash, position, value, peak, fall = cash_start, 0.0, cash_start, cash_start, 0.0
        commissions, traded_value = 0.0, 0.0
        trades, exposed, rejections = 0, 0, 0
        s1, s2, s3, s4, down = 0.0, 0.0, 0.0, 0.0, 0.0
        c1, c2 = 0.0, 0.0
        ruined_at = -1
        cell = 0
        change, end = offsets[each], offsets[each + 1]
        bar = 0
        while bar < size:
            due = size
            if change < end and ruined_at < 0:
                due = min(int(bars[change]) + delay, size)
            while bar < due:
                stop = min(due, edges[cell + 1])
                if position == 0.0:
                    bar = stop
                elif position > 0.0 and abs(cash) <= INVESTED_TOLERANCE * value:
                    c1 += sums[stop, 0] - sums[bar, 0]
                    c2 += sums[stop, 1] - sums[bar, 1]
                    s3 += sums[stop, 2] - sums[bar, 2]
                    s4 += sums[stop, 3] - sums[bar, 3]
                    down += sums[stop, 4] - sums[bar, 4]
                    high, low, inside = range_extremes(int(bar), int(stop) - 1, close, ahead, behind, blocks)
                    fall = max(fall, inside, 1.0 - position * low / peak)
                    peak = max(peak, position * high)
                    exposed += stop - bar
                    value = cash + position * close[stop - 1]
                    bar = stop
                else:
                    while bar < stop:
                        before = value
                        value = cash + position * close[bar]
                        exposed += 1
                        if value <= 0.0:
                            cost = fee(position, close[bar], rules)
                            cash += position * close[bar] - cost
                            commissions += cost
                            traded_value += abs(position) * close[bar]
                            position = 0.0
                            value = cash
                            trades += 1
                            exposed -= 1
                            ruined_at = bar
                        r = value / before - 1.0
                        c1 += r
                        c2 += r * r
                        s3 += r * r * r
                        s4 += r * r * r * r
                        if r < 0.0:
                            down += r * r
                        peak = max(peak, value)
                        fall = max(fall, 1.0 - value / peak)
                        bar += 1
                        if ruined_at >= 0:
                            break
                    if ruined_at >= 0:
                        due = size
                if bar == edges[cell + 1]:
                    cells[each, cell, 0], cells[each, cell, 1], cells[each, cell, 2] = c1, c2, value
                    s1 += c1
                    s2 += c2
                    c1, c2 = 0.0, 0.0
                    cell += 1
            if bar >= size:
                break
            # the bar of a fill
            market = close[bar] if at_close else open_[bar]
            before = value
            held = position
            wanted, price = target_position(float(targets[change]), cash, held, market, rules)
            change += 1
            traded = wanted - held
            if abs(wanted) <= 1e-12 * max(abs(held), abs(traded)):
                wanted = 0.0
                traded = -held
            if abs(traded) > 1e-12 * max(abs(held), abs(wanted)):
                cost = fee(traded, price, rules)
                grows = abs(wanted) > abs(held) or wanted * held < 0.0
                if grows and abs(wanted) * price + cost > (cash + held * price) * (1.0 + TOLERANCE):
                    rejections += 1
                else:
                    cash = cash - traded * price - cost
                    position = wanted
                    commissions += cost
                    traded_value += abs(traded) * price
                    if held != 0.0 and wanted * held <= 0.0:
                        trades += 1
            value = cash + position * close[bar]
            if value <= 0.0:
                ruined_at = bar
                if position != 0.0:
                    cost = fee(position, close[bar], rules)
                    cash += position * close[bar] - cost
                    commissions += cost
                    traded_value += abs(position) * close[bar]
                    position = 0.0
                    trades += 1
                value = cash
            if position != 0.0:
                exposed += 1
            if bar > 0:
                r = value / before - 1.0
                c1 += r
                c2 += r * r
                s3 += r * r * r
                s4 += r * r * r * r
                if r < 0.0:
                    down += r * r
            peak = max(peak, value)
            fall = max(fall, 1.0 - value / peak)
            bar += 1
            if bar == edges[cell + 1]:
                cells[each, cell, 0], cells[each, cell, 1], cells[each, cell, 2] = c1, c2, value
                s1 += c1
                s2 += c2
                c1, c2 = 0.0, 0.0
                cell += 1
        if ruined_at >= 0:
            for later in range(change, end):
                if bars[later] > ruined_at:
                    rejections += 1
        row = totals[each]
        row[EQUITY], row[DRAWDOWN], row[TRADES], row[EXPOSED] = value, fall, trades, exposed
        row[COMMISSIONS], row[TRADED] = commissions, traded_value
        row[RETURNS] = (size if ruined_at < 0 else ruined_at + 1) - 1
        row[SUM_1], row[SUM_2], row[SUM_3], row[SUM_4], row[SUM_DOWN] = s1, s2, s3, s4, down
        row[REJECTIONS], row[RUINED] = rejections, 1.0 if ruined_at >= 0 else 0.0
