"""A book of one limit entry, or of its bracket, takes a short way; it has to lead where the long one does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Row = Callable[..., list[float]]
FAR = 0.01
"""A limit that no bar reaches: while it waits, the book is no longer simple."""


def walk(seed: int, bars: int) -> list[tuple[float, float, float, float]]:
    """Bars on whole ticks with gaps, so that levels are met exactly, jumped, and met twice in one bar."""
    draw = np.random.default_rng(seed)
    close = np.maximum(60 + np.cumsum(draw.integers(-3, 4, bars)), 20).astype(float)
    open_ = np.maximum(np.concatenate([[60.0], close[:-1]]) + draw.integers(-2, 3, bars), 10)
    high = np.maximum(open_, close) + draw.integers(0, 3, bars)
    low = np.minimum(open_, close) - draw.integers(0, 3, bars)
    columns = np.column_stack([open_, high, low, close])
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in columns]


def brackets(
    seed: int, bars: list[tuple[float, float, float, float]], row: Row, first: int
) -> list[list[float]]:
    """Entries of either side, some without a leg, each canceling the one before."""
    draw = np.random.default_rng(seed + 1)
    rows: list[list[float]] = []
    for bar in range(1, len(bars), 4):
        if rows and draw.random() < 0.7:
            rows.append(row(bar, action=2, size=first + len(rows) - 1))
        side = 1.0 if draw.random() < 0.5 else -1.0
        limit = bars[bar][3] - side * float(draw.integers(0, 4))
        near, far = float(draw.integers(1, 6)), float(draw.integers(1, 6))
        levels: dict[str, Any] = {"take_profit": limit + side * near, "stop_loss": limit - side * far}
        for name in tuple(levels):
            if draw.random() < 0.15:
                del levels[name]
        size = float(draw.integers(1, 40))  # some are more than equity carries
        rows.append(row(bar, side, size, limit=limit, **levels))
    return rows


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"commission": 0.001, "slippage": 0.002, "spread": 0.001},
        {"commission_min": 1.0, "margin": 0.5, "per_unit": 0.01},
        {"next_bar": True},
        {"whole": True, "volume_cap": 0.1},
    ],
)
def test_the_short_way_fills_what_the_long_way_fills(
    rules: dict[str, Any], row: Row, play: Callable[..., Any]
) -> None:
    filled: set[str] = set()
    for seed in range(40):
        bars = walk(seed, 80)
        alone = play(bars, brackets(seed, bars, row, 0), **rules)
        beside = play(bars, [row(0, 1.0, 1.0, limit=FAR), *brackets(seed, bars, row, 1)], **rules)
        beside.fills[:, 1] -= 1.0  # their orders come after the one that waits
        np.testing.assert_array_equal(alone.fills, beside.fills)
        np.testing.assert_array_equal(alone.equity, beside.equity)
        np.testing.assert_array_equal(alone.positions, beside.positions)
        np.testing.assert_array_equal(alone.account[[0, 1, 4, 5, 9]], beside.account[[0, 1, 4, 5, 9]])
        assert alone.states == beside.states[1:]
        filled |= {reason for *_, reason in alone.told}
    assert {"limit", "take_profit", "stop_loss"} <= filled
