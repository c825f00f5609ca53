"""Passes over columns: which features go together, and by which way.

Features that have work in common (`Column.joins`) are one pass; every other is one of its own.
Passes may run at the same time, because kernels let go of Python's lock.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from neural_trader_tools.features.channels import ChannelColumn
from neural_trader_tools.features.columns import Column, Floats, Part
from neural_trader_tools.features.decays import DecayingColumn
from neural_trader_tools.features.definition import Definition
from neural_trader_tools.features.kernels import channels, sliding
from neural_trader_tools.features.kernels.decaying import DECAYS
from neural_trader_tools.features.slides import SlidingColumn

Bound = tuple[Definition, tuple[int | float, ...]]
"""A definition and its parameters, in order, within their bounds."""

KINDS: Final = (
    (DECAYS, DecayingColumn),
    (sliding.OUTPUTS, SlidingColumn),
    (channels.OUTPUTS, ChannelColumn),
)
"""Which features have another way than bar by bar."""


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
    parts = {
        bound: Part(*bound, [columns[name] for name in bound[0].inputs], wanted)
        for bound, wanted in asked.items()
    }
    passes = _passes(parts.values())
    if threads > 1 and len(passes) > 1:
        with ThreadPoolExecutor(threads, thread_name_prefix="features") as pool:
            for done in [pool.submit(one.run, ranges) for one in passes]:
                done.result()
    else:
        for one in passes:
            one.run(ranges)
    return {bound: part.out for bound, part in parts.items()}


def _passes(parts: Iterable[Part]) -> list[Column]:
    groups: list[tuple[type[Column], list[Part]]] = []
    for part in parts:
        kind = next((kind for names, kind in KINDS if part.name in names), Column)
        group = next((group for one, group in groups if one is kind and kind.joins(part, group)), None)
        if group is None:
            groups.append((kind, [part]))
        else:
            group.append(part)
    return [kind(group) for kind, group in groups]


def stretched() -> Sequence[tuple[str, str]]:
    """Returns the module and the name of everything that `compiled.stretches` can compile."""
    decaying = [(DecayingColumn.KERNELS, name) for name in DECAYS]
    sums = [(SlidingColumn.KERNELS, name) for name in ("moments", "changes")]
    return [*decaying, *sums, (ChannelColumn.KERNELS, "channels")]
