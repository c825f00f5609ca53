"""Passes over columns: which features go together, and by which way.

Features whose stretches are the same work (`slides.sharing`) are one pass; every other is one of its own.
Passes may run at the same time, because kernels let go of Python's lock.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from neural_trader_tools.features.columns import Column, Floats, Part
from neural_trader_tools.features.decays import DecayingColumn
from neural_trader_tools.features.definition import Definition
from neural_trader_tools.features.kernels.decaying import DECAYS
from neural_trader_tools.features.kernels.sliding import OUTPUTS
from neural_trader_tools.features.slides import SlidingColumn, sharing

Bound = tuple[Definition, tuple[int | float, ...]]
"""A definition and its parameters, in order, within their bounds."""


def compute(
    asked: Mapping[Bound, Iterable[int] | None],
    columns: Mapping[str, Floats],
    segments: Iterable[tuple[int, int]] | None = None,
    threads: int = 1,
) -> dict[Bound, Floats]:
    """Returns features' outputs.

    Args:
        asked: Of each feature which outputs are read, by place; the others may hold anything. None: all.
        columns: The inputs by name, of one length, C-contiguous.
        segments: Ranges of bars that know nothing of each other (symbols), which together are all bars; None:
            one range.
        threads: How many passes run at a time; the values do not depend on it.

    Returns:
        By feature: (outputs, bars), NaN where undefined. The memory comes from the arena.
    """
    if not asked:
        return {}
    size = len(next(iter(columns.values())))
    ranges = [(0, size)] if segments is None else list(segments)
    parts = {bound: Part(*bound, size, wanted) for bound, wanted in asked.items()}
    passes: list[Column] = _passes(parts, columns)
    if threads > 1 and len(passes) > 1:
        with ThreadPoolExecutor(threads, thread_name_prefix="features") as pool:
            for done in [pool.submit(one.run, ranges) for one in passes]:
                done.result()
    else:
        for one in passes:
            one.run(ranges)
    return {bound: part.out for bound, part in parts.items()}


def _passes(parts: Mapping[Bound, Part], columns: Mapping[str, Floats]) -> list[Column]:
    groups: list[list[Part]] = []
    for part in parts.values():
        kin = [group for group in groups if {part.name, group[0].name} <= OUTPUTS.keys()]
        group = next((group for group in kin if sharing(part, group)), None)
        if group is None:
            groups.append([part])
        else:
            group.append(part)
    return [
        _kind(group[0].name)(group, [columns[name] for name in group[0].definition.inputs])
        for group in groups
    ]


def _kind(name: str) -> type[Column]:
    if name in DECAYS:
        return DecayingColumn
    return SlidingColumn if name in OUTPUTS else Column


def stretched() -> Sequence[tuple[str, str]]:
    """Returns the module and the name of everything that `compiled.stretches` can compile."""
    decaying = [(DecayingColumn.KERNELS, name) for name in DECAYS]
    return [*decaying, (SlidingColumn.KERNELS, "moments"), (SlidingColumn.KERNELS, "changes")]
