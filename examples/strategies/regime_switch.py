"""Regime switch: a logistic regression that learns bar by bar whether this is a market to be in.

Idea: markets change between regimes that differ in drift and volatility. What tells them apart is weighed by
a model that has seen only the past: on each bar it learns from the one decision whose outcome has just become
known, then judges the present. It never sees a bar twice, and nothing is fitted on the whole.
Source: Hamilton, Econometrica 57:2 (1989), for regimes; Bottou, Online Learning and Stochastic Approximations
(1998), for learning by one example at a time.

Form: a function, `signals(bars)`. Parameters: horizon (bars ahead that it judges), rate (of learning), decay
(how much of its weights it keeps a bar), band (no change while the probability is this near to a half). Needs
one symbol and about a year of daily bars before it does anything.

Out of sample (^GSPC from 2011; horizon 63, rate 0.02 was the best of 6 before; 5 + 5 bps): Sharpe ratio 0.61
after 0.43 in sample, 6.6% a year, drawdown 19.8%, deflated Sharpe ratio 0.86; holding the same: 0.65, 8.8%,
19.8%; docs/examples.md.
"""

import numpy as np
import polars as pl

YEAR = 252


def signals(
    bars: pl.DataFrame, horizon: int = 21, rate: float = 0.05, decay: float = 0.999, band: float = 0.01
) -> np.ndarray:
    seen = features(bars)
    close = bars["close"].to_numpy()
    targets = np.full(len(close), np.nan)
    model = np.zeros(seen.shape[1])
    for bar in range(YEAR, len(close)):
        then = bar - horizon
        if then >= YEAR:  # the outcome of what was seen then is known now
            rose = float(close[bar] > close[then])
            model = decay * model + rate * (rose - chance(model, seen[then])) * seen[then]
        now = chance(model, seen[bar])
        if abs(now - 0.5) > band:
            targets[bar] = float(now > 0.5)
    return targets


def features(bars: pl.DataFrame) -> np.ndarray:
    """Returns what tells regimes apart, by bar: a constant, trend, fall from the high, and volatility."""
    close = pl.col("close")
    change = close.log().diff()
    month, year = change.rolling_std(21), change.rolling_std(YEAR - 1)
    found = bars.select(
        one=pl.lit(1.0),
        trend=(close / close.rolling_mean(200)).log() / (year * 200**0.5),
        fall=(close / close.rolling_max(YEAR)).log() / (year * YEAR**0.5),
        calm=(month / year).log(),
        recent=change.rolling_mean(21) / month,
    )
    return np.nan_to_num(found.to_numpy(), nan=0.0, posinf=0.0, neginf=0.0).clip(-3.0, 3.0)


def chance(model: np.ndarray, seen: np.ndarray) -> float:
    return float(1.0 / (1.0 + np.exp(-model @ seen)))
