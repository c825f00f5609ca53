"""Trades: what the fills of one symbol add up to, from flat to flat."""

import math
from typing import Final

import numpy as np

from neural_trader_tools.engine.compiled import compiled
from neural_trader_tools.engine.kernel import Floats

TRADE_COLUMNS: Final = (
    "entry_bar",
    "exit_bar",
    "side",
    "quantity",
    "entry_price",
    "exit_price",
    "commission",
    "pnl",
    "return",
)
"""exit_bar and exit_price are NaN while the trade is open. quantity: units bought in (sold short) in all.

entry_price and exit_price: averages over the units. pnl: after commission, of an open trade marked at
the last close. return: pnl over the cost of the entries.
"""


_ENTRY_BAR, _SIDE, _ENTERED, _ENTRY_VALUE, _EXIT_VALUE, _COMMISSION = range(6)


@compiled
def _close(trades: Floats, count: int, state: Floats, exit_bar: float, value: float) -> None:
    """Writes one trade; `value` is what its units were or would be sold for."""
    pnl = state[_SIDE] * (value - state[_ENTRY_VALUE]) - state[_COMMISSION]
    trades[count, 0] = state[_ENTRY_BAR]
    trades[count, 1] = exit_bar
    trades[count, 2] = state[_SIDE]
    trades[count, 3] = state[_ENTERED]
    trades[count, 4] = state[_ENTRY_VALUE] / state[_ENTERED]
    trades[count, 5] = math.nan if math.isnan(exit_bar) else value / state[_ENTERED]
    trades[count, 6] = state[_COMMISSION]
    trades[count, 7] = pnl
    trades[count, 8] = pnl / state[_ENTRY_VALUE]
    for cell in range(6):
        state[cell] = 0.0


@compiled
def round_trips(fills: Floats, last_close: float) -> Floats:
    """Groups fills into trades: from flat until flat again, or until the position changes sign.

    A fill that reverses the position ends one trade and begins the next, its commission shared by units.

    Args:
        fills: Shape (fills, 7), as the kernel writes them.
        last_close: Price at which an open trade is marked.

    Returns:
        Shape (trades, 9), see `TRADE_COLUMNS`; at most the last one is open.
    """
    trades = np.empty((fills.shape[0] + 1, 9))
    state = np.zeros(6)
    count = 0
    before = 0.0
    for row in range(fills.shape[0]):
        bar, traded, price = fills[row, 0], fills[row, 2], fills[row, 3]
        cost, after = fills[row, 4], fills[row, 6]
        # signs are compared, for the product of two tiny positions is zero
        ends = before != 0.0 and (after == 0.0 or (before > 0.0) != (after > 0.0))
        closing = 0.0
        if before != 0.0 and (before > 0.0) != (traded > 0.0):
            closing = abs(before) if ends else abs(traded)
        opening = abs(traded) - closing if after != 0.0 else 0.0
        share = closing / (closing + opening)
        if closing > 0.0:
            state[_EXIT_VALUE] += closing * price
            state[_COMMISSION] += cost * share
            if ends:
                _close(trades, count, state, bar, state[_EXIT_VALUE])
                count += 1
        if opening > 0.0:
            if state[_ENTERED] == 0.0:
                state[_ENTRY_BAR] = bar
                state[_SIDE] = 1.0 if after > 0.0 else -1.0
            state[_ENTERED] += opening
            state[_ENTRY_VALUE] += opening * price
            state[_COMMISSION] += cost * (1.0 - share)
        before = after
    if before != 0.0:
        _close(trades, count, state, math.nan, state[_EXIT_VALUE] + abs(before) * last_close)
        count += 1
    return trades[:count]
