"""A tiny market whose fills can be computed by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel, trades
from neural_trader_tools.engine import orders as o

Bar = tuple[float, float, float, float]
NAN = float("nan")


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
    ) -> list[float]:
        return [bar, action, side, size, by, limit, stop, trail, take_profit, stop_loss, tif]

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
        commission: float = 0.0,
        slippage: float = 0.0,
        whole: bool = False,
        at_close: bool = False,
        days: Sequence[int] | None = None,
    ) -> Played:
        open_, high, low, close = (np.array(column, dtype=np.float64) for column in zip(*bars, strict=True))
        if targets is not None:
            commands = kernel.target_changes(np.array(targets, dtype=np.float64))
        else:
            commands = np.array(rows, dtype=np.float64).reshape(-1, len(o.COLUMNS))
        account = np.zeros(kernel.ACCOUNT_SIZE)
        fills = np.zeros((2 * len(commands) + 1, len(o.FILL_COLUMNS)))
        equity, positions = np.empty(len(bars)), np.empty(len(bars))
        states = np.zeros(len(commands), dtype=np.int64)
        kernel.play(
            open_,
            high,
            low,
            close,
            np.array(days if days is not None else range(len(bars)), dtype=np.int64),
            commands,
            cash,
            np.array([commission, slippage, float(whole), float(at_close)]),
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
