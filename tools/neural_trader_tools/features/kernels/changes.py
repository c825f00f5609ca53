"""Changes of the close over a number of bars."""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats


def returns(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Simple return: p[i] / p[i - window] - 1; NaN where the price was 0."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        before = price[i - window] if run > window else 0.0
        out[i] = price[i] / before - 1.0 if before != 0.0 else np.nan
    state[0] = run


def log_returns(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Log return: ln(p[i] / p[i - window]); NaN where a price is not positive."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        before = price[i - window] if run > window else 0.0
        out[i] = math.log(price[i] / before) if before > 0.0 and price[i] > 0.0 else np.nan
    state[0] = run


def momentum(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Difference: p[i] - p[i - window]."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        out[i] = price[i] - price[i - window] if run > window else np.nan
    state[0] = run


def roc(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """Rate of change in percent: 100 (p[i] / p[i - window] - 1)."""
    window = int(params[0])
    run = int(state[0])
    for i in range(start, stop):
        run = run + 1 if math.isfinite(price[i]) else 0
        before = price[i - window] if run > window else 0.0
        out[i] = (price[i] / before - 1.0) * 100.0 if before != 0.0 else np.nan
    state[0] = run


def efficiency_ratio(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Kaufman's efficiency: the net change over the way that was walked, 0 … 1."""
    window = int(params[0])
    run = int(state[0])
    way = state[1]
    for i in range(start, stop):
        if not math.isfinite(price[i]):
            run = 0
            way = 0.0
            out[i] = np.nan
            continue
        run += 1
        if run > 1:
            way += abs(price[i] - price[i - 1])
        if run > window + 1:
            way -= abs(price[i - window] - price[i - window - 1])
            if run % 1024 == 0:
                way = 0.0
                for j in range(i - window + 1, i + 1):
                    way += abs(price[j] - price[j - 1])
        if run <= window:
            out[i] = np.nan
            continue
        net = abs(price[i] - price[i - window])
        out[i] = min(net / way, 1.0) if way > 1e-14 * abs(price[i]) else np.nan
    state[0] = run
    state[1] = way
