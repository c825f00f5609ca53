"""Volatility estimators, annualised."""

from typing import Final

from neural_trader_tools.features.definition import (
    CLOSE,
    HIGH_LOW,
    OPEN_HIGH_LOW_CLOSE,
    VALUE,
    Definition,
    Parameter,
    back,
    inclusive,
)

KERNELS: Final = "neural_trader_tools.features.kernels.volatility"

DEFINITIONS: Final = (
    Definition(
        name="volatility",
        title="Annualised volatility",
        params=(Parameter("window", 20, 2), Parameter("periods", 252.0, 1.0, 1e6)),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="sample deviation of window log returns x sqrt(periods)",
        source="Hull, Options, Futures and Other Derivatives, ch. 15",
        kernels=KERNELS,
    ),
    Definition(
        name="parkinson",
        title="Parkinson volatility",
        params=(Parameter("window", 20, 1), Parameter("periods", 252.0, 1.0, 1e6)),
        inputs=HIGH_LOW,
        outputs=VALUE,
        lookback=inclusive,
        formula="sqrt(periods mean(ln(h/l)^2) / (4 ln 2))",
        source="Parkinson, Journal of Business 53:1 (1980)",
        kernels=KERNELS,
    ),
    Definition(
        name="garman_klass",
        title="Garman-Klass volatility",
        params=(Parameter("window", 20, 1), Parameter("periods", 252.0, 1.0, 1e6)),
        inputs=OPEN_HIGH_LOW_CLOSE,
        outputs=VALUE,
        lookback=inclusive,
        formula="sqrt(periods mean(ln(h/l)^2/2 - (2 ln 2 - 1) ln(c/o)^2))",
        source="Garman, Klass, Journal of Business 53:1 (1980)",
        kernels=KERNELS,
    ),
    Definition(
        name="rogers_satchell",
        title="Rogers-Satchell volatility",
        params=(Parameter("window", 20, 1), Parameter("periods", 252.0, 1.0, 1e6)),
        inputs=OPEN_HIGH_LOW_CLOSE,
        outputs=VALUE,
        lookback=inclusive,
        formula="sqrt(periods mean(ln(h/c) ln(h/o) + ln(l/c) ln(l/o)))",
        source="Rogers, Satchell, Annals of Applied Probability 1:4 (1991)",
        kernels=KERNELS,
    ),
    Definition(
        name="yang_zhang",
        title="Yang-Zhang volatility",
        params=(Parameter("window", 20, 2), Parameter("periods", 252.0, 1.0, 1e6)),
        inputs=OPEN_HIGH_LOW_CLOSE,
        outputs=VALUE,
        lookback=back,
        formula="overnight variance + k body variance + (1-k) Rogers-Satchell, k = .34/(1.34 + (n+1)/(n-1))",
        source="Yang, Zhang, Journal of Business 73:3 (2000)",
        kernels=KERNELS,
    ),
    Definition(
        name="ewma_volatility",
        title="Exponentially weighted volatility",
        params=(
            Parameter("decay", 0.94, 0.5, 0.9999),
            Parameter("window", 20, 1),
            Parameter("periods", 252.0, 1.0, 1e6),
        ),
        inputs=CLOSE,
        outputs=VALUE,
        lookback=lambda p: p[1],
        formula="s^2 = decay s^2 + (1-decay) r^2, from the mean square of the first window log returns",
        source="J.P. Morgan, RiskMetrics Technical Document (1996)",
        kernels=KERNELS,
    ),
)
