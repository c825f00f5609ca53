"""Averages that decay, over long columns: eight stretches side by side, checked where they meet.

What a stretch starts from is guessed by starting some bars earlier. Every guess is compared with where the
stretch before ended; where they differ, which is rare, the stretch is done again, bar by bar.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.features.columns import STRETCH_MIN, Column, Floats, Part
from neural_trader_tools.features.kernels import decaying
from neural_trader_tools.features.kernels.decaying import DECAYS
from neural_trader_tools.features.kernels.lanes import LANES

SQUARE: Final = LANES
"""Bars come eight at a time."""

ROUNDING: Final = 46
"""After so many windows an average that decays by 1 / window a bar has forgotten where it started: e^-46 is a
ten-thousandth of what a double resolves, and rounding needs a while until the two agree."""


class DecayingColumn(Column):
    """See the module; one part, whose name is in `DECAYS`."""

    KERNELS: ClassVar = decaying.__name__

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(parts)
        (self._part,) = parts
        self._decay = DECAYS[self._part.name]
        unit = self._decay.unit
        self._lead = unit * (1 + int(ROUNDING * self._decay.windows(self._part.arguments)) // unit)
        self._wholeness = len(self._decay.slots) + len(self._decay.former) + self._decay.others
        self._settled = self._part.definition.lookback_bars(*self._part.arguments) + 2

    def bars_min(self) -> int:
        """See Column."""
        return 2 * self._lead + LANES * max(STRETCH_MIN, 3 * self._lead)

    def code(self) -> tuple[str, str]:
        """See Column."""
        return (self.KERNELS, self._part.name)

    def clear(self, start: int, stop: int) -> int:
        """See Column."""
        state, unit = self._part.state, self._decay.unit
        begun = start + self._settled + self._lead
        self.bar_by_bar(start, begun)
        first = begun + int(-begun if unit == SQUARE else -state[0]) % unit
        self.bar_by_bar(begun, first)
        if state[0] < self._settled or (unit > SQUARE and state[0] % unit):
            return first
        stretch = (stop - first) // LANES // unit * unit
        if stretch % (2 * SQUARE) == 0 and unit == SQUARE:
            stretch -= SQUARE  # else all lanes' bars would take the same places of the processor's cache
        heads = first + stretch * np.arange(LANES)
        states = self._guessed(heads, stretch)
        guesses = states[: len(self._decay.slots)].copy()
        self._go(first, stretch, stretch, states, self._part.addresses())
        if not np.isfinite(states[self._wholeness]).all():
            return first
        self._joined(heads, stretch, guesses, states[: len(guesses)])
        self.bar_by_bar(first + LANES * stretch, stop)
        return stop

    def _guessed(self, heads: NDArray[np.intp], stretch: int) -> Floats:
        """The states that lanes start from at their heads; the first is known."""
        slots, former = list(self._decay.slots), self._decay.former
        count = len(slots)
        states = np.zeros((self._wholeness + 2, LANES))
        if self._decay.is_seeded:
            states[:count] = self.columns[0][heads - self._lead - 1]
        for slot, column in enumerate(former):
            states[count + slot] = self.columns[column][heads - self._lead - 1]
        self._go(int(heads[0]) - self._lead, self._lead, stretch, states, [0] * len(self._part.out))
        states[:count, 0] = self._part.state[slots]
        for slot, column in enumerate(former):
            states[count + slot, 0] = self.columns[column][heads[0] - 1]
        states[self._wholeness] = 0.0  # there may be a gap in what came before the first
        return states

    def _go(self, first: int, bars: int, stretch: int, states: Floats, addresses: list[int]) -> None:
        addresses_in = [column.ctypes.data for column in self.columns]
        if self._decay.is_behind:
            addresses_in.append(addresses_in[0] - 8 * int(self._part.arguments[0]))
        inputs = np.array(addresses_in)
        outs = np.array(addresses)
        tables = self._part.params, states, inputs, outs, states
        self.side_by_side(first, bars // SQUARE, stretch, *tables)

    def _joined(self, heads: NDArray[np.intp], stretch: int, guesses: Floats, ends: Floats) -> None:
        """Does again what started from a wrong guess, and leaves the last lane's end in the part's state."""
        slots, counts = list(self._decay.slots), list(self._decay.counts)
        state = self._part.state
        before = state[counts].copy()
        for lane in range(1, LANES):
            if guesses[:, lane].tobytes() != ends[:, lane - 1].tobytes():
                state[slots] = ends[:, lane - 1]
                state[counts] = before + lane * stretch
                self.bar_by_bar(int(heads[lane]), int(heads[lane]) + stretch)
                ends[:, lane] = state[slots]
        state[slots] = ends[:, -1]
        state[counts] = before + LANES * stretch
