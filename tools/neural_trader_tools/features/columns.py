"""Columns: one feature, or several that share their work, over all bars of a column.

A kernel goes bar after bar. Where a column is long and nothing is missing, some are computed in eight
stretches side by side (`decays`, `slides`), to the same bits: a subclass says how. Around gaps, before and
after, and in short columns the kernel itself goes on.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.arena import ARENA
from neural_trader_tools.features import compiled
from neural_trader_tools.features.definition import Definition

Floats = NDArray[np.float64]

STRETCH_MIN: Final = 2048
"""Bars: shorter stretches are not worth what surrounds them."""


class Part:
    """A feature on its way through a column.

    Args:
        definition: Of the feature.
        arguments: Its parameters, in order, within their bounds.
        columns: Its inputs, in order, of one length, C-contiguous.
        wanted: Which outputs are read, by place; the others may be left unwritten. None: all.

    Attributes:
        out: (outputs, bars), NaN where undefined. The memory comes from the arena.
        state: The kernel's, so far.
    """

    def __init__(
        self,
        definition: Definition,
        arguments: Sequence[int | float],
        columns: Sequence[Floats],
        wanted: Iterable[int] | None = None,
    ) -> None:
        self.definition = definition
        self.arguments = arguments
        count = len(definition.outputs)
        self.wanted = set(range(count) if wanted is None else wanted)
        self.columns = columns
        self.out = ARENA.floats(count, len(columns[0]))
        self.state = np.zeros(definition.state_floats(*arguments))
        self._params = np.array([*arguments, 0.0], dtype=np.float64)
        self._machine = compiled.machine(definition.kernels, definition.name, len(definition.inputs))

    @property
    def name(self) -> str:
        """The feature's."""
        return self.definition.name

    @property
    def params(self) -> Floats:
        """The parameters as kernels read them."""
        return self._params

    def addresses(self) -> list[int]:
        """Where the outputs lie, 0 for those that nobody reads."""
        return [row.ctypes.data if place in self.wanted else 0 for place, row in enumerate(self.out)]

    def go(self, start: int, stop: int) -> None:
        """Goes bar by bar through `start … stop - 1`."""
        if start < stop:
            self._machine.run(start, stop, self.columns, self._params, self.state, self.out)


class Column:
    """Goes through a column bar by bar, and in stretches where a subclass knows how.

    Args:
        parts: One feature, or several that have work in common.

    Attributes:
        columns: The inputs of the part that has most.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.columns = max((part.columns for part in parts), key=len)
        self._step: Any = None

    @classmethod
    def joins(cls, part: Part, group: Sequence[Part]) -> bool:
        """Returns whether a part can go together with others, all of which are for this class."""
        return False

    def run(self, segments: Iterable[tuple[int, int]]) -> None:
        """Goes through ranges of bars that know nothing of each other."""
        ranges = list(segments)
        least = self.bars_min()
        longest = max((stop - start for start, stop in ranges), default=0)
        is_worth = least is not None and longest >= least
        self._step = compiled.stretches(*self.code()) if is_worth else None
        for start, stop in ranges:
            for part in self.parts:
                part.state.fill(0.0)
            if least is None or self._step is None or stop - start < least:
                self.bar_by_bar(start, stop)
            else:
                self._long(start, stop, least)

    def bars_min(self) -> int | None:
        """Returns how many bars without a gap are worth stretches; None: there are none."""
        return None

    def code(self) -> tuple[str, str]:
        """Returns the module and the name of what goes through stretches; see `compiled.stretches`."""
        raise NotImplementedError

    def side_by_side(self, first: int, blocks: int, stretch: int, *tables: NDArray[Any]) -> None:
        """Calls that."""
        self._step(first, blocks, stretch, *(table.ctypes.data for table in tables))

    def clear(self, start: int, stop: int) -> int:
        """Goes through bars none of which is missing; returns where it gave up because one is, or `stop`."""
        raise NotImplementedError

    def gaps(self, start: int, stop: int) -> NDArray[np.intp]:
        """Returns which bars are missing, counted from `start`."""
        total = functools.reduce(np.add, [column[start:stop] for column in self.columns])
        return np.flatnonzero(~np.isfinite(total))

    def bar_by_bar(self, start: int, stop: int) -> None:
        """Lets every part's kernel go on."""
        for part in self.parts:
            part.go(start, stop)

    def _long(self, start: int, stop: int, least: int) -> None:
        reached = self.clear(start, stop)  # tried, because to look for gaps costs as much as some kernels
        if reached == stop:
            return
        edges = np.concatenate([[-1], self.gaps(reached, stop), [stop - reached]]) + reached
        for place in np.flatnonzero(np.diff(edges) > least).tolist():
            begin = int(edges[place]) + 1
            self.bar_by_bar(reached, begin)
            reached = self.clear(begin, int(edges[place + 1]))
        self.bar_by_bar(reached, stop)
