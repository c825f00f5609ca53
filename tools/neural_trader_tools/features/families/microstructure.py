"""Microstructure on bars."""

from typing import Final

from neural_trader_tools.features.definition import (
    CLOSE,
    CLOSE_VOLUME,
    HIGH_LOW,
    VALUE,
    Definition,
    back,
    window,
)

KERNELS: Final = "neural_trader_tools.features.kernels.microstructure"

DEFINITIONS: Final = (
    Definition(
        name="amihud",
        title="Amihud illiquidity",
        params=window(20),
        inputs=CLOSE_VOLUME,
        outputs=VALUE,
        lookback=back,
        formula="mean of 1e6 |simple return| / (c v)",
        source="Amihud, Journal of Financial Markets 5:1 (2002)",
        kernels=KERNELS,
    ),
    Definition(
        name="roll_spread",
        title="Roll's effective spread, part of the price",
        params=window(20, 2),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=lambda p: p[0] + 1,
        formula="2 sqrt(-cov of successive log returns); null where the covariance is not negative",
        source="Roll, Journal of Finance 39:4 (1984)",
        kernels=KERNELS,
    ),
    Definition(
        name="corwin_schultz",
        title="Corwin-Schultz spread, part of the price",
        params=window(20),
        inputs=HIGH_LOW,
        outputs=VALUE,
        lookback=back,
        formula="mean of max(0, 2 (e^a - 1)/(1 + e^a)), a from the ranges of two bars and of both",
        source="Corwin, Schultz, Journal of Finance 67:2 (2012)",
        kernels=KERNELS,
    ),
    Definition(
        name="kyle_lambda",
        title="Kyle's lambda, a proxy: price change per unit traded",
        params=window(20, 2),
        inputs=CLOSE_VOLUME,
        outputs=VALUE,
        lookback=back,
        formula="slope of the close's change on v x its sign; costs a window a bar",
        source="Kyle, Econometrica 53:6 (1985); Hasbrouck, Journal of Finance 64:3 (2009)",
        kernels=KERNELS,
    ),
    Definition(
        name="volume_imbalance",
        title="Volume imbalance by bulk classification, -1 to 1",
        params=window(20, 2),
        inputs=CLOSE_VOLUME,
        outputs=VALUE,
        lookback=lambda p: 2 * p[0] - 1,
        formula="sum of v (2 Phi(change/deviation of window changes) - 1) over sum of v",
        source="Easley, López de Prado, O'Hara, Review of Financial Studies 25:5 (2012)",
        kernels=KERNELS,
    ),
)
