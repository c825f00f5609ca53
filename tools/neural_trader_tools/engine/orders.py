"""The order stream: one row of float64 columns for each thing that a strategy asked for.

It is what leaves the sandbox instead of a profit. The guest writes it, `backtest/stream.py` checks it,
the kernel plays it. Absent prices are NaN; every other cell is finite.
"""

from typing import Final

ENGINE_VERSION: Final = "3"
"""Part of every digest; changes whenever the same input may give another fill, trade or equity."""

COLUMNS: Final = (
    "bar",
    "action",
    "side",
    "size",
    "sized_by",
    "limit",
    "stop",
    "trail",
    "take_profit",
    "stop_loss",
    "time_in_force",
    "oco",
    "trail_loss",
    "trail_by",
)
"""bar: index of the bar on which it was decided. side: 1 buy, -1 sell, 0 for targets and cancellations.

size: units, a fraction of equity, a target exposure, or the row of the order to cancel, as `action` and
`sized_by` say. oco: row of an earlier order, the first of its group: one fills, the others are canceled; NaN
where there is none. trail_loss: how far a stop-loss of the filled entry trails. trail and trail_loss are
distances as `trail_by` says. The others are prices and codes below.
"""
COLUMNS_BEFORE_3: Final = COLUMNS[:11]
"""The columns of a stream that was written for engine 1 or 2; `backtest/stream.py` still takes them."""
BAR: Final = 0
ACTION: Final = 1
SIDE: Final = 2
SIZE: Final = 3
SIZED_BY: Final = 4
LIMIT: Final = 5
STOP: Final = 6
TRAIL: Final = 7
TAKE_PROFIT: Final = 8
STOP_LOSS: Final = 9
TIME_IN_FORCE: Final = 10
OCO: Final = 11
TRAIL_LOSS: Final = 12
TRAIL_BY: Final = 13

# action
ORDER: Final = 0
TARGET: Final = 1
CANCEL: Final = 2

# sized_by
QUANTITY: Final = 0
FRACTION: Final = 1

# time_in_force
GTC: Final = 0
DAY: Final = 1

# trail_by
DISTANCE: Final = 0
PART: Final = 1
"""A part of the extreme price, such as 0.05, instead of a price distance."""

REASONS: Final = (
    "market",
    "limit",
    "stop",
    "stop_limit",
    "trail",
    "take_profit",
    "stop_loss",
    "target",
    "liquidation",
)
"""Why a fill happened, by code; the first five are also the types of orders."""
BY_MARKET: Final = 0
BY_LIMIT: Final = 1
BY_STOP: Final = 2
BY_STOP_LIMIT: Final = 3
BY_TRAIL: Final = 4
BY_TAKE_PROFIT: Final = 5
BY_STOP_LOSS: Final = 6
BY_TARGET: Final = 7
BY_LIQUIDATION: Final = 8

STATES: Final = ("working", "filled", "rejected", "canceled", "expired", "done")
"""What became of a row, by code. `done` is a cancellation carried out, or a target that needed no trade."""
WORKING: Final = 0
FILLED: Final = 1
REJECTED: Final = 2
CANCELED: Final = 3
EXPIRED: Final = 4
DONE: Final = 5

FILL_COLUMNS: Final = ("bar", "order", "quantity", "price", "commission", "reason", "position")
"""One fill: bar, row of its order (-1: liquidation), signed units, price, commission, reason, units after."""
FILL_BAR: Final = 0
FILL_ORDER: Final = 1
FILL_QUANTITY: Final = 2
FILL_PRICE: Final = 3
FILL_COMMISSION: Final = 4
FILL_REASON: Final = 5
FILL_POSITION: Final = 6

ORDERS_PER_BAR_MAX: Final = 64
"""Rows that one bar may add; a stream with more is refused, inside as outside."""
SIZE_MAX: Final = 1e15
"""Units of one order; beyond it a float no longer counts them."""
SIZE_MIN: Final = 1e-12
"""Units or fraction of one order at least; a target nearer to zero is zero. Far below, products underflow."""
WORKING_MAX: Final = 256
"""Orders that may wait at once, bracket legs included; matching looks at each of them on each bar."""
