"""The account of one symbol's play and the rules it is played by: both rows of numbers with named cells.

Compiled code works on arrays; these are their layouts. Whatever a bar does to cash before anything is traded
(settlement, borrow cost, dividends, how much may be traded) is in `begin`.
"""

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.compiled import compiled_bare, compiled_within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY_US = 86_400_000_000
YEAR_US = 365.0 * DAY_US

# account: the running state of one symbol's play
CASH, POSITION, BOOKED, FILLS, REJECTIONS, RUINED, OVERFLOW, ELSEWHERE = range(8)
ELSEWHERE_GROSS, CAPACITY, UNSETTLED, UNSETTLED_BEFORE, SESSION_DAY = range(8, 13)
BORROW_PAID, DIVIDENDS_PAID, LIQUIDATIONS = range(13, 16)
ACCOUNT_SIZE = 16
# ELSEWHERE: what the same cash holds in other symbols, at their last prices (shorts negative), and
# ELSEWHERE_GROSS the sum of their absolute values; both 0 where there is one symbol.
# CAPACITY: units that may still be traded on this bar, where volume is capped.
# UNSETTLED: proceeds of the last session's sales; UNSETTLED_BEFORE: of the session before it, with T+2.
# BORROW_PAID, DIVIDENDS_PAID: sums so far, both already in cash.
# LIQUIDATIONS: margin calls and ruin. OVERFLOW: 1 where too many orders wait.

# rules: constants of one run
COMMISSION, SLIPPAGE, WHOLE_LOTS, FILL_AT_CLOSE = 0, 1, 2, 3
PER_UNIT, COMMISSION_MIN, HALF_SPREAD, BORROW, MARGIN, MAINTENANCE, VOLUME_CAP, SETTLEMENT = range(4, 12)
NEXT_BAR = 12
RULES_SIZE = 13


def make_rules(
    *,
    commission: float = 0.0,
    slippage: float = 0.0,
    whole: bool = False,
    at_close: bool = False,
    per_unit: float = 0.0,
    commission_min: float = 0.0,
    spread: float = 0.0,
    borrow: float = 0.0,
    margin: float = 1.0,
    maintenance: float | None = None,
    volume_cap: float | None = None,
    settlement_days: int = 0,
    next_bar: bool = False,
) -> Floats:
    """Returns the rules of a run as the kernel reads them.

    Args:
        commission: Part of the notional of each fill.
        slippage: Part of the price by which market and stop fills are worse.
        whole: Whether quantities are cut to whole units.
        at_close: Whether market orders and targets fill at the close of the deciding bar.
        per_unit: Commission for each unit traded, in money.
        commission_min: Least commission of a fill, in money.
        spread: Ask minus bid as a part of the price; half of it worsens market and stop fills.
        borrow: Cost of a short position a year, as a part of its value.
        margin: Part of a position that equity must cover when it grows; 1: no leverage.
        maintenance: Part of a position that equity must cover at a close, else everything is liquidated;
            None: half of `margin` where that is below 1, else 0.
        volume_cap: Part of a bar's volume that may be traded on it; None: any amount.
        settlement_days: Sessions until the proceeds of a sale may pay for a purchase: 0, 1 or 2.
        next_bar: Whether a bracket after a limit or stop entry begins with the next bar only.
    """
    rules = np.zeros(RULES_SIZE)
    rules[[COMMISSION, SLIPPAGE, WHOLE_LOTS, FILL_AT_CLOSE]] = commission, slippage, whole, at_close
    rules[[PER_UNIT, COMMISSION_MIN, HALF_SPREAD, BORROW]] = per_unit, commission_min, spread / 2.0, borrow
    rules[MARGIN] = margin
    rules[MAINTENANCE] = (margin / 2.0 if margin < 1.0 else 0.0) if maintenance is None else maintenance
    rules[VOLUME_CAP] = 0.0 if volume_cap is None else volume_cap
    rules[SETTLEMENT] = settlement_days
    rules[NEXT_BAR] = next_bar
    return rules


def exposure_max(rules: Floats) -> float:
    """Returns the largest target and fraction that these rules take: 1 / margin."""
    return 1.0 / float(rules[MARGIN])


def needs_begin(rules: Floats, dividends: Floats) -> bool:
    """Returns whether `begin` has anything to do under these rules."""
    return bool(
        rules[VOLUME_CAP] > 0.0 or rules[SETTLEMENT] > 0.0 or rules[BORROW] > 0.0 or dividends.shape[0] > 0
    )


@compiled_bare
def begin(
    time: int,
    time_before: int,
    close_before: float,
    dividend: float,
    volume: float,
    rules: Floats,
    account: Floats,
) -> None:
    """Begins a bar, before its open is played: settlement, borrow cost, dividends, and the bar's capacity.

    Args:
        time: Open of the bar, microseconds since 1970-01-01 UTC.
        time_before: Open of the bar before it; on the first bar, that of this one.
        close_before: Close of the bar before it: what a short position is valued at for its borrow cost.
        dividend: Cash for each unit held over the ex-date, which this bar is the first of; 0: none.
        volume: The bar's volume, in units.
        rules: See `make_rules`.
        account: One symbol's account. Cash, unsettled cash and the sums are changed.
    """
    if rules[SETTLEMENT] > 0.0:
        day = time // DAY_US
        if day != account[SESSION_DAY]:
            account[SESSION_DAY] = day
            account[UNSETTLED_BEFORE] = account[UNSETTLED] if rules[SETTLEMENT] > 1.0 else 0.0
            account[UNSETTLED] = 0.0
    position = account[POSITION]
    if position < 0.0 and rules[BORROW] > 0.0:
        cost = -position * close_before * rules[BORROW] * ((time - time_before) / YEAR_US)
        account[CASH] -= cost
        account[BORROW_PAID] += cost
    if dividend != 0.0 and position != 0.0:
        account[CASH] += position * dividend
        account[DIVIDENDS_PAID] += position * dividend
    account[CAPACITY] = rules[VOLUME_CAP] * volume


@compiled_within
def fee(traded: float, price: float, rules: Floats) -> float:
    """Returns the commission of a fill: by notional and by unit, at least the minimum."""
    return max(abs(traded) * price * rules[COMMISSION] + abs(traded) * rules[PER_UNIT], rules[COMMISSION_MIN])


@compiled_within
def settled_cash(account: Floats) -> float:
    """Returns the cash that may pay for purchases now."""
    return account[CASH] - account[UNSETTLED] - account[UNSETTLED_BEFORE]
