"""Long while the fast average is above the slow one and the trend has strength: a rule, the fastest form.

A rule sees one bar's features and parameters and keeps no state, so it cannot look ahead; the engine compiles
it to machine code. That is what makes it the form to sweep.
"""

FEATURES = ("sma({fast})", "sma({slow})", "volatility({window})")


def rule(
    fast_sma: float, slow_sma: float, volatility: float, *, fast: int = 20, slow: int = 50,
    window: int = 20, calm: float = 0.03,
) -> float:  # fmt: skip
    if fast_sma <= slow_sma:
        return 0.0
    return sized(volatility, calm)


def sized(volatility: float, calm: float) -> float:
    """All in while the market is calm, less the wilder it is."""
    return 1.0 if volatility <= calm else calm / volatility
