"""Similar windows: shape beside stumpy's MASS, and time warping beside comparing every window.

Each finds the ten nearest windows of 60 bars, none sharing a bar with another or the query, in ten years of
one symbol's minutes and of 500 symbols' days. CPU time, the least of some rounds; inputs are random
walks, so on real prices bounds prune more, or less. stumpy comes with `make peers`.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from results import Case, write_results

from neural_trader_tools.market.patterns.matches import nearest
from neural_trader_tools.market.patterns.shape import Floats, Integers, moments, normalised, shape_distances
from neural_trader_tools.market.patterns.warping import nearest_warped, warped_squares

BARS, TOP, BAND = 60, 10, 6
SEED = 11
MINUTES = 2_520 * 390
SYMBOLS, DAYS = 500, 2_520


def cpu_ms(action: Callable[[], object], rounds: int = 5) -> float:
    action()
    times: list[float] = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        times.append((time.process_time() - start) * 1e3)
    return min(times)


class Search:
    """Windows of series that are laid end to end, and the newest of the first."""

    def __init__(self, series: list[Floats]) -> None:
        sizes = [one.size for one in series]
        self.values = np.concatenate(series)
        offsets = np.cumsum([0, *sizes[:-1]])
        lasts = [size - (2 if k == 0 else 1) * BARS + 1 for k, size in enumerate(sizes)]
        self.runs = np.column_stack((offsets, offsets + lasts)).astype(np.int64)
        self.starts = np.concatenate([np.arange(first, stop) for first, stop in self.runs.tolist()])
        self.owners = np.repeat(np.arange(len(series)), lasts)
        query = normalised(series[0][-BARS:])
        assert query is not None
        self.query = query

    def pick(self, places: Integers, distances: Floats) -> Integers:
        return places[nearest(distances, self.starts[places], self.owners[places], TOP, BARS)]

    def by_shape(self) -> Integers:
        moved = moments(self.values, self.runs, BARS)
        far = shape_distances(self.values, self.runs, self.query, *moved)
        return self.pick(np.arange(far.size), far)

    def by_warping(self) -> tuple[Integers, int]:
        moved = moments(self.values, self.runs, BARS)
        found, _, paths = nearest_warped(
            self.values, self.runs, self.starts, self.query, moved, BAND, self.pick, TOP
        )
        return found, paths

    def by_warping_all(self) -> Integers:
        mean, spread = moments(self.values, self.runs, BARS)
        squares = warped_squares(self.values, self.starts, self.query, mean, spread, BAND, np.inf)
        return self.pick(np.arange(squares.size), squares)


def by_mass(asked: Floats, search: Search) -> Integers:
    """stumpy's distances in one call, and the same choice from them."""
    stumpy: Any = __import__("stumpy")
    far: Floats = stumpy.mass(asked, search.values)[search.starts]
    return search.pick(np.arange(far.size), far)


def walks(count: int, size: int, step: float) -> list[Floats]:
    rng = np.random.default_rng(SEED)
    return [np.log(100) + np.cumsum(rng.normal(0, step, size)) for _ in range(count)]


def main() -> None:
    cases: list[Case] = []
    for title, series in (
        (f"{MINUTES:,} minutes of one symbol", walks(1, MINUTES, 1e-3)),
        (f"{DAYS:,} days of {SYMBOLS} symbols", walks(SYMBOLS, DAYS, 0.015)),
    ):
        search = Search(series)
        if importlib.util.find_spec("stumpy"):
            asked = series[0][-BARS:]
            assert set(by_mass(asked, search)) == set(search.by_shape())
            ours, peer = cpu_ms(search.by_shape), cpu_ms(lambda a=asked, s=search: by_mass(a, s), 3)
            cases.append(Case(f"shape, {title}", ours, peer, "stumpy.mass", "ms CPU"))
        else:
            print("stumpy is not installed (make peers): no case by shape")
        found, paths = search.by_warping()
        np.testing.assert_array_equal(found, search.by_warping_all())
        pruned, every = cpu_ms(search.by_warping), cpu_ms(search.by_warping_all, 2)
        share = f"{paths / search.starts.size:.1%} of the windows need a path"
        cases.append(Case(f"dtw, {title}: {share}", pruned, every, "ours without bounds", "ms CPU"))
    write_results("patterns", cases)


if __name__ == "__main__":
    main()
