"""A tiny market whose fills can be computed by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel, trades
from neural_trader_tools.engine import orders as o

Bar = tuple[float, float, float, float]
NAN = float("nan")
DAY_US = 86_400_000_000


@dataclass
class Played:
    """A play: account, fills, equity at each close, states of the rows, trades."""

    account: NDArray[np.float64]
    fills: NDArray[np.float64]
    equity: NDArray[np.float64]
    positions: NDArray[np.float64]
    states: list[str]
    trades: NDArray[np.float64]

    @property
    def told(self) -> list[tuple[int, float, float, str]]:
        """Fills as (bar, quantity, price, reason)."""
        return [
            (int(bar), quantity, price, o.REASONS[int(reason)])
            for bar, _, quantity, price, _, reason, _ in self.fills.tolist()
        ]


@pytest.fixture
def row() -> Callable[..., list[float]]:
    """Writes one row of an order stream."""

    def write(
        bar: int,
        side: float = 0.0,
        size: float = 0.0,
        action: int = o.ORDER,
        by: int = o.QUANTITY,
        limit: float = NAN,
        stop: float = NAN,
        trail: float = NAN,
        take_profit: float = NAN,
        stop_loss: float = NAN,
        tif: int = o.GTC,
        oco: float = NAN,
        trail_loss: float = NAN,
        trail_by: int = o.DISTANCE,
    ) -> list[float]:
        levels = [limit, stop, trail, take_profit, stop_loss]
        return [bar, action, side, size, by, *levels, tif, oco, trail_loss, trail_by]

    return write


@pytest.fixture
def play() -> Callable[..., Played]:
    """Plays rows (or targets) over (open, high, low, close) bars, one bar a day."""

    def run(
        bars: Sequence[Bar],
        rows: Sequence[Sequence[float]] = (),
        *,
        targets: Sequence[float] | None = None,
        cash: float = 1_000.0,
        days: Sequence[int] | None = None,
        volume: Sequence[float] | None = None,
        dividends: Sequence[float] = (),
        **rules: Any,
    ) -> Played:
        open_, high, low, close = (np.array(column, dtype=np.float64) for column in zip(*bars, strict=True))
        if targets is not None:
            commands = kernel.target_changes(np.array(targets, dtype=np.float64))
        else:
            commands = np.array(rows, dtype=np.float64).reshape(-1, len(o.COLUMNS))
        account = np.zeros(kernel.ACCOUNT_SIZE)
        limits = kernel.make_rules(**rules)
        fills = np.zeros((kernel.fills_max(len(commands), len(bars), limits), len(o.FILL_COLUMNS)))
        equity, positions = np.empty(len(bars)), np.empty(len(bars))
        states = np.zeros(len(commands), dtype=np.int64)
        kernel.play(
            open_,
            high,
            low,
            close,
            np.full(len(bars), 1e6) if volume is None else np.array(volume, dtype=np.float64),
            np.array(days if days is not None else range(len(bars)), dtype=np.int64) * DAY_US,
            np.array(dividends, dtype=np.float64),
            commands,
            cash,
            limits,
            account,
            fills,
            equity,
            positions,
            states,
        )
        fills = fills[: int(account[kernel.FILLS])].copy()
        return Played(
            account,
            fills,
            equity,
            positions,
            [o.STATES[int(state)] for state in states],
            trades.round_trips(fills, float(close[-1])),
        )

    return run
