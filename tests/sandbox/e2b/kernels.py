"""A module with one compiled kernel, as the engine is one with many: what the template's tests preload."""

from typing import Any, cast

import numba


@cast(Any, numba).njit(cache=True)
def _total(n: int) -> int:
    total = 0
    for number in range(n):
        total += number
    return total


def warm_up() -> None:
    """Compiles the kernel, or loads it."""
    _total(1)


def count(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """How often numba found the kernel in its cache and how often not, and what it computes."""
    del arguments, tables
    stats: Any = _total.stats  # pyright: ignore[reportFunctionMemberAccess]  # numba has no stubs
    return {
        "found": sum(stats.cache_hits.values()),
        "compiled": sum(stats.cache_misses.values()),
        "total": _total(5),
    }, {}
