"""Cycles: Ehlers' measure of a price's dominant cycle, and averages that adapt to it.

A price is smoothed over four bars and split by a Hilbert transform of seven taps into a part in phase and one
in quadrature; the angle between two bars gives the cycle's period. As in TA-Lib, the transform starts on the
thirteenth bar (for `hilbert` on the thirty-eighth) from nothing, and values are shown 20 (26) bars later.
"""

import math

import numpy as np

from neural_trader_tools.features.compiled import Floats, jit

TAPS = 6
"""Slots of a transform: the values before this one."""

PRICE, TREND, PHASE, TURNED = 1, 1 + TAPS, 1 + 2 * TAPS, 1 + 3 * TAPS
DELAYED, PERIOD, REAL, IMAGINARY, IN_BEFORE, OUT_BEFORE = 25, 28, 29, 30, 31, 32
OWN = 33
"""Slots: the transforms, the trend's last three values, period, products, and from here on a kernel's own."""

SMOOTHED = 50
"""The longest cycle, in bars."""

SLOTS = OWN + 9 + SMOOTHED
"""What the kernel with the longest state takes."""


@jit
def _transformed(state: Floats, at: int, x: float, factor: float) -> float:
    """Ehlers' Hilbert transform of the last seven values; it takes `TAPS` slots."""
    result = 0.0962 * x + 0.5769 * state[at + 1] - 0.5769 * state[at + 3] - 0.0962 * state[at + 5]
    for k in range(TAPS - 1, 0, -1):
        state[at + k] = state[at + k - 1]
    state[at] = x
    return result * factor


@jit
def _smoothed(price: Floats, i: int) -> float:
    return (4.0 * price[i] + 3.0 * price[i - 1] + 2.0 * price[i - 2] + price[i - 3]) / 10.0


@jit
def _cycle(price: Floats, i: int, state: Floats) -> tuple[float, float]:
    """Moves the cycle to a bar; returns the parts in phase and in quadrature, and leaves the period."""
    period = state[PERIOD]
    factor = 0.075 * period + 0.54
    trend = _transformed(state, PRICE, _smoothed(price, i), factor)
    quadrature = _transformed(state, TREND, trend, factor)
    phase = state[DELAYED + 2]
    state[DELAYED + 2] = state[DELAYED + 1]
    state[DELAYED + 1] = state[DELAYED]
    state[DELAYED] = trend
    ahead = _transformed(state, PHASE, phase, factor)
    turned = _transformed(state, TURNED, quadrature, factor)
    before_in = state[IN_BEFORE]
    before_out = state[OUT_BEFORE]
    inside = 0.2 * (phase - turned) + 0.8 * before_in
    outside = 0.2 * (quadrature + ahead) + 0.8 * before_out
    real = 0.2 * (inside * before_in + outside * before_out) + 0.8 * state[REAL]
    imaginary = 0.2 * (inside * before_out - outside * before_in) + 0.8 * state[IMAGINARY]
    found = period
    if imaginary != 0.0 and real != 0.0:
        found = 360.0 / math.degrees(math.atan(imaginary / real))
    found = min(max(min(found, 1.5 * period), 0.67 * period), 50.0)
    state[PERIOD] = 0.2 * max(found, 6.0) + 0.8 * period
    state[REAL] = real
    state[IMAGINARY] = imaginary
    state[IN_BEFORE] = inside
    state[OUT_BEFORE] = outside
    return phase, quadrature


@jit
def _counted(price: Floats, i: int, state: Floats) -> int:
    """How many bars there are since the last gap, this one included; a gap empties the state."""
    if math.isfinite(price[i]):
        state[0] += 1.0
        return int(state[0])
    for slot in range(SLOTS):
        state[slot] = 0.0
    return 0


