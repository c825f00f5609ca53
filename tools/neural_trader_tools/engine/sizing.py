"""Sizing: how many units a target or an amount of money comes to, costs included."""

import numpy as np

from neural_trader_tools.engine.account import (
    COMMISSION,
    COMMISSION_MIN,
    HALF_SPREAD,
    MARGIN,
    PER_UNIT,
    SLIPPAGE,
    WHOLE_LOTS,
    Floats,
)
from neural_trader_tools.engine.compiled import compiled_within

TOLERANCE = 1e-9


@compiled_within
def target_position(
    target: float, cash: float, position: float, market: float, rules: Floats, gross: float = 0.0
) -> tuple[float, float]:
    """Returns the position that a target exposure asks for, and the price at which it is reached.

    With k what commission takes of each unit and p the fill price, increasing to q from h (both counted in
    the target's direction) solves q p + (q - h) k = |target| (cash + position p); decreasing has (h - q).
    Where the least commission is more than (q - h) k, it stands in its place.

    Args:
        target: Exposure, as a part of equity.
        cash: Cash, and what it holds in other symbols.
        position: Units held.
        market: Price before slippage and spread.
        rules: See `account.make_rules`.
        gross: Gross value held in other symbols; what margin it takes is not there for this one.
    """
    worse = rules[SLIPPAGE] + rules[HALF_SPREAD]
    commission, per_unit, least, margin = (
        rules[COMMISSION],
        rules[PER_UNIT],
        rules[COMMISSION_MIN],
        rules[MARGIN],
    )
    if target == 0.0:
        return 0.0, market * (1.0 - worse) if position > 0.0 else market * (1.0 + worse)
    sign = 1.0 if target > 0.0 else -1.0
    held = position * sign
    price = market * (1.0 + sign * worse)
    equity = cash + position * price
    wanted = abs(target) * equity
    if wanted > held * price:
        saved = held * price * commission + held * per_unit
        size = (wanted + saved) / (price * (1.0 + commission) + per_unit)
        if least > 0.0:
            size = min(size, (wanted - least) / price)
        if margin < 1.0 or gross > 0.0:  # a target at the bound leaves no room for its own commission
            free = equity - gross * margin
            size = min(size, (free + saved) / (price * (margin + commission) + per_unit))
            if least > 0.0:
                size = min(size, (free - least) / (price * margin))
        size = max(size, held, 0.0)
        if rules[WHOLE_LOTS] != 0.0:
            size = max(np.floor(size + TOLERANCE), held, 0.0)
        return sign * size, price
    price = market * (1.0 - sign * worse)
    wanted = abs(target) * (cash + position * price)
    unit = price * (1.0 - commission) - per_unit
    size = 0.0
    if unit > 0.0:  # else a sale costs more than it brings
        size = (wanted - held * price * commission - held * per_unit) / unit
        if least > 0.0:
            # what is there but for rounding pays no commission
            reached = wanted >= held * price * (1.0 - 1e-12)
            size = held if reached else min(size, (wanted - least) / price)
        size = min(max(size, 0.0), held)
    if rules[WHOLE_LOTS] != 0.0:
        size = min(float(np.floor(size + TOLERANCE)), held)
    return sign * size, price


@compiled_within
def units_for(money: float, price: float, rules: Floats) -> float:
    """Returns the units that an amount of money pays for, commission included; 0 if not even that."""
    size = money / (price * (1.0 + rules[COMMISSION]) + rules[PER_UNIT])
    if rules[COMMISSION_MIN] > 0.0:
        size = min(size, (money - rules[COMMISSION_MIN]) / price)
    return max(size, 0.0)
