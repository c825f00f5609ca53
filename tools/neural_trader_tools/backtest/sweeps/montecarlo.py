"""Monte Carlo: how else the same trades or the same returns could have come.

*Reshuffle*: the closed trades' returns in another order, none twice. Terminal wealth stays (they compound),
drawdowns do not: it shows how much of a smooth curve was the order. *Bootstrap*: returns drawn with
replacement in blocks of geometric length around the circle of bars (Politis & Romano 1994, The Stationary
Bootstrap), which keeps short dependence: both vary.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from neural_trader_tools.engine.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DRAWS: Final = 1_000
LEVELS: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST: Final = 5


class Bands(BaseModel):
    """Quantiles over the draws.

    Attributes:
        levels: The quantiles' levels.
        wealth: Terminal wealth as a multiple of the start.
        max_drawdown: Deepest fall, a positive fraction.
        loss_probability: Part of the draws that end below the start.
        draws: How many.
        block_bars: Mean length of a block; None for the reshuffle.
    """

    model_config = ConfigDict(frozen=True)

    levels: tuple[float, ...] = LEVELS
    wealth: tuple[float, ...]
    max_drawdown: tuple[float, ...]
    loss_probability: float
    draws: int
    block_bars: float | None = None


def reshuffle(trade_returns: Floats, *, seed: int, draws: int = DRAWS) -> Bands | None:
    """Returns the bands of trades in other orders; None below five trades.

    Args:
        trade_returns: Of each closed trade, as a part of equity at its entry.
        seed: Of the draws.
        draws: How many.
    """
    if len(trade_returns) < FEWEST:
        return None
    generator = np.random.default_rng(seed)
    wealth, falls = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        wealth[draw], falls[draw] = _walk(trade_returns, generator.permutation(len(trade_returns)))
    return _bands(wealth, falls)


def bootstrap(
    returns: Floats, *, seed: int, draws: int = DRAWS, block_bars: float | None = None
) -> Bands | None:
    """Returns the bands of resampled returns; None below five returns.

    Args:
        returns: Simple returns per bar.
        seed: Of the draws.
        draws: How many.
        block_bars: Mean length of a block; None: the cube root of the number of returns.
    """
    count = len(returns)
    if count < FEWEST:
        return None
    length = max(1.0, count ** (1.0 / 3.0) if block_bars is None else block_bars)
    generator = np.random.default_rng(seed)
    wealth, falls = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        order = _blocks(generator.integers(0, count, count), generator.random(count), 1.0 / length)
        wealth[draw], falls[draw] = _walk(returns, order)
    return _bands(wealth, falls, length)


@compiled
def _blocks(starts: Ints, chances: Floats, ends: float) -> Ints:
    """Returns the places that a bootstrap visits: the next one, or with chance `ends` a new start."""
    places = np.empty(starts.shape[0], dtype=np.int64)
    place = starts[0]
    for step in range(starts.shape[0]):
        if step > 0:
            place = starts[step] if chances[step] < ends else (place + 1) % starts.shape[0]
        places[step] = place
    return places


@compiled
def _walk(returns: Floats, order: Ints) -> tuple[float, float]:
    """Returns terminal wealth and deepest fall of returns in an order; ruin is final."""
    wealth, peak, fall = 1.0, 1.0, 0.0
    for step in range(order.shape[0]):
        wealth *= 1.0 + float(returns[order[step]])
        if wealth <= 0.0:
            return 0.0, 1.0
        peak = max(peak, wealth)
        fall = max(fall, 1.0 - wealth / peak)
    return wealth, fall


def _bands(wealth: Floats, falls: Floats, block_bars: float | None = None) -> Bands:
    return Bands(
        wealth=tuple(float(value) for value in np.quantile(wealth, LEVELS)),
        max_drawdown=tuple(float(value) for value in np.quantile(falls, LEVELS)),
        loss_probability=float((wealth < 1.0).mean()),
        draws=len(wealth),
        block_bars=block_bars,
    )
