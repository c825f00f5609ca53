"""Cycles."""

from typing import Final

from neural_trader_tools.features.definition import CLOSE, Definition, Parameter

KERNELS: Final = "neural_trader_tools.features.kernels.cycles"
ROCKET: Final = "Ehlers, Rocket Science for Traders (2001)"

DEFINITIONS: Final = (
    Definition(
        name="mama",
        title="MESA adaptive moving average, and the average that follows it",
        params=(Parameter("fast", 0.5, 0.01, 0.99), Parameter("slow", 0.05, 0.01, 0.99)),
        inputs=CLOSE,
        outputs=("mama", "fama"),
        lookback=lambda _: 32,
        formula="m += a (c - m), a = fast/degrees the cycle's phase turned, at least slow; f += a/2 (m - f)",
        source="Ehlers, Stocks & Commodities 19:10 (2001)",
        kernels=KERNELS,
        convention="MAMA",
    ),
    Definition(
        name="dominant_cycle",
        title="Dominant cycle: period in bars, parts in phase and in quadrature",
        params=(),
        inputs=CLOSE,
        outputs=("period", "inphase", "quadrature"),
        lookback=lambda _: 32,
        formula="Hilbert transform of the smoothed, detrended close; 360 degrees over its turn a bar",
        source=ROCKET,
        kernels=KERNELS,
        convention="HT_DCPERIOD, HT_PHASOR",
    ),
    Definition(
        name="hilbert",
        title="Hilbert transform: phase, sine wave, trend line, 1 in a trend and 0 in a cycle",
        params=(),
        inputs=CLOSE,
        outputs=("phase", "sine", "lead", "trendline", "trend"),
        lookback=lambda _: 63,
        formula="phase by one period's sine and cosine sums; trendline: mean of one period, smoothed",
        source=ROCKET,
        kernels=KERNELS,
        convention="HT_DCPHASE, HT_SINE, HT_TRENDLINE, HT_TRENDMODE",
        reach=50,
    ),
)
