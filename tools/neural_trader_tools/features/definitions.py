"""All definitions, by name, in the order of their families."""

from typing import Final

from neural_trader_tools.features.definition import Definition, Parameter
from neural_trader_tools.features.families import (
    averages,
    calendar,
    changes,
    cycles,
    microstructure,
    momentum,
    oscillators,
    prices,
    ranges,
    statistics,
    trend,
    volatility,
    volume,
)

__all__ = ["DEFINITIONS", "USUAL", "WARM", "Definition", "Parameter"]

DEFINITIONS: Final[dict[str, Definition]] = {
    definition.name: definition
    for family in (
        changes,
        prices,
        averages,
        oscillators,
        momentum,
        trend,
        cycles,
        ranges,
        statistics,
        volatility,
        volume,
        microstructure,
        calendar,
    )
    for definition in family.DEFINITIONS
}
"""By name."""

USUAL: Final = (
    "returns", "log_returns", "momentum", "roc", "sma", "ema", "rsi", "macd", "atr", "bbands", "volatility",
    "zscore", "rolling_max", "rolling_min", "donchian", "stochastic", "obv", "vwap",
)  # fmt: skip
"""What most strategies use: shown first, and warm wherever strategies run."""

WARM: Final = (
    *USUAL,
    "adx", "cci", "kama", "mfi", "natr", "stddev", "williams_r", "wma",
)  # fmt: skip
"""What a sandbox loads before it is ready; the rest (1 s, 60 MB) follows while nobody waits for it."""
