"""Sums that slide, over long columns: eight stretches side by side, and features that share them.

Kernels sum anew every `REFRESH` bars, and stretches begin right after such a bar: so their state is known.
Where a kernel would have summed anew in between, because squares fell far, those `REFRESH` bars are done
again, bar by bar. Features of one window over the same prices are made of the same sums.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.features.columns import STRETCH_MIN, Column, Floats, Part
from neural_trader_tools.features.kernels import sliding
from neural_trader_tools.features.kernels.cells import REFRESH
from neural_trader_tools.features.kernels.lanes import LANES
from neural_trader_tools.features.kernels.sliding import OUTPUTS, SETTINGS

CHANGES: Final = "volatility"
"""The one that slides over logarithms of changes; its kernel keeps them in a ring."""

RING: Final = 6
"""Where in the state that begins."""


class SlidingColumn(Column):
    """See the module; parts whose names are in `OUTPUTS`, of one window."""

    KERNELS: ClassVar = sliding.__name__

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        self._window = int(parts[0].arguments[0])
        self._is_of_changes = parts[0].name == CHANGES

    @classmethod
    def joins(cls, part: Part, group: Sequence[Part]) -> bool:
        """See Column."""
        names = {one.name for one in group}
        is_of_prices = CHANGES not in {part.name, *names}
        return is_of_prices and part.name not in names and part.arguments[0] == group[0].arguments[0]

    def bars_min(self) -> int:
        """See Column."""
        return 2 * (self._window + REFRESH) + LANES * max(STRETCH_MIN, 2 * self._window)

    def gaps(self, start: int, stop: int) -> NDArray[np.intp]:
        """See Column; a price that is not positive has no logarithm."""
        if not self._is_of_changes:
            return super().gaps(start, stop)
        price = self.columns[0][start:stop]
        return np.flatnonzero(~(np.isfinite(price) & (price > 0.0)))

    def code(self) -> tuple[str, str]:
        """See Column."""
        return (self.KERNELS, "changes" if self._is_of_changes else "moments")

    def clear(self, start: int, stop: int) -> int:
        """See Column."""
        window, state = self._window, self.parts[0].state
        known = start + window + 1
        self.bar_by_bar(start, known)
        first = known + int(-state[0]) % REFRESH
        self.bar_by_bar(known, first)
        if state[0] < window or state[0] % REFRESH:
            return first
        blocks = (stop - first) // (LANES * REFRESH)
        states = np.zeros((sliding.ROWS, LANES))
        again = np.zeros(1 + LANES * blocks)
        logs = self._go(first, blocks, states, again)
        if again[0] < 0.0:
            return first
        count = state[0] + LANES * blocks * REFRESH
        for place in again[1 : 1 + int(again[0])].astype(int).tolist():
            self._again(place)
        reached = first + LANES * blocks * REFRESH
        for part in self.parts:
            part.state[0] = count
            place = 2 if self._is_of_changes else 1
            part.state[place : place + 3] = states[:3, -1]
        if self._is_of_changes:
            self._remembered(int(count), reached, logs[LANES - 1, REFRESH : REFRESH + window])
        self.bar_by_bar(reached, stop)
        return stop

    def _go(self, first: int, blocks: int, states: Floats, again: Floats) -> Floats:
        """Goes through all stretches; returns the logarithms of the last changes."""
        window, price = self._window, self.columns[0]
        params = np.array([window, 1.0, 1.0, 1.0, 0.0])
        outs = np.zeros(1 + max(max(places) for places in OUTPUTS.values()), dtype=np.int64)
        for part in self.parts:
            outs[list(OUTPUTS[part.name])] = part.addresses()
            if part.name in SETTINGS:
                params[SETTINGS[part.name]] = part.arguments[1]
        logs = np.zeros((LANES, window + REFRESH if self._is_of_changes else 0))
        columns = [price.ctypes.data, price.ctypes.data - 8 * window]
        if self._is_of_changes:
            columns[1:] = logs.ctypes.data + 8 * window, logs.ctypes.data
        tables = params, states, np.array(columns), outs, again
        self.side_by_side(first, blocks, blocks * REFRESH, *tables)
        return logs

    def _remembered(self, count: int, reached: int, logs: Floats) -> None:
        """Leaves in the state what the volatility's kernel keeps beside its sums."""
        window, state = self._window, self.parts[0].state
        state[1] = count % window
        state[5] = self.columns[0][reached - 1]
        state[RING + (count - window + np.arange(window)) % window] = logs

    def _again(self, place: int) -> None:
        """Does the `REFRESH` bars from a place on bar by bar; on the bar before the kernels sum anew."""
        (part, *_), begin = self.parts, place - self._window - 1
        if self._is_of_changes:  # its ring is filled as at the start of a column
            known = part.out[:, begin : place - 1].copy()
            part.state.fill(0.0)
            part.go(begin, place - 1)
            part.out[:, begin : place - 1] = known
        for part in self.parts:
            part.state[0] = 2 * REFRESH * self._window - 1
        self.bar_by_bar(place - 1, place + REFRESH)
