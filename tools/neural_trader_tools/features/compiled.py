"""How kernels are compiled and called: one machine code for whole columns and for single bars.

A kernel is a plain function

    def ema(start, stop, size, price, params, state, out): ...

that goes through the bars `start … stop - 1` of its inputs, continues from the numbers in `state` (zeros at
first) and leaves there what the next call needs. A whole column is one call; a new bar is a call with
`stop = start + 1`. So the two can only give the same values, bit for bit, and where a column is cut makes no
difference. Inputs may be read up to `Definition.reach_bars` before `start`, never after the current bar.
Output k of bar i is `out[k * size + i]`.

Kernels are typed as arrays and compiled for bare addresses: a call costs no conversion, neither from Python
nor from other machine code. Nothing checks bounds there, so callers do. Compiled on the first call and
cached on disk; without the GIL.

Runs inside the sandbox too: standard library, numpy and numba only.
"""

import ctypes
import functools
import hashlib
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from numba.core.ccallback import CFunc
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

OPTIONS = {"nopython": True, "error_model": "numpy"}


def jit(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compiles what kernels call. It becomes part of their machine code, and is cached with it."""
    # numba ships no stubs; a compiled function is called like the plain one.
    compiler: Any = cast(Any, numba).njit(nogil=True, error_model="numpy")
    return cast("Callable[Parameters, Result]", compiler(function))


class Machine:
    """A kernel's machine code.

    Attributes:
        address: Where it starts, for other machine code: `void(int64 x 3, float64* x (inputs + 3))`.
    """

    def __init__(self, function: Callable[..., Any], inputs: int) -> None:
        self._code: Any = _prepared(function, _signature(inputs))
        self._code.compile()
        self.address: int = self._code.address
        prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * (inputs + 3))
        self._call: Callable[..., None] = prototype(self.address)

    def run(
        self, start: int, stop: int, inputs: Sequence[Floats], params: Floats, state: Floats, out: Floats
    ) -> None:
        """Goes through the bars `start … stop - 1`; `out` is (outputs, bars), all C-contiguous float64."""
        columns = [column.ctypes.data for column in inputs]
        self._call(
            start, stop, out.shape[-1], *columns, params.ctypes.data, state.ctypes.data, out.ctypes.data
        )


@functools.cache
def machine(module: str, name: str, inputs: int) -> Machine:
    """Returns a kernel's machine code: loaded from numba's cache, or compiled (0.1 to 0.5 s)."""
    return Machine(getattr(importlib.import_module(module), name), inputs)


def stretches(module: str, name: str) -> Callable[..., None] | None:
    """Returns the machine code for eight stretches of a column: from the cache, or compiled (0.1 to 0.9 s).

    It takes three int64 and five addresses; see `kernels.decaying`, `kernels.sliding`, `kernels.channels`.

    Returns:
        None in a forked process that has not loaded it before: a strategy's can neither read nor write the
        cache, and to compile takes longer than to go bar by bar, which gives the same bits.
    """
    if _FORKED and (module, name) not in _LOADED:
        return None
    return _stretches(module, name)


@functools.cache
def _stretches(module: str, name: str) -> Callable[..., None]:
    numba_types: Any = cast(Any, numba).types
    floats, addresses = (numba_types.CPointer(kind) for kind in (numba_types.float64, numba_types.int64))
    kinds = (*[numba_types.int64] * 3, floats, floats, addresses, addresses, floats)
    code: Any = _prepared(getattr(importlib.import_module(module), name), (kinds, numba_types.void))
    code.compile()
    _LOADED[module, name] = code
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 5)(code.address)


_LOADED: dict[tuple[str, str], Any] = {}
"""What was compiled: its machine code lives as long."""

_FORKED: list[bool] = []
"""Not empty in a forked process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _FORKED.append(True))


@functools.cache
def _sources() -> str:
    """Returns the SHA-256 of all kernels, so that a change to what a kernel calls makes its cache stale.

    As engine.compiled.freshen does for a folder and the engine; kernels know nothing of the engine.
    """
    hasher = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "kernels").glob("*.py")):
        hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def _signature(inputs: int) -> Any:
    numba_types: Any = cast(Any, numba).types
    pointer = numba_types.CPointer(numba_types.float64)
    return ((*[numba_types.int64] * 3, *[pointer] * (inputs + 3)), numba_types.void)


def _prepared(function: Callable[..., Any], signature: Any) -> Any:
    """A kernel that is not compiled yet, and its place in the cache."""
    code: Any = CFunc(function, signature, locals={}, options=OPTIONS)
    try:
        code.enable_caching()
        index: Any = code._cache._cache_file
        index._source_stamp = (index._source_stamp, _sources())
    except RuntimeError:  # "no locator available for file": nowhere to write the cache
        code = CFunc(function, signature, locals={}, options=OPTIONS)
    return code
