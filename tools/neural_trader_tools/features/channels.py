"""Highest highs and lowest lows of a window, over long columns: one look for all features made of them.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.features.columns import STRETCH_MIN, Column, Part
from neural_trader_tools.features.kernels import channels
from neural_trader_tools.features.kernels.cells import SHORT, SLIDING
from neural_trader_tools.features.kernels.channels import OUTPUTS, ROWS

ALONE = {"stochastic", "williams_r"}
"""Kernels that look at blocks themselves."""


class ChannelColumn(Column):
    """See the module; parts whose names are in `OUTPUTS`, of one window."""

    KERNELS: ClassVar = channels.__name__

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        self._window = int(parts[0].arguments[0])

    @classmethod
    def joins(cls, part: Part, group: Sequence[Part]) -> bool:
        """See Column."""
        return part.arguments[0] == group[0].arguments[0] and part.name not in {one.name for one in group}

    def bars_min(self) -> int | None:
        """See Column."""
        is_worth = self._window <= SHORT and (len(self.parts) > 1 or self.parts[0].name not in ALONE)
        return STRETCH_MIN if is_worth else None

    def gaps(self, start: int, stop: int) -> NDArray[np.intp]:
        """See Column; a close that is missing is none."""
        high, low = (column[start:stop] for column in self.columns[:2])
        return np.flatnonzero(~(np.abs(high) + np.abs(low) <= 1e300))

    def code(self) -> tuple[str, str]:
        """See Column."""
        return (self.KERNELS, "channels")

    def clear(self, start: int, stop: int) -> int:
        """See Column."""
        first = start + self._window
        self.bar_by_bar(start, first)
        if self.parts[0].state[0] < self._window:
            return first
        params, state = np.array([self._window, 1.0, 1.0, 0.0]), np.zeros(1)
        outs = np.zeros(1 + max(max(places) for places in OUTPUTS.values()), dtype=np.int64)
        for part in self.parts:
            outs[list(OUTPUTS[part.name])] = [row.ctypes.data for row in part.out]
            if part.name == "stochastic":
                params, state = part.params, part.state
        inputs = [*self.columns, self.columns[0]][:3]
        columns = np.array([column.ctypes.data for column in inputs])
        room = np.empty(ROWS)
        tables = params, state, columns, outs, room
        self.side_by_side(first, stop - first, 0, *tables)
        count, top, bottom = int(room[0]), room[1], room[2]
        for part in self.parts if count else ():
            if part.name in ALONE:
                part.state[:3] = part.state[0] + count, top, bottom
            else:
                second = SLIDING + self._window
                part.state[:2] = part.state[0] + count, top
                part.state[second : second + 2] = part.state[second] + count, bottom
        return first + count