def mama(start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats) -> None:
    """MESA adaptive average, and the one that follows it: quick where the cycle's phase changes fast."""
    for i in range(start, stop):
        run = _counted(price, i, state)
        out[i] = np.nan
        out[size + i] = np.nan
        if run <= 12:
            continue
        phase, quadrature = _cycle(price, i, state)
        angle = math.degrees(math.atan(quadrature / phase)) if phase != 0.0 else 0.0
        turn = max(state[OWN] - angle, 1.0)
        state[OWN] = angle
        share = max(params[0] / turn, params[1]) if turn > 1.0 else params[0]
        state[OWN + 1] = share * price[i] + (1.0 - share) * state[OWN + 1]
        share *= 0.5
        state[OWN + 2] = share * state[OWN + 1] + (1.0 - share) * state[OWN + 2]
        if run > 32:
            out[i] = state[OWN + 1]
            out[size + i] = state[OWN + 2]


def dominant_cycle(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Period in bars, and the price's parts in phase and in quadrature."""
    for i in range(start, stop):
        run = _counted(price, i, state)
        for row in range(3):
            out[row * size + i] = np.nan
        if run <= 12:
            continue
        phase, quadrature = _cycle(price, i, state)
        state[OWN] = 0.33 * state[PERIOD] + 0.67 * state[OWN]
        if run > 32:
            out[i] = state[OWN]
            out[size + i] = phase
            out[2 * size + i] = quadrature


def hilbert(
    start: int, stop: int, size: int, price: Floats, params: Floats, state: Floats, out: Floats
) -> None:
    """Phase in degrees, its sine and the sine 45 degrees ahead, trend line, 1 in a trend and 0 in a cycle."""
    ring = OWN + 9
    for i in range(start, stop):
        run = _counted(price, i, state)
        for row in range(5):
            out[row * size + i] = np.nan
        if run <= 37:
            continue
        place = (run - 38) % SMOOTHED
        smoothed = _smoothed(price, i)
        state[ring + place] = smoothed
        _cycle(price, i, state)
        period = 0.33 * state[PERIOD] + 0.67 * state[OWN]
        former = state[OWN + 1]
        phase = _phase(state, ring, place, period, former)
        sine = math.sin(math.radians(phase))
        lead = math.sin(math.radians(phase + 45.0))
        bars = int(period + 0.5)
        average = 0.0
        for k in range(bars):
            average += price[i - k]
        average = average / bars if bars > 0 else 0.0
        line = (4.0 * average + 3.0 * state[OWN + 4] + 2.0 * state[OWN + 5] + state[OWN + 6]) / 10.0
        is_crossed = (sine > lead and state[OWN + 2] <= state[OWN + 3]) or (
            sine < lead and state[OWN + 2] >= state[OWN + 3]
        )
        days = 1.0 if is_crossed else state[OWN + 7] + 1.0
        turn = phase - former
        usual = 360.0 / period
        is_cycle = is_crossed or days < 0.5 * period or (0.67 * usual < turn < 1.5 * usual)
        is_far = line != 0.0 and abs((smoothed - line) / line) >= 0.015
        state[OWN] = period
        state[OWN + 1] = phase
        state[OWN + 2] = sine
        state[OWN + 3] = lead
        state[OWN + 6] = state[OWN + 5]
        state[OWN + 5] = state[OWN + 4]
        state[OWN + 4] = average
        state[OWN + 7] = days
        if run > 63:
            out[i] = phase
            out[size + i] = sine
            out[2 * size + i] = lead
            out[3 * size + i] = line
            out[4 * size + i] = 1.0 if is_far or not is_cycle else 0.0


@jit
def _phase(state: Floats, ring: int, place: int, period: float, former: float) -> float:
    """The phase of the dominant cycle, by its correlation with a sine and a cosine of one period."""
    bars = int(period + 0.5)
    real = 0.0
    imaginary = 0.0
    for k in range(bars):
        angle = k * 2.0 * math.pi / bars
        value = state[ring + (place - k + SMOOTHED) % SMOOTHED]
        real += math.sin(angle) * value
        imaginary += math.cos(angle) * value
    phase = former
    if imaginary != 0.0:
        phase = math.degrees(math.atan(real / imaginary))
    elif real != 0.0:
        phase += 90.0 if real > 0.0 else -90.0
    phase += 90.0 + 360.0 / period  # one bar's lag of the smoothing
    if imaginary < 0.0:
        phase += 180.0
    return phase - 360.0 if phase > 315.0 else phase
