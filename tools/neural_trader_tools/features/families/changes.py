"""Changes of the close."""

from typing import Final

from neural_trader_tools.features.definition import (
    CLOSE,
    MURPHY,
    TSAY,
    VALUE,
    Definition,
    back,
    window,
)

KERNELS: Final = "neural_trader_tools.features.kernels.changes"

DEFINITIONS: Final = (
    Definition(
        name="returns",
        title="Simple return",
        params=window(1),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="c[i] / c[i-window] - 1",
        source=TSAY,
        kernels=KERNELS,
        convention="ROCP",
    ),
    Definition(
        name="log_returns",
        title="Log return",
        params=window(1),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="ln(c[i] / c[i-window])",
        source=TSAY,
        kernels=KERNELS,
    ),
    Definition(
        name="momentum",
        title="Momentum",
        params=window(10),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="c[i] - c[i-window]",
        source=MURPHY,
        kernels=KERNELS,
        convention="MOM",
    ),
    Definition(
        name="roc",
        title="Rate of change, percent",
        params=window(10),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="100 (c[i] / c[i-window] - 1)",
        source=MURPHY,
        kernels=KERNELS,
        convention="ROC",
    ),
    Definition(
        name="efficiency_ratio",
        title="Kaufman's efficiency ratio, 0-1",
        params=window(10),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="|c[i] - c[i-window]| / sum of |changes|; null where nothing moved",
        source="Kaufman, Smarter Trading (1995)",
        kernels=KERNELS,
        convention="ER",
    ),
)
