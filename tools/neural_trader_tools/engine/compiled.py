"""Numba behind one typed door."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compiles a function to machine code at its first call, cached on disk where that is possible.

    No fastmath: results must be the same on every machine of one architecture. Without a writable cache
    folder (inside a sandbox) numba refuses to cache; compiling again each time is then the price.
    """
    njit: Any = cast(Any, numba).njit
    try:
        return cast(Function, njit(cache=True, nogil=True)(function))
    except RuntimeError:  # "no locator available for file": nowhere to write the cache
        return cast(Function, njit(nogil=True)(function))
