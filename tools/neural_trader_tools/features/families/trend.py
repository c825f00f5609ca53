"""Trend."""

from typing import Final

from neural_trader_tools.features.definition import (
    HIGH_LOW,
    HIGH_LOW_CLOSE,
    VALUE,
    WILDER,
    Definition,
    Parameter,
    back,
    one,
    window,
)

KERNELS: Final = "neural_trader_tools.features.kernels.trend"

DEFINITIONS: Final = (
    Definition(
        name="adx",
        title="Average directional index, 0-100",
        params=window(14, 2),
        inputs=HIGH_LOW_CLOSE,
        outputs=("adx", "plus_di", "minus_di", "dx"),
        lookback=lambda p: 2 * p[0] - 1,
        formula="dx = 100 |+DI - -DI|/(+DI + -DI); adx its Wilder average; +DI = 100 (+DM)/TR",
        source=WILDER,
        kernels=KERNELS,
        convention="ADX, PLUS_DI, MINUS_DI, DX; dx null where there is no movement",
    ),
    Definition(
        name="adxr",
        title="Average directional index rating",
        params=window(14, 2),
        inputs=HIGH_LOW_CLOSE,
        outputs=VALUE,
        lookback=lambda p: 3 * p[0] - 2,
        formula="mean of ADX and of ADX window-1 bars before",
        source=WILDER,
        kernels=KERNELS,
        convention="ADXR",
    ),
    Definition(
        name="sar",
        title="Parabolic stop and reverse",
        params=(Parameter("step", 0.02, 0.001, 1.0), Parameter("limit", 0.2, 0.001, 1.0)),
        inputs=HIGH_LOW,
        outputs=VALUE,
        lookback=one,
        formula="s += a (extreme - s), a grows by step to limit at each new extreme",
        source=WILDER,
        kernels=KERNELS,
        convention="SAR",
    ),
    Definition(
        name="supertrend",
        title="Supertrend: line, and direction 1 or -1",
        params=(Parameter("window", 10, 1), Parameter("width", 3.0, 0.1, 100.0)),
        inputs=HIGH_LOW_CLOSE,
        outputs=("line", "direction"),
        lookback=back,
        formula="(h+l)/2 -+ width ATR, moved only towards the price until the close crosses it",
        source="Seban, Tout le monde mérite d'être riche (2009)",
        kernels=KERNELS,
    ),
    Definition(
        name="ichimoku",
        title="Ichimoku lines, as known at the bar (not shifted)",
        params=(Parameter("conversion", 9, 1), Parameter("base", 26, 1), Parameter("span", 52, 1)),
        inputs=HIGH_LOW,
        outputs=("conversion", "base", "span_a", "span_b"),
        lookback=lambda p: max(p) - 1,
        formula="(max high + min low)/2 over each window; span_a = mean of conversion and base",
        source="Elliott, Ichimoku Charts (2007)",
        kernels=KERNELS,
    ),
)
