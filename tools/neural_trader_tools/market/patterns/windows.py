"""Windows: the newest bars of one history, and every earlier stretch of as many to compare them with.

All of a window was known when the question is asked, and so was all that lies before it: a later row changes
nothing. A window may not share bars with the query, and on other symbols not its time either: what happened
on the same days is the same event, not an earlier one like it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import numpy as np

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.patterns.history import History
from neural_trader_tools.market.patterns.shape import Floats, Integers


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of several histories that are laid end to end.

    Attributes:
        histories: The query's first.
        values: Logarithms of the closes, NaN where there is none, history after history.
        bars: How many a window has.
        query: The newest window's values.
        runs: (k, 2) first and last (exclusive) position in `values` of starts that follow one another.
        starts: The same, one by one.
        owners: Which history each start is of.
        left_out: Windows across a hole or a close that is none.
    """

    histories: tuple[History, ...]
    values: Floats
    bars: int
    query: Floats
    runs: Integers
    starts: Integers
    owners: Integers
    left_out: int

    def ends(self) -> Integers:
        """Returns the last bar of each window, as a position in its own history."""
        return self.starts - self.offsets()[self.owners] + self.bars - 1

    def offsets(self) -> Integers:
        """Returns where each history begins in `values`."""
        sizes = [one.close.size for one in self.histories]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def windows_before(histories: Sequence[History], bars: int, *, apart: int, past: int = 0) -> Windows:
    """Returns the newest window of the first history, and every window of all that may be like it.

    Args:
        histories: The query's first.
        bars: Of a window, at least 2.
        apart: How many bars a window starts before the query, at least.
        past: Bars of its history that lie before a window's last bar, at least.

    Raises:
        DataError: `too_few_bars`, `gap_in_window`: there is no query, or nothing to compare it with.
    """
    asked = histories[0]
    size = asked.close.size
    if size < max(bars, past + 1):
        raise DataError(
            "too_few_bars",
            f"{asked.symbol} has {size} bars that were known; a window of {bars} needs"
            f" at least {max(bars, past + 1)} of them",
            "take a shorter --window, a later --as-of, or fetch more history",
        )
    holes = np.flatnonzero(~asked.joins[size - bars + 1 :]) + size - bars + 1
    if holes.size:
        at = cast("datetime", asked.bars.item(int(holes[-1]), "event_time"))
        raise DataError(
            "gap_in_window",
            f"the newest {bars} bars of {asked.symbol} do not join: a hole ends at {at:%Y-%m-%d %H:%M}",
            f"take a --window of at most {size - int(holes[-1])}, or fetch what is missing",
        )
    began = int(asked.opened_us[size - bars])
    values: list[Floats] = []
    runs: list[Integers] = []
    owners: list[Integers] = []
    left_out, offset = 0, 0
    for owner, one in enumerate(histories):
        last = int(np.searchsorted(one.opened_us, began)) - apart
        stop = min(last, one.close.size - bars) + 1
        begin = max(0, past - bars + 1)
        found = _runs(one, begin, stop, bars)
        left_out += max(stop - begin, 0) - int((found[:, 1] - found[:, 0]).sum())
        runs.append(found + offset)
        owners.append(np.full(int((found[:, 1] - found[:, 0]).sum()), owner))
        with np.errstate(invalid="ignore", divide="ignore"):
            level: Floats = np.log(one.close)
        values.append(np.where(one.close > 0, level, np.nan))
        offset += one.close.size
    joined = np.concatenate(runs)
    if not joined.size:
        raise DataError(
            "nothing_to_compare",
            f"no window of {bars} bars ended before the newest one of {asked.symbol} began"
            f" ({left_out} lie across holes)",
            "take a shorter --window, a later --as-of, search other symbols too, or fetch more history",
        )
    return Windows(
        tuple(histories),
        np.concatenate(values),
        bars,
        values[0][size - bars :],
        joined,
        np.concatenate([np.arange(int(first), int(stop)) for first, stop in joined]),
        np.concatenate(owners),
        left_out,
    )


def _runs(one: History, begin: int, stop: int, bars: int) -> Integers:
    """Starts from `begin` to before `stop` whose bars all join, as stretches."""
    if stop <= begin:
        return np.empty((0, 2), dtype=np.int64)
    broken = np.cumsum(~one.joins)  # windows are whole where the count does not rise after their first bar
    first = np.arange(begin, stop)
    whole = np.zeros(first.size + 2, dtype=np.int8)
    whole[1:-1] = broken[first + bars - 1] == broken[first]
    edges = np.diff(whole)
    return np.column_stack((np.flatnonzero(edges == 1), np.flatnonzero(edges == -1))) + begin
